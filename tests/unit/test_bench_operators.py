"""The bench of operators: every operator is measured, on events that never earn the badge, over the same days."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from worker.bench import operators
from worker.bench.operators import BOUND, CASES, DAYS, QUICK, Case, document, following, history, holds, user
from worker.cli import main
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import apply, replay
from worker.rules.operators import CRITERIA_OPERATORS, FLOW_OPERATORS
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import UserState

WORDS = {*FLOW_OPERATORS, *CRITERIA_OPERATORS}
NAMES = [f"{case.operator}, {case.means}" for case in CASES]


def test_every_operator_is_measured() -> None:
    """Each word of the language has a case."""
    assert {case.operator for case in CASES} >= WORDS


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_events_are_remembered_and_never_earn_the_badge(case: Case) -> None:
    """Each event of a case changes what is remembered of the user, and none of them ends the measuring by an award."""
    plan = compile_plan(catalog_from_document(document(case), 1))
    events = [*history(case, 200), *(following(case, number) for number in range(20))]
    assert events == sorted(events, key=lambda event: event.order)
    state, awards = replay(plan, "u", events, holds(case))
    assert awards == []
    assert state.scopes[""]


#: What looks at a window.
WINDOWS = [case for case in CASES if case.operator in ("$timeWindow", "$withinTimeWindow")]


@pytest.mark.parametrize("case", WINDOWS, ids=[case.means for case in WINDOWS])
def test_a_window_costs_as_many_steps_whatever_it_holds(case: Case) -> None:
    """After 3,000 events over 100 days an event takes no more of the interpreter's steps than after 100 over them."""
    plan = compile_plan(catalog_from_document(document(case), 1))
    few, many = (steps_of(plan, user(plan, case, length), case) for length in (100, 3_000))
    assert many <= 1.25 * few, (few, many)


def steps_of(plan: Plan, state: UserState, case: Case) -> int:
    """How many instructions 20 more events of a user take."""
    taken, before = 0, sys.gettrace()

    def traced(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal taken
        frame.f_trace_opcodes = True
        taken += event == "opcode"
        return traced

    later = [following(case, number) for number in range(20)]
    sys.settrace(traced)
    try:
        for event in later:
            apply(plan, state, event)
    finally:
        sys.settrace(before)
    return taken


def test_histories_cover_the_same_days() -> None:
    """A history of 100 events and one of 10,000 have events on the same days."""
    (case, *_) = CASES
    day = 86_400_000_000
    few, many = ({event.occurred_us // day for event in history(case, length)} for length in (100, 10_000))
    assert few == many
    assert len(few) == DAYS


def test_the_command_says_how_steep_each_operator_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`badges bench --scenario operators` needs no services, prints a table or one object, refuses other options."""
    monkeypatch.setattr(operators, "CASES", CASES[:2])
    monkeypatch.setattr(operators, "QUICK", replace(QUICK, history=(10, 100), rounds=1, events=10))
    assert main(["bench", "--scenario", "operators", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "times at most, from 10 events of a user to 100 over 100 days" in printed
    assert "$eventCount" in printed
    assert main(["bench", "--scenario", "operators", "--quick", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [row["operator"] for row in figures["operators"]] == ["$eventCount", "$timePeriod"]
    assert all(row["ratio"] > 0 and len(row["us"]) == len(row["bytes"]) == 2 for row in figures["operators"])
    assert main(["bench", "--scenario", "operators", "--full"]) == 2


def test_the_guide_says_what_each_case_costs() -> None:
    """The guide's table has a row for each case, in order, and none is steeper than the bound."""
    guide = (Path(__file__).parents[2] / "schemas" / "README.md").read_text()
    table = guide[guide.index("| operator | what is asked | times |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [(word.strip("`"), means) for word, means, _ in rows] == [(case.operator, case.means) for case in CASES]
    assert all(0 < float(ratio) <= BOUND for _, _, ratio in rows)
