"""`badges users show`: a user of the community as the database has them, and why badges are theirs or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.community import CATALOG, DEMO, community_events
from tests.people import settle_users
from tests.rig.postgres import PostgresService, execute, in_thread
from worker import cli
from worker.app.doctor import SHOWN, Doctor
from worker.config import load_settings

Capture = pytest.CaptureFixture[str]
Show = Callable[..., str]

LETTER = """
INSERT INTO badges.dead_letters (topic, partition, "offset", reason, detail, user_id, key, raw, sha256, length)
VALUES ('badges.events', 0, 5, 'payload_invalid', '', NULL, 'u9299', '{"type": "answer.scored"}', '', 25)
"""

TAKEN = """
INSERT INTO badges.withheld_awards
    (user_id, badge_key, state, awarded_at, source, origin, catalog_version, trigger_id, trigger_type, reason)
VALUES ('u9299', 'student', 'revoked', '2017-01-02T17:08:08Z', 'manual', 'live', 1, 'g1', 'grant.revoked', 'Wrong user')
"""


@pytest.fixture(scope="module")
def settled(postgres: PostgresService) -> Iterator[str]:
    """A database with two users of the community, who lost an award each."""
    with postgres.database() as dsn:
        events = [event for event in community_events() if event.user_id in ("u9299", "u40")]
        in_thread(lambda: settle_users(dsn, DEMO / "catalog.yaml", events, lost=("student",)))
        yield dsn


@pytest.fixture
def show(settled: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Show:
    """Runs the command and gives its output, standard error after it."""
    monkeypatch.setenv("BADGES_DATABASE_URL", settled)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")

    def run(*arguments: str, status: int = 0) -> str:
        assert cli.main(["users", "show", *arguments]) == status
        shown = capsys.readouterr()
        return shown.out if status == 0 else shown.err

    return run


def test_an_overview_says_what_is_held_and_how_far_the_rest_is(show: Show) -> None:
    """Awards with the sentence of then, what is missing, and the rest nearest first with the closest moment."""
    lines = show("u9299", "--all").splitlines()
    assert lines[0] == "u9299: 2 awards, 33 events from 2016-01-29 to 2019-10-20, zone UTC (catalog default)"
    assert lines[2] == "Commentator I      2017-12-05 22:59:48Z  live    10 comments; 10 needed"
    assert "missing  student  the log earns it: badges recompute --user u9299" in lines
    assert lines[lines.index("not yet, nearest first (13)") + 1] == (
        "Commentator II   22 of 50 comments; 28 more to go"
    )
    assert "Nice question    best score 3 (post_id 655); at least 10 needed" in lines
    week = next(line for line in lines if line.startswith("Busy week"))
    assert week.endswith("0 of 10 comments in the last 7 days; 10 more to go; closest 9 on 2017-12-06")


def test_what_a_person_took_waits_for_no_event(show: Show, settled: str) -> None:
    """A badge that was taken by hand, its criterion met, is said once, as revoked, and no event is said to give it."""
    try:
        in_thread(lambda: execute(settled, TAKEN))
        overview = show("u9299", "--all").splitlines()
        assert "revoked  student  Wrong user" in overview
        assert not [line for line in overview if line.startswith(("Student", "missing"))]
        why = show("u9299", "--badge", "student")
        assert "Revoked by hand on " in why
        assert "given at the next" not in why
    finally:
        in_thread(lambda: execute(settled, "DELETE FROM badges.withheld_awards"))


def test_a_badge_that_is_not_held(show: Show) -> None:
    """The verdict, what is in the way, the tree, and when the user came closest."""
    lines = show("u9299", "--badge", "busy_week").splitlines()
    assert lines[0].startswith("NOT YET  busy_week (Busy week) for u9299 at ")
    assert lines[1] == "0 of 10 comments in the last 7 days; 10 more to go."
    assert lines[3] == "`- not passed  comment.posted $eventCount  0  needs at least 10"
    assert lines[4].startswith("Closest on 2017-12-06 02:56:18Z: 9 of 10 comments")
    then = show("u9299", "--badge", "busy_week", "--at", "2017-12-06T03:00:00Z").splitlines()
    assert then[1].startswith("9 of 10 comments in the last 7 days; 1 more to go.")


def test_a_badge_that_is_held(show: Show) -> None:
    """What is held is explained as of its award; before that instant it was not held."""
    lines = show("u9299", "--badge", "commentator_10").splitlines()
    assert lines[0] == "EARNED  commentator_10 (Commentator I) for u9299 at 2017-12-05 22:59:48Z"
    assert lines[1] == "Held since 2017-12-05 22:59:48Z, auto, origin live."
    before = show("u9299", "--badge", "commentator_10", "--at", "2017-12-01T00:00:00Z").splitlines()
    assert before[0].startswith("NOT YET")


def test_a_context_is_answered_for(show: Show) -> None:
    """A badge given per post is held for one post and not yet for another."""
    assert show("u40", "--badge", "nice_question", "--context", "38").startswith("EARNED")
    assert show("u40", "--badge", "nice_question", "--context", "40").startswith("NOT YET")


def test_what_was_lost_is_drift(show: Show) -> None:
    """An award that the log earns and the tables lack is named as such, with what to do."""
    found: dict[str, Any] = json.loads(show("u9299", "--badge", "student", "--format", "json"))
    assert found["blocker"]["code"] == "drift"
    assert found["verdict"] == "not_yet"
    assert found["explanation"]["verdict"] == "passed"


def test_dead_letters_are_in_the_way_of_their_badges_only(show: Show, settled: str) -> None:
    """A record of the user that could not be read is named for the badges of its type, not for others."""
    asyncio.run(execute(settled, LETTER))
    try:
        found = json.loads(show("u9299", "--badge", "teacher", "--format", "json"))
        assert found["blocker"]["code"] == "dead_letters"
        assert found["blocker"]["help"] == "badges dlq show badges.events:0:5 shows it"
        other = json.loads(show("u9299", "--badge", "busy_week", "--format", "json"))
        assert other["blocker"]["code"] == "criterion"
    finally:
        asyncio.run(execute(settled, "DELETE FROM badges.dead_letters"))


def test_a_user_who_waits_for_the_build(show: Show, settled: str) -> None:
    """Behind the catalog, what the log earns is no drift yet: it says how far the build is."""
    asyncio.run(execute(settled, "UPDATE badges.users SET built_version = NULL WHERE user_id = 'u9299'"))
    try:
        found = json.loads(show("u9299", "--badge", "student", "--format", "json"))
        assert found["blocker"]["code"] == "building"
        assert "is still being built: 0 % of users are done." in show("u9299")
    finally:
        asyncio.run(execute(settled, "UPDATE badges.users SET built_version = 1 WHERE user_id = 'u9299'"))


def test_an_unknown_user_or_badge_is_a_sentence(show: Show) -> None:
    """Nobody by this id, and no badge of this key, are said with what may help."""
    said = show("u9", status=1)
    assert "error: No event and no award for u9.\n  help: ids are exact; did the app send another?" in said
    assert "did you mean student?" in show("u9299", "--badge", "stdent", status=1)


def test_an_award_names_the_definition_that_gave_it(show: Show, settled: str, tmp_path: Path) -> None:
    """With another threshold in force, what was given before still names its own definition, and says so."""
    given = json.loads(show("u9299", "--badge", "five_comment_days", "--format", "json"))["award"]
    assert (len(given["definition"]), given["definition_changed"]) == (16, False)
    text = CATALOG.replace("periodCount: {$gte: 5}", "periodCount: {$gte: 4}")
    (tmp_path / "four.yaml").write_text(text)
    for path, changed in ((tmp_path / "four.yaml", True), (DEMO / "catalog.yaml", False)):
        asyncio.run(settle_users(settled, path, []))
        again = json.loads(show("u9299", "--badge", "five_comment_days", "--format", "json"))["award"]
        assert (again["definition"], again["definition_changed"]) == (given["definition"], changed)
        assert ("took something else in version" in show("u9299", "--badge", "five_comment_days")) == changed


ARRIVALS = """
INSERT INTO badges.log_readers (name, rule, upto, after) VALUES ('arrivals', '', '2026-11-20T00:00:00Z', NULL);
INSERT INTO badges.event_days (type, day, events, last_at)
SELECT 'answer.scored', '2026-11-10'::date - n, 120, '2026-11-10T12:00:00Z'::timestamptz - n * interval '1 day'
FROM generate_series(0, 20) AS n
"""


async def triggers(dsn: str) -> list[tuple[str, str]]:
    """What `badges doctor` says of event types."""
    examined = Doctor(load_settings(database_url=dsn, allow_insecure="fsync"))._database()
    return [(one.verdict, one.message) async for one in examined if one.check == "triggers"]


def test_silent_triggers_are_named_before_the_criterion(show: Show, settled: str) -> None:
    """A trigger that stopped, or never came, is what is in the way, as far as arrivals are counted."""
    asyncio.run(execute(settled, ARRIVALS))
    try:
        found = json.loads(show("u9299", "--badge", "teacher", "--format", "json"))["blocker"]
        assert (found["code"], found["sentence"]) == ("silent", "No answer.scored for 9 days; before that 120 a day.")
        found = json.loads(show("u9299", "--badge", "editor", "--format", "json"))["blocker"]
        assert (found["code"], found["sentence"]) == (
            "never_seen",
            "post.edited was never seen: check the spelling.",
        )
        silent = asyncio.run(triggers(settled))
        assert ("warn", "no answer.scored for 9 days; before that 120 a day") in silent
        assert ("warn", "post.edited was never seen: check the spelling") in silent
        assert len(silent) <= SHOWN + 1
    finally:
        asyncio.run(execute(settled, "DELETE FROM badges.log_readers; DELETE FROM badges.event_days"))
    assert asyncio.run(triggers(settled)) == []
