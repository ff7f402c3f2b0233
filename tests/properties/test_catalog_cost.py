"""What reading and compiling a catalog costs: in step with its size, whatever its badges ask of each other."""

from __future__ import annotations

from collections.abc import Callable
from cProfile import Profile
from pstats import Stats
from typing import Any

import pytest

from worker.rules.catalog.load import catalog_from_document
from worker.rules.plan import compile_plan

Flow = dict[str, Any]

SHAPES: dict[str, Callable[[int], Flow]] = {
    "one after the other": lambda n: (
        {"$and": [{"badge": f"b{n - 1}"}, {"event": "a.done"}]} if n else {"event": "a.done"}
    ),
    "all after one": lambda n: {"$and": [{"badge": "b0"}, {"event": "a.done"}]} if n else {"event": "a.done"},
    "equalities": lambda n: {"event": "a.done", "criteria": {"item": f"i{n}"}},
    "thresholds over one count": lambda n: {"event": "a.done", "criteria": {"$eventCount": {"$gte": n + 1}}},
    "windows": lambda n: {"$timeWindow": {"last": f"{n + 1}d", "flow": {"event": "a.done"}}},
}


def calls(flow: Callable[[int], Flow], count: int) -> int:
    """How many functions are called, Python's own among them, to read and compile a catalog of so many badges."""
    badges = [{"key": f"b{number}", "flow": flow(number)} for number in range(count)]
    document = {"version": 1, "events": {"a.done": {}}, "badges": badges}
    with Profile() as profile:
        compile_plan(catalog_from_document(document, 1))
    return int(Stats(profile).total_calls)  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_catalog_of_twice_the_badges_takes_twice_the_work(shape: str) -> None:
    """No step of reading or compiling looks at all badges for each of them."""
    calls(SHAPES[shape], 10)  # what is made once
    small, large = calls(SHAPES[shape], 200), calls(SHAPES[shape], 400)
    assert large <= 2.3 * small
