"""What an event costs does not grow: not with badges it does not match, nor with the history, nor with the users."""

from __future__ import annotations

import pytest

from tests.properties.growth import DAY, WATCHED, Cost, Flow, cost_by_catalog, cost_by_history, cost_by_users

#: What is remembered of each is bounded: by its threshold, by its window, or by what it is.
HISTORIES: dict[str, Flow] = {
    "a level of a ladder": {"event": "a.done", "criteria": {"$eventCount": {"$gte": 10**9}}},
    "a window that is asked for 10": WATCHED[-1],
    "a sum": {"event": "a.done", "criteria": {"$aggregate": {"type": "sum", "field": "n", "value": {"$gte": 10**9}}}},
    "50 different days": {
        "event": "a.done",
        "criteria": {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 50}}},
    },
    "20 different items": {"event": "a.done", "criteria": {"$distinctCount": {"field": "item", "$gte": 20}}},
    "a window of a month beside a condition": {
        "$and": [
            {"$timeWindow": {"last": "1m", "flow": {"event": "a.done", "criteria": {"$eventCount": {"$lt": 1}}}}},
            {"event": "a.done", "criteria": {"$eventCount": {"$gte": 10**9}}},
        ]
    },
}


def assert_flat(costs: list[Cost], *, calls: int = 3) -> None:
    """The same folds, tests and checks for all sizes; a few function calls more, for the branch an event may take."""
    assert {(one.checks, one.steps, one.tests) for one in costs} == {(costs[0].checks, costs[0].steps, costs[0].tests)}
    assert max(one.calls for one in costs) <= costs[0].calls + calls, costs


def test_badges_that_an_event_does_not_match_cost_nothing() -> None:
    """From 10 silent badges to 5,000 the work is the same: two folds, no check."""
    costs = cost_by_catalog((10, 100, 1_000, 5_000))
    assert (costs[0].checks, costs[0].steps) == (0, 2)
    assert_flat(costs)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_long_history_costs_no_more_than_a_short_one(name: str) -> None:
    """After 100 events, once every window is full, or after 10,000: the same work, and a memory that is bounded."""
    lengths = (100, 1_000, 10_000)
    found = cost_by_history(HISTORIES[name], lengths, apart=DAY)
    assert_flat([cost for cost, _ in found])
    sizes = [size for _, size in found]
    assert max(sizes) <= 1.25 * sizes[0], sizes


def test_other_users_cost_nothing() -> None:
    """The first event of a user takes the same work and memory after 10 other users or 10,000."""
    found = cost_by_users((10, 1_000, 10_000))
    assert_flat([cost for cost, _ in found])
    assert len({size for _, size in found}) == 1
