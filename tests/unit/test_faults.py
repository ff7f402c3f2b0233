"""What authors are told of their mistakes: each of `cases/faults.json` with its code, its place and its two sentences.

A sentence that is changed on purpose is changed in the file, too; the rest of it says what else the change touched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.rules.catalog.load import Source, read_catalog

WRITTEN = json.loads((Path(__file__).parents[1] / "cases" / "faults.json").read_text(encoding="utf-8"))
FIRST = {"key": "first_steps", "flow": {"event": "visit"}}
MILESTONE = {"code": "case", "title": "M", "description": "", "icon": "flame"}


def said(case: dict[str, Any]) -> list[list[str | None]]:
    """What reading a catalog with this flow, or this milestone, tells of it: code, place in it, message, help."""
    if "milestone" in case:
        own, place = {"milestones": [{**MILESTONE, **case["milestone"]}], "badges": [FIRST]}, "/milestones/0"
    else:
        badge = {"key": "case", **{key: case[key] for key in ("flow", "per") if key in case}}
        own, place = {"badges": [FIRST, badge]}, "/badges/1/flow"
    _, faults = read_catalog([Source("catalog.json", json.dumps({**WRITTEN["catalog"], **own}))])
    return [
        [fault.code, fault.path.removeprefix(place), fault.message, fault.help]
        + ([fault.severity] if fault.severity != "error" else [])
        for fault in faults
        if fault.path.startswith(place)
    ]


@pytest.mark.parametrize(
    "case", WRITTEN["cases"], ids=lambda case: json.dumps(case.get("milestone", case.get("flow")))[:80]
)
def test_a_mistake_is_told_in_these_words(case: dict[str, Any]) -> None:
    """Every fault of a flow, at its smallest wrong place, in the sentences that are written for it."""
    assert said(case) == case["faults"]
