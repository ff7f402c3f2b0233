"""Badges that fall again, and what people give and take: held in the end is what the sorted log says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.oracle_catalog import World, counted, reads
from tests.properties.examples import tried
from tests.properties.test_arrival import LIMITS, Topics, arrivals, broken, judge_of, message
from tests.properties.test_engine import in_order
from tests.strategies import catalogs
from worker.control import ControlEvent, grant_added, grant_revoked
from worker.events import Event
from worker.pipeline import users
from worker.pipeline.batch import Applier
from worker.pipeline.cache import Cache
from worker.pipeline.slices import Slices
from worker.pipeline.users import fold_again
from worker.rules import ir
from worker.rules.catalog.load import catalog_from_document
from worker.rules.plan import Plan, compile_plan
from worker.rules.rehearse import outcomes
from worker.store.memory import MemoryStore


@dataclass(frozen=True)
class ByHand:
    """A grant or a revocation, right after the event so numbered, of the badge so numbered."""

    after: int
    badge: int
    context: str
    gives: bool


by_hand = st.lists(
    st.builds(ByHand, st.integers(0, 14), st.integers(0, 9), st.sampled_from(["0", "1", "x"]), st.booleans()),
    max_size=4,
)


def lasting(document: dict[str, Any]) -> dict[str, Any]:
    """The catalog with badges that all fall again; milestones are of a moment, and are left out."""
    entries = {
        name: [{**entry, "revocable": "auto", "status": "active"} for entry in document.get(name, ())]
        for name in ("badges", "ladders", "tenures")
    }
    return {**document, **entries, "milestones": []}


def looks(document: dict[str, Any]) -> dict[str, frozenset[str]]:
    """The event types that each badge's memories are of, and its triggers: where it may fall."""
    badges = catalog_from_document(document, 0).badges
    return {
        badge.key: {
            *badge.triggers,
            *(name for test in ir.tests(badge.formula) for name in test.fold.match.types or "*"),
        }
        for badge in badges
    }


def held_in_the_end(document: dict[str, Any], log: Sequence[Event], said: dict[str, ByHand]) -> dict[Any, int]:
    """What a user holds after a sorted log, and since when: each badge judged at each event that it looks at.

    `said` are grants and revocations by the ids of their events: from the first one on, they alone decide.
    """
    world = World(document)
    looked_at = looks(document)
    decided: set[tuple[str, str]] = set()
    keys = list(world.badges)
    for index, event in enumerate(log):
        flipped: set[str] = set()
        for key, badge in world.badges.items():
            own, listens = reads(badge["flow"], world), {world.type(name) for name in badge["triggers"]}
            hit, seen = (
                event.type in types or ("*" in types and counted(event.type)) for types in (listens, looked_at[key])
            )
            context = oracle.text_of(event.payload, badge.get("per"))
            if context is None or (key, context) in decided:
                continue
            is_held = (key, context) in world.held
            if not (hit or flipped & own or (is_held and seen)):
                continue
            view = oracle.view_of(log[: index + 1], event.occurred_us, world, badge, context)
            passed, _ = oracle.read(badge["flow"], view)
            if passed is is_held:
                continue
            flipped.add("held:" + key)
            if passed:
                world.held[key, context] = event.occurred_us
            else:
                del world.held[key, context]
        if event.id in said:
            _say(world, document, said[event.id], event, keys, decided, log[: index + 1])
    return world.held


def _say(
    world: World,
    document: dict[str, Any],
    one: ByHand,
    event: Event,
    keys: list[str],
    decided: set[tuple[str, str]],
    seen: Sequence[Event],
) -> None:
    """A grant or a revocation, and what that changes for those who ask for the badge in its context."""
    key, context = award_of(document, keys, one)
    changed = ((key, context) in world.held) is not one.gives
    if one.gives:
        decided.add((key, context))
        if changed:
            world.held[key, context] = event.occurred_us
    else:
        world.held.pop((key, context), None)
        decided.add((key, context))
    if not changed:
        return
    per, flipped = world.badges[key].get("per"), {"held:" + key}
    for other, badge in world.badges.items():
        if not flipped & reads(badge["flow"], world) or badge.get("per") not in (None, per):
            continue
        place = (other, context if badge.get("per") else "")
        if place in decided:
            continue
        view = oracle.view_of(seen, event.occurred_us, world, badge, place[1])
        passed, _ = oracle.read(badge["flow"], view)
        if passed is (place in world.held):
            continue
        flipped.add("held:" + other)
        if passed:
            world.held[place] = event.occurred_us
        else:
            del world.held[place]


def award_of(document: dict[str, Any], keys: Sequence[str], one: ByHand) -> tuple[str, str]:
    """The badge and the context that a grant or a revocation is of."""
    key = keys[one.badge % len(keys)]
    return key, one.context if World(document).badges[key].get("per") else ""


def sent(plan: Plan, document: dict[str, Any], events: Sequence[Event], hands: Sequence[ByHand]) -> list[ControlEvent]:
    """The grants and revocations as records, each an instant after its event, in the order drawn."""
    keys = list(World(document).badges)
    found = []
    for number, one in enumerate(hands):
        key, context = award_of(document, keys, one)
        at_us = events[min(one.after, len(events) - 1)].occurred_us + number + 1
        make = grant_added if one.gives else grant_revoked
        found.append(make("u", key, context=context, note="n", actor="a", id=f"hand{number}", at_us=at_us))
    return found


async def taken(
    plan: Plan,
    events: Sequence[Event],
    cuts: Sequence[int],
    lost: set[int],
    hands: Sequence[tuple[int, ControlEvent]],
) -> MemoryStore:
    """The store after the events in batches, each hand's event before the batch so numbered."""
    store, applier = MemoryStore(), None
    topics, judge = Topics(store), judge_of(events)
    for number, (begin, end) in enumerate([*pairwise([0, *cuts, len(events)]), (len(events), len(events))]):
        if applier is None or number in lost:
            applier = Applier(store, plan, LIMITS, cache=Cache(1 << 30), judge=judge)
            await topics.claim(number + 1)
        for _, one in [pair for pair in hands if pair[0] == number or (begin == end and pair[0] > number)]:
            await topics.give(applier, [("control", one.value)])
        if begin < end:
            await topics.give(applier, [message(event) for event in events[begin:end]])
    return store


async def asked_again(plan: Plan, store: MemoryStore) -> list[Any]:
    """What folding the whole log once more would change, and what a sweep finds."""
    number = await store.create_user_job("sweep", {})
    facts = await Slices(store, lambda: plan, "test", "awards").slice(number)
    assert facts is not None
    assert not {**facts.kinds}
    async with store.transaction() as transaction:
        state = (await transaction.lock(["u"], version=0))["u"]
        await transaction.read({"u": state}, [("u", "")])
        _, changes, _ = await fold_again(transaction, plan, state)
    return changes


def assert_a_sound_line(store: MemoryStore) -> None:
    """Messages are numbered from 1, each id once; they give and take each award in turn, as it is held in the end."""
    rows = sorted(store.tables.outbox.items())
    said = [json.loads(message.value or b"{}") for _, row in rows if row.topic == "awards" for message in row.messages]
    assert [body["sequence"] for body in said] == list(range(1, len(said) + 1))
    assert len({body["id"] for body in said}) == len(said)
    standing: dict[tuple[str, str], str] = {}
    for body in said:
        key = (body["badge_key"], body["context"])
        if body["type"] == "badge.awarded":
            assert key not in standing
            standing[key] = body["id"]
        else:
            assert body["award_id"] == standing.pop(key)
    held = store.tables.user_badges.get("u", {})
    assert {key: grant.award_id for key, grant in held.items()} == standing
    assert not {(key, context) for _, key, context in store.tables.withheld} & set(held)


@tried(60)
@given(
    catalogs().map(lasting),
    arrivals(),
    st.sets(st.integers(1, 14), max_size=6),
    st.sets(st.integers(1, 6), max_size=3),
    st.sampled_from([1, 3, 1000]),
)
def test_what_falls_is_held_as_the_sorted_log_says(
    document: dict[str, Any], events: list[Event], cut: set[int], lost: set[int], every: int
) -> None:
    """In order, late, twice, cut anywhere, stopped and started: held in the end is what the whole log says is."""
    plan = compile_plan(catalog_from_document(document, 0))
    cuts = broken(events, cut)
    original, users.CHECKPOINT = users.CHECKPOINT, every  # type: ignore[misc]
    try:
        store = asyncio.run(taken(plan, events, cuts, lost, ()))
    finally:
        users.CHECKPOINT = original  # type: ignore[misc]
    log = in_order(list(store.tables.events.get("u", {}).values()))
    assert set(store.tables.user_badges.get("u", {})) == set(held_in_the_end(document, log, {}))
    assert_a_sound_line(store)
    assert not log or asyncio.run(asked_again(plan, store)) == []


@tried(60)
@given(catalogs().map(lasting), arrivals())
def test_what_falls_and_rises_is_held_since_it_rose(document: dict[str, Any], events: list[Event]) -> None:
    """In order, what is held is held since the event at which it last came to hold."""
    plan = compile_plan(catalog_from_document(document, 0))
    distinct = {(event.source, event.id): event for event in reversed(events)}
    log = in_order(list(distinct.values()))
    store = asyncio.run(taken(plan, log, range(1, len(log)), {3}, ()))
    held = {key: grant.awarded_us for key, grant in store.tables.user_badges.get("u", {}).items()}
    assert held == held_in_the_end(document, log, {})


@tried(60)
@given(
    catalogs().map(lasting),
    arrivals(),
    by_hand,
    st.lists(st.integers(0, 7), min_size=4, max_size=4),
    st.sets(st.integers(1, 14), max_size=6),
    st.sets(st.integers(1, 6), max_size=3),
)
def test_people_decide_whenever_their_word_comes(
    document: dict[str, Any],
    events: list[Event],
    hands: list[ByHand],
    turns: list[int],
    cut: set[int],
    lost: set[int],
) -> None:
    """Grants and revocations that come between any batches, late or early: the latest of an award's decides on it."""
    plan = compile_plan(catalog_from_document(document, 0))
    if not plan.badges or not events:
        return
    cuts = broken(events, cut)
    made = sent(plan, document, events, hands)
    store = asyncio.run(taken(plan, events, cuts, lost, list(zip(turns, made, strict=False))))
    assert not store.tables.dead_letters
    log = in_order(list(store.tables.events.get("u", {}).values()))
    held = set(store.tables.user_badges.get("u", {}))
    last: dict[tuple[str, str], Event] = {}
    for event in log:
        if event.type.startswith("grant."):
            last[event.payload["badge_key"], event.payload.get("context", "")] = event
    for key, event in last.items():
        assert (key in held) is (event.type == "grant.added"), key
    assert_a_sound_line(store)
    assert asyncio.run(asked_again(plan, store)) == []
    assert {(one.award.badge_key, one.award.context) for one in outcomes(plan, log) if one.taken is None} == held
    said = {f"hand{number}": one for number, one in enumerate(hands)}
    assert {key for key in held if key not in last} == {
        key for key in held_in_the_end(document, log, said) if key not in last
    }


def test_a_sweep_knows_since_when_what_falls_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late event would have earned it earlier; since when those who ask for it in any context see it, stays."""
    monkeypatch.setattr(users, "CHECKPOINT", 3)
    badges = [
        {"key": "asking", "flow": {"badge": "given"}, "revocable": "auto"},
        {"key": "given", "flow": {"event": "b.done"}, "per": "k", "revocable": "auto"},
    ]
    plan = compile_plan(
        catalog_from_document({"version": 1, "events": {"a.done": {}, "b.done": {}}, "badges": badges}, 0)
    )
    rows = (("b.done", 2, '{"k":1}'), ("b.done", 1, '{"k":1}'), ("a.done", 3, "{}"))
    events = [Event("u", kind, us, "", f"e{us}", json.loads(payload), payload) for kind, us, payload in rows]
    store = asyncio.run(taken(plan, events, [1, 2], set(), ()))
    assert store.tables.user_badges["u"]["given", "1"].awarded_us == 2
    assert asyncio.run(asked_again(plan, store)) == []


@pytest.mark.parametrize(
    ("first", "turn"),
    [((), 0), ((4,), 2)],
    ids=["the word comes first", "the word comes last"],
)
def test_a_persons_word_decides_from_where_it_stands(first: tuple[int, ...], turn: int) -> None:
    """Before a grant the log decides on what falls by itself, and on who asked for it then; a sweep agrees."""
    badges = [
        {"key": "asking", "flow": {"badge": "given"}, "per": "k", "triggers": ["a.done"], "revocable": "auto"},
        {"key": "given", "flow": {"event": "a.done"}, "revocable": "auto"},
    ]
    plan = compile_plan(catalog_from_document({"version": 1, "events": {"a.done": {}}, "badges": badges}, 0))
    rows = [*((us, "{}") for us in first), (1, "{}"), (2, '{"k":1}')]
    events = [Event("u", "a.done", us, "", f"e{us}", json.loads(payload), payload) for us, payload in rows]
    word = grant_added("u", "given", context="", note="n", actor="a", id="word", at_us=5)
    store = asyncio.run(taken(plan, events, [1] if first else [], set(), [(turn, word)]))
    log = in_order(list(store.tables.events["u"].values()))
    assert [event.type for event in log][-1] == "grant.added"
    held = set(store.tables.user_badges["u"])
    assert held == {("given", ""), ("asking", "1")}
    assert {(one.award.badge_key, one.award.context) for one in outcomes(plan, log) if one.taken is None} == held
    assert asyncio.run(asked_again(plan, store)) == []
