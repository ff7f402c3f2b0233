"""`badges simulate`: a file of events to awards, whatever its order, with what is wrong in it said on the way."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.playing import DAY, EVENTS, NOON
from worker import cli
from worker.cli.histories import MOST_WARNINGS
from worker.events import Event
from worker.events.json_text import dumps
from worker.rules.rehearse import in_order

Capture = pytest.CaptureFixture[str]
DEMO = Path(cli.__file__).parents[1] / "demo"
CATALOG: dict[str, Any] = {
    "version": 1,
    "events": EVENTS,
    "metrics": {"comments": {"count": "comment.posted"}, "joined": {"first": "user.registered"}},
    "badges": [
        {"key": "first", "flow": {"event": "comment.posted"}},
        {"key": "nice", "per": "post_id", "flow": {"event": "answer.scored", "criteria": {"score": {"$gte": 10}}}},
        {
            "key": "old_hand",
            "flow": {"snapshot": {"joined": {"$lte": "$NOW(-1y)"}}},
            "triggers": ["comment.posted"],
        },
    ],
    "ladders": [{"key": "talker", "metric": "comments", "levels": [2, 25], "label": "Talker", "description": "-"}],
}


def line(kind: str, day: int, id: str | None = None, user: str = "u1", **payload: Any) -> dict[str, Any]:
    """An event as a file has it."""
    at = f"2024-03-{day:02}T12:00:00Z"
    return {"id": id or f"{kind}-{day}", "type": kind, "user_id": user, "occurred_at": at, "payload": payload}


HISTORY = [
    line("comment.posted", 1),
    line("comment.posted", 1, user="u0"),
    line("comment.posted", 2),
    line("answer.scored", 2, post_id=7, score=12),
    line("answer.scored", 3, post_id=7, score=13),
    line("answer.scored", 4, "a4", post_id=8, score=9),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the catalog and a history."""
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(CATALOG), encoding="utf-8")
    write(tmp_path, HISTORY)
    return tmp_path


def write(place: Path, lines: list[Any], name: str = "events.jsonl") -> None:
    """Write a file of events; what is text stands as it is."""
    text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
    (place / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def run(place: Path, *options: str, events: str = "events.jsonl") -> int:
    """The exit status of a simulation."""
    paths = ["--catalog", str(place / "catalog.yaml"), "--events", events if events == "-" else str(place / events)]
    return cli.main(["simulate", *paths, *options])


def awards(capsys: Capture) -> list[dict[str, Any]]:
    """The lines that were printed."""
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def keys(found: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Who earned what when."""
    return [(row["awarded_at"], row["user_id"], row["badge_key"], row["context"]) for row in found]


EXPECTED = [
    ("2024-03-01T12:00:00Z", "u0", "first", ""),
    ("2024-03-01T12:00:00Z", "u1", "first", ""),
    ("2024-03-02T12:00:00Z", "u1", "nice", "7"),
    ("2024-03-02T12:00:00Z", "u1", "talker_2", ""),
]


def test_each_award_is_a_line_that_says_why(place: Path, capsys: Capture) -> None:
    """Piped, awards are JSON lines with these keys, in order of time, user, badge and context."""
    assert run(place) == 0
    found = awards(capsys)
    assert keys(found) == EXPECTED
    assert found[2] == {
        "user_id": "u1",
        "badge_key": "nice",
        "context": "7",
        "awarded_at": "2024-03-02T12:00:00Z",
        "event_id": "answer.scored-2",
        "metadata": {
            "filtered_event_count": 1,
            "first_event_id": "answer.scored-2",
            "last_event_id": "answer.scored-2",
        },
        "why": "1 answer with score at least 10",
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_file_does_not_matter(place: Path, capsys: Capture, seed: int) -> None:
    """Events are sorted first; repeats are dropped without a word."""
    shuffled = [*HISTORY, *HISTORY[:3]]
    random.Random(seed).shuffle(shuffled)
    write(place, shuffled)
    assert run(place) == 0
    out, err = capsys.readouterr()
    assert keys([json.loads(text) for text in out.splitlines()]) == EXPECTED
    assert "warning" not in err


def test_the_sum_stands_beside_the_result(place: Path, capsys: Capture) -> None:
    """Standard error says how much was played and that nothing was written."""
    run(place)
    err = capsys.readouterr().err
    assert err.startswith("4 awards to 2 users from 6 events of 2 users in ")
    assert err.endswith(" s. Nothing was written.\n")


def test_a_table_reads_like_one(place: Path, capsys: Capture) -> None:
    """As a table an award is a row of time, user, badge, context and why."""
    assert run(place, "--format", "table") == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["awarded_at", "user_id", "badge_key", "context", "why"]
    assert first.split() == ["2024-03-01", "12:00:00Z", "u0", "first", "1", "comment"]


def test_json_is_one_array(place: Path, capsys: Capture) -> None:
    """`--format json` prints one array, also of no awards."""
    assert run(place, "--format", "json") == 0
    assert keys(json.loads(capsys.readouterr().out)) == EXPECTED
    assert run(place, "--format", "json", "--until", "2020-01-01T00:00:00Z") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_packed_files_and_standard_input_are_read_alike(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that ends in .gz is unpacked; - is standard input."""
    write(place, HISTORY, "events.jsonl.gz")
    assert run(place, events="events.jsonl.gz") == 0
    assert keys(awards(capsys)) == EXPECTED
    text = "\n".join(map(json.dumps, HISTORY)).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert run(place, events="-") == 0
    assert keys(awards(capsys)) == EXPECTED


def test_until_leaves_out_what_comes_later(place: Path, capsys: Capture) -> None:
    """The instant itself still counts."""
    assert run(place, "--until", "2024-03-01T12:00:00Z") == 0
    assert keys(awards(capsys)) == EXPECTED[:2]
    assert run(place, "--until", "2024-03-01T11:59:59.999999Z") == 0
    assert awards(capsys) == []


def test_a_metric_may_be_set(place: Path, capsys: Capture) -> None:
    """`--set` stands in for what the events would have made of a metric, numbers and instants alike."""
    assert run(place, "--set", "comments=25", "--set", "joined=2020-01-01T00:00:00Z") == 0
    found = awards(capsys)
    assert [row["badge_key"] for row in found if row["user_id"] == "u0"] == [
        "first",
        "old_hand",
        "talker_2",
        "talker_25",
    ]
    assert next(row for row in found if row["badge_key"] == "talker_25")["metadata"] == {"comments": 25}


def test_a_metric_may_be_set_within_a_window(place: Path, capsys: Capture) -> None:
    """The value stands also where the conditions of a window, or of a window within one, read the metric."""
    lately = {"$withinTimeWindow": {"window": "1h", "conditions": {"snapshot": {"comments": {"$gte": 25}}}}}
    both = {"$and": [{"snapshot": {"joined": {"$lte": "$NOW(-1y)"}}}, lately, {"event": "comment.posted"}]}
    badge = {"key": "busy_elder", "flow": {"$withinTimeWindow": {"window": "24h", "conditions": both}}}
    (place / "catalog.yaml").write_text(yaml.safe_dump({**CATALOG, "badges": [badge], "ladders": []}))
    settings = ["--set", "comments=25", "--set", "joined=2020-01-01T00:00:00Z"]
    for options, expected in ((settings, ["u0", "u1"]), (settings[:2], []), (settings[2:], []), ([], [])):
        assert run(place, *options) == 0
        assert [row["user_id"] for row in awards(capsys)] == expected


def test_steps_say_what_each_event_changed(place: Path, capsys: Capture) -> None:
    """Each event of the user has a line: what it earned first, then what it brought nearer, with its figures."""
    assert run(place, "--steps", "--user", "u1") == 0
    found = awards(capsys)
    assert [(row["event_id"], row["user_id"]) for row in found] == [
        ("comment.posted-1", "u1"),
        ("answer.scored-2", "u1"),
        ("comment.posted-2", "u1"),
        ("answer.scored-3", "u1"),
        ("a4", "u1"),
    ]
    told = [[(one["badge_key"], one["earned"], one["sentence"]) for one in row["changes"]] for row in found]
    assert told[0] == [
        ("first", True, "1 comment"),
        ("talker_2", False, "1 of 2 comments; 1 more to go"),
        ("talker_25", False, "1 of 25 comments; 24 more to go"),
    ]
    assert told[1] == [("nice", True, "1 answer with score at least 10")]
    assert told[2] == [
        ("talker_2", True, "2 comments; 2 needed"),
        ("talker_25", False, "2 of 25 comments; 23 more to go"),
    ]
    assert told[3:] == [[], []]
    assert [one["fraction"] for one in found[0]["changes"]] == [1.0, 0.5, 0.04]


def test_steps_as_a_table_have_a_line_for_each_change(place: Path, capsys: Capture) -> None:
    """In words an event has a line for each of its changes, and one that changed nothing says so."""
    assert run(place, "--steps", "--user", "u1", "--format", "table") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == ["2024-03-01", "12:00:00Z", "u1", "comment.posted", "earned", "first"]
    assert lines[-1].split()[-1] == "nothing"


def test_time_travel_says_how_far_everybody_is(place: Path, capsys: Capture) -> None:
    """As of an instant beyond the last event, windows have moved on and what was earned stays earned."""
    busy = {
        "$timeWindow": {"last": "7d", "flow": {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 9}}}}
    }
    badges = [*CATALOG["badges"], {"key": "busy", "flow": busy}]
    (place / "catalog.yaml").write_text(yaml.safe_dump({**CATALOG, "badges": badges}))
    for at, lately in (("2024-03-02T13:00:00Z", "2 of 9"), ("2024-04-02T12:00:00Z", "0 of 9")):
        assert run(place, "--at", at, "--user", "u1") == 0
        found = {row["badge_key"]: row for row in awards(capsys)}
        assert found["busy"]["sentence"].startswith(f"{lately} comments in the last 7 days")
        assert (found["nice"]["verdict"], found["nice"]["context"]) == ("earned", "7")
        assert found["talker_2"]["sentence"] == "2 comments; 2 needed"


def test_a_user_without_events_is_a_failure(place: Path, capsys: Capture) -> None:
    """A user of whom the file says nothing is named."""
    assert run(place, "--steps", "--user", "u9") == 1
    assert "The file has no event of u9." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "--at", "2024-03-02T13:00:00Z"], "ask for one of them"),
        (["--at", "tomorrow"], "--at"),
        (["--set", "comments"], "METRIC=VALUE"),
        (["--set", "commnets=3"], "Did you mean comments?"),
        (["--set", "comments=many"], "comments is a number"),
        (["--set", "comments=true"], "comments is a number"),
        (["--set", "joined=3"], "--set joined"),
        (["--until", "tomorrow"], "--until"),
        (["--format", "xml"], "xml"),
    ],
)
def test_wrong_usage_is_said_in_one_sentence(place: Path, capsys: Capture, options: list[str], said: str) -> None:
    """What cannot be meant ends with status 2 and names the option."""
    assert run(place, *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_lines_that_hold_no_event_are_named_and_left_out(place: Path, capsys: Capture) -> None:
    """Each bad line is a warning with its number and code; the rest is played."""
    bad = ["{", "[]", {**line("comment.posted", 1), "user_id": ""}, line("no.such", 1), ""]
    write(place, [*bad, *HISTORY])
    assert run(place) == 0
    out, err = capsys.readouterr()
    assert keys([json.loads(text) for text in out.splitlines()]) == EXPECTED
    warnings = [text for text in err.splitlines() if text.startswith("warning:")]
    path = place / "events.jsonl"
    assert [text.split()[1:3] for text in warnings] == [
        [f"{path}:1", "not_json:"],
        [f"{path}:2", "invalid_field:"],
        [f"{path}:3", "invalid_field"],
        [f"{path}:4", "unknown_event_type"],
    ]


def test_many_bad_lines_are_counted_not_listed(place: Path, capsys: Capture) -> None:
    """After a hundred warnings the rest is a number."""
    write(place, ["x"] * (MOST_WARNINGS + 5) + HISTORY)
    assert run(place) == 0
    err = capsys.readouterr().err
    assert err.count("warning:") == MOST_WARNINGS
    assert "5 more warnings" in err


def test_a_file_without_any_event_is_a_failure(place: Path, capsys: Capture) -> None:
    """Where no line can be read the command fails and says what a line must be; an empty file is no failure."""
    write(place, ["x", "y"])
    assert run(place) == 1
    assert "None of the 2 lines" in capsys.readouterr().err
    write(place, [])
    assert run(place) == 0
    assert capsys.readouterr().err.startswith("0 awards to 0 users from 0 events of 0 users")


def test_one_identity_with_two_contents_is_warned_of(place: Path, capsys: Capture) -> None:
    """The first in order is kept, wherever it stands in the file; the other is named with its line."""
    other = {**HISTORY[0], "occurred_at": "2024-03-09T12:00:00Z"}
    write(place, [other, *HISTORY])
    assert run(place) == 0
    out, err = capsys.readouterr()
    assert keys([json.loads(text) for text in out.splitlines()]) == EXPECTED
    (warning,) = [text for text in err.splitlines() if text.startswith("warning:")]
    assert f"{place / 'events.jsonl'}:1 id_conflict" in warning
    assert "on line 2" in warning


def test_a_faulty_catalog_is_refused_with_all_its_faults(place: Path, capsys: Capture) -> None:
    """The catalog is checked as `catalog lint` checks it."""
    (place / "catalog.yaml").write_text("version: 1\nbadges: [{key: a, flow: {event: no.such}}]\n", encoding="utf-8")
    assert run(place) == 1
    assert "unknown_event" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["catalog.yaml", "events.jsonl"])
def test_a_missing_file_is_named(place: Path, capsys: Capture, missing: str) -> None:
    """What is not there is said with its path and status 1."""
    (place / missing).unlink()
    assert run(place) == 1
    assert str(place / missing) in capsys.readouterr().err


def test_the_community_earns_its_badges_to_the_microsecond(capsys: Capture) -> None:
    """The demonstration's events give exactly the awards that are expected of them, in order."""
    paths = ["--catalog", str(DEMO / "catalog.yaml"), "--events", str(DEMO / "events.jsonl.gz")]
    assert cli.main(["simulate", *paths]) == 0
    found = keys(awards(capsys))
    expected = [json.loads(text) for text in (DEMO / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(found) == 527
    assert sorted(found) == sorted(keys(expected))
    assert found == sorted(found, key=lambda row: (row[0].replace("Z", ".") if "." not in row[0] else row[0], *row[1:]))


# -- the order of events

contents = st.tuples(st.sampled_from(["u", "v"]), st.sampled_from(["", "s"]), st.sampled_from("12"))


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Events of which some share an identity, some also the content."""
    rows = draw(st.lists(st.tuples(contents, st.integers(0, 2), st.integers(0, 1)), max_size=8))
    return [
        Event(user, "comment.posted", NOON + day * DAY, source, key, {"n": n}, dumps({"n": n}))
        for (user, source, key), day, n in rows
    ]


@given(events(), st.randoms(use_true_random=False))
def test_the_same_events_are_kept_in_whatever_order_they_come(listed: list[Event], chance: random.Random) -> None:
    """Sorted by instant, source and id, each identity once, the same choice for every order of the file."""
    kept, clashes = in_order(listed)
    assert [one.order for one in kept] == sorted(one.order for one in kept)
    identities = [(one.user_id, one.source, one.id) for one in kept]
    assert len(set(identities)) == len(identities) == len({(one.user_id, one.source, one.id) for one in listed})
    assert all(first in kept and first.order <= second.order for first, second in clashes)
    shuffled = list(listed)
    chance.shuffle(shuffled)
    assert sorted(in_order(shuffled)[0], key=lambda one: (one.order, one.user_id)) == sorted(
        kept, key=lambda one: (one.order, one.user_id)
    )


def test_only_what_is_active_or_hidden_is_given(place: Path, capsys: Capture) -> None:
    """Drafts are not tested; locked and deprecated badges give no new awards."""
    statuses = ("draft", "active", "hidden", "locked", "deprecated")
    badges = [{"key": status, "flow": {"event": "comment.posted"}, "status": status} for status in statuses]
    (place / "catalog.yaml").write_text(yaml.safe_dump({**CATALOG, "badges": badges, "ladders": []}))
    assert run(place) == 0
    assert {row["badge_key"] for row in awards(capsys)} == {"active", "hidden"}
    assert run(place, "--at", "2024-04-01T00:00:00Z") == 0
    assert {row["badge_key"] for row in awards(capsys)} == {"active", "hidden"}
