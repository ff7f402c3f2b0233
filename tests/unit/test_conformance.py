"""The published cases of the language, all at once through the public commands: simulate, dry-run, catalog lint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from worker.events import parse_instant

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
STATS = {"login_count": "UserLoggedIn", "total_wins": "WinLogged", "total_habits_completed": "HabitCompleted"}
MILESTONE = {"title": "M", "description": "", "icon": "flame"}


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
    """Every text in a flow, the event types among them."""
    if isinstance(flow, dict):
        for value in flow.values():
            yield from named(value)
    elif isinstance(flow, list):
        for item in flow:
            yield from named(item)
    elif isinstance(flow, str) and flow.replace("-", "").replace("_", "").replace(".", "").isalnum():
        yield flow


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file, each called as its badge may be."""
    listed = json.loads((CASES / name).read_text(encoding="utf-8"))
    return [{**case, "id": case["id"].lower()} for case in listed]


def each(name: str) -> list[Any]:
    """The same, as the parameters of a test."""
    return [pytest.param(case, id=case["id"]) for case in cases(name)]


def catalog(listed: list[dict[str, Any]]) -> dict[str, Any]:
    """One catalog with a badge for each case, called as the case is, over open event types."""
    types = {name for case in listed for name in named(case["flow"])} | {*STATS.values()}
    types |= {event["type"] for case in listed for event in case.get("events", ())}
    badges: list[Any] = []
    milestones: list[Any] = []
    for case in listed:
        if "milestone" in case["flow"]:
            milestones.append({**MILESTONE, **case["flow"]["milestone"], "code": case["id"]})
        else:
            badges.append({"key": case["id"], "flow": case["flow"]})
    return {
        "version": 1,
        "events": {name: {} for name in sorted(types)},
        "metrics": {name: {"count": event} for name, event in STATS.items()},
        "badges": badges,
        "milestones": milestones,
    }


def badges(*arguments: str, status: int = 0) -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def lines(text: str) -> list[Any]:
    return [json.loads(line, parse_float=Decimal) for line in text.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the catalog, the events of all cases (a user for each case) and the requests."""
    folder, listed = tmp_path_factory.mktemp("cases"), cases("cases.json")
    events = [
        {"id": f"{position:04}", "user_id": case["id"], **event}
        for case in listed
        for position, event in enumerate(case["events"], start=1)
    ]
    requests = [{"user_id": case["id"], "badge_key": case["id"], "at": case["now"]} for case in listed]
    (folder / "catalog.json").write_text(json.dumps(catalog(listed)))
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in reversed(events)))
    (folder / "requests.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    return folder


@pytest.fixture(scope="module")
def awards(place: Path) -> dict[str, list[Any]]:
    """The awards of a simulation by case, of its own user."""
    found: dict[str, list[Any]] = {}
    files = ("--catalog", str(place / "catalog.json"), "--events", str(place / "events.jsonl"))
    for award in lines(badges("simulate", *files, "--format", "jsonl")):
        if award["user_id"] == award["badge_key"]:
            found.setdefault(award["badge_key"], []).append(award)
    return found


@pytest.fixture(scope="module")
def answers(place: Path) -> dict[str, Any]:
    """The answers of a dry run by case."""
    files = ("--catalog", str(place / "catalog.json"), "--events", str(place / "events.jsonl"))
    found = lines(badges("dry-run", *files, "--requests", str(place / "requests.jsonl"), "--format", "jsonl"))
    assert [answer["badge_key"] for answer in found] == [case["id"] for case in cases("cases.json")]
    return {answer["badge_key"]: answer for answer in found}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The codes of the faults that lint reports, by case: all at once, from one catalog."""
    document = catalog(cases("invalid_cases.json"))
    file = tmp_path_factory.mktemp("invalid") / "catalog.json"
    file.write_text(json.dumps(document))
    found: dict[str, list[str]] = {}
    for fault in json.loads(badges("catalog", "lint", str(file), "--format", "json", status=1)):
        if fault["severity"] == "error":
            _, section, index, *_ = fault["path"].split("/")
            entry = document[section][int(index)]
            found.setdefault(entry.get("key") or entry["code"], []).append(fault["code"])
            assert fault["message"]
            assert fault["help"]
    return found


@pytest.mark.parametrize("case", each("cases.json"))
def test_a_simulation_awards_what_the_case_has_ever_awarded(case: dict[str, Any], awards: dict[str, list[Any]]) -> None:
    """Playing the events gives the badge by now, once, exactly where the case says that it was ever earned."""
    now_us = parse_instant(case["now"])
    found = [award for award in awards.get(case["id"], ()) if parse_instant(award["awarded_at"]) <= now_us]
    assert len(found) == case["ever_awarded"]
    assert all(award["why"] and award["metadata"] for award in found)


@pytest.mark.parametrize("case", each("cases.json"))
def test_a_dry_run_answers_as_the_case_does_now(case: dict[str, Any], answers: dict[str, Any]) -> None:
    """The dry run as of now gives the case's verdict and figures, and a tree whose root has that verdict."""
    answer = answers[case["id"]]
    assert answer["passed"] is case["expect"]
    assert answer["explanation"]["verdict"] == ("passed" if case["expect"] else "not_passed")
    assert answer["explanation"]["sentence"]
    for key, expected in case.get("expect_metadata", {}).items():
        assert equal(answer["metadata"][key], expected, key), (key, answer["metadata"])


@pytest.mark.parametrize("case", each("invalid_cases.json"))
def test_a_faulty_flow_is_refused_with_exactly_its_code(case: dict[str, Any], refusals: dict[str, list[str]]) -> None:
    """Each faulty flow gives one fault, of the code that is published for it, though all stand in one catalog."""
    assert refusals.get(case["id"]) == [case["error"]]


def equal(value: Any, expected: Any, key: str) -> bool:
    """Ids are positions, instants are instants, figures are numbers that agree in the published digits."""
    if key.endswith("event_ids"):
        return [int(item) for item in value] == expected
    if key.endswith("event_id"):
        return int(value) == expected
    if key == "awarded_at":
        return parse_instant(value) == parse_instant(expected)
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(equal, value, expected, [key] * len(expected)))
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return isinstance(value, int | Decimal) and not isinstance(value, bool) and abs(float(value) - expected) < 1e-9
    return bool(value == expected)


def test_every_case_is_held() -> None:
    """All 157 published flows and all 24 faulty ones are among the parameters above."""
    assert (len(cases("cases.json")), len(cases("invalid_cases.json"))) == (157, 24)
