"""A log that was cut: memory folded again from the seal, no count lost, nothing judged by half of its events."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.properties.test_checkpoint import plain
from worker.events import Event, Record, format_instant, json_text
from worker.jobs.retention import floors_at
from worker.pipeline.batch import Applier
from worker.pipeline.facts import Limits
from worker.pipeline.sealed import cut_user
from worker.pipeline.users import fold_again
from worker.rules import evaluate
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.operators.calendar import Calendar
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import UserState
from worker.store.memory import MemoryStore

CATALOG = """
version: 1
events:
  comment.posted: {schema: {type: object, properties: {post: {type: string}}}}
  review.approved: {}
metrics:
  comments: {count: comment.posted}
  reviews: {count: review.approved}
badges:
  - {key: quiet, flow: {$and: [{event: review.approved, criteria: {$eventCount: {$gte: 2}}},
                               {$not: {event: comment.posted, criteria: {$eventCount: {$gte: 1}}}}]}}
  - {key: busy_post, per: post, flow: {event: comment.posted, criteria: {$eventCount: {$gte: 3}}}}
  - {key: in_line, flow: {$sequence: {sequence: [comment.posted, review.approved]}}}
ladders:
  - {key: commentator, metric: comments, levels: [5, 9], label: C, description: "{level}"}
  - {key: reviewer, metric: reviews, levels: [2, 6], label: R, description: "{level}"}
"""
DAY = 86_400_000_000
FLOORS = {"comment.posted": 50 * DAY}


def plan() -> Plan:
    return compile_plan(load_catalog([Source("catalog.yaml", CATALOG)]))


def event(number: int, day: int, kind: str = "comment.posted", **payload: Any) -> Event:
    body = payload or {"post": f"p{number % 2}"}
    return Event("u", kind, day * DAY, "", f"e{number:03}", body, json_text.dumps(body))


def history(seed: int) -> list[Event]:
    """Some forty events over a hundred days."""
    chance = random.Random(seed)
    kinds = ("comment.posted", "comment.posted", "review.approved")
    found = [event(number, chance.randrange(100), chance.choice(kinds)) for number in range(40)]
    return sorted(found, key=lambda one: one.order)


async def settled(store: MemoryStore, plan: Plan, events: list[Event]) -> set[tuple[str, str]]:
    """A user whose log was applied up to its end; the awards."""
    async with store.transaction() as transaction:
        await transaction.remember(sorted(events, key=lambda one: (one.source, one.id)))
        await transaction.lock(["u"], version=plan.basis)
        state, awards = evaluate.replay(plan, "u", events, {})
        state.built_version = plan.basis
        await transaction.save([state])
    return {(award.badge_key, award.context) for award in awards}


async def folded(store: MemoryStore, plan: Plan) -> tuple[Any, list[str]]:
    """Memory and awards of the user's log folded again."""
    async with store.transaction() as transaction:
        state = (await transaction.lock(["u"], version=plan.basis))["u"]
        rebuilt, awards, _ = await fold_again(transaction, plan, state)
        return plain({scope: folds for scope, folds in rebuilt.scopes.items() if folds}), [
            award.badge_key for award in awards
        ]


@pytest.mark.parametrize("seed", range(12))
async def test_folding_a_cut_log_again_gives_the_memory_of_the_whole(seed: int) -> None:
    """Memory folded again after one cut, and after a second, equals that of the log before."""
    compiled, events = plan(), history(seed)
    whole, cut = MemoryStore(), MemoryStore()
    for store in (whole, cut):
        await settled(store, compiled, events)
    wanted, _ = await folded(whole, compiled)
    for floors in (FLOORS, {"comment.posted": 70 * DAY, "review.approved": 30 * DAY}):
        async with cut.transaction() as transaction:
            removed = await cut_user(transaction, compiled, "u", floors)
        assert removed is not None
        kept = cut.tables.events["u"].values()
        assert all(one.occurred_us >= floors.get(one.type, 0) for one in kept)
        found, _ = await folded(cut, compiled)
        assert found == wanted


async def test_a_late_event_after_the_cut_counts_on() -> None:
    """A rebuild by a late event goes on from the counts before the cut: the fifth comment earns its level."""
    compiled, store = plan(), MemoryStore()
    await settled(store, compiled, [event(number, number) for number in range(4)])
    async with store.transaction() as transaction:
        assert await cut_user(transaction, compiled, "u", FLOORS) == 4
    async with store.transaction() as transaction:
        await transaction.remember([event(10, 60, "review.approved"), event(9, 55)])
    _, awards = await folded(store, compiled)
    assert awards.count("commentator_5") == 1


async def test_what_was_cut_into_is_not_judged_by_the_rest() -> None:
    """No comments and two reviews would earn a badge; the comments that went are not taken for never made."""
    compiled, store = plan(), MemoryStore()
    events = [event(0, 1), event(1, 2, "review.approved"), event(2, 3, "review.approved")]
    assert ("quiet", "") not in await settled(store, compiled, events)
    async with store.transaction() as transaction:
        await cut_user(transaction, compiled, "u", FLOORS)
    _, awards = await folded(store, compiled)
    assert "quiet" not in awards
    assert "reviewer_2" in awards  # whose events are all there, and which this store was not told of


async def test_who_is_behind_the_catalog_waits() -> None:
    """The build needs the log: nothing is removed of a user who is not built for the plan."""
    compiled, store = plan(), MemoryStore()
    await settled(store, compiled, [event(0, 1)])
    async with store.transaction() as transaction:
        state = UserState("u", scopes={"": {}}, built_version=compiled.basis + 1)
        await transaction.lock(["u"], version=compiled.basis)
        await transaction.save([state])
    async with store.transaction() as transaction:
        assert await cut_user(transaction, compiled, "u", FLOORS) is None
    assert len(store.tables.events["u"]) == 1


def test_floors_lie_at_the_beginning_of_a_day() -> None:
    """What is kept for years goes back by the calendar, and the floor moves once a day; hours are hours."""
    at = 1_709_211_600_000_000  # 2024-02-29T13:00:00Z
    found = floors_at({"a": "1y", "b": "36h", "c": "2h"}, Calendar("UTC"), at)
    assert found == {"a": 1_677_542_400_000_000, "b": 1_709_078_400_000_000, "c": at - 2 * 3600 * 1_000_000}


async def test_what_falls_by_itself_does_not_fall_with_the_log() -> None:
    """A badge that is taken back once its count falls stays where the count has lost its events, late event or not."""
    text = CATALOG + "  - {key: talker, metric: comments, levels: [2], label: T, description: x, revocable: auto}\n"
    compiled, store = compile_plan(load_catalog([Source("catalog.yaml", text)])), MemoryStore()
    applier = Applier(store, compiled, Limits("awards", "dead", "control", 10 * DAY))
    claim = await store.claim("events", 0, generation=1, owner="test", start_offset=0)
    assert claim is not None

    def record(offset: int, one: Event) -> Record:
        body = {"id": one.id, "type": one.type, "user_id": "u", "occurred_at": format_instant(one.occurred_us)}
        return Record("events", 0, offset, 100 * DAY // 1000, b"u", json_text.dumps(body).encode())

    events = [event(0, 1), event(1, 2), event(2, 80, "review.approved")]
    facts = await applier.apply(claim, [record(*pair) for pair in enumerate(events)], from_offset=0)
    assert facts.awards["talker_2", "live"] == 1
    async with store.transaction() as transaction:
        assert await cut_user(transaction, compiled, "u", FLOORS) == 2
    facts = await applier.apply(claim, [record(3, event(3, 70, "review.approved"))], from_offset=3)
    assert facts.late_users == 1
    assert not facts.revoked
    assert ("talker_2", "") in store.tables.user_badges["u"]
