"""The growth laws of the engine at full size: 100,000 badges, 100,000 events of one user, a million users."""

from __future__ import annotations

from time import process_time

import pytest

from tests.properties.growth import DAY, catalog_of, cost_by_catalog, cost_by_history, cost_by_users
from tests.properties.test_growth import HISTORIES, assert_flat
from worker.rules.plan import compile_plan

pytestmark = [pytest.mark.growth, pytest.mark.timeout(600)]


def test_a_hundred_thousand_silent_badges_cost_nothing() -> None:
    """From 10 silent badges to 100,000 an event steps the same two folds and checks no filter."""
    costs = cost_by_catalog((10, 1_000, 100_000))
    assert (costs[0].checks, costs[0].steps) == (0, 2)
    assert_flat(costs)


def test_a_hundred_thousand_silent_badges_are_compiled_in_seconds() -> None:
    """A worker that takes up a version with 100,000 badges computes for 20 s at most before it goes on."""
    catalog = catalog_of(100_000)
    began = process_time()
    assert len(compile_plan(catalog).badges) > 100_000
    assert process_time() - began <= 20.0


@pytest.mark.parametrize("name", HISTORIES)
def test_a_hundred_thousand_events_cost_no_more_than_a_thousand(name: str) -> None:
    """The work of one more event is the same, and the memory of the user no larger."""
    found = cost_by_history(HISTORIES[name], (1_000, 10_000, 100_000), apart=DAY // 4)
    assert_flat([cost for cost, _ in found])
    sizes = [size for _, size in found]
    assert max(sizes) <= 1.25 * sizes[0], sizes


def test_a_million_users_cost_no_more_than_a_thousand() -> None:
    """The first event of a user takes the same work and memory whoever came before."""
    found = cost_by_users((1_000, 100_000, 1_000_000))
    assert_flat([cost for cost, _ in found])
    assert len({size for _, size in found}) == 1
