"""`badges catalog lint` and `show`: what people and programs are told about a catalog."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from worker import cli
from worker.events import Event, decode_line
from worker.files import read_sources
from worker.rules.catalog.load import load_catalog

Capture = pytest.CaptureFixture[str]
DEMO = Path(__file__).parents[2] / "worker" / "demo"

EVENTS = """events:
  answer.scored:
    schema: {type: object, properties: {score: {}, own_question: {}, post_id: {}, question_age_days: {}}}
metrics: {comments: {count: answer.scored}}
"""
ANSWERS = """badges:
- key: nice_answer
  flow: {event: answer.scored, criteria: {scroe: {$gte: 10}}}
"""
LADDERS = """ladders:
  - {key: commentator, metric: comments, levels: [10, 100, 50]}
"""


def run(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a fault in two of its files; the working folder is above it."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "answers.yaml").write_text(ANSWERS)
    (folder / "events.yaml").write_text(EVENTS)
    (folder / "ladders.yaml").write_text(LADDERS)
    monkeypatch.chdir(tmp_path)
    return Path("catalog")


def test_lint_shows_each_fault_in_its_source(faulty: Path, capsys: Capture):
    """Place, code and pointer; the sentence; the source line with what is wrong underlined; the remedy; the sum."""
    status, out, err = run(capsys, "catalog", "lint", faulty)
    assert (status, err) == (1, "")
    assert out == (
        "catalog/answers.yaml:3:43  unknown_field  /badges/0/flow/criteria/scroe\n"
        '  answer.scored has no field "scroe".\n'
        "  3 |   flow: {event: answer.scored, criteria: {scroe: {$gte: 10}}}\n"
        "    |                                           ^^^^^\n"
        '  help: write "score"; the other fields are own_question, post_id, question_age_days\n'
        "catalog/ladders.yaml:2:58  bad_levels  /ladders/0/levels/2\n"
        "  Levels must rise: 50 follows 100.\n"
        "  2 |   - {key: commentator, metric: comments, levels: [10, 100, 50]}\n"
        "    |                                                            ^^\n"
        "  help: write [10, 50, 100]\n"
        "2 faults in 1 badge, 1 ladder, 1 event type. A worker would refuse to start.\n"
    ).replace("2:58", f"2:{LADDERS.splitlines()[1].index('50]') + 1}")


def test_lint_prints_one_json_array(faulty: Path, capsys: Capture):
    """Programs get code, path, message, place, severity and help of each fault, and the same exit status."""
    status, out, _ = run(capsys, "catalog", "lint", faulty, "--format", "json")
    found = json.loads(out)
    assert status == 1
    assert [(one["code"], one["path"], one["file"], one["line"], one["severity"]) for one in found] == [
        ("unknown_field", "/badges/0/flow/criteria/scroe", "catalog/answers.yaml", 3, "error"),
        ("bad_levels", "/ladders/0/levels/2", "catalog/ladders.yaml", 2, "error"),
    ]
    assert all(list(one) == ["code", "path", "message", "file", "line", "column", "severity", "help"] for one in found)


def test_lint_annotates_a_pull_request(faulty: Path, capsys: Capture):
    """Each fault is one workflow command, its text escaped."""
    _, out, _ = run(capsys, "catalog", "lint", faulty, "--format", "github")
    lines = out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "::error file=catalog/answers.yaml,line=3,col=43,title=unknown_field,endColumn=48::answer.scored has no field"
    )
    assert "%0Ahelp: " in lines[0]


def test_warnings_fail_only_when_strict(tmp_path: Path, capsys: Capture):
    """A catalog with warnings is clean for the worker; `--strict` is for those who want none."""
    path = tmp_path / "a.yaml"
    path.write_text("events: {Odd: {}}\n")
    status, out, _ = run(capsys, "catalog", "lint", path)
    assert status == 0
    assert f"{path}:1:10  warning name_style  /events/Odd\n" in out
    assert out.endswith("1 warning in 1 event type.\n")
    assert run(capsys, "catalog", "lint", path, "--strict")[0] == 1


@pytest.mark.parametrize(
    ("text", "place", "shown"),
    [
        ("a: b: c\n", "1:5", "  1 | a: b: c\n    |     ^\n"),
        ("a: [1\n", "2:1", "  2 | \n    | ^\n"),
        ("events: *x\n", "1:9", "  1 | events: *x\n    |         ^\n"),
    ],
)
def test_a_text_that_cannot_be_read_is_shown_where_it_breaks(
    tmp_path: Path, capsys: Capture, text: str, place: str, shown: str
):
    """A syntax fault has its line too, and no count of badges."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    status, out, _ = run(capsys, "catalog", "lint", path)
    assert status == 1
    assert out.startswith(f"{path}:{place}  invalid_syntax\n")
    assert shown.replace(" \n", "\n") in out.replace(" \n", "\n")
    assert out.endswith("1 fault. A worker would refuse to start.\n")


def test_a_long_or_strange_line_is_cut_and_made_printable(tmp_path: Path, capsys: Capture):
    """Of a very long line what is around the fault is shown, tabs and control characters as blanks."""
    path = tmp_path / "a.json"
    path.write_text(
        '{"timezone": "UTC",' + " " * 500 + '"badges": [{"key": "A\tB",  "flow": {}}]}'.replace("\t", "\\t")
    )
    out = run(capsys, "catalog", "lint", path)[1]
    lines = out.splitlines()
    assert max(len(line) for line in lines) < 240
    mark = next(at for at, line in enumerate(lines) if set(line) <= set(" |^") and "^" in line)
    start = lines[mark].index("^")
    assert lines[mark - 1][start:].startswith('"A')


def test_a_missing_file_is_said_in_one_sentence(capsys: Capture):
    """What is no catalog at all is an error of its own, with exit status 1."""
    status, out, err = run(capsys, "catalog", "lint", "/nowhere/catalog.yaml")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert "/nowhere/catalog.yaml" in err


def test_show_lists_what_each_badge_takes(capsys: Capture):
    """Badges with their tests in words and their triggers, and how many badges each trigger has."""
    status, out, _ = run(capsys, "catalog", "show", DEMO / "catalog.yaml")
    assert status == 0
    assert re.search(r"^nice_answer +1 answer with score at least 10, per post_id +answer.scored +active$", out, re.M)
    assert re.search(r"^busy_week +10 comments in the last 7 days +comment.posted", out, re.M)
    assert re.search(r"^answer.scored +5$", out, re.M)
    rows = json.loads(run(capsys, "catalog", "show", DEMO / "catalog.yaml", "--format", "json")[1])
    assert [row["triggers"] for row in rows if row["key"] == "commentator_10"] == [["comment.posted"]]


def test_show_refuses_a_faulty_catalog(faulty: Path, capsys: Capture):
    """A catalog with faults is not shown; its faults are said instead."""
    status, out, err = run(capsys, "catalog", "show", faulty)
    assert (status, out) == (1, "")
    assert "bad_levels" in err


def test_the_demonstration_is_without_fault(capsys: Capture):
    """The shipped catalog lints clean, warnings included."""
    status, out, _ = run(capsys, "catalog", "lint", DEMO / "catalog.yaml", "--strict")
    assert (status, out) == (0, "No fault in 13 badges, 1 ladder, 8 event types.\n")


def test_the_demonstration_knows_all_its_events():
    """Each of the 8,391 events is of a type of the shipped catalog and satisfies its schema."""
    dictionary = load_catalog(read_sources(DEMO / "catalog.yaml")).dictionary
    with gzip.open(DEMO / "events.jsonl.gz") as lines:
        found = [decode_line(line, dictionary, number=number) for number, line in enumerate(lines, 1)]
    assert len(found) == 8391
    assert all(isinstance(one, Event) for one in found)


def test_the_demonstration_awards_what_is_expected():
    """The keys of the expected awards are keys of the shipped catalog, and none of it is missing."""
    keys = {badge.key for badge in load_catalog(read_sources(DEMO / "catalog.yaml")).badges}
    lines = (DEMO / "expected.jsonl").read_text().splitlines()
    assert len(lines) == 527
    assert {json.loads(line)["badge_key"] for line in lines} == keys


def test_lint_warns_of_what_is_changed_in_place(tmp_path: Path, capsys: Capture):
    """Held against an older catalog, a badge whose test was edited under its key is a warning, with what to do."""
    text = (DEMO / "catalog.yaml").read_text()
    (tmp_path / "catalog.yaml").write_text(text.replace("periodCount: {$gte: 5}", "periodCount: {$gte: 4}"))
    command = ["catalog", "lint", str(tmp_path / "catalog.yaml"), "--against", str(DEMO / "catalog.yaml")]
    assert cli.main([*command, "--format", "json"]) == 0
    (fault,) = json.loads(capsys.readouterr().out)
    assert (fault["code"], fault["severity"], fault["path"]) == ("changed_in_place", "warning", "/badges/11")
    assert fault["message"] == ("five_comment_days: the awards given at 5 stay and will look like those given at 4.")
    assert fault["help"] == "to keep them apart, deprecate five_comment_days and add five_comment_days_4"
    assert fault["line"] is not None
    assert cli.main([*command, "--strict"]) == 1
    assert cli.main([*command[:3], "--strict"]) == 0
