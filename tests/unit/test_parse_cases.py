"""The published cases of the language: what must be refused, and what the rest means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.reading import Known, answer, event, exact, faults, first_time, read
from worker.events import parse_instant
from worker.rules.operators import CRITERIA_OPERATORS, FLOW_OPERATORS
from worker.rules.operators.values import FIELD_OPERATORS
from worker.rules.parse import parse_milestone

CASES = Path(__file__).parents[1] / "cases"
WORDS = {*CRITERIA_OPERATORS, *FLOW_OPERATORS, *FIELD_OPERATORS}


def operators(flow: Any) -> Iterator[str]:
    """Every word with a $ that stands as a key in a flow."""
    if isinstance(flow, dict):
        for key, value in flow.items():
            if key.startswith("$"):
                yield key
            yield from operators(value)
    elif isinstance(flow, list):
        for item in flow:
            yield from operators(item)


def cases(name: str) -> list[Any]:
    """The cases of a file whose operators exist, or which must be refused for an operator that does not."""
    listed = json.loads((CASES / name).read_text(encoding="utf-8"))
    known = [
        case for case in listed if case.get("error") == "unknown_operator" or WORDS.issuperset(operators(case["flow"]))
    ]
    return [pytest.param(case, id=case["id"]) for case in known]


@pytest.mark.parametrize("case", cases("invalid_cases.json"))
def test_a_published_faulty_flow_is_refused_with_exactly_its_code(case: dict[str, Any]) -> None:
    """Each faulty flow gives one fault, of the code that is published for it."""
    assert [code for code, _ in faults(exact(case["flow"]))] == [case["error"]]


@pytest.mark.parametrize("case", cases("cases.json"))
def test_a_published_case_has_its_answer_now_and_ever(case: dict[str, Any]) -> None:
    """Each flow gives the published answer as of now, its metadata, and whether it has held at any event so far."""
    events = [
        event(one["occurred_at"], one["type"], exact(one["payload"]), f"{index:04}")
        for index, one in enumerate(case["events"], 1)
    ]
    now_us = parse_instant(case["now"])
    flow = exact(case["flow"])
    if "milestone" in flow:
        found = parse_milestone(flow["milestone"], path="/milestone", names=Known())
        assert found is not None
        node, trigger = found
        earned = first_time(node, events, now_us, trigger)
        passed, metadata = (False, {}) if earned is None else (True, earned[1])
    else:
        node = read(flow)
        earned = first_time(node, events, now_us)
        passed, metadata = answer(node, events, now_us)
    assert passed is case["expect"]
    assert (earned is not None) is case["ever_awarded"]
    for key, expected in case.get("expect_metadata", {}).items():
        assert metadata_equal(metadata[key], expected, key), (key, metadata)


def metadata_equal(value: Any, expected: Any, key: str) -> bool:
    """Ids are positions; an instant is an instant; figures are numbers that agree to the published digits."""
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(metadata_equal, value, expected, [key] * len(expected)))
    if key.endswith(("event_id", "event_ids")):
        return int(value) == expected
    if key == "awarded_at":
        return parse_instant(value) == parse_instant(expected)
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return isinstance(value, int | Decimal) and abs(float(value) - expected) < 1e-9
    return bool(value == expected)


def test_the_cases_cover_what_is_built() -> None:
    """Most of the published cases are of operators that exist."""
    assert len(cases("cases.json")) > 100
    assert len(cases("invalid_cases.json")) > 15
