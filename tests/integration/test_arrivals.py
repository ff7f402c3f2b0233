"""The log read in the order of its arrival: each event counted once, days of joining as the rules count them."""

from __future__ import annotations

import json
from datetime import date
from time import time
from typing import Any

from tests.rig.faults import store
from worker.events import Event, parse_instant
from worker.events.json_text import dumps
from worker.jobs.anniversaries import Anniversaries
from worker.jobs.base import DAY, HOUR, MINUTE, SECOND, Run
from worker.rules.catalog.load import Source, load_catalog
from worker.rules.plan.zones import ZoneRule
from worker.store.arrivals import day_of
from worker.store.postgres import PostgresStore

__all__ = ["store"]

#: Noon of four days ago: what is older takes a step a day.
NOON = (int(time() * SECOND) // DAY - 4) * DAY + 12 * HOUR
RULE = ZoneRule("UTC", "user.zone_changed", "where.zone")
SINCE = ["user.registered"]


async def arrive(store: PostgresStore, *events: tuple[str, str, int, dict[str, Any]], at_us: int | None = None) -> None:
    """Append events (user, type, instant, payload) as if they had arrived at an instant, or a minute ago."""
    async with store.work() as session:
        count = (await session.connection.fetchval("SELECT count(*) FROM events")) or 0
        for number, (user_id, kind, us, payload) in enumerate(events, start=count):
            await session.connection.execute(
                "INSERT INTO events (user_id, id, type, occurred_at, payload, received_at)"
                " VALUES ($1, $2, $3, $4, $5::text::jsonb, coalesce($6, clock_timestamp() - interval '1 minute'))",
                user_id, f"e{number:05}", kind, us, json.dumps(payload), at_us,
            )  # fmt: skip
            await session.connection.execute("INSERT INTO users (user_id) VALUES ($1) ON CONFLICT DO NOTHING", user_id)


async def move(store: PostgresStore, name: str, upto_us: int) -> None:
    """Let a reader go on from an instant."""
    async with store.work() as session:
        await session.connection.execute(
            "UPDATE log_readers SET upto = $2, after = NULL WHERE name = $1", name, upto_us
        )


async def count_all(store: PostgresStore) -> int:
    events, more = 0, True
    while more:
        counted = await store.count_arrivals(active_days=30)
        events, more = events + counted.events, counted.more
    return events


async def test_each_event_is_counted_once(store: PostgresStore) -> None:
    """What is there at the beginning and what comes later is counted, by type and day of arrival, never twice."""
    await arrive(store, ("u1", "a.done", NOON, {}), ("u2", "b.done", NOON, {}), at_us=NOON)
    await arrive(store, ("u1", "a.done", NOON + SECOND, {}), at_us=NOON + DAY)
    assert await count_all(store) == 3
    await move(store, "arrivals", NOON + 2 * DAY)
    await arrive(store, ("u1", "a.done", NOON + 2, {}), ("u3", "cron.x", NOON + 3, {}), at_us=NOON + 2 * DAY)
    await arrive(store, ("u2", "a.done", NOON + 4, {}), at_us=NOON + 3 * DAY)
    assert await count_all(store) == 3
    assert await count_all(store) == 0
    days = await store.trigger_days(["a.done", "b.done", "never.seen"])
    assert days.keys() == {"a.done", "b.done"}
    found = days["a.done"]
    assert (found.last_us, found.last_events, found.first_day) == (NOON + 3 * DAY, 1, day_of(NOON))
    assert found.counts == {day_of(NOON + number * DAY): 1 for number in range(3)}
    assert await store.arrivals_counted() is not None


async def test_a_day_is_closed_with_its_active_users(store: PostgresStore) -> None:
    """At the end of a day those count who had an event within the days before; what the clock sent does not."""
    await store.count_arrivals(active_days=30)
    await store.count_arrivals(active_days=30)
    start = (NOON // DAY + 1) * DAY
    await arrive(
        store,
        ("recent", "a.done", start - 29 * DAY, {}),
        ("old", "a.done", start - 31 * DAY, {}),
        ("reminded", "cron.monthly", start - DAY, {}),
        at_us=start - HOUR,
    )
    await move(store, "arrivals", start - 2 * HOUR)
    while (await store.active_users() or (None,))[0] != day_of(start - 1):
        await store.count_arrivals(active_days=30)
    assert await store.active_users() == (day_of(start - 1), 1, 30)
    # who is gone is let go of at the end of the next day
    async with store.work() as session:
        await session.connection.execute("DELETE FROM users WHERE user_id = 'recent'")
    while (await store.active_users() or (None,))[0] != day_of(start + DAY - 1):
        await store.count_arrivals(active_days=30)
    assert await store.active_users() == (day_of(start + DAY - 1), 0, 30)


async def test_what_may_still_arrive_is_waited_for(store: PostgresStore) -> None:
    """While a transaction is open that may append, nothing that arrived after its beginning is read."""
    await count_all(store)
    await move(store, "arrivals", NOON)
    async with store.transaction() as transaction:
        await transaction.remember([Event("u1", "a.done", NOON, "", "e1", {}, dumps({}))])
        async with store.work() as session:
            reading = await store.reading(session, "another", "")
        (row,) = await store.rows("arrivals_read", "arrivals")
        assert row["upto"] == NOON
        began = await transaction._session.connection.fetchval("SELECT now()")
        assert reading.horizon_us <= began


async def joined(store: PostgresStore) -> dict[str, tuple[date, str]]:
    async with store.work() as session:
        rows = await session.connection.fetch("SELECT user_id, day, zone FROM user_tenures")
    return {row["user_id"]: (row["day"], row["zone"]) for row in rows}


async def follow(store: PostgresStore, rule: ZoneRule = RULE) -> bool:
    began = False
    while True:
        followed = await store.follow_tenures(SINCE, rule)
        began |= followed.began
        if not followed.more:
            return began


def run_of(tick_us: int, previous_us: int | None) -> Run:
    async def mark(_: str) -> None:
        return

    return Run(tick_us, previous_us, forced=False, progress="", mark=mark)


def zone(name: str) -> dict[str, Any]:
    return {"where": {"zone": name}}


async def test_days_of_joining(store: PostgresStore) -> None:
    """A user's day is the local one, in the zone of then, of the first such event; the zone is the one named last."""
    evening = parse_instant("2020-02-28T23:30:00Z")
    await arrive(
        store,
        ("plain", "user.registered", evening, {}),
        ("again", "user.registered", evening, {}),
        ("again", "user.registered", evening - DAY, {}),
        ("berlin", "user.zone_changed", evening - HOUR, zone("Europe/Berlin")),
        ("berlin", "user.zone_changed", evening - MINUTE, zone("nowhere")),
        ("berlin", "user.registered", evening, {}),
        ("moves", "user.registered", evening, {}),
        ("moves", "user.zone_changed", evening + HOUR, zone("Asia/Tokyo")),
        ("stranger", "user.zone_changed", evening, zone("Asia/Tokyo")),
    )
    expected = {
        "plain": (date(2020, 2, 28), "UTC"),
        "again": (date(2020, 2, 27), "UTC"),
        "berlin": (date(2020, 2, 29), "Europe/Berlin"),
        "moves": (date(2020, 2, 28), "Asia/Tokyo"),
    }
    assert await follow(store)
    assert await joined(store) == expected
    assert await store.tenures_changed(("", ""), 10) == []
    assert not await follow(store)
    # from here on by arrival: a late zone moves the day, a late joining too; who was not known comes in
    await arrive(
        store,
        ("plain", "user.zone_changed", evening - DAY, zone("Europe/Berlin")),
        ("moves", "user.registered", evening - 2 * DAY, {}),
        ("new", "user.registered", evening, {}),
        ("stranger", "user.zone_changed", evening, zone("Europe/Paris")),
    )
    await move(store, "tenures", int(time() * SECOND) - 2 * MINUTE)
    assert not await follow(store)
    assert await joined(store) == expected | {
        "plain": (date(2020, 2, 29), "Europe/Berlin"),
        "moves": (date(2020, 2, 26), "Asia/Tokyo"),
        "new": (date(2020, 2, 28), "UTC"),
    }
    changed = await store.tenures_changed(("", ""), 10)
    assert [one.user_id for one in changed] == ["moves", "new", "plain"]
    await store.tenures_seen([(one.user_id, one.type) for one in changed[:2]])
    assert [one.user_id for one in await store.tenures_changed(("", ""), 10)] == ["plain"]
    # another rule begins anew
    assert await follow(store, ZoneRule("Asia/Tokyo"))
    assert (await joined(store))["plain"] == (date(2020, 2, 29), "Asia/Tokyo")


async def test_the_job_finds_them_by_their_day(store: PostgresStore) -> None:
    """The job sends the event of each local day to those who joined on it, from the database."""
    midnight = parse_instant("2026-02-28T00:00:00Z")
    await arrive(
        store,
        ("leap", "user.registered", parse_instant("2020-02-29T05:00:00Z"), {}),
        ("plain", "user.registered", parse_instant("2021-02-28T05:00:00Z"), {}),
        ("other", "user.registered", parse_instant("2021-02-27T05:00:00Z"), {}),
        ("new", "user.registered", parse_instant("2026-02-28T05:00:00Z"), {}),
        ("west", "user.registered", parse_instant("2020-02-28T05:00:00Z"), {}),
        ("west", "user.zone_changed", parse_instant("2020-01-01T05:00:00Z"), zone("America/New_York")),
    )
    sent: list[dict[str, Any]] = []

    async def send(messages: Any) -> None:
        sent.extend(json.loads(message.value) for message in messages)

    catalog = load_catalog([Source("catalog.yaml", """
        version: 1
        user_timezone: {event: user.zone_changed, field: where.zone}
        events: {user.registered: {}, user.zone_changed: {}}
        tenures: [{key: member, since: user.registered, years: [1], label: M, description: D}]
        """)])  # fmt: skip
    job = Anniversaries(store, send, catalog)
    await job.run(run_of(midnight, None))
    assert {one["user_id"] for one in sent} == {"leap", "plain"}
    assert {one["occurred_at"] for one in sent} == {"2026-02-28T00:00:00.000000Z"}
    await job.run(run_of(midnight + 5 * HOUR, midnight))
    assert [one["user_id"] for one in sent[2:]] == ["west"]
    assert sent[2]["occurred_at"] == "2026-02-28T05:00:00.000000Z"
