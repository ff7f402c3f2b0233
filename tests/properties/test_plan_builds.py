"""Where two plans need no build between them, memories and awards of the one serve the other."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import ZONES, catalogs, histories
from tests.unit.playing import catalog
from worker.events import Event
from worker.rules import ir
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import apply, begin_again, replay
from worker.rules.plan import Plan, compile_plan, mark_of, needs_build
from worker.rules.state import UserState

Json = dict[str, Any]


def compiled(document: Json) -> Plan:
    return compile_plan(catalog_from_document(document, 1))


@st.composite
def changed(draw: st.DrawFn) -> tuple[Json, Json]:
    """A catalog and what an author made of it: mostly labels, statuses and omissions, at times anything."""
    old = draw(catalogs())
    new = deepcopy(old)
    for badge in new["badges"]:
        badge["label"] = draw(st.sampled_from(["", "New"]))
        badge["status"] = draw(st.sampled_from([badge["status"], badge["status"], "active", "deprecated", "hidden"]))
        if draw(st.integers(0, 9)) == 0:
            badge.pop("per", None)
    for section in ("ladders", "milestones"):
        new[section] = draw(st.sampled_from([new[section], []]))
    for ladder in new["ladders"]:
        ladder["levels"] = draw(st.sampled_from([ladder["levels"], ladder["levels"][:1], [1, 2, 3, 4]]))
    if draw(st.integers(0, 9)) == 0:
        new["timezone"] = draw(st.sampled_from(ZONES))
    if draw(st.integers(0, 5)) == 0:
        new["badges"] = draw(catalogs())["badges"]
    return old, new


def kept(plan: Plan, state: UserState) -> Json:
    """What a state holds of a plan's memories and marks."""
    ids = {plan.sources(test).id for goal in plan.goals for test in ir.tests(goal.badge.formula)}
    ids |= {mark_of(key) for key in plan.marked}
    found = {scope: {fold: one for fold, one in folds.items() if fold in ids} for scope, folds in state.scopes.items()}
    return {scope: folds for scope, folds in found.items() if folds}


def awards(plan: Plan, events: list[Event]) -> set[tuple[str, str, int, str]]:
    return {(a.badge_key, a.context, a.awarded_us, a.trigger_id) for a in replay(plan, "u", events, {})[1]}


@given(changed(), histories(), st.integers(0, 14))
def test_without_a_build_nothing_is_missed(pair: tuple[Json, Json], events: list[Event], cut: int) -> None:
    """Where no build is needed, a history earns nothing new, and a memory goes on as if it had always been the new."""
    try:
        old, new = map(compiled, pair)
    except Exception:
        return  # the change made a catalog with faults, which is never applied
    if needs_build(old, new):
        return
    events = sorted(events, key=lambda event: event.order)
    assert awards(new, events) <= awards(old, events)
    state, _ = begin_again(old, "u", {})
    for index, event in enumerate(events):
        apply(old if index < cut else new, state, event)
    fresh, _ = replay(new, "u", events, {})
    assert kept(new, state) == kept(new, fresh)


@given(catalogs())
def test_the_same_catalog_needs_no_build(document: Json) -> None:
    """A catalog needs no build after itself, nor one in which only what is shown has changed."""
    other = deepcopy(document)
    for badge in other["badges"]:
        badge.update(label="Other", description="Other", sort_score=7, translations={"de": {"label": "Anders"}})
    assert not needs_build(compiled(document), compiled(other))


COUNT = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 10}}}
MORE = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 20}}}
OTHER = {"event": "answer.scored"}
ASKS = {"$and": [{"badge": "b0"}, {"event": "order.paid"}]}
ENTRY = {"key": "b0", "flow": COUNT}
HOLDER = {"key": "b1", "flow": {"badge": "b0"}, "triggers": ["user.logged_in"]}
STEADY = {"pattern": "consistent", "periodType": "day"}
ENDED = {**ENTRY, "status": "deprecated"}


@pytest.mark.parametrize(
    ("old", "new", "builds"),
    [
        ([COUNT], [COUNT], False),
        ([COUNT, OTHER], [COUNT], False),
        ([COUNT, OTHER], [COUNT, {"key": "b1", "flow": OTHER, "status": "locked"}], False),
        ([COUNT], [{"$and": [COUNT, COUNT]}], False),
        ([COUNT], [{**ENTRY, "status": "hidden", "sort_score": 3}], False),
        ([COUNT], [COUNT, OTHER], True),
        ([COUNT], [MORE], True),
        ([COUNT], [{**ENTRY, "per": "post_id"}], True),
        ([ENDED], [COUNT], True),
        (
            [{"event": "comment.posted", "criteria": {"n": 1}}],
            [{"event": "comment.posted", "criteria": {"n": True}}],
            True,
        ),
        ([ENTRY, ASKS], [ENDED, ASKS], True),
        ([COUNT], [{"$not": COUNT}], True),
        ([{"$not": COUNT}], [{"$not": MORE}], True),
        ([{"$not": COUNT}], [{"$not": COUNT}], False),
        ([{"$and": [COUNT, OTHER]}], [{"$or": [COUNT, OTHER]}], True),
        ([{"$timeWindow": {"last": "7d", "flow": COUNT}}], [{"$timeWindow": {"last": "8d", "flow": COUNT}}], True),
        ([{"$pattern": STEADY}], [{"$pattern": {**STEADY, "minPeriods": 4}}], True),
        ([ENTRY, {"badge": "b0"}], [ENTRY, {"event": "comment.posted"}], True),
        ([ENTRY, HOLDER], [ENTRY, {**HOLDER, "per": "post_id"}], True),
        ([ENTRY, HOLDER], [ENTRY, {**HOLDER, "triggers": ["order.paid"]}], True),
    ],
)
def test_what_needs_a_build(old: list[Any], new: list[Any], builds: bool) -> None:
    """New tests and memories need one, and a badge that no longer is given but is asked for; taking away needs none."""
    assert needs_build(compile_plan(catalog(*old)), compile_plan(catalog(*new))) is builds


def test_another_time_zone_needs_a_build() -> None:
    """Days count by the catalog's zone, so another zone makes other memories."""
    old, new = (compile_plan(catalog(COUNT, timezone=zone)) for zone in ("UTC", "Europe/Berlin"))
    assert needs_build(old, new)
