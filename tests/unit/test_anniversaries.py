"""Anniversaries: each user once a year on the right local day, through leap days, zones, outages and killed runs."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, timedelta

import pytest

from tests.unit.test_jobs import Tables
from worker.errors import TransientError
from worker.events import format_instant, parse_instant
from worker.exchange import Followed, Joined, Message
from worker.files import read_sources
from worker.jobs.anniversaries import Anniversaries, days_begun, joined_on, month_day, since_types
from worker.jobs.base import DAY, HOUR, MINUTE, SECOND, Every
from worker.jobs.runner import Runner
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import Source, load_catalog
from worker.rules.operators.calendar import calendar_of
from worker.rules.plan.zones import ZoneRule

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati", "Etc/GMT+12",
    "Pacific/Chatham", "America/Santiago", "Africa/Cairo", "Australia/Lord_Howe", "America/St_Johns",
)  # fmt: skip

CATALOG = """
version: 1
feb_29: {feb_29}
user_timezone: {{event: user.zone_changed, field: zone}}
events: {{user.registered: {{}}, user.zone_changed: {{}}}}
tenures:
  - {{key: member, since: user.registered, years: [1, 2, 5, 10], label: Member, description: "Member since {{since}}"}}
"""


def catalog(feb_29: str = "feb_28") -> Catalog:
    return load_catalog([Source("catalog.yaml", CATALOG.format(feb_29=feb_29))])


class Users:
    """Days of joining in memory; who is changed is looked at once more."""

    def __init__(self, users: dict[str, Joined]) -> None:
        self.users = users
        self.days: dict[tuple[int, str], list[Joined]] = {}
        for one in users.values():
            self.days.setdefault((month_day(one.day), one.zone), []).append(one)
        self.changed: set[str] = set()
        self.began = True

    async def follow_tenures(self, types: Sequence[str], rule: ZoneRule) -> Followed:
        began, self.began = self.began, False
        return Followed(0, began, more=False)

    async def tenure_zones(self, event_type: str, day: int) -> list[str]:
        return [zone for zone in ZONES if (day, zone) in self.days]

    async def tenures_due(
        self, event_type: str, day: int, zone: str, *, before: date, after: str, limit: int
    ) -> list[tuple[str, int | None]]:
        found = sorted(
            (one.user_id, one.zone_us)
            for one in self.days.get((day, zone), ())
            if one.day < before and one.user_id > after
        )
        return found[:limit]

    async def tenures_changed(self, after: tuple[str, str], limit: int) -> list[Joined]:
        return [self.users[user_id] for user_id in sorted(self.changed) if user_id > after[0]][:limit]

    async def tenures_seen(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.changed -= {user_id for user_id, _ in pairs}

    async def zones_of(self, users: Sequence[str], at_us: int, rule: ZoneRule) -> list[str]:
        before = {"moved": "Asia/Tokyo", "crossed": "Pacific/Pago_Pago"}
        return [before.get(user_id, self.users[user_id].zone) for user_id in users]


class Topic:
    """What was sent, by user and id, as often as it was; fails or is cut off now and then."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.events: dict[tuple[str, str], set[str]] = {}
        self.chance = chance

    async def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if self.chance is not None and self.chance.random() < 0.002:
                raise self.chance.choice([TransientError("away"), asyncio.CancelledError()])
            event = json.loads(message.value)
            self.events.setdefault((event["user_id"], event["id"]), set()).add(event["occurred_at"])


def instant(text: str) -> int:
    return parse_instant(text)


@pytest.mark.parametrize("feb_29", ["feb_28", "mar_1"])
async def test_ten_years_in_twelve_zones(feb_29: str) -> None:
    """Users born on each day of a leap year have one event a year, on their local day, though runs are killed."""
    start = date(2024, 1, 1)
    people = {}
    for number in range(366):
        day = start + timedelta(days=number)
        zone = ZONES[number % 12]
        people[f"u{number:03}"] = Joined(f"u{number:03}", "user.registered", day, zone, None)
    chance = random.Random(7)
    topic, store, tables = Topic(chance), Users(people), Tables()
    job = Anniversaries(store, topic.send, catalog(feb_29))
    at_us, end_us = instant("2024-12-31T00:00:00Z"), instant("2034-12-31T12:00:00Z")
    await Runner(tables, "first", lambda _: None).take(Spaced(Anniversaries(store, Topic().send, catalog())), at_us)
    while at_us < end_us:
        # a replica looks after hours, after a day, after a week of outage
        at_us += chance.choice([5 * HOUR, DAY, 2 * DAY, 7 * DAY])
        tables.leases.clear()
        tables.runs = dict(sorted(tables.runs.items())[-100:])
        with suppress(asyncio.CancelledError):
            await Runner(tables, f"replica {chance.randrange(3)}", lambda _: None).take(Spaced(job), at_us)
    topic.chance = None
    await Runner(tables, "last", lambda _: None).take(Spaced(job), at_us)
    expected = {}
    for one in people.values():
        for years in range(1, 11):
            day = calendar_of(one.zone).anniversary(one.day, years, feb_29=feb_29)
            expected[one.user_id, f"cron.anniversary:{day}"] = calendar_of(one.zone).start_of_day(day)
    found = {key: instants for key, instants in topic.events.items() if key in expected}
    assert found.keys() == expected.keys()
    assert {key: {instant(text) for text in texts} for key, texts in found.items()} == {
        key: {start_us} for key, start_us in expected.items()
    }
    later = topic.events.keys() - expected.keys()
    assert all(event_id > "cron.anniversary:2034-12-25" for _, event_id in later)


class Spaced:
    """The job at ticks of half a day: what a tick serves is what began since the last one, however long that is."""

    def __init__(self, job: Anniversaries) -> None:
        self._job = job
        self.name, self.catch_up_us, self.first_us, self.only_newest = job.name, job.catch_up_us, job.first_us, False
        self.run = job.run

    @property
    def timing(self) -> object:
        return Every(12 * HOUR)


def one(zone: str, day: date, zone_us: int | None = None, user_id: str = "u") -> Joined:
    return Joined(user_id, "user.registered", day, zone, zone_us)


async def ran(people: list[Joined], *ticks: str, changed: Sequence[str] = ()) -> dict[tuple[str, str], set[str]]:
    """What is sent by runs at these instants, the first of which is the first ever; users change before the last."""
    topic, store, tables = Topic(), Users({person.user_id: person for person in people}), Tables()
    job = Anniversaries(store, topic.send, catalog())
    for number, tick in enumerate(ticks, start=1):
        if number == len(ticks):
            store.changed = set(changed)
        await Runner(tables, "one", lambda _: None).take(job, instant(tick))
    return topic.events


async def test_the_first_run_serves_the_day_that_it_is() -> None:
    """A scheduler that was never there begins with the local day that it is in each zone, however late in it."""
    people = [one("UTC", date(2020, 3, 1)), one("Pacific/Kiritimati", date(2020, 3, 2), user_id="east")]
    found = await ran(people, "2026-03-01T23:00:00Z")
    assert set(found) == {("u", "cron.anniversary:2026-03-01"), ("east", "cron.anniversary:2026-03-02")}
    assert found["east", "cron.anniversary:2026-03-02"] == {"2026-03-01T10:00:00.000000Z"}


async def test_the_year_of_joining_has_no_anniversary() -> None:
    """Who joins today has none today, not even where the day is the same of another year that is to come."""
    assert (
        await ran([one("UTC", date(2026, 3, 1)), one("UTC", date(2027, 3, 1), user_id="v")], "2026-03-01T12:00:00Z")
        == {}
    )


async def test_a_day_is_served_at_its_beginning_only() -> None:
    """The tick at which the local day begins sends the event, the ticks before and after it nothing."""
    person = [one("Asia/Kathmandu", date(2020, 3, 2))]
    assert await ran(person, "2026-03-01T18:00:00Z") == {}
    found = await ran(person, "2026-03-01T18:00:00Z", "2026-03-01T18:16:00Z", "2026-03-01T20:00:00Z")
    assert found == {("u", "cron.anniversary:2026-03-02"): {"2026-03-01T18:15:00.000000Z"}}


async def test_who_comes_into_a_zone_during_the_day_has_it_from_then() -> None:
    """A user who moves to a zone where the day has begun already is served, at the instant of moving."""
    named = instant("2026-03-01T20:00:00Z")
    moved = one("Europe/Berlin", date(2020, 3, 1), named, "moved")
    found = await ran([moved], "2026-03-01T19:00:00Z", "2026-03-01T20:15:00Z", changed=["moved"])
    assert found["moved", "cron.anniversary:2026-03-01"] >= {"2026-03-01T20:00:00.000001Z"}
    named = instant("2026-03-01T20:00:00Z")
    stayed = one("Europe/Berlin", date(2020, 3, 1), named, "stayed")
    found = await ran([stayed], "2026-03-01T20:15:00Z")
    assert found == {("stayed", "cron.anniversary:2026-03-01"): {"2026-02-28T23:00:00.000000Z"}}


@pytest.mark.parametrize(
    ("at", "user_id", "served"),
    [
        ("2026-03-01T10:30:00Z", "crossed", True),  # from the last hour of 28 February to 2 March
        ("2026-03-01T11:00:00Z", "crossed", True),
        ("2026-03-01T11:00:00.000001Z", "crossed", False),  # 1 March has begun, and was served then
        ("2026-03-01T10:30:00Z", "moved", False),
        ("2026-03-01T10:30:00Z", "stayed", False),
    ],
)
async def test_a_day_left_out_on_the_way_over_the_date_line_is_served(at: str, user_id: str, served: bool) -> None:
    """Whoever leaves before the day begins and comes to where it is over has it as they come."""
    person = one("Pacific/Kiritimati", date(2020, 3, 1), instant(at), user_id)
    found = await ran([person], "2026-03-01T10:00:00Z", "2026-03-01T11:15:00Z", changed=[user_id])
    expected = {format_instant(instant(at) + 1)} if served else set()
    assert found.get((user_id, "cron.anniversary:2026-03-01"), set()) == expected


def test_leap_days() -> None:
    """29 February counts as the catalog says in common years, as itself in leap years."""
    assert joined_on(date(2025, 2, 28), "feb_28") == (228, 229)
    assert joined_on(date(2025, 3, 1), "mar_1") == (301, 229)
    assert joined_on(date(2025, 2, 28), "mar_1") == (228,)
    assert joined_on(date(2028, 2, 28), "feb_28") == (228,)
    assert joined_on(date(2028, 2, 29), "mar_1") == (229,)


def test_days_begun() -> None:
    """Each local day begins in exactly one of two spans that meet, wherever they meet."""
    for zone in ZONES:
        start = instant("2026-03-27T00:00:00Z")
        whole = list(days_begun(zone, start, start + 5 * DAY))
        assert len(whole) == 5
        for cut in range(0, 5 * 96, 7):
            middle = start + cut * 15 * MINUTE
            assert whole == [*days_begun(zone, start, middle), *days_begun(zone, middle, start + 5 * DAY)]
        assert list(days_begun(zone, None, start + SECOND)) == [calendar_of(zone).local_date(start + SECOND)]


def test_since_types() -> None:
    """Years are counted from the types that the tenures of a catalog name; the demo's has none or some."""
    assert since_types(catalog()) == ["user.registered"]
    assert since_types(load_catalog(read_sources("worker/demo/catalog.yaml"))) in ([], ["user.registered"])
