"""What time alone can do to a verdict, and how a ladder over a window reads how full it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.playing import catalog
from tests.unit.reading import read
from worker.rules.operators.moving import held
from worker.rules.plan import compile_plan
from worker.rules.plan.timing import BOTH, DOWN, UP, drift


def counted(check: dict[str, Any]) -> dict[str, Any]:
    return {"event": "a.done", "criteria": {"$eventCount": check}}


def recent(flow: Any, **bounds: str) -> dict[str, Any]:
    return {"$timeWindow": {**(bounds or {"last": "7d"}), "flow": flow}}


def joined(check: dict[str, str]) -> dict[str, Any]:
    return {"snapshot": {"joined_at": check}}


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (counted({"$gte": 1}), 0),
        (recent(counted({"$gte": 1})), DOWN),
        (recent(counted({"$lte": 1})), UP),
        (recent(counted({"$eq": 1})), BOTH),
        ({"$not": recent(counted({"$gte": 1}))}, UP),
        ({"$and": [recent(counted({"$gte": 1})), recent(counted({"$lt": 1}))]}, BOTH),
        (recent(counted({"$gte": 1}), end="$NOW(-1d)"), BOTH),
        (recent({"$gap": {"minGapHours": 1}}), BOTH),
        ({"$gap": {"minGapHours": 1}}, 0),
        (joined({"$lte": "$NOW(-1d)"}), UP),
        (joined({"$gte": "$NOW(-1d)"}), DOWN),
        (joined({"$eq": "$NOW(-1d)"}), BOTH),
        (joined({"$lte": "2024-03-04T00:00:00Z"}), 0),
        (recent(joined({"$lte": "$NOW(-1d)"})), BOTH),
    ],
)
def test_what_time_alone_can_do(flow: Any, expected: int) -> None:
    """Windows empty and ages grow; what is told by neither stands still between two events."""
    assert drift(read(flow)) == expected


def test_how_full_a_window_is_stands_at_hand() -> None:
    """A rung over the events of the last days costs no look at each of them."""
    plan = compile_plan(catalog({"$timeWindow": {"last": "7d", "flow": {"event": "comment.posted"}}}))
    (gate,) = plan.route("comment.posted").every or ()
    (memory,) = gate.memories
    assert memory.unit is not None
    assert memory.unit.level is held
