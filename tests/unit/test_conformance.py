"""The published cases of the language, each through a simulation and a dry run, as files of events would be played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from worker.events import Event, decode_line, parse_instant
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import Source, load_catalog
from worker.rules.operators import CRITERIA_OPERATORS, FLOW_OPERATORS
from worker.rules.operators.values import FIELD_OPERATORS
from worker.rules.plan import compile_plan
from worker.rules.rehearse import DryRun, in_order, simulate

CASES = Path(__file__).parents[1] / "cases" / "cases.json"
KNOWN = {*CRITERIA_OPERATORS, *FLOW_OPERATORS, *FIELD_OPERATORS}
STATS = {"login_count": "UserLoggedIn", "total_wins": "WinLogged", "total_habits_completed": "HabitCompleted"}


def words(flow: Any) -> Iterator[str]:
    """Every operator that stands as a key in a flow."""
    if isinstance(flow, dict):
        for key, value in flow.items():
            if key.startswith("$"):
                yield key
            yield from words(value)
    elif isinstance(flow, list):
        for item in flow:
            yield from words(item)


def named(flow: Any) -> Iterator[str]:
    """Every event type that a flow or a milestone names."""
    if isinstance(flow, dict):
        for key, value in flow.items():
            if key in ("event", "trigger_event") and isinstance(value, str):
                yield value
            yield from named(value)
    elif isinstance(flow, list):
        for item in flow:
            yield from named(item)


def cases() -> list[Any]:
    """The cases whose operators are built."""
    listed = json.loads(CASES.read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["id"]) for case in listed if KNOWN.issuperset(words(case["flow"]))]


def catalog_of(case: dict[str, Any]) -> Catalog:
    """The one badge `m1` of a case, over open event types."""
    flow = case["flow"]
    types = {*named(flow), *(event["type"] for event in case["events"])}
    document: dict[str, Any] = {"version": 1}
    if "milestone" in flow:
        types |= {*STATS.values()}
        document["metrics"] = {name: {"count": event} for name, event in STATS.items()}
        document["milestones"] = [{"title": "M", "description": "", "icon": "flame", **flow["milestone"]}]
    else:
        document["badges"] = [{"key": "m1", "flow": flow}]
    document["events"] = {name: {} for name in sorted(types)}
    return load_catalog([Source("case.json", json.dumps(document))])


def events_of(case: dict[str, Any], catalog: Catalog) -> list[Event]:
    """The events of a case, in order; ids are positions in the list."""
    found = []
    for position, written in enumerate(case["events"], start=1):
        line = json.dumps({"id": f"{position:04}", "user_id": "u", **written}).encode()
        event = decode_line(line, catalog.dictionary, number=position)
        assert isinstance(event, Event), event
        found.append(event)
    events, clashes = in_order(reversed(found))
    assert not clashes
    return events


@pytest.mark.parametrize("case", cases())
def test_a_simulation_awards_what_the_case_has_ever_awarded(case: dict[str, Any]) -> None:
    """Playing the events up to now gives the badge, once, exactly where the case says that it was ever earned."""
    catalog = catalog_of(case)
    now_us = parse_instant(case["now"])
    seen = [event for event in events_of(case, catalog) if event.occurred_us <= now_us]
    found = list(simulate(compile_plan(catalog), seen))
    assert [award.badge_key for award, _ in found] == ["m1"] * case["ever_awarded"]
    assert all(why and award.metadata for award, why in found)


@pytest.mark.parametrize("case", cases())
def test_a_dry_run_answers_as_the_case_does_now(case: dict[str, Any]) -> None:
    """The dry run as of now gives the case's verdict and figures, and a tree whose root has that verdict."""
    catalog = catalog_of(case)
    events = events_of(case, catalog)
    (answer,) = DryRun(catalog).answers("u", events, {"m1"}, at_us=parse_instant(case["now"]))
    assert answer.passed is case["expect"]
    assert answer.explanation.tree["verdict"] == ("passed" if case["expect"] else "not_passed")
    assert answer.explanation.sentence
    for key, expected in case.get("expect_metadata", {}).items():
        assert equal(answer.metadata[key], expected, key), (key, answer.metadata)


def equal(value: Any, expected: Any, key: str) -> bool:
    """Ids are positions, instants are instants, figures are numbers that agree in the published digits."""
    if key.endswith("event_id"):
        return int(value) == expected
    if key == "awarded_at":
        return parse_instant(value) == parse_instant(expected)
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return isinstance(value, int | Decimal) and not isinstance(value, bool) and abs(float(value) - expected) < 1e-9
    return bool(value == expected)


def test_most_cases_are_of_operators_that_are_built() -> None:
    """The choice by operators leaves out no more than what is still to come."""
    assert len(cases()) > 100
