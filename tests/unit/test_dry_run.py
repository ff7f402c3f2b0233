"""`badges dry-run`: one answer with its reasons, many answers to a file of requests, nothing refused but nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.playing import EVENTS, catalog, event
from worker import cli
from worker.rules.rehearse import DryRun

Capture = pytest.CaptureFixture[str]
MILESTONE = {"title": "M", "description": "", "icon": "flame"}
CATALOG: dict[str, Any] = {
    "version": 1,
    "events": EVENTS,
    "metrics": {"comments": {"count": "comment.posted"}},
    "badges": [
        {
            "key": "busy_week",
            "label": "Busy week",
            "flow": {
                "$timeWindow": {
                    "last": "7d",
                    "flow": {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 3}}},
                }
            },
        },
        {"key": "nice", "per": "post_id", "flow": {"event": "answer.scored", "criteria": {"$eventCount": {"$gte": 2}}}},
        {"key": "after", "flow": {"$and": [{"badge": "busy_week"}, {"event": "user.logged_in"}]}},
        {"key": "sketch", "flow": {"event": "comment.posted"}, "status": "draft"},
    ],
    "milestones": [
        {
            "code": "regular",
            "trigger_event": "user.logged_in",
            "rule_type": "count",
            "rule_data": {"field": "comments", "threshold": 2},
            **MILESTONE,
        }
    ],
}


def line(kind: str, day: int, user: str = "u1", **payload: Any) -> dict[str, Any]:
    """An event as a file has it."""
    at = f"2024-03-{day:02}T12:00:00Z"
    return {"id": f"{kind}-{day}", "type": kind, "user_id": user, "occurred_at": at, "payload": payload}


HISTORY = [
    *(line("comment.posted", day) for day in (1, 2, 3)),
    line("answer.scored", 2, post_id=7),
    line("answer.scored", 3, post_id=8),
    line("answer.scored", 4, post_id=8),
    line("comment.posted", 20, "u2"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the catalog and a history, out of order."""
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(CATALOG), encoding="utf-8")
    lines = [json.dumps(one) for one in reversed(HISTORY)]
    (tmp_path / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def run(place: Path, *options: str) -> int:
    """The exit status of a dry run."""
    paths = ["--catalog", str(place / "catalog.yaml"), "--events", str(place / "events.jsonl")]
    return cli.main(["dry-run", *paths, *options])


def ask(place: Path, capsys: Capture, *options: str) -> list[dict[str, Any]]:
    """The answers, as JSON lines."""
    assert run(place, *options) == 0
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def test_an_answer_is_the_request_with_verdict_figures_and_tree(place: Path, capsys: Capture) -> None:
    """Piped, an answer is one JSON line; the explanation has a verdict for each condition."""
    at = "2024-03-02T18:00:00Z"
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "busy_week", "--at", at)
    tree = answer.pop("explanation")
    assert answer == {
        "user_id": "u1",
        "badge_key": "busy_week",
        "at": at,
        "context": "",
        "passed": False,
        "metadata": {
            "window_filtered_event_count": 2,
            "window_first_event_id": "comment.posted-1",
            "window_last_event_id": "comment.posted-2",
            "window_event_count": 2,
        },
    }
    assert (tree["operator"], tree["actual"], tree["bound"], tree["verdict"]) == (
        "$timeWindow",
        2,
        {"$gte": 3},
        "not_passed",
    )
    assert [child["operator"] for child in tree["children"]] == ["$eventCount"]


def test_an_answer_in_words_gives_verdict_reason_and_tree(place: Path, capsys: Capture) -> None:
    """As a table an answer is a verdict, a sentence, and the conditions with what they need."""
    at = ("--at", "2024-03-02T18:00:00Z", "--format", "table")
    assert run(place, "--user", "u1", "--badge", "busy_week", *at) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NOT YET  busy_week (Busy week) for u1 at 2024-03-02 18:00:00Z",
        "2 of 3 comments in the last 7 days; 1 more to go. The oldest counted leaves the window on 2024-03-08.",
        "not passed  $timeWindow last 7d  2024-02-24 18:00:00Z to 2024-03-02 18:00:00Z",
        "`- not passed  comment.posted $eventCount  2  needs at least 3",
    ]


def test_the_newest_event_is_now_unless_it_is_said(place: Path, capsys: Capture) -> None:
    """Without --at the answer stands for the user's newest event."""
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "busy_week")
    assert (answer["at"], answer["passed"]) == ("2024-03-04T12:00:00Z", True)


def test_what_happens_later_is_not_seen(place: Path, capsys: Capture) -> None:
    """A flow is answered as it stands at the instant, though it was earned before or will be after."""
    passed = [
        ask(place, capsys, "--user", "u1", "--badge", "busy_week", "--at", f"2024-03-{day:02}T12:00:00Z")[0]["passed"]
        for day in (2, 3, 8, 9)
    ]
    assert passed == [False, True, True, False]


def test_a_user_without_events_is_answered(place: Path, capsys: Capture) -> None:
    """An unknown user has an empty history, and is not refused."""
    (answer,) = ask(place, capsys, "--user", "nobody", "--badge", "nice")
    assert (answer["passed"], answer["context"]) == (False, "")
    assert answer["explanation"]["actual"] == 0
    assert isinstance(answer["metadata"], dict)


def test_one_more_event_may_be_assumed(place: Path, capsys: Capture) -> None:
    """--event adds an event that never happened; without --badge the badges that look at it are answered."""
    options = ("--user", "u2", "--event", '{"type": "comment.posted"}')
    found = ask(place, capsys, *options)
    assert [one["badge_key"] for one in found] == ["busy_week", "after"]
    assert found[0]["metadata"]["window_event_count"] == 2
    later = '{"type": "comment.posted", "occurred_at": "2024-03-21T00:00:00Z", "id": "x"}'
    (answer,) = ask(place, capsys, "--user", "u2", "--badge", "busy_week", "--event", later)
    assert (answer["at"], answer["metadata"]["window_last_event_id"]) == ("2024-03-21T00:00:00Z", "x")


def test_all_badges_are_answered_where_none_is_named(place: Path, capsys: Capture) -> None:
    """Without --badge and --event every badge that is tested is answered, in the catalog's order."""
    found = ask(place, capsys, "--user", "u1")
    assert [(one["badge_key"], one["passed"]) for one in found] == [
        ("busy_week", True),
        ("nice", True),
        ("after", False),
        ("regular", False),
    ]
    assert run(place, "--user", "u1", "--format", "table") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 4 earned. Nothing was written."
    assert run(place, "--user", "u1", "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_a_badge_with_contexts_is_answered_for_the_best_one(place: Path, capsys: Capture) -> None:
    """The context that passes, else the nearest; or the one that is named."""
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "nice")
    assert (answer["context"], answer["passed"]) == ("8", True)
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "nice", "--at", "2024-03-02T12:00:00Z")
    assert (answer["context"], answer["passed"], answer["metadata"]["event_count"]) == ("7", False, 1)
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "nice", "--context", "7")
    assert (answer["context"], answer["passed"]) == ("7", False)
    assert run(place, "--user", "u1", "--badge", "nice", "--format", "table") == 0
    assert capsys.readouterr().out.startswith("EARNED  nice (Nice) for u1, post_id 8 at ")


def test_a_badge_that_is_not_given_yet_can_be_tried(place: Path, capsys: Capture) -> None:
    """A draft is answered where it is named."""
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "sketch")
    assert answer["passed"] is True


def test_what_a_badge_asks_for_counts_where_these_events_earn_it(place: Path, capsys: Capture) -> None:
    """A prerequisite is played, too, and explained where it is missing."""
    login = ("--event", '{"type": "user.logged_in"}')
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "after", *login)
    assert answer["passed"] is True
    (answer,) = ask(place, capsys, "--user", "u2", "--badge", "after", *login)
    assert answer["explanation"]["sentence"] == (
        "1 of 2 conditions holds. Missing: Busy week comes first: "
        "1 of 3 comments in the last 7 days; 2 more to go. The oldest counted leaves the window on 2024-03-27"
    )


def test_a_milestone_is_answered_by_when_it_was_achieved(place: Path, capsys: Capture) -> None:
    """It passes from its trigger on, with the figures of then; before, though its rule holds, it does not."""
    (answer,) = ask(place, capsys, "--user", "u1", "--badge", "regular")
    assert (answer["passed"], answer["explanation"]["verdict"]) == (False, "not_passed")
    assert answer["explanation"]["sentence"] == "comments is 3; 2 needed; given at the next user.logged_in"
    known = catalog(metrics=CATALOG["metrics"], milestones=CATALOG["milestones"])
    history = [
        event("comment.posted", 0),
        event("comment.posted", 1),
        event("user.logged_in", 2, "login"),
        event("comment.posted", 3),
    ]
    (found,) = DryRun(known).answers("u", history, {"regular"}, at_us=history[3].occurred_us)
    assert found.passed
    assert found.metadata == {"value": 2, "awarded_at": "2024-03-03T12:00:00Z", "event_id": "login"}
    assert found.explanation.tree["actual"] == 2


# -- requests


def test_each_request_is_answered_in_its_order(place: Path, capsys: Capture) -> None:
    """A line of a request file is answered with what it said, and the verdict."""
    requests = [
        {"user_id": "u1", "badge_key": "busy_week", "at": "2024-03-02T12:00:00+02:00", "note": 7},
        {"user_id": "u1", "badge_key": "nice", "at": "2024-03-04T12:00:00Z"},
        {"user_id": "u1", "badge_key": "nice", "at": "2024-03-04T12:00:00Z", "context": "7"},
        {"user_id": 9, "badge_key": "busy_week", "at": "2024-03-04T12:00:00Z"},
        {"user_id": "u2", "badge_key": "busy_week"},
    ]
    (place / "requests.jsonl").write_text("\n".join(map(json.dumps, requests)), encoding="utf-8")
    found = ask(place, capsys, "--requests", str(place / "requests.jsonl"))
    assert [one["passed"] for one in found] == [False, True, False, False, False]
    assert [one["context"] for one in found] == ["", "8", "7", "", ""]
    assert all(one.items() >= request.items() for one, request in zip(found, requests, strict=True))
    assert found[4]["at"] == "2024-03-20T12:00:00Z"
    assert all(one["explanation"]["sentence"] for one in found)


BAD = {
    "{": "not_json:",
    "[1]": "not_json:",
    '{"badge_key": "nice"}': "missing_field",
    '{"user_id": "u1"}': "missing_field",
    '{"user_id": "", "badge_key": "nice"}': "invalid_field",
    '{"user_id": true, "badge_key": "nice"}': "invalid_field",
    '{"user_id": "u1", "badge_key": 3}': "invalid_field",
    '{"user_id": "u1", "badge_key": "nicer"}': "unknown_badge",
    '{"user_id": "u1", "badge_key": "nice", "at": "soon"}': "invalid_field",
    '{"user_id": "u1", "badge_key": "nice", "at": 3}': "invalid_field",
    '{"user_id": "u1", "badge_key": "nice", "context": 3}': "invalid_field",
}


def test_requests_that_ask_nothing_are_named_and_the_rest_answered(place: Path, capsys: Capture) -> None:
    """Each bad line is a warning with number and code; the command fails once the good ones are answered."""
    good = json.dumps({"user_id": "u1", "badge_key": "nice"})
    (place / "requests.jsonl").write_text("\n".join([*BAD, "", good]), encoding="utf-8")
    assert run(place, "--requests", str(place / "requests.jsonl")) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["passed"] is True
    warnings = [text.split()[1:3] for text in err.splitlines() if text.startswith("warning:")]
    assert warnings == [[f"{place / 'requests.jsonl'}:{number}", code] for number, code in enumerate(BAD.values(), 1)]
    assert f"{len(BAD)} of the requests could not be read" in err
    assert "did you mean nice?" in err


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--user", "u1", "--badge", "bussy_week"], 1, "did you mean busy_week?"),
        (["--user", "u1", "--at", "soon"], 2, "--at"),
        (["--user", "u1", "--event", "{"], 1, "--event is no JSON"),
        (["--user", "u1", "--event", "[]"], 1, "no JSON object"),
        (["--user", "u1", "--event", '{"type": "no.such"}'], 1, "unknown_event_type"),
        (["--user", "u1", "--event", '{"type": "comment.posted", "user_id": "u2"}'], 1, "is of u2"),
        (["--user", "u1", "--requests", "x"], 2, "either --user U or --requests FILE"),
        ([], 2, "either --user U or --requests FILE"),
        (["--requests", "x", "--badge", "nice"], 2, "each request names its own"),
        (["--user", "u1", "--database"], 2, "either --events FILE or --database"),
        (["--requests", "/no/such/file"], 1, "/no/such/file"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_sentence(
    place: Path, capsys: Capture, options: list[str], status: int, said: str
) -> None:
    """Wrong usage ends with 2, what is not there with 1; neither shows a trace."""
    assert run(place, *options) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_a_verdict_may_be_the_exit_status(place: Path, capsys: Capture) -> None:
    """With --exit-code a badge that is not earned ends with 1, without it the answer is no failure."""
    assert run(place, "--user", "u1", "--badge", "nice", "--exit-code") == 0
    assert run(place, "--user", "u2", "--badge", "nice") == 0
    assert run(place, "--user", "u2", "--badge", "nice", "--exit-code") == 1
    assert run(place, "--user", "u2", "--badge", "nice", "--exit-code", "--format", "json") == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["passed"] is False
