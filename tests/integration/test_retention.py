"""Retention on a real database: old events go, their counts stay, nothing old comes back, whatever is cut off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_erasure import LIMITS
from tests.integration.test_worker import CATALOG
from tests.people import settle_users
from tests.rig.faults import Faults, store_on
from worker.app import head_plan
from worker.app.erasure import export_user
from worker.app.people import People
from worker.app.retention import Cuts
from worker.errors import TransientError
from worker.events import Event, Record, Rejected, format_instant
from worker.jobs.base import DAY, Run
from worker.jobs.retention import Retention
from worker.pipeline.batch import Applier
from worker.pipeline.decoding import dead_letter
from worker.pipeline.users import fold_again
from worker.rules.operators.calendar import Calendar
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore

#: 2026-03-01T12:00:00Z
NOON = 1_772_366_400_000_000
KEPT = CATALOG.replace("levels: [1, 2]", "levels: [1, 4]") + "retention: {comment.posted: 30d}\n"


@pytest.fixture
async def store(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[PostgresStore]:
    """Three users with two old comments and a new one each."""
    (tmp_path / "catalog.yaml").write_text(KEPT)
    await settle_users(postgres_dsn, tmp_path / "catalog.yaml", [one for user in "abc" for one in history(user)])
    async with store_on(postgres_dsn, connections=4) as store:
        yield store


def history(user_id: str) -> list[Event]:
    """Comments of 60, 40 and 2 days ago."""
    payload = '{"post_id": "p"}'
    return [
        Event(user_id, "comment.posted", NOON - days * DAY, "", f"e{days}", json.loads(payload), payload)
        for days in (60, 40, 2)
    ]


async def plan_of(store: PostgresStore) -> Plan:
    """The plan of the head."""
    plan = await head_plan(store)
    assert plan is not None
    return plan


async def run_job(store: PostgresStore, *, progress: str = "") -> tuple[Any, list[str]]:
    """One run of the job at noon: its figures, and what it noted."""
    plan, marks = await plan_of(store), []

    async def mark(text: str) -> None:
        marks.append(text)

    job = Retention(Cuts(store, plan), plan.catalog.options, Calendar("UTC"))
    return await job.run(Run(NOON, None, forced=False, progress=progress, mark=mark)), marks


async def memory(store: PostgresStore, user_id: str) -> Any:
    """The memory of a user whose log is folded again."""
    plan = await plan_of(store)
    async with store.transaction() as transaction:
        state = (await transaction.lock([user_id], version=plan.basis))[user_id]
        rebuilt, awards, _ = await fold_again(transaction, plan, state)
    return {scope: folds for scope, folds in rebuilt.scopes.items() if folds}, [one.badge_key for one in awards]


async def logged(store: PostgresStore) -> list[tuple[str, str]]:
    """(user, id) of the events that are logged."""
    async with store.pool.acquire() as connection:
        rows = await connection.fetch("SELECT user_id, id FROM badges.events ORDER BY 1, 2")
    return [(row[0], row[1]) for row in rows]


async def test_old_events_go_and_their_counts_stay(store: PostgresStore) -> None:
    """Events older than they are kept are removed, and refused from then on; the fourth comment still counts four."""
    before = await memory(store, "a")
    figures, marks = await run_job(store)
    assert (figures.users, figures.events, marks) == (3, 6, ["c"])
    assert await logged(store) == [("a", "e2"), ("b", "e2"), ("c", "e2")]
    assert await memory(store, "a") == before
    assert (await run_job(store))[0].events == 0
    claim = await store.claim("events", 0, generation=1, owner="test", start_offset=0)
    assert claim is not None
    applier = Applier(store, await plan_of(store), LIMITS)

    def comment(offset: int, days: int) -> Record:
        body = {"id": f"n{days}", "type": "comment.posted", "user_id": "a", "payload": {"post_id": "p"}}
        body["occurred_at"] = format_instant(NOON - days * DAY)
        return Record("events", 0, offset, NOON // 1000, b"a", json.dumps(body).encode())

    facts = await applier.apply(claim, [comment(0, 50)], from_offset=0)
    assert facts.dead_letters == {"too_old": 1}
    # late, so that the log is folded again: one that is there, one new, two that went
    facts = await applier.apply(claim, [comment(1, 3)], from_offset=1)
    assert facts.awards == {("commentator_4", "live"): 1} or facts.awards == {("commentator_4", "late"): 1}
    text = "".join([piece async for piece in export_user(store, "a", actor="anna")])
    assert [one["scope"] for one in json.loads(text)["sealed_states"]] == [""]


async def test_what_went_still_counts_where_people_ask(store: PostgresStore) -> None:
    """After the cut it is told how far a user is by all that was done, also by what the log no longer shows."""
    plan = await plan_of(store)

    async def told() -> tuple[Any, Any]:
        people = People(store, plan.catalog)
        overview = await people.overview("a", at_us=NOON)
        why = await people.why("a", "commentator_4", at_us=None, now_us=NOON)
        (step,) = [one.as_json() for one in overview.steps if one.progress.badge.key == "commentator_4"]
        return (step["actual"], step["fraction"], overview.missing), (why.sentence, why.blocker)

    before = await told()
    assert before[0][:2] == (3, 0.75)
    await run_job(store)
    assert await told() == before


async def test_old_dead_letters_go(store: PostgresStore) -> None:
    """Dead letters of more than 30 days are removed."""
    wrong = Rejected("not_json", "it is not")
    async with store.transaction() as transaction:
        await transaction.bury(
            [dead_letter(Record("events", 1, n, NOON // 1000, None, b"{"), wrong, incarnation=1) for n in range(2)]
        )
    async with store.pool.acquire() as connection:
        await connection.execute(
            "UPDATE badges.dead_letters SET buried_at = now() - interval '31 days' WHERE \"offset\" = 0"
        )
    figures, _ = await run_job(store)
    assert figures.note == "1 dead letters removed"
    assert [one.offset for one in await store.dead_letters()] == [1]


async def test_lost_connections_leave_no_user_half_cut(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever statement the connection is lost before, each user has the log or the seal, and the same memory."""
    wanted = {user: await memory(store, user) for user in "abc"}
    faults = Faults(monkeypatch)
    for fault in range(1, 200):
        faults.left = fault
        try:
            await run_job(store)
        except TransientError:
            faults.left = None
            assert {user: await memory(store, user) for user in "abc"} == wanted, f"lost before statement {fault}"
            events = await logged(store)
            assert all(((user, "e60") in events) == ((user, "e40") in events) for user in "abc")
        else:
            faults.left = None
            break
    assert {"move_floor", "cut_events", "seal", "save_users", "commit"} <= set(faults.names)
    assert await logged(store) == [("a", "e2"), ("b", "e2"), ("c", "e2")]
    assert {user: await memory(store, user) for user in "abc"} == wanted
