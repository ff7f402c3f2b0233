"""Rewrites of formulas, and what a formula says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reading import Known, answer, event, read
from worker.rules.normalize import CHECKERS, RULES, normalize, triggers, true_on_empty, without_paths

A, B = {"event": "a"}, {"event": "b"}
MANY = {"event": "a", "criteria": {"$eventCount": {"$gte": 2}}}


def test_every_rewrite_has_its_checker() -> None:
    """A rule stands beside the function that says what it promises."""
    assert len(RULES) == len(CHECKERS)


@pytest.mark.parametrize(
    ("flow", "same"),
    [
        ({"$and": [{"$and": [A, B]}, MANY]}, {"$and": [A, B, MANY]}),
        ({"$or": [A, {"$or": [B, {"$or": [MANY]}]}]}, {"$or": [A, B, MANY]}),
        ({"$not": {"$not": A}}, A),
        ({"$not": {"$not": {"$not": A}}}, {"$not": A}),
        ({"$and": [A, B, A]}, {"$and": [B, A]}),
        ({"$or": [A, A]}, {"$or": [A]}),
        ({"$and": [{"$or": [A, B]}, MANY]}, {"$and": [{"$or": [A, B]}, MANY]}),
        ({"$timeWindow": {"last": "1d", "flow": {"$not": {"$not": A}}}}, {"$timeWindow": {"last": "1d", "flow": A}}),
    ],
)
def test_a_formula_is_written_in_its_simplest_form(flow: Any, same: Any) -> None:
    """Nested and, nested or, double not and repeats are gone; answers and metadata are what they were."""
    node = read(flow)
    simple = normalize(node)
    assert without_paths(simple) == without_paths(read(same))
    assert normalize(simple) == simple
    for events in ([], [event("2024-01-01T00:00:00Z")], [event("2024-01-01T00:00:00Z", "b"), event(10**15, id="2")]):
        assert answer(node, events, 10**16) == answer(simple, events, 10**16)


@pytest.mark.parametrize(
    ("flow", "empty"),
    [
        (A, False),
        ({"$not": A}, True),
        ({"$and": [{"$not": A}, B]}, False),
        ({"$or": [{"$not": A}, B]}, True),
        ({"event": "a", "criteria": {"$eventCount": {"$lt": 5}}}, True),
        ({"event": "a", "criteria": {"$eventCount": {"$gte": 0}}}, True),
        ({"$timePeriod": {"periodType": "day", "periodCount": {"$lte": 3}}}, True),
        ({"$aggregate": {"type": "sum", "field": "n", "value": {"$lt": 5}}}, False),
        ({"snapshot": {"total_wins": {"$eq": 0}}}, True),
        ({"snapshot": {"joined_at": {"$lte": "$NOW"}}}, False),
        ({"badge": "first_steps"}, False),
        ({"$not": {"badge": "first_steps"}}, True),
        ({"$timeWindow": {"last": "7d", "flow": {"event": "a", "criteria": {"$eventCount": {"$lt": 1}}}}}, True),
    ],
)
def test_a_formula_that_holds_without_any_event_is_known(flow: Any, empty: bool) -> None:
    """What is true of a user who did nothing is told from what is not."""
    assert true_on_empty(read(flow)) is empty


@pytest.mark.parametrize(
    ("flow", "types"),
    [
        (A, {"a"}),
        ({"event": "CommentPosted"}, {"comment.posted"}),
        ({"$and": [A, {"$not": B}]}, {"a", "b"}),
        ({"$timePeriod": {"periodType": "day"}}, {"*"}),
        ({"$or": [A, {"$aggregate": {"type": "sum", "field": "n"}}]}, {"a", "*"}),
        ({"snapshot": {"total_wins": {"$gte": 1}}}, {"WinLogged"}),
        ({"$timeWindow": {"last": "7d", "flow": B}}, {"b"}),
        ({"badge": "first_steps"}, set()),
    ],
)
def test_the_triggers_are_the_types_a_formula_reads(flow: Any, types: set[str]) -> None:
    """Canonical names; `*` where all events are read."""
    assert triggers(read(flow, Known())) == types
