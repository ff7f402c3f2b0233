"""Tests of conditions in commands: lint checks sources, simulate and dry-run ask them, and all say so where off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker import cli

TEXT = """version: 1
events: {order.paid: {}}
condition_types:
  - {name: big, source: "(event, params) => event.payload.total > params.min"}
  - {name: odd, source: "(event) => event.payload.lines.length % 2 === 1"}
badges:
  - {key: big, flow: {event: order.paid, criteria: {$condition: {type: big, params: {min: 100}}}}}
  - {key: odd, flow: {event: order.paid, criteria: {$condition: {type: odd}}}}
  - {key: payer, flow: {event: order.paid}}
"""

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog and some events, with conditions allowed."""
    (tmp_path / "catalog.yaml").write_text(TEXT)
    rows = [
        {"id": f"o{number}", "type": "order.paid", "user_id": "u1", "occurred_at": f"2026-03-0{number}T10:00:00Z",
         "payload": {"total": 60 * number}}
        for number in (1, 2, 3)
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BADGES_JS", "on")
    return tmp_path


def run(capsys: Capture, command: str, *options: str) -> tuple[int, list[Any], str]:
    """A command over the place: its status, its lines of JSON, what it said."""
    status = cli.main([*command.split(), *options])
    out, said = capsys.readouterr()
    return status, [json.loads(text) for text in out.splitlines()], said


SIMULATE = "simulate --catalog catalog.yaml --events events.jsonl --format jsonl"
DRY_RUN = "dry-run --catalog catalog.yaml --events events.jsonl --user u1 --format jsonl"


def test_simulate(place: Path, capsys: Capture) -> None:
    """Awards come by what conditions say; faults are warnings, one for all that are alike."""
    status, rows, said = run(capsys, SIMULATE)
    assert status == 0
    assert [(row["badge_key"], row["event_id"]) for row in rows] == [("payer", "o1"), ("big", "o2")]
    assert rows[1]["why"] == "big said yes to `order.paid` event of 2026-03-02"
    assert "the condition odd gave no answer to 3 events: TypeError: cannot read property 'length'" in said


def test_dry_run(place: Path, capsys: Capture) -> None:
    """A dry run asks about the user's events and about one that has not happened."""
    status, rows, _ = run(capsys, DRY_RUN, "--at", "2026-03-01T12:00:00Z")
    assert status == 0
    assert [(row["badge_key"], row["passed"], row["explanation"]["verdict"]) for row in rows] == [
        ("big", False, "not_passed"),
        ("odd", False, "not_evaluated"),
        ("payer", True, "passed"),
    ]
    event = {"id": "x", "type": "order.paid", "occurred_at": "2026-03-01T11:00:00Z", "payload": {"lines": [1]}}
    _, rows, _ = run(capsys, DRY_RUN, "--badge", "odd", "--event", json.dumps(event))
    assert [(row["passed"], row["metadata"]["condition_event_id"]) for row in rows] == [(True, "x")]


def test_a_condition_that_is_parked_on_the_way(place: Path, capsys: Capture) -> None:
    """What fails for everybody is asked about no later event: a warning says so, and the answers of these users."""
    rows = [
        {"id": f"{user}{number}", "type": "order.paid", "user_id": f"u{user}", "occurred_at": "2026-03-01T10:00:00Z"}
        for user in range(12) for number in range(2)
    ]  # fmt: skip
    (place / "events.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    requests = [{"user_id": row["user_id"], "badge_key": "odd", "at": row["occurred_at"]} for row in rows[::2]]
    (place / "requests.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in requests))
    _, rows, said = run(capsys, DRY_RUN.replace("--user u1", "--requests requests.jsonl"))
    assert "the condition odd is parked after 20 faults: it is asked about no later event" in said
    nodes = [row["explanation"] for row in rows]
    assert {node["verdict"] for node in nodes} == {"not_evaluated"}
    assert [node.get("parked", 0) for node in nodes] == [0] * 10 + [2] * 2
    assert nodes[9]["sentence"] == "odd gave no answer to 2 of 2 `order.paid` events"
    assert nodes[10]["sentence"] == "odd, parked after faults, was not asked about 2 of 2 `order.paid` events"


@pytest.mark.parametrize("command", [SIMULATE, DRY_RUN])
def test_where_conditions_may_not_run(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Without BADGES_JS=on a catalog that asks conditions is refused in one sentence; one that asks none is not."""
    monkeypatch.delenv("BADGES_JS")
    status, rows, said = run(capsys, command)
    assert (status, rows) == (1, [])
    assert "The catalog asks conditions in JavaScript (big, odd), and BADGES_JS is off." in said
    assert "set BADGES_JS=on" in said
    unused = TEXT.replace("$condition: {type: big, params: {min: 100}}", "total: 1").replace(
        "$condition: {type: odd}", ""
    )
    (place / "catalog.yaml").write_text(unused)
    assert run(capsys, command)[0] == 0


def test_lint_checks_sources(place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lint names each source that is no JavaScript, at its place; without an engine allowed it reads the rest."""
    lint = "catalog lint catalog.yaml"
    assert cli.main(lint.split()) == 0
    capsys.readouterr()
    (place / "catalog.yaml").write_text(TEXT.replace("% 2 ===", "% 2 = = ="))
    assert cli.main(lint.split()) == 1
    assert "catalog.yaml:5:25  bad_operand  /condition_types/1/source" in capsys.readouterr().out
    monkeypatch.delenv("BADGES_JS")
    assert cli.main(lint.split()) == 0
