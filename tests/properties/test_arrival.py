"""What users are given and what is remembered of them, whatever arrives when, through the pipeline."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace as replace_limits
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests import oracle
from tests.properties.test_engine import assert_same_figures, in_order
from tests.strategies import catalogs, histories
from worker.events import Event, Record, format_instant, json_text
from worker.exchange import Claim
from worker.pipeline import users
from worker.pipeline.batch import Applier
from worker.pipeline.build import Build
from worker.pipeline.cache import Cache
from worker.pipeline.facts import Limits
from worker.rules import evaluate
from worker.rules.catalog.load import catalog_from_document
from worker.rules.plan import Plan, compile_plan
from worker.store.memory import MemoryStore

LIMITS = Limits("awards", "dead", "control", 1 << 60)
#: When the records were written, in milliseconds: after everything that happened.
WRITTEN = 1_772_323_200_000


@st.composite
def arrivals(draw: st.DrawFn) -> list[Event]:
    """Events of an application and of the clock in any order, some of them more than once."""
    events = draw(histories())
    for place, again in draw(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=4)):
        if again < len(events):
            events.insert(place, events[again])
    return events


def topic_of(event: Event) -> str:
    """The topic by which an event comes: the clock's come by that of control."""
    return "control" if event.type.startswith("cron.") else "events"


def broken(events: Sequence[Event], cut: Iterable[int]) -> list[int]:
    """Where batches begin but the first: at the cuts, and where the topic is another one."""
    turns = (place for place in range(1, len(events)) if topic_of(events[place]) != topic_of(events[place - 1]))
    return sorted({*turns, *(place for place in cut if place < len(events))})


class Topics:
    """Both topics, each with its offsets, of whoever took them last."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._claims: dict[str, Claim] = {}
        self._offsets: Counter[str] = Counter()

    async def claim(self, generation: int) -> None:
        for topic in ("events", "control"):
            claim = await self._store.claim(topic, 0, generation=generation, owner=f"w{generation}", start_offset=0)
            assert claim is not None
            self._claims[topic] = claim

    async def give(self, applier: Applier, messages: Sequence[tuple[str, bytes]]) -> None:
        """One batch: topic and value of each message, all of one topic."""
        topic, begin = messages[0][0], self._offsets[messages[0][0]]
        records = [Record(topic, 0, begin + n, WRITTEN, b"u", value) for n, (_, value) in enumerate(messages)]
        self._offsets[topic] += len(records)
        await applier.apply(self._claims[topic], records, from_offset=begin)


def message(event: Event) -> tuple[str, bytes]:
    """The topic of an event, and what it is there."""
    value = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "user_id": event.user_id,
        "occurred_at": format_instant(event.occurred_us),
        "payload": event.payload,
    }
    return topic_of(event), json_text.dumps(value).encode()


def judge_of(events: Sequence[Event]) -> Any:
    """Says of each event what it is drawn with, in place of JavaScript."""
    said = {event.order: event.verdicts for event in events}

    async def judge(_: object, asked: list[Event]) -> list[Event]:
        return [replace(event, verdicts=said.get(event.order) or {}) for event in asked]

    return judge


async def taken(
    plan: Plan, events: Sequence[Event], cuts: Sequence[int], lost: set[int], limits: Limits = LIMITS
) -> MemoryStore:
    """The store after the events, in batches; before some of these the process is lost with all it has in memory."""
    store, applier = MemoryStore(), None
    topics, judge = Topics(store), judge_of(events)
    for number, (begin, end) in enumerate(pairwise([0, *cuts, len(events)])):
        if applier is None or number in lost:
            applier = Applier(store, plan, limits, cache=Cache(1 << 30), judge=judge)
            await topics.claim(number + 1)
        await topics.give(applier, [message(event) for event in events[begin:end]])
    return store


@given(
    catalogs(),
    arrivals(),
    st.sets(st.integers(1, 14), max_size=6),
    st.sets(st.integers(1, 6), max_size=3),
    st.sampled_from([1, 3, 1000]),
)
def test_what_arrives_is_answered_as_the_oracle_does(
    document: dict[str, Any], events: list[Event], cut: set[int], lost: set[int], every: int
) -> None:
    """Late, twice, cut anywhere, stopped and started: the awards are the oracle's, the memory is the log's."""
    plan = compile_plan(catalog_from_document(document, 0), exact=False)
    cuts = broken(events, cut)
    original, users.CHECKPOINT = users.CHECKPOINT, every  # type: ignore[misc]
    try:
        store = asyncio.run(taken(plan, events, cuts, lost))
    finally:
        users.CHECKPOINT = original  # type: ignore[misc]
    assert not store.tables.dead_letters
    expected = {
        (badge, context): (at, metadata)
        for _, badge, context, at, _, metadata in oracle.awards(document, events, cuts=cuts)
    }
    given_ = store.tables.user_badges.get("u", {})
    assert {key: grant.awarded_us for key, grant in given_.items()} == {key: at for key, (at, _) in expected.items()}
    for key, grant in given_.items():
        assert_same_figures(json_text.loads(grant.metadata_json), expected[key][1])
    log = in_order(list(store.tables.events.get("u", {}).values()))
    assert [event.order for event in log] == sorted({event.order for event in events})
    wanted, _ = evaluate.replay(plan, "u", log, {key: grant.awarded_us for key, grant in given_.items()})
    assert asyncio.run(recovered(plan, store)) == plain(wanted.scopes)


async def recovered(plan: Plan, store: MemoryStore) -> Any:
    """The memory of the user that a new owner would work with: the row, and the log after it folded."""
    async with store.transaction() as transaction:
        states = await transaction.lock(["u"], version=0)
        state = states["u"]
        tail = (await transaction.tails([state])).get("u", [])
        scopes = {scope for _, scope in store.tables.scopes}.union(*(plan.scopes(event) for event in tail))
        await transaction.read(states, [("u", scope) for scope in sorted({*scopes, ""})])
        for event in tail:
            evaluate.fold(plan, state, event)
    return plain(state.scopes)


def plain(scopes: dict[str, Any]) -> Any:
    """Memory as it compares: JSON-like, scopes without memory left out."""
    return json.loads(json.dumps({scope: memory for scope, memory in scopes.items() if memory}))


@given(catalogs(), arrivals(), st.sets(st.integers(1, 14), max_size=6), st.integers(0, 4), st.integers(0, 14))
def test_who_waits_in_the_queue_misses_nothing(
    document: dict[str, Any], events: list[Event], cut: set[int], inline: int, turn: int
) -> None:
    """However early users with late events are queued, and whenever their turn comes, what the whole log earns is
    given in the end, and the memory is the log's."""
    plan = compile_plan(catalog_from_document(document, 1), exact=False)
    cuts = broken(events, {*cut, turn} - {0})

    async def queued_and_folded() -> MemoryStore:
        limits = replace_limits(LIMITS, late_events_inline=inline)
        store = MemoryStore()
        await store.apply_catalog("{}", "one", badges=[], event_types=[])
        applier = Applier(store, plan, limits, cache=Cache(1 << 30), judge=judge_of(events))
        topics = Topics(store)
        await topics.claim(1)
        for begin, end in pairwise([0, *cuts, len(events)]):
            await topics.give(applier, [message(event) for event in events[begin:end]])
            if end == turn:
                await emptied(applier)
        await emptied(applier)
        return store

    store = asyncio.run(queued_and_folded())
    assert not store.tables.queue
    log = in_order(list(store.tables.events.get("u", {}).values()))
    _, due = evaluate.replay(plan, "u", log, {})
    given_ = store.tables.user_badges.get("u", {})
    # Who asks for a badge that was given later than it was due may have had no occasion since (decisions 12, 15).
    behind = {
        a.badge_key
        for a in due
        if (key := (a.badge_key, a.context)) not in given_ or given_[key].awarded_us > a.awarded_us
    }
    asked_by = {key: {plan.goals[number].badge.key for number in numbers} for key, numbers in plan.asked.items()}
    asking = {one for key in behind for one in asked_by.get(key, ())}
    # Of two events of one instant the later one may have come first: what it gave is held at the other, too.
    asking |= {
        a.badge_key
        for a, b in product(due, due)
        if a.awarded_us == b.awarded_us
        and a.trigger_id != b.trigger_id
        and a.badge_key in asked_by.get(b.badge_key, ())
    }
    assert {(a.badge_key, a.context) for a in due if a.badge_key not in asking} <= set(given_)
    wanted, _ = evaluate.replay(plan, "u", log, {key: grant.awarded_us for key, grant in given_.items()})
    assert asyncio.run(recovered(plan, store)) == plain(wanted.scopes)


async def emptied(applier: Applier) -> None:
    """Let the build and the queue do all there is to do."""
    build = Build(applier, lambda _: None, _unmoved)
    await build.slice()
    while await build.slice() is not None:
        pass


async def _unmoved(head: int) -> None:
    raise AssertionError(f"the catalog moved to {head}")


def test_a_zone_that_comes_late_empties_what_it_moves_to_a_day_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was remembered of a context is gone from the store once the user's own zone leaves nothing of it."""
    monkeypatch.setattr(users, "CHECKPOINT", 1)
    window = {"businessDaysOnly": True, "holidays": ["2024-03-01"], "flow": {"event": "a.done"}}
    document = {
        "version": 1,
        "events": {"a.done": {}, "b.done": {}},
        "user_timezone": {"event": "b.done", "field": "zone"},
        "badges": [{"key": "b", "per": "k", "flow": {"$timeWindow": {"last": "1y", **window}}}],
    }
    plan = compile_plan(catalog_from_document(document, 0), exact=False)
    events = [
        Event("u", "a.done", 1_709_208_000_000_000, "", "1", {"k": 1}, '{"k":1}'),
        Event("u", "b.done", 1_703_984_400_000_000, "", "2", {"zone": "Pacific/Kiritimati"}, "{}"),
    ]
    store = asyncio.run(taken(plan, events, [1], {1}))
    wanted, _ = evaluate.replay(plan, "u", in_order(events), {})
    assert asyncio.run(recovered(plan, store)) == plain(wanted.scopes)
