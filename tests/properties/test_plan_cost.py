"""What an event costs: by what it matches, not by how many badges there are, are held, or how long the history is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events import Event
from worker.events.json_text import dumps
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import apply
from worker.rules.plan import Plan, Tally, compile_plan
from worker.rules.state import UserState

DAY = 86_400_000_000
START = 1_700_000_000_000_000
Flow = dict[str, Any]


def plan_of(flows: list[Flow], **catalog: Any) -> tuple[Plan, Tally]:
    """The plan of one badge per flow, and the tally of its work."""
    badges = [{"key": f"b{number}", "flow": flow} for number, flow in enumerate(flows)]
    events: Flow = {"a.done": {}, "b.done": {}, "other.done": {}}
    tally = Tally()
    document = {"version": 1, "events": events, "badges": badges, **catalog}
    return compile_plan(catalog_from_document(document, 1), tally=tally), tally


def event(number: int, named: str = "a.done", us: int | None = None, **payload: Any) -> Event:
    """One event of user u, the later the higher its number."""
    at = START + number * 1_000_000 if us is None else us
    return Event("u", named, at, "", f"{number:06}", payload, dumps(payload))


def work(tally: Tally, act: Callable[[], object]) -> dict[str, int]:
    """The work that an act takes."""
    before = asdict(tally)
    act()
    return {name: count - before[name] for name, count in asdict(tally).items()}


FAMILIES: dict[str, Callable[[int], Flow]] = {
    "equality": lambda n: {"event": "a.done", "criteria": {"item": f"i{n}"}},
    "equality of numbers": lambda n: {"event": "a.done", "criteria": {"item": n}},
    "the second of two equalities": lambda n: {"event": "a.done", "criteria": {"kind": "k", "item": f"i{n}"}},
    "an equality, then a bound": lambda n: {"event": "a.done", "criteria": {"kind": "k", "score": {"$gte": 100 + n}}},
    "lists": lambda n: {"event": "a.done", "criteria": {"tag": {"$in": [f"t{n}", f"u{n}"]}}},
    "lower bounds": lambda n: {"event": "a.done", "criteria": {"score": {"$gte": 100 + n}}},
    "strict bounds": lambda n: {"event": "a.done", "criteria": {"score": {"$gt": 100 + n}}},
    "upper bounds": lambda n: {"event": "a.done", "criteria": {"score": {"$lt": -n}}},
    "ranges": lambda n: {"event": "a.done", "criteria": {"score": {"$between": [100 + n, 101 + n]}}},
    "windows of last week": lambda n: {
        "$timeWindow": {"last": "7d", "flow": {"event": "a.done", "criteria": {"item": f"i{n}"}}}
    },
    "fixed windows": lambda n: {
        "$timeWindow": {
            "start": f"{1971 + n % 40}-{n % 12 + 1:02}-{n % 28 + 1:02}T00:00:00Z",
            "end": f"{1971 + n % 40}-{n % 12 + 1:02}-{n % 28 + 1:02}T23:59:59Z",
            "flow": {"event": "a.done", "criteria": {"$eventCount": {"$gte": 1 + n % 7}}},
        }
    },
    "other types": lambda n: {"event": "b.done", "criteria": {"item": f"i{n}"}},
    "periods and sums": lambda n: {
        "event": "a.done",
        "criteria": {
            "item": f"i{n}",
            "$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}},
            "$aggregate": {"type": "sum", "field": "score", "value": {"$gte": n}},
        },
    },
}


NOTHING = {"checks": 0, "steps": 0, "tests": 0}


def cost_of_a_miss(flows: list[Flow]) -> dict[str, int]:
    """The work of an event that no badge of these flows matches, scopes included."""
    plan, tally = plan_of(flows)
    state = UserState("u")
    miss = event(1, item="none", kind="k", tag=["x", "y"], score=50)
    return work(tally, lambda: (plan.scopes(miss), apply(plan, state, miss)))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_event_that_matches_nothing_costs_nothing_in_a_family(family: str) -> None:
    """Filters of each kind are found by an index: none is tried that the event does not match."""
    assert cost_of_a_miss([FAMILIES[family](number) for number in range(400)]) == NOTHING


def test_an_event_that_matches_nothing_costs_nothing_among_ten_thousand_badges() -> None:
    """The kinds of filters do not stand in each other's way."""
    flows = [family(number) for family in FAMILIES.values() for number in range(10_000 // len(FAMILIES) + 1)]
    assert len(flows) > 10_000
    assert cost_of_a_miss(flows) == NOTHING


def test_an_event_that_matches_one_of_ten_thousand_steps_and_tests_that_one() -> None:
    """The one badge whose filter passes is stepped and tested, and none beside it."""
    plan, tally = plan_of([FAMILIES["equality"](number) for number in range(10_000)])
    state = UserState("u")
    assert work(tally, lambda: apply(plan, state, event(1, item="i77"))) == {"checks": 0, "steps": 1, "tests": 1}
    assert list(state.held) == [("b77", "")]


@pytest.mark.parametrize("operator", ["$gte", "$gt"])
def test_a_ladder_tests_only_the_rung_it_reaches(operator: str) -> None:
    """A thousand thresholds over one count: each event steps one fold and tests the one threshold it crosses."""
    first = 1 if operator == "$gte" else 0
    flows = [{"event": "a.done", "criteria": {"$eventCount": {operator: n + first}}} for n in range(0, 1000, 2)]
    plan, tally = plan_of(flows)
    state = UserState("u")
    for number in range(20):
        cost = work(tally, lambda number=number: apply(plan, state, event(number)))  # type: ignore[misc]
        assert cost == {"checks": 0, "steps": 1, "tests": 1 - number % 2}
    assert len(state.held) == 10


def test_a_window_that_stays_full_is_not_tested_again() -> None:
    """A look-back that holds as many as a badge asks for was tested when it came there, not at each event since."""
    flow = {"$timeWindow": {"last": "7d", "flow": {"event": "a.done", "criteria": {"$eventCount": {"$gte": 3}}}}}
    plan, tally = plan_of([flow])
    state = UserState("u")
    costs = [
        work(tally, lambda number=number: apply(plan, state, event(number)))  # type: ignore[misc]
        for number in range(20)
    ]
    assert [cost["tests"] for cost in costs] == [0, 0, 1] + [0] * 17
    assert {cost["steps"] for cost in costs} == {1}


def test_a_ladder_over_a_sum_tests_only_what_the_sum_crosses() -> None:
    """A thousand thresholds over one sum: an event tests the thresholds between the old sum and the new one."""
    flows = [
        {"event": "a.done", "criteria": {"$aggregate": {"type": "sum", "field": "n", "value": {"$gte": 10 * at}}}}
        for at in range(1, 1000)
    ]
    plan, tally = plan_of(flows)
    state = UserState("u")
    assert work(tally, lambda: apply(plan, state, event(1, n=5)))["tests"] == 0
    assert work(tally, lambda: apply(plan, state, event(2, n=27)))["tests"] == 3
    assert work(tally, lambda: apply(plan, state, event(3, n=-20)))["tests"] == 0
    assert work(tally, lambda: apply(plan, state, event(4, n=30)))["tests"] == 1, "two of the three crossed are held"
    assert len(state.held) == 4


def test_held_badges_are_skipped_before_anything_is_computed() -> None:
    """A badge that is held is not tested again, though its folds go on."""
    plan, tally = plan_of([{"$and": [{"event": "a.done"}, {"event": "b.done"}]}])
    state = UserState("u", held={("b0", ""): 0})
    assert work(tally, lambda: apply(plan, state, event(1))) == {"checks": 0, "steps": 1, "tests": 0}


def test_what_depends_on_folds_alone_is_tested_when_one_of_them_changes() -> None:
    """Events of a trigger that its filter does not match leave a badge of several conditions untested."""
    flow = {"$and": [{"event": "a.done", "criteria": {"item": "x"}}, {"$not": {"event": "b.done"}}]}
    plan, tally = plan_of([flow] * 4)
    state = UserState("u")
    assert work(tally, lambda: apply(plan, state, event(1, item="y")))["tests"] == 0
    assert work(tally, lambda: apply(plan, state, event(2, item="x")))["tests"] == 4


@pytest.mark.parametrize(
    "flow",
    [
        {"event": "a.done", "criteria": {"$eventCount": {"$gte": 20_000}}},
        {"$timeWindow": {"last": "1y", "flow": {"event": "a.done", "criteria": {"$eventCount": {"$gte": 50}}}}},
        {"event": "a.done", "criteria": {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 5}}}},
        {"event": "a.done", "criteria": {"$distinctCount": {"field": "item", "$gte": 7}}},
    ],
)
def test_the_cost_of_an_event_does_not_grow_with_the_history(flow: Flow) -> None:
    """After ten thousand events one more takes the same work, and the memory is no longer than its threshold."""
    plan, tally = plan_of([flow])
    state = UserState("u")
    for number in range(10_000):
        apply(plan, state, event(number, us=START + number * DAY // 50, item=number))
    assert work(tally, lambda: apply(plan, state, event(10_000, us=START + 201 * DAY)))["tests"] == 0
    assert all(len(kept) <= 100 for kept in state.scopes[""].values())


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 14))
def test_thresholds_of_a_ladder_are_reached_exactly_once_each(levels: list[int], count: int) -> None:
    """However many badges share a fold, each is earned at the event that brings the count to its threshold."""
    plan, tally = plan_of([{"event": "a.done", "criteria": {"$eventCount": {"$gte": level}}} for level in levels])
    state = UserState("u")
    earned = [award for number in range(count) for award in apply(plan, state, event(number))]
    expected = sorted((level, f"b{n}") for n, level in enumerate(levels) if level <= count)
    assert [(award.metadata["event_count"], award.badge_key) for award in earned] == expected
    assert tally.steps == count
    assert tally.tests == len(expected)
