"""What reading and compiling a catalog costs: in step with its size, whatever its badges ask of each other."""

from __future__ import annotations

from collections.abc import Callable
from cProfile import Profile
from pstats import Stats
from time import process_time
from typing import Any

import pytest

from worker.errors import AuthorError
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


def test_a_catalog_of_large_expressions_is_read_in_bounded_time() -> None:
    """However many flows have them: what is beyond the bound is refused where it stands, and is not compiled."""
    badges = [
        {"key": f"b{n}", "flow": {"event": "a.done", "criteria": {"item": {"$regex": f"\\pL{{1,50}}{n}"}}}}
        for n in range(600)
    ]
    began = process_time()
    with pytest.raises(AuthorError) as refused:
        catalog_from_document({"version": 1, "events": {"a.done": {}}, "badges": badges}, 1)
    assert process_time() - began < 8, "compiled are those up to the bound alone: some 80 of 600"
    faults = refused.value.faults
    first = 600 - len(faults)
    assert 80 < first < 90
    assert [fault.path for fault in faults] == [f"/badges/{n}/flow/criteria/item/$regex" for n in range(first, 600)]
    assert {fault.code for fault in faults} == {"bad_regex"}
    assert faults[0].message == "The expressions of this catalog are together too large."


def test_a_catalog_at_the_bound_is_read() -> None:
    """Many small expressions are no reason to refuse a catalog."""
    badges = [
        {"key": f"b{n}", "flow": {"event": "a.done", "criteria": {"item": {"$regex": f"^order-\\d+-{n}$"}}}}
        for n in range(5_000)
    ]
    assert len(catalog_from_document({"version": 1, "events": {"a.done": {}}, "badges": badges}, 1).badges) == 5_000
