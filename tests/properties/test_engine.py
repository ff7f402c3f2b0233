"""The engine gives what the oracle gives, however the history is cut, capped or shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import GRID, catalogs, histories
from worker.events import Event
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import apply, explain, replay
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import Award, AwardKey, UserState

Key = tuple[str, str, int, str]
CODECS = {
    "json": (msgspec.json.encode, msgspec.json.decode),
    "msgpack": (msgspec.msgpack.encode, msgspec.msgpack.decode),
}


def plan_of(document: dict[str, Any], *, exact: bool = True) -> Plan:
    return compile_plan(catalog_of(document), exact=exact)


def catalog_of(document: dict[str, Any]) -> Catalog:
    return catalog_from_document(document, 1)


def in_order(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.order)


def keys(awards: Sequence[Award]) -> list[Key]:
    return sorted((a.badge_key, a.context, a.awarded_us, a.trigger_id) for a in awards)


def expected_keys(awards: Sequence[oracle.Award]) -> list[Key]:
    return sorted((badge, context, at, event_id) for _, badge, context, at, event_id, _ in awards)


def assert_same_figures(found: Any, expected: dict[str, Any]) -> None:
    """Metadata agrees: the same keys, numbers by value, texts exactly."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        if isinstance(value, int | float | Fraction | Decimal):
            gap = abs(Fraction(found[key]) - Fraction(value))
            assert gap <= Fraction(1, 10**9), (key, found[key], value)
        else:
            assert found[key] == value, key


def round_trip(state: UserState, codec: str) -> UserState:
    """The state as a store would give it back."""
    encode, decode = CODECS[codec]
    return UserState(
        state.user_id,
        scopes=decode(encode(state.scopes)),
        held=dict(state.held),
        newest=state.newest,
        award_sequence=state.award_sequence,
    )


def plain(state: UserState) -> Any:
    """A state's content: lists for tuples, no empty scopes."""
    scopes = msgspec.json.decode(msgspec.json.encode(state.scopes))
    return {name: folds for name, folds in scopes.items() if folds}, state.held, state.newest


@given(catalogs(), histories())
def test_awards_are_those_of_the_oracle(document: dict[str, Any], events: list[Event]) -> None:
    """For a history in order the engine gives the oracle's awards, at the same events, for the same reasons."""
    expected = oracle.awards(document, in_order(events))
    _, given_ = replay(plan_of(document), "u", in_order(events), {})
    assert keys(given_) == expected_keys(expected)
    reasons = {(badge, context): metadata for _, badge, context, _, _, metadata in expected}
    for award in given_:
        assert_same_figures(award.metadata, reasons[award.badge_key, award.context])


@given(catalogs(), histories())
def test_caps_change_no_award(document: dict[str, Any], events: list[Event]) -> None:
    """A plan that remembers as little as it must gives the awards of one that remembers everything."""
    _, expected = replay(plan_of(document), "u", in_order(events), {})
    _, given_ = replay(plan_of(document, exact=False), "u", in_order(events), {})
    assert keys(given_) == keys(expected)


@given(
    catalogs(),
    histories(),
    st.sets(st.integers(1, 14), max_size=4),
    st.sampled_from(sorted(CODECS)),
    st.booleans(),
)
def test_any_cut_gives_the_same_awards_and_state(
    document: dict[str, Any], events: list[Event], cuts: set[int], codec: str, exact: bool
) -> None:
    """Cut into batches anywhere, with the state stored and read between, nothing changes."""
    plan = plan_of(document, exact=exact)
    whole, expected = replay(plan, "u", in_order(events), {})
    state, given_ = UserState("u"), []
    for index, event in enumerate(in_order(events)):
        if index in cuts:
            state = round_trip(state, codec)
        given_ += apply(plan, state, event)
    assert given_ == expected
    assert plain(state) == plain(whole)


@given(catalogs(), histories(), st.sets(st.integers(1, 14), max_size=2))
def test_only_the_scopes_an_event_touches_are_changed(
    document: dict[str, Any], events: list[Event], cuts: set[int]
) -> None:
    """Loading no more than the scopes the events touch, and storing the dirty ones alone, loses nothing."""
    plan = plan_of(document, exact=False)
    whole, expected = replay(plan, "u", in_order(events), {})
    stored = UserState("u")
    ordered, given_ = in_order(events), []
    edges = [0, *sorted(cut for cut in cuts if cut < len(ordered)), len(ordered)]
    for start, end in pairwise(edges):
        batch = ordered[start:end]
        touched = {"", *(scope for event in batch for scope in plan.scopes(event))}
        state = UserState("u", {scope: dict(stored.scopes.get(scope, {})) for scope in touched})
        contexts = {scope.partition("=")[2] for scope in touched} | {""}
        state.held = {key: at for key, at in stored.held.items() if key[1] in contexts}
        before = dict(state.held)
        for event in batch:
            given_ += apply(plan, state, event)
        assert state.dirty <= touched
        stored.scopes.update({scope: state.scopes[scope] for scope in state.dirty})
        stored.held.update({key: at for key, at in state.held.items() if key not in before})
        stored.newest = state.newest
    assert keys(given_) == keys(expected)
    assert plain(stored) == plain(whole)


@given(catalogs(), histories(), st.booleans())
def test_any_arrival_order_gives_the_oracles_union(document: dict[str, Any], events: list[Event], exact: bool) -> None:
    """Late events are put in place and everything after them is looked at again; what was given stays given."""
    plan = plan_of(document, exact=exact)
    state, log, given_ = UserState("u"), [], []
    for event in events:
        late = state.newest is not None and event.order < state.newest
        log = in_order([*log, event])
        if late:
            state, found = replay(plan, "u", log, state.held, earned_by(given_))
            given_ += found
        else:
            given_ += apply(plan, state, event)
    assert keys(given_) == expected_keys(oracle.awards(document, events, cuts=range(len(events))))
    whole, _ = replay(plan, "u", in_order(events), state.held, earned_by(given_))
    assert plain(state) == plain(whole)


def earned_by(awards: Sequence[Award]) -> dict[AwardKey, str | None]:
    """The event of each award: those who ask for it are tested there, and at no other event of its instant."""
    return {(award.badge_key, award.context): award.trigger_id for award in awards}


@given(catalogs(), histories(), st.sampled_from(GRID))
def test_explanations_are_the_oracles_answers(document: dict[str, Any], events: list[Event], later: int) -> None:
    """As of every event, and some time after it, each badge's verdict and figures are those of the oracle."""
    plan, state, seen = plan_of(document), UserState("u"), []
    for event in in_order(events):
        seen.append(event)
        apply(plan, state, event)
        world = oracle.World(document, dict(state.held))
        for now in {event.occurred_us, max(event.occurred_us, later)}:
            for key, badge in world.badges.items():
                if key in plan.numbers and "milestone" not in badge["flow"]:
                    assert_explained(plan, state, seen, now, world, badge)


def assert_explained(
    plan: Plan, state: UserState, seen: Sequence[Event], now: int, world: oracle.World, badge: dict[str, Any]
) -> None:
    """The engine's answer for a badge in the newest event's context is the oracle's."""
    context = oracle.text_of(seen[-1].payload, badge.get("per"))
    if context is None:
        return
    passed, metadata = oracle.read(badge["flow"], oracle.view_of(seen, now, world, badge, context))
    answer = explain(plan, badge["key"], state, now_us=now, context=context)
    assert answer.passed is passed, (badge["key"], context)
    assert_same_figures(answer.metadata, metadata)
