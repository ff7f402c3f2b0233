"""What falls by itself and what people give and take, in everything that plays events and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.playing import NOON, catalog, event, plan
from worker import cli
from worker.events import format_instant
from worker.rules.player import Player
from worker.rules.preview import Preview
from worker.rules.rehearse import DryRun, outcomes

OWNER = {"key": "owner", "label": "Owner", "revocable": "auto", "flow": {"snapshot": {"owned": {"$gte": 2}}}}
HEIR = {"key": "heir", "flow": {"badge": "owner"}}
METRICS = {"owned": {"count": "order.paid", "less": "comment.posted"}}
DAY = 86_400_000_000


def said(kind: str, day: int, **payload: Any) -> Any:
    """A grant or a revocation by hand."""
    return event(kind, day, **{"badge_key": "owner", "note": "a wish", "actor": "anna", **payload})


BOUGHT = [event("order.paid", 0), event("order.paid", 1)]
SOLD = event("comment.posted", 2)


def found(*events: Any) -> list[tuple[str, str, bool]]:
    """Badges, why each was given, and whether it was taken back."""
    played = outcomes(plan(OWNER, HEIR, metrics=METRICS), events)
    return [(one.award.badge_key, one.why, one.taken is not None) for one in played]


def test_what_falls_is_taken_back() -> None:
    """A badge that is held as long as it holds falls, and may come again; who asked for it keeps what it gave."""
    assert [(key, taken) for key, _, taken in found(*BOUGHT, SOLD, event("order.paid", 3))] == [
        ("owner", True),
        ("heir", False),
        ("owner", False),
    ]


def test_people_give_and_take() -> None:
    """A grant in the events gives, a revocation takes, for good; what a worker would refuse does nothing."""
    given = said("grant.added", 0)
    assert found(given) == [("owner", "given by anna: a wish", False), ("heir", found(given)[1][1], False)]
    assert [(key, taken) for key, _, taken in found(*BOUGHT, said("grant.revoked", 2), event("order.paid", 3))] == [
        ("owner", True),
        ("heir", False),
    ]
    for payload in ({"badge_key": "other"}, {"context": "x"}, {"awarded_at": "soon"}):
        assert found(said("grant.added", 0, **payload)) == []
    assert found(said("grant.added", 0, awarded_at=format_instant(NOON + 9 * DAY))) == []


def test_steps_say_what_was_taken_back() -> None:
    """Played step by step, the event that takes a badge says so, and how far it is from there."""
    player = Player(catalog(OWNER, metrics=METRICS))
    *_, last = player.play([*BOUGHT, SOLD])
    (taken, left) = [change.as_json() for change in last.changes]
    assert (taken["badge_key"], taken["earned"], taken["taken"], taken["fraction"]) == ("owner", False, True, 0.0)
    assert taken["sentence"] == "What it takes no longer holds."
    assert (left["earned"], left["fraction"], "taken" in left) == (False, 0.5, False)
    assert [one.earned for one in player.standing("u", at_us=NOON + 9 * DAY)] == [False]


def test_a_question_knows_what_is_held() -> None:
    """A badge that asks for another is answered by whether that one is held by then."""
    runner = DryRun(catalog(OWNER, HEIR, metrics=METRICS))

    def passed(*events: Any) -> bool:
        (answer,) = runner.answers("u", events, ["heir"], at_us=NOON + 9 * DAY)
        return answer.passed

    assert passed(*BOUGHT)
    assert not passed(*BOUGHT, SOLD)
    assert passed(said("grant.added", 0))
    assert not passed(*BOUGHT, said("grant.revoked", 2))


def test_a_preview_gives_what_lasts() -> None:
    """A new badge that falls again would be given to those for whom it holds by now."""
    preview = Preview(catalog(OWNER, metrics=METRICS), {"owner"})
    assert preview.types == {"order.paid", "comment.posted", "grant.added", "grant.revoked"}
    for user, events in (("a", BOUGHT), ("b", [*BOUGHT, SOLD]), ("c", [said("grant.revoked", 0)])):
        preview.begin(user, {})
        for one in events:
            preview.take(one)
    preview.close()
    gain = preview.gains["owner"]
    assert (gain.awards, gain.users, [user for _, user in gain.samples]) == (1, 1, ["a"])


def test_lines_say_when_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`simulate` reads grants and revocations of a file, and says of an award when it was taken back, and why."""
    document = {"version": 1, "events": {"order.paid": {}}, "badges": [{**OWNER, "flow": {"event": "order.paid"}}]}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    lines = [
        {"id": f"e{day}", "type": kind, "user_id": "u1", "occurred_at": f"2026-03-0{day}T12:00:00Z", "payload": payload}
        for day, kind, payload in (
            (1, "order.paid", {}),
            (2, "grant.revoked", {"badge_key": "owner", "note": "a bot", "actor": "anna"}),
            (3, "grant.added", {"badge_key": "owner", "note": "no bot", "actor": "bert"}),
        )
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ["--catalog", str(tmp_path / "catalog.json"), "--events", str(tmp_path / "events.jsonl")]
    assert cli.main(["simulate", *arguments, "--format", "jsonl"]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["awarded_at"], first["revoked_at"], first["revoked_why"]) == (
        "2026-03-01T12:00:00Z",
        "2026-03-02T12:00:00Z",
        "a bot",
    )
    assert (second["awarded_at"], second["why"], "revoked_at" in second) == (
        "2026-03-03T12:00:00Z",
        "given by bert: no bot",
        False,
    )
