"""Growth laws of the store: rows read and written per event stay the same as histories, users and catalogs grow.

Counted by PostgreSQL itself, not timed. `make acceptance-growth` goes to 100,000 events, 10^6 users and
100,000 badges.
"""

from __future__ import annotations

import json
from typing import Any

from tests.rig.faults import store_on
from worker.events import Event, Record, format_instant
from worker.pipeline.batch import Applier
from worker.pipeline.facts import Limits
from worker.rules import evaluate
from worker.rules.catalog.load import catalog_from_document
from worker.rules.plan import Plan, compile_plan
from worker.store.blobs import pack_state
from worker.store.postgres import PostgresStore

START = 1_700_000_000_000_000
STEP = 60_000_000
FRESH = 20


def plan(badges: int = 10) -> Plan:
    """A ladder, a window, and badges that nothing here matches."""
    window = {"event": "a.done", "criteria": {"$eventCount": {"$gte": 5}}}
    silent = [
        {
            "key": f"silent_{n}",
            "label": "S",
            "description": "S",
            "flow": {"event": "a.done", "criteria": {"kind": f"k{n}"}},
        }
        for n in range(badges)
    ]
    document: dict[str, Any] = {
        "version": 1,
        "events": {"a.done": {"description": "A."}},
        "metrics": {"as": {"count": "a.done"}},
        "ladders": [{"key": "steps", "metric": "as", "levels": [10**7], "label": "L", "description": "{level}"}],
        "badges": [
            {"key": "busy", "label": "B", "description": "B", "flow": {"$timeWindow": {"last": "1d", "flow": window}}},
            *silent,
        ],
    }
    return compile_plan(catalog_from_document(document, version=0))


def event(user_id: str, number: int) -> Event:
    return Event(user_id, "a.done", START + number * STEP, "", f"e{number:08}", {}, "{}")


async def history(store: PostgresStore, plan: Plan, user_id: str, events: int) -> None:
    """A user with so many logged events, whose state was written after the last one, as a worker would have left it."""
    state, awards = evaluate.replay(plan, user_id, (event(user_id, number) for number in range(events)), {})
    assert {award.badge_key for award in awards} <= {"busy"}
    newest = state.newest or (0, "", "")
    async with store.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO events (user_id, id, type, occurred_at, payload) "
            "SELECT $1::text, 'e' || lpad(n::text, 8, '0'), 'a.done', "
            "to_timestamp(($2::bigint + n * $3::bigint) / 1000000.0), '{}' FROM generate_series(0, $4::int - 1) n",
            user_id,
            START,
            STEP,
            events,
        )
        await connection.execute(
            "INSERT INTO users (user_id, built_version, newest_at, newest_source, newest_id, state) "
            "VALUES ($1, 0, $2, $3, $4, $5)",
            user_id,
            newest[0],
            newest[1],
            newest[2],
            pack_state(state.scopes.get("", {})),
        )
        await connection.executemany(
            "INSERT INTO user_badges (user_id, badge_key, awarded_at, source, origin, sequence, award_id, "
            "catalog_version) VALUES ($1, $2, $3, 'auto', 'live', 1, gen_random_uuid(), 0)",
            [(user_id, award.badge_key, award.awarded_us) for award in awards],
        )


async def crowd(store: PostgresStore, users: int) -> None:
    """So many other users, each with a row, an event and an award."""
    async with store.pool.acquire() as connection:
        for statement in (
            "INSERT INTO users (user_id, built_version) SELECT 'c' || n, 0 FROM generate_series(1, $1::int) n",
            (
                "INSERT INTO events (user_id, id, type, occurred_at, payload) "
                "SELECT 'c' || n, 'e', 'a.done', now(), '{}' FROM generate_series(1, $1::int) n"
            ),
            (
                "INSERT INTO user_badges (user_id, badge_key, awarded_at, source, origin, sequence, award_id, "
                "catalog_version) SELECT 'c' || n, 'busy', now(), 'auto', 'live', 1, gen_random_uuid(), 0 "
                "FROM generate_series(1, $1::int) n"
            ),
        ):
            await connection.execute(statement, users, timeout=600)
        await connection.execute("ANALYZE", timeout=600)


async def touched(store: PostgresStore) -> dict[str, int]:
    """Rows read and written so far, as the server counted them."""
    async with store.pool.acquire() as one, store.pool.acquire() as other:  # whichever did it: the pool has two
        for connection in (one, other):
            await connection.execute("SELECT pg_stat_force_next_flush()")
    async with store.pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint AS read, "
            "sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint AS written FROM pg_stat_user_tables"
        )
    return dict(row)


async def cost(dsn: str, *, events: int = 10, users: int = 10, badges: int = 10) -> dict[str, int]:
    """Rows that a batch of 20 events of one user costs, when the user is read and when the user is known."""
    compiled = plan(badges)
    async with store_on(dsn, connections=2) as store:
        await history(store, compiled, "u1", events)
        await crowd(store, users)
        applier = Applier(store, compiled, Limits("awards", "dead", "control", 1 << 60))
        claim = await store.claim("events", 0, generation=1, owner="test", start_offset=0)
        assert claim is not None
        found = {}
        for number, name in enumerate(("cold", "known", "saved")):
            before = await touched(store)
            await applier.apply(claim, batch(number * FRESH, events + number * FRESH), from_offset=number * FRESH)
            after = await touched(store)
            found |= {f"{name} {what}": after[what] - before[what] for what in after}
        return found


def batch(offset: int, first: int) -> list[Record]:
    """The next events of the user, each a minute after the last."""
    values = [
        {"id": one.id, "type": one.type, "user_id": one.user_id, "occurred_at": format_instant(one.occurred_us)}
        for one in (event("u1", number) for number in range(first, first + FRESH))
    ]
    stamp = START // 1000 + 10**12
    return [
        Record("events", 0, offset + at, stamp, b"u1", json.dumps(value).encode()) for at, value in enumerate(values)
    ]


async def test_history_costs_nothing(postgres: Any) -> None:
    """A user with 10,000 events costs as many rows as one with 10."""
    with postgres.database() as one, postgres.database() as other:
        assert await cost(one, events=10) == await cost(other, events=10_000)


async def test_other_users_cost_nothing(postgres: Any) -> None:
    """Among 20,000 users an event costs as many rows as among 10."""
    with postgres.database() as one, postgres.database() as other:
        assert await cost(one, users=10) == await cost(other, users=20_000)


async def test_badges_that_do_not_match_cost_nothing(postgres: Any) -> None:
    """With 2,000 badges that do not match an event costs as many rows as with 10."""
    with postgres.database() as one, postgres.database() as other:
        assert await cost(one, badges=10) == await cost(other, badges=2_000)


async def test_known_users_cost_their_events_only(postgres: Any) -> None:
    """Twenty events of a known user are twenty rows written, and the offset's; the user's state is written seldom."""
    with postgres.database() as dsn:
        found = await cost(dsn)
    assert found["known written"] == FRESH + 2
    assert found["cold read"] == FRESH + 5
