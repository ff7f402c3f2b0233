"""The oracle gives every published answer of the language, as far as its operators go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.oracle import World, awards, holds
from tests.oracle_values import Unknown
from worker.events import Event, parse_instant
from worker.events.json_text import dumps

CASES = json.loads((Path(__file__).parents[1] / "cases" / "cases.json").read_text(), parse_float=Decimal)
LATER = {"$pattern", "$gap", "$sequence", "$duration", "$withinTimeWindow"}
METRICS = {
    "login_count": {"count": "UserLoggedIn"},
    "total_wins": {"count": "WinLogged"},
    "total_habits_completed": {"count": "HabitCompleted"},
}


def operators(flow: Any) -> Iterator[str]:
    """Every `$word` of a flow."""
    if isinstance(flow, list):
        for part in flow:
            yield from operators(part)
    elif isinstance(flow, dict):
        for word, operand in flow.items():
            if word.startswith("$"):
                yield word
            yield from operators(operand)


KNOWN = [case for case in CASES if LATER.isdisjoint(operators(case["flow"]))]


def events_of(case: dict[str, Any]) -> list[Event]:
    """The events of a case, with ids that sort by their place."""
    return [
        Event("u", e["type"], parse_instant(e["occurred_at"]), "", f"{index:04}", e["payload"], dumps(e["payload"]))
        for index, e in enumerate(case["events"], 1)
    ]


def document_of(flow: Any) -> dict[str, Any]:
    """A catalog of the one flow."""
    if "milestone" in flow:
        return {"metrics": METRICS, "milestones": [flow["milestone"]]}
    return {"metrics": METRICS, "badges": [{"key": "b", "flow": flow}]}


def agrees(key: str, found: Any, expected: Any) -> bool:
    """Whether a figure is the published one; an event id stands there as a place in the list."""
    if key.endswith("event_id"):
        return bool(found == f"{expected:04}")
    if isinstance(expected, int | Decimal) and not isinstance(expected, bool):
        return abs(Fraction(found) - Fraction(expected)) <= Fraction(1, 10**9)
    return bool(found == expected)


@pytest.mark.parametrize("case", KNOWN, ids=[case["id"] for case in KNOWN])
def test_the_oracle_gives_the_published_answer(case: dict[str, Any]) -> None:
    """As of `now`, whether it has ever been awarded by then, and the metadata."""
    events, now = events_of(case), parse_instant(case["now"])
    given = awards(document_of(case["flow"]), [event for event in events if event.occurred_us <= now])
    assert bool(given) is case["ever_awarded"]
    if "milestone" in case["flow"]:
        passed, metadata = bool(given), given[0][5] if given else {}
    else:
        passed, metadata = holds(case["flow"], events, now, World(document_of(case["flow"])))
    assert passed is case["expect"]
    for key, expected in case.get("expect_metadata", {}).items():
        assert agrees(key, metadata[key], expected), (key, metadata)


def test_only_operators_of_later_are_left_out() -> None:
    """What is not held to its published answer uses an operator the oracle says it does not know."""
    left_out = [case for case in CASES if case not in KNOWN]
    assert len(KNOWN) > 100
    for case in left_out:
        with pytest.raises(Unknown):
            holds(case["flow"], events_of(case), parse_instant(case["now"]))
