"""The oracle gives every published answer of the language."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.oracle import World, awards, holds
from worker.events import Event, parse_instant
from worker.events.json_text import dumps

CASES = json.loads((Path(__file__).parents[1] / "cases" / "cases.json").read_text(), parse_float=Decimal)
METRICS = {
    "login_count": {"count": "UserLoggedIn"},
    "total_wins": {"count": "WinLogged"},
    "total_habits_completed": {"count": "HabitCompleted"},
}


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
    if isinstance(expected, list):
        return len(found) == len(expected) and all(
            agrees(key[:-1], *pair) for pair in zip(found, expected, strict=True)
        )
    if key.endswith("event_id"):
        return bool(found == f"{expected:04}")
    if isinstance(expected, int | Decimal) and not isinstance(expected, bool):
        return abs(Fraction(found) - Fraction(expected)) <= Fraction(1, 10**9)
    return bool(found == expected)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
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
