"""Holders of badges, counted from the log of awards as it grows, held to a count of everything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import date, timedelta
from time import time
from typing import Any

import pytest

from tests.rig.faults import Faults
from worker.errors import TransientError
from worker.exchange import Baseline
from worker.jobs import holders
from worker.jobs.base import DAY, HOUR, MINUTE, SECOND, Run
from worker.jobs.holders import Holders
from worker.store.arrivals import day_of
from worker.store.holders import HoldersDay, Share
from worker.store.pool import close_pool, create_pool
from worker.store.postgres import PostgresStore

TODAY = int(time() * SECOND) // DAY * DAY
BADGES = ("a", "b", "c")


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    pool = await create_pool(postgres_dsn, max_size=3)
    try:
        made = PostgresStore(pool)
        async with made.work() as session:
            for badge in BADGES:
                await session.connection.execute(
                    "INSERT INTO badges (key, kind, family, label, description, sort_score, status, catalog_version)"
                    " VALUES ($1, '', '', '', '', 0, 'active', 1)",
                    badge,
                )
        yield made
    finally:
        await close_pool(pool)


class Log:
    """Writes the log of awards, and counts everything anew."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.rows: list[tuple[int, str, str, str, str, str]] = []

    async def add(
        self, at_us: int, user: str, badge: str, context: str = "", *, kind: str = "awarded", origin: str = "live"
    ) -> None:
        self.rows.append((at_us, user, badge, context, kind, origin))
        async with self.store.work() as session:
            await session.connection.execute(
                "INSERT INTO badge_awards_log (user_id, badge_key, context, award_id, kind, awarded_at, source, origin,"
                " sequence, catalog_version, logged_at)"
                " VALUES ($1, $2, $3, gen_random_uuid(), $4, $5, 'auto', $6, $7, 1, $5)",
                user, badge, context, kind, at_us, origin, len(self.rows),
            )  # fmt: skip

    def holders(self, badge: str, end_us: int) -> int:
        held: dict[tuple[str, str], int] = {}
        for at_us, user, one, context, kind, _ in self.rows:
            if one == badge and at_us < end_us:
                held[user, context] = held.get((user, context), 0) + (1 if kind == "awarded" else -1)
        return len({user for (user, _), count in held.items() if count > 0})


async def run(store: PostgresStore) -> Any:
    async def mark(_: str) -> None:
        return

    return await Holders(store).run(Run(0, None, forced=False, progress="", mark=mark))


async def test_counts_are_those_of_everything(store: PostgresStore) -> None:
    """However awards come, go and come again, each day's holders are those of the whole log.

    One badge has no contexts, one has them from the first, one only after its first days.
    """
    chance, log = random.Random(3), Log(store)
    held: set[tuple[str, str, str]] = set()
    start = TODAY - 5 * DAY
    for number in range(120):
        at_us = start + number * HOUR
        badge = chance.choice(BADGES)
        contexts = {"a": [""], "b": ["", "p1", "p2"], "c": ["", "p1"] if number > 60 else [""]}[badge]
        one = (f"u{chance.randrange(6)}", badge, chance.choice(contexts))
        await log.add(at_us, *one, kind="revoked" if one in held else "awarded")
        held ^= {one}
    # the first half is counted at once, the rest piece by piece
    await run(store)
    for number in range(3):
        await log.add(TODAY - (3 - number) * SECOND, "new", BADGES[number])
    async with store.work() as session:
        await session.connection.execute("UPDATE log_readers SET upto = $1 WHERE name = 'holders'", TODAY - 4 * SECOND)
    await run(store)
    last = day_of(TODAY - 1)
    for badge in BADGES:
        trend = await store.holders_trend(badge, last, days=5)
        assert [one.day for one in trend] == [last - timedelta(days=4 - number) for number in range(5)]
        for number, one in enumerate(trend):
            assert one.holders == log.holders(badge, start + (number + 1) * DAY), (badge, one)
        assert one.holders == (await store.holder_counts())[badge]
        awards = sum(row[2] == badge and row[4] == "awarded" for row in log.rows)
        assert sum(one.awards for one in trend) == awards
        assert sum(one.gained - one.lost for one in trend) == one.holders
    figures = await run(store)
    assert (figures.users, figures.awards, figures.counts) == (0, 0, 0)


async def test_who_holds_it_in_another_context_is_counted_once(store: PostgresStore) -> None:
    """Whoever held a badge, with a context or without, gains nothing by having it in one more."""
    log = Log(store)
    for number, contexts in enumerate([("p1", ""), ("p2", "p1"), ("", "p2")]):
        for badge, context in zip("bc", contexts, strict=True):
            await log.add(TODAY - (3 - number) * DAY, "u1", badge, context)
    await log.add(TODAY - DAY, "u2", "b")
    await run(store)
    for badge, gained in (("b", [1, 0, 1]), ("c", [1, 0, 0])):
        trend = await store.holders_trend(badge, day_of(TODAY - 1), days=3)
        assert [one.gained for one in trend] == gained
        assert trend[-1].holders == log.holders(badge, TODAY) == sum(gained)


async def test_old_days_go(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days that are older than the history is kept go, and how many holders there were then is still known."""
    log = Log(store)
    monkeypatch.setattr("worker.store.holders.KEPT_DAYS", 10)
    cut = TODAY - 10 * DAY
    for at_us, user in ((cut - 5 * DAY, "u1"), (cut - 3 * DAY, "u2"), (cut + DAY, "u3"), (TODAY - 2 * DAY, "u4")):
        await log.add(at_us, user, "a")
    await log.add(cut - 5 * DAY, "u1", "b")
    await run(store)
    async with store.work() as session:
        rows = await session.connection.fetch("SELECT badge_key, day, holders FROM badge_holders ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [
        ("a", day_of(cut - 3 * DAY), 2),
        ("a", day_of(cut + DAY), 3),
        ("a", day_of(TODAY - 2 * DAY), 4),
        ("b", day_of(cut - 5 * DAY), 1),
    ]
    assert [one.holders for one in await store.holders_trend("a", day_of(TODAY), days=4)] == [3, 4, 4, 4]
    assert await store.holder_counts() == {"a": 4, "b": 1, "c": 0}


async def test_cut_at_any_statement_everything_is_counted_once(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection lost before any statement of a run costs no more than the run: the next one makes up for it."""
    faults, log = Faults(monkeypatch), Log(store)
    for number, (user, badge, context) in enumerate([("u1", "a", ""), ("u2", "a", ""), ("u1", "b", "p1")]):
        await log.add(TODAY - (3 - number) * HOUR, user, badge, context)
    await log.add(TODAY + SECOND, "u2", "a", kind="revoked")
    tables = ("badge_holders", "badge_baselines", "badges")

    async def left(*, fault: int) -> list[str]:
        """What a run leaves, or with a fault two of them, of which the first began with nothing."""
        async with store.work() as session:
            await session.connection.execute(
                "DELETE FROM badge_holders; DELETE FROM badge_baselines; UPDATE badges SET users_with_badge = 0;"
                " DELETE FROM log_readers"
            )
        faults.left, faults.names = fault, []
        try:
            await run(store)
            assert faults.left is not None
            faults.left = None
        except TransientError:
            await run(store)
        async with store.work() as session:
            return [str(row) for one in tables for row in await session.connection.fetch(f"TABLE {one} ORDER BY 1, 2")]

    whole = await left(fault=1_000)
    statements = len(faults.names)
    assert statements >= 10
    for fault in range(1, statements + 1):
        assert await left(fault=fault) == whole, faults.names[-1]
    assert (await store.holder_counts(), log.holders("a", TODAY + HOUR)) == ({"a": 1, "b": 1, "c": 0}, 1)


async def test_what_is_usual(store: PostgresStore) -> None:
    """After a run it is written what is usual today; awards of a backfill do not count."""
    log = Log(store)
    for number in range(1, 11):
        for user in range(number % 3 + 1):
            await log.add(TODAY - number * DAY + HOUR, f"u{number}-{user}", "a")
        await log.add(TODAY - number * DAY + HOUR, f"u{number}", "b", origin="backfill")
    await run(store)
    found = await store.badge_baselines()
    assert found == {"a": Baseline(2.0, 1.4826, 10), "b": Baseline(0.0, 0.0, 10)}
    assert await store.baselines_day() == day_of(TODAY)
    assert await store.awards_since(TODAY - DAY) == {"a": 2}
    trend = await store.holders_trend("b", day_of(TODAY), days=3)
    assert trend == [
        HoldersDay(day_of(TODAY - 2 * DAY), 9, 1, 0, 0, 1),
        HoldersDay(day_of(TODAY - DAY), 10, 1, 0, 0, 1),
        HoldersDay(day_of(TODAY), 10),
    ]
    assert await store.holders_trend("c", date(2026, 1, 1), days=1) == [HoldersDay(date(2026, 1, 1), 0)]


async def test_an_erased_user_holds_nothing(store: PostgresStore) -> None:
    """An erasure takes the user out of the counts, also what was not counted yet."""
    log = Log(store)
    for user in ("u1", "u2"):
        await log.add(TODAY - DAY, user, "a")
        await log.add(TODAY - DAY, user, "b")
    await log.add(TODAY - DAY, "u1", "b", kind="revoked")
    await run(store)
    assert await store.holder_counts() == {"a": 2, "b": 1, "c": 0}
    async with store.work() as session:
        await session.execute("lose_holdings", "u1")
        await session.rows("allow_removal")
        await session.execute("erase_awards_log", "u1")
    await log.add(TODAY - MINUTE, "u2", "c")
    async with store.work() as session:
        await session.connection.execute("UPDATE log_readers SET upto = $1 WHERE name = 'holders'", TODAY - HOUR)
    await run(store)
    assert await store.holder_counts() == {"a": 1, "b": 1, "c": 1}


async def test_shares_are_of_active_users_alone(store: PostgresStore) -> None:
    """A share is how many of the active users hold a badge: who left counts neither above nor below the line."""
    upto = TODAY
    active = {"u1": upto - DAY, "u2": upto - 29 * DAY, "u3": upto - 31 * DAY, "u4": upto - 400 * DAY, "u5": upto - HOUR}
    awards = [("u1", "a", ""), ("u3", "a", ""), ("u4", "a", ""), ("u1", "b", "p1"), ("u1", "b", "p2"), ("u2", "b", "")]
    assert await store.count_shares(active_days=30) is None
    assert await store.shares_counted() is None
    async with store.work() as session:
        run_sql = session.connection.execute
        await run_sql("INSERT INTO log_readers (name, rule, upto, after) VALUES ('arrivals', '', $1, NULL)", upto)
        for user, newest in active.items():
            await run_sql("INSERT INTO user_activity (user_id, newest_at) VALUES ($1, $2)", user, newest)
        for number, (user, badge, context) in enumerate(awards):
            await run_sql(
                "INSERT INTO user_badges (user_id, badge_key, context, award_id, awarded_at, source, origin, sequence,"
                " catalog_version) VALUES ($1, $2, $3, gen_random_uuid(), $4, 'auto', 'live', $5, 1)",
                user, badge, context, upto, number,
            )  # fmt: skip
    assert await store.count_shares(active_days=30) == 3
    found = await store.badge_shares()
    assert found == {"a": Share(1, 3, 30, upto), "b": Share(2, 3, 30, upto), "c": Share(0, 3, 30, upto)}
    assert found["a"].part == 1 / 3
    assert await store.badge_shares(["b", "unheard_of"]) == {"b": found["b"]}
    assert await store.shares_counted() == (upto, 3)
    assert await store.count_shares(active_days=366) == 4
    assert (await store.badge_shares())["a"] == Share(2, 4, 366, upto)


@pytest.mark.parametrize("behind", [0, 2], ids=["no day", "two days"])
async def test_shares_of_many_are_counted_once_for_each_day_of_arrivals(
    store: PostgresStore, behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far arrivals are counted behind awards, who holds what is not counted with every run."""
    monkeypatch.setattr(holders, "_FEW_USERS", 0)
    midnight = TODAY - behind * DAY
    counted: list[int | None] = []
    count = PostgresStore.count_shares

    async def noted(self: PostgresStore, *, active_days: int) -> int | None:
        counted.append(await self.arrivals_counted())
        return await count(self, active_days=active_days)

    monkeypatch.setattr(PostgresStore, "count_shares", noted)
    await store.pool.execute("INSERT INTO user_activity (user_id, newest_at) VALUES ('u1', $1)", midnight)
    for quarter in (-2, -1, 0, 1, 2):
        await store.pool.execute(
            "INSERT INTO log_readers (name, rule, upto, after) VALUES ('arrivals', '', $1, NULL)"
            " ON CONFLICT (name) DO UPDATE SET upto = excluded.upto",
            midnight + quarter * 15 * MINUTE,
        )
        await run(store)
    assert counted == [midnight - 30 * MINUTE, midnight]
