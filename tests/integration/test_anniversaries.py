"""Anniversaries on PostgreSQL: years go by while replicas are killed; each user once a year, on the right local day.

`make acceptance-anniversaries` goes to ten years, at every quarter of an hour at which a day begins somewhere.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from tests.unit.test_anniversaries import ZONES, catalog
from worker.errors import TransientError
from worker.events import parse_instant
from worker.exchange import Message
from worker.jobs.anniversaries import Anniversaries
from worker.jobs.base import DAY, HOUR, MINUTE, Figures, Run, Timing
from worker.jobs.runner import Runner
from worker.store.pool import close_pool, create_pool
from worker.store.postgres import PostgresStore
from worker.store.session import Session

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Births on each day of this leap year.
BORN: Final = 2024
METHODS: Final = ("begin", "rows", "execute", "commit")


class Killed(BaseException):
    """The replica is no more: nothing of it may catch this and go on."""


@dataclass
class Fate:
    """How many statements a replica has left; it dies before the one after."""

    left: int
    dead: bool = False


FATE: ContextVar[Fate | None] = ContextVar("fate", default=None)


def mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a replica that has a fate dies of it: nothing it does from then on reaches the database."""

    def counting(original: Any) -> Any:
        async def counted(session: Session, *arguments: Any) -> Any:
            fate = FATE.get()
            if fate is not None:
                fate.left -= 1
                fate.dead |= fate.left < 0
                if fate.dead:
                    raise Killed
            return await original(session, *arguments)

        return counted

    for method in METHODS:
        monkeypatch.setattr(Session, method, counting(getattr(Session, method)))


@dataclass(frozen=True)
class Ticks:
    """The job, due at given ticks: what a tick serves is what began since the last one, however long that is."""

    job: Anniversaries
    ticks: Sequence[int]
    name: str = "anniversaries"
    catch_up_us: int = Anniversaries.catch_up_us
    first_us: int = 40 * DAY
    only_newest: bool = False

    @property
    def timing(self) -> Timing:
        return self

    def between(self, after_us: int, upto_us: int) -> Iterator[int]:
        """The ticks after one instant and up to another."""
        return (tick for tick in self.ticks if after_us < tick <= upto_us)

    async def run(self, run: Run) -> Figures:
        return await self.job.run(run)


@dataclass
class Topic:
    """What was sent, by user and id: the instants it was said to have occurred at. Now and then it is away."""

    chance: random.Random
    events: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    failing: bool = True

    async def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if self.failing and self.chance.random() < 0.001:
                raise TransientError("the broker is away")
            event = json.loads(message.value or b"")
            self.events.setdefault((event["user_id"], event["id"]), set()).add(event["occurred_at"])


# ---- what should be: by brute force over the time zone database


@cache
def began(zone: str, day: date) -> int:
    """The first quarter of an hour that bears the local date; no zone's day begins at another minute."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    for quarter in count(-18 * 4):
        at = noon + quarter * timedelta(minutes=15)
        if at.astimezone(ZoneInfo(zone)).date() == day:
            assert quarter > -18 * 4
            return (at - EPOCH) // timedelta(microseconds=1)
    raise AssertionError


def birthday(born: date, year: int, feb_29: str) -> date:
    """The day in a year on which another year is full."""
    try:
        return born.replace(year=year)
    except ValueError:
        return date(year, 2, 28) if feb_29 == "feb_28" else date(year, 3, 1)


@dataclass
class World:
    """Users of twelve zones, born on each day of a leap year, and years from one New Year's Eve to another."""

    store: PostgresStore
    first: int
    last: int
    feb_29: str
    people: dict[str, tuple[str, date]] = field(default_factory=dict)

    @property
    def begin_us(self) -> int:
        """The first tick: the last day of a year, or the one before."""
        return parse_instant(f"{self.first}-12-31T13:00:00Z")

    @property
    def end_us(self) -> int:
        """The last tick: the year has ended everywhere."""
        return parse_instant(f"{self.last + 1}-01-01T13:00:00Z")

    async def settle(self) -> None:
        """Log where each user was born, and when: at the first or the last instant of the local day."""
        rows: list[tuple[str, str, str, int, str]] = []
        for number, zone in enumerate(ZONES):
            for offset in range(366):
                day = date(BORN, 1, 1) + timedelta(days=offset)
                user_id = f"u{number:02}-{day}"
                self.people[user_id] = (zone, day)
                at = began(zone, day) if offset % 2 else began(zone, day + timedelta(days=1)) - 1
                rows.append((user_id, "z", "user.zone_changed", at - DAY, json.dumps({"zone": zone})))
                rows.append((user_id, "r", "user.registered", at, "{}"))
        async with self.store.pool.acquire() as connection:
            await connection.execute(
                """INSERT INTO events (user_id, id, type, occurred_at, payload, received_at)
                SELECT u, i, t, at, p::jsonb, now() - interval '1 hour'
                FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[]) AS x (u, i, t, at, p)""",
                *(list(column) for column in zip(*rows, strict=True)),
            )
            await connection.execute("INSERT INTO users (user_id) SELECT DISTINCT user_id FROM events")

    def expected(self) -> dict[tuple[str, str], int]:
        """Each user's anniversaries from the local day of the first tick to that of the last; where each day began."""
        found = {}
        for user_id, (zone, born) in self.people.items():
            for year in range(max(self.first, BORN + 1), self.last + 2):
                day = birthday(born, year, self.feb_29)
                start, end = began(zone, day), began(zone, day + timedelta(days=1))
                if start <= self.end_us and end > self.begin_us:
                    found[user_id, f"cron.anniversary:{day}"] = start
        return found

    async def lapse(self) -> None:
        """Time goes by: whoever was killed is not heard of any more."""
        async with self.store.pool.acquire() as connection:
            await connection.execute("UPDATE leases SET expires_at = now() - interval '1 day'")


async def live(world: World, ticks: Sequence[int], chance: random.Random) -> tuple[Topic, int]:
    """Three replicas look at their clocks, which are not quite one, after hours or days; what was sent, who died."""
    topic, deaths = Topic(chance), 0
    job = Ticks(Anniversaries(world.store, topic.send, catalog(world.feb_29)), ticks)
    names = (f"replica {number}" for number in count())

    async def replica(at_us: int, fate: Fate | None) -> None:
        FATE.set(fate)
        try:
            await Runner(world.store, next(names), lambda _: None).take(job, at_us)
        except Killed:
            return

    at_us = world.begin_us
    while at_us < world.end_us:
        fates = [Fate(chance.randrange(60)) if chance.random() < 0.3 else None for _ in range(3)]
        clocks = [at_us + chance.randrange(-10 * MINUTE, 10 * MINUTE) for _ in fates]
        await asyncio.gather(*map(replica, clocks, fates))
        deaths += sum(fate is not None and fate.dead for fate in fates)
        if any(fates):
            await world.lapse()
        at_us += chance.choice([5 * HOUR, DAY, 2 * DAY, 7 * DAY, 20 * DAY])
    topic.failing = False
    await world.lapse()
    await replica(world.end_us, None)
    return topic, deaths


async def hold(
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    years: tuple[int, int],
    ticks: Callable[[World], Sequence[int]],
    feb_29: str = "feb_28",
) -> int:
    """Live through years, from the end of the one before, and compare all that was sent; how many replicas died."""
    mortal(monkeypatch)
    pool = await create_pool(dsn, max_size=6)
    try:
        world = World(PostgresStore(pool), years[0] - 1, years[1], feb_29)
        await world.settle()
        topic, deaths = await live(world, ticks(world), random.Random(11))
        expected = world.expected()
        assert len(world.people) == 366 * 12
        assert len(expected) >= 366 * 12 * (years[1] - years[0] + 1)
        assert topic.events.keys() == expected.keys()
        wrong = {
            key: said for key, said in topic.events.items() if {parse_instant(text) for text in said} != {expected[key]}
        }
        assert wrong == {}
        async with world.store.pool.acquire() as connection:
            left = await connection.fetch("SELECT outcome, count(*) FROM job_runs GROUP BY 1")
        # what was missed for longer than a month is left out as a tick; its days are served by the next one
        assert {row["outcome"] for row in left} <= {"done", "skipped"}
        return deaths
    finally:
        await close_pool(pool)


def now_and_then(world: World) -> list[int]:
    """A tick at a random quarter of an hour every other day, to the last."""
    chance, found = random.Random(5), [world.begin_us]
    while found[-1] < world.end_us - 3 * DAY:
        found.append(found[-1] + chance.randrange(60, 288) * 15 * MINUTE)
    return [*found, world.end_us]


async def test_two_years_in_twelve_zones(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users born on each day of a leap year in each of 12 zones have one event a year, as their local day begins."""
    assert await hold(postgres_dsn, monkeypatch, (2028, 2029), now_and_then) > 10
