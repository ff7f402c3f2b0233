"""What people do in the panel beside the catalog: by hand, jobs, quarantine, tokens, trying things out."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from html import unescape
from typing import Any
from urllib.parse import unquote

import pytest

from tests.panel_routes import panel_routes
from tests.unit.desk import HOSTILE, FakeDesk, FakeReads, catalog_of, document, panel
from tests.unit.serving import NOON, FakeStore, client, fakes
from tests.unit.serving_catalog import FakeRehearsals, Unasked
from tests.unit.test_panel import check_markup
from worker.admin.app import build
from worker.admin.credentials import digest
from worker.admin.panel import playing
from worker.admin.roles import Role
from worker.config import load_settings
from worker.errors import OperatorError
from worker.events.instants import DAY


def user(desk: FakeDesk, role: Role = Role.ADMIN, store: FakeStore | None = None) -> Any:
    """A client with a role."""
    return client(panel(desk, store), role)


def test_grants_take_a_note() -> None:
    """A grant that cannot be is refused at its field, one to nobody too; a good one is sent once."""

    class WithOld(FakeDesk):
        async def catalog(self) -> Any:
            found = document()
            old = {"key": "old", "label": "Old", "flow": {"event": "comment.posted"}, "status": "deprecated"}
            return catalog_of({**found, "badges": [*found["badges"], old]})

    desk, store = WithOld(), FakeStore()
    support = user(desk, Role.SUPPORT, store)
    for data, field in (
        ({"badge": "asks"}, "f-note"),
        ({"badge": "nope", "note": "x"}, "f-badge"),
        ({"badge": "nice_question", "note": "x"}, "f-context"),
        ({"badge": "nice_question", "note": "x", "context": " "}, "f-context"),
        ({"badge": "asks", "note": "x", "context": "35"}, "f-context"),
        ({"badge": "asks", "note": " "}, "f-note"),
        ({"badge": "old", "note": "x"}, "f-badge"),
    ):
        got = support.post("/panel/users/u1/grant", data=data)
        assert got.status_code == 422
        assert f'href="#{field}"' in got.text
        check_markup(got.text)
    long = support.post(f"/panel/users/{'u' * 201}/grant", data={"badge": "asks", "note": "by mail"})
    assert (long.status_code, "no user of so long an id" in long.text) == (422, True)
    for act in ("grant", "revoke"):
        unknown = support.post(f"/panel/users/nobody/{act}", data={"badge": "asks", "note": "by mail"})
        assert (unknown.status_code, "There is no user nobody" in unknown.text) == (422, True)
        check_markup(unknown.text)
    assert desk.sent == []
    went = support.post("/panel/users/u 1/grant", data={"badge": "asks", "note": "by mail"})
    assert went.status_code == 303
    (event,) = desk.sent
    body = json.loads(event.value)
    assert (body["type"], body["user_id"]) == ("grant.added", "u 1")
    assert body["payload"] == {"badge_key": "asks", "note": "by mail", "actor": "support token"}
    support.post("/panel/users/u1/revoke", data={"badge": "asks", "note": "wrong"})
    assert json.loads(desk.sent[1].value)["type"] == "grant.revoked"
    assert [change[1] for change in store.changes] == ["grant.added", "grant.revoked"]
    assert store.changes[0][2:5] == ("user u 1", None, {"badge_key": "asks", "context": ""})


def test_what_was_not_sent_is_noted() -> None:
    """While Kafka is away a grant and a revocation are noted as not done."""

    class Away(FakeDesk):
        async def send(self, events: Any) -> None:
            raise OperatorError("Kafka is away.")

    store = FakeStore()
    support = user(Away(), Role.SUPPORT, store)
    by_hand = {"badge": "asks", "note": "by mail"}
    for act in ("grant", "revoke"):
        assert support.post(f"/panel/users/u1/{act}", data=by_hand).status_code >= 400
    assert [(change[1], change[5]) for change in store.changes] == [
        ("grant.added", "by mail"),
        ("grant.added.unsent", "Kafka is away."),
        ("grant.revoked", "by mail"),
        ("grant.revoked.unsent", "Kafka is away."),
    ]


def test_jobs_are_looked_at_before_they_start() -> None:
    """A job is asked for, previewed, and started by a button that says how much; one that cannot be is told."""
    desk, store = FakeDesk(), FakeStore()
    author = user(desk, Role.AUTHOR, store)
    for data in ({"kind": "x"}, {"kind": "recompute"}, {"kind": "backfill", "user": "u1"}):
        assert author.post("/panel/jobs/new", data=data).status_code == 422
    unknown = author.post("/panel/jobs/new", data={"kind": "recompute", "user": "nobody"})
    assert "No event of nobody" in unknown.text
    went = author.post("/panel/jobs/new", data={"kind": "recompute", "user": "u1"})
    assert went.headers["location"] == "/panel/jobs/asks/j0"
    page = author.get("/panel/jobs/asks/j0").text
    assert "Start recompute of 3 awards" in page
    check_markup(page)
    assert author.post("/panel/jobs/asks/j0").headers["location"].startswith("/panel/jobs/1?")
    assert desk.applied == [("recompute", "author token", "")]
    assert store.changes[0][1] == "recompute.started"


def test_scheduled_runs_name_no_awards_that_are_not_known() -> None:
    """What a run did is named; the awards that workers give for its events are not, not even as none."""
    page = user(FakeDesk(), Role.READER).get("/panel/jobs").text
    assert "users 3" in page
    assert "awards None" not in page


def test_jobs_are_cancelled_and_go_on() -> None:
    """Running ones are cancelled, ended ones go on; what had ended already is told."""
    desk = FakeDesk()
    author = user(desk, Role.AUTHOR)
    assert "Cancel</button>" in author.get("/panel/jobs/1").text
    assert "Go on</button>" in author.get("/panel/jobs/2").text
    assert "Cancelled" in author.get(author.post("/panel/jobs/1/cancel").headers["location"]).text
    assert "ended already" in author.get(author.post("/panel/jobs/1/resume").headers["location"]).text
    assert author.post("/panel/jobs/1/explode").status_code == 404
    for number, polls in ((1, True), (2, False)):  # one that ended is not looked at again
        part = author.get(f"/panel/_/jobs/{number}", headers={"HX-Request": "true"})
        assert (part.status_code, "hx-trigger" in part.text) == (200, polls)
        assert f'data-says="Job 1: {"running" if polls else "cancelled"}"' in part.text
    assert "Cancel</button>" not in user(desk, Role.READER).get("/panel/jobs/1").text


def test_quarantine_is_settled() -> None:
    """A release takes a note, a drop the badge's key too; some awards or all; the audit log has each."""
    desk, store = FakeDesk(), FakeStore()
    support = user(desk, Role.SUPPORT, store)
    base = {"badge": "nice_question", "which": "all"}
    assert support.post("/panel/awards/quarantine", data={**base, "verb": "release"}).status_code == 422
    assert support.post("/panel/awards/quarantine", data={**base, "verb": "drop", "note": "x"}).status_code == 422
    chosen = {**base, "which": "chosen", "verb": "release", "note": "x"}
    assert support.post("/panel/awards/quarantine", data=chosen).status_code == 422
    assert desk.applied == []
    for nobody in ("u1", "[]", '["u1"]', '["u1", 2]', '["u1", "\\u0000"]', "[" * 5_000):
        assert support.post("/panel/awards/quarantine", data={**chosen, "award": nobody}).status_code == 422
    every = support.post("/panel/awards/quarantine", data={**base, "verb": "release", "note": "x"})
    assert "Release 212 awards" in every.text
    assert desk.applied == []
    drop = {**base, "verb": "drop", "note": "x", "confirm": "nice_question"}
    assert support.post("/panel/awards/quarantine", data=drop).status_code == 303
    assert [one[0] for one in desk.applied] == [("drop", "nice_question", None)]
    assert [change[1] for change in store.changes] == ["quarantine.dropped"]


def test_only_chosen_awards_are_settled() -> None:
    """Of a user with two awards that are held, the one that is ticked is released or dropped, and counted, alone."""
    desk = FakeDesk()
    desk.reads.held_at = [("u1", 'post "4"'), ("u1", "post 5"), ("u2", "")]
    support = user(desk, Role.SUPPORT)
    ticks = re.findall(r'name="award" value="([^"]*)"', support.get("/panel/awards/quarantine").text)
    assert len(ticks) == 3
    chosen = {"badge": "nice_question", "which": "chosen", "note": "x", "award": [unescape(ticks[0])]}
    asked = support.post("/panel/awards/quarantine", data={**chosen, "verb": "release"}).text
    check_markup(asked)
    assert "The 1 award chosen, no other." in asked
    assert "Release 1 award<" in asked
    assert "post 5" not in asked
    assert re.findall(r'name="award" value="([^"]*)"', asked) == ticks[:1]
    assert desk.applied == []
    support.post("/panel/awards/quarantine", data={**chosen, "verb": "release", "sure": "1"})
    support.post("/panel/awards/quarantine", data={**chosen, "verb": "drop", "confirm": "nice_question"})
    place = [("u1", 'post "4"')]
    assert [one[0] for one in desk.applied] == [("release", "nice_question", place), ("drop", "nice_question", place)]
    desk.reads.held_at = []
    gone = support.post("/panel/awards/quarantine", data={**chosen, "verb": "release"})
    assert (gone.status_code, "nothing is held any more" in gone.text) == (422, True)


def test_a_long_release_goes_on_without_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page does not wait for a long release: it goes on, and how much is held is looked at again and again."""

    class Slow(FakeDesk):
        async def settle_held(self, verb: str, **given: Any) -> int:
            for _ in range(50):
                await asyncio.sleep(0)
            self.applied.append((verb, given["actor"], given["note"]))
            return 3

    monkeypatch.setattr("worker.admin.panel.pages.quarantine._PATIENCE", 0.0)
    desk = Slow()
    support = user(desk, Role.SUPPORT)
    with support:
        data = {"badge": "asks", "which": "all", "verb": "release", "note": "x", "sure": "1"}
        went = support.post("/panel/awards/quarantine", data=data)
        told = support.get(went.headers["location"]).text
        assert "being released" in told
        assert "release again: the rest is still held, and each award is released once" in told
        for _ in range(50):
            if desk.applied:
                break
            support.get("/panel/jobs")
        assert desk.applied == [("release", "support token", "x")]
    part = user(desk, Role.READER).get("/panel/_/awards/quarantine", headers={"HX-Request": "true"})
    assert "212" in part.text


def test_dead_letters_are_tried_dry_first() -> None:
    """What would pass is told before anything is changed; nothing chosen is refused; the replay is audited once."""
    desk, store = FakeDesk(text=HOSTILE), FakeStore()
    support = user(desk, Role.SUPPORT, store)
    assert support.post("/panel/dead-letters/replay", data={"which": "chosen"}).status_code == 422
    assert desk.applied == []
    letter = {"which": "chosen", "reason": "not_json", "letter": ["badges.events~3~88", "x~y~1"]}
    got = support.post("/panel/dead-letters/replay", data=letter)
    assert "2 of 3 letters would pass now" in got.text
    check_markup(got.text)
    assert store.changes == []
    went = support.post("/panel/dead-letters/replay", data={**letter, "verb": "replay"})
    assert "2 letters passed, 1 stayed." in support.get(went.headers["location"]).text
    assert [(one[0].places, one[0].reason, one[1]) for one in desk.applied] == [
        ((("badges.events", 3, 88),), None, "dry"),
        ((("badges.events", 3, 88),), None, "replay"),
    ]
    assert [(change[1], change[4]) for change in store.changes] == [
        ("dead_letters.replayed", {"letters": 3, "records": ["badges.events:3:88"]})
    ]
    typed = {"which": "all", "type": "comment.lost", "verb": "replay"}
    assert support.post("/panel/dead-letters/replay", data=typed).status_code == 303
    assert desk.applied[-1][0].event_type == "comment.lost"
    assert store.changes[-1][4] == {"letters": 3, "type": "comment.lost"}
    assert user(desk, Role.AUTHOR).post("/panel/dead-letters/replay", data=letter).status_code == 403


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("", "Replay all 41 that match…"),
        ("not_json", "Replay all 1,204+ that match…"),
        ("too_old", "Replay all that match…"),
        ("erased", "None of them waits"),
    ],
)
def test_the_button_says_how_many_would_be_tried(reason: str, told: str) -> None:
    """All that match are counted on their button, as far as they are looked at; without any there is no button."""
    desk = FakeDesk()
    page = user(desk, Role.SUPPORT).get(f"/panel/dead-letters?reason={reason}&type=x&since=24+h").text
    assert told in page
    assert ('value="all"' in page) == (reason != "erased")
    asked = {"reason": reason or None, "topic": None, "since_us": NOON - DAY, "event_type": "x"}
    assert ("waiting", asked) in desk.reads.asked
    assert "Replay all" not in user(desk, Role.READER).get("/panel/dead-letters").text


def test_many_dead_letters_are_replayed_beside_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many the oldest are tried dry; the replay of all goes on by itself, says how far it is, and is stopped."""
    monkeypatch.setattr("worker.admin.panel.pages.redriving._PATIENCE", 0.0)
    desk, store = FakeDesk(), FakeStore()
    support = user(desk, Role.SUPPORT, store)
    many = {"which": "all", "reason": "many"}
    with support:
        tried = support.post("/panel/dead-letters/replay", data=many).text
        assert "1,999 of 2,000 letters would pass now" in tried
        assert "the other 3,000 were not tried" in tried
        assert "Replay 5,000 letters</button>" in tried
        check_markup(tried)
        went = support.post("/panel/dead-letters/replay", data={**many, "verb": "replay"})
        page = support.get(went.headers["location"]).text
        assert "3 of 5,000 letters" in page
        assert "<dt>Left</dt><dd>4,997</dd>" in page
        check_markup(page)
        assert "Letters are being tried again." in support.get("/panel/dead-letters").text
        assert support.post("/panel/dead-letters/replay", data={**many, "verb": "replay"}).status_code == 409
        assert support.post("/panel/dead-letters/replays/r0/stop").status_code == 303
        assert desk.replay is not None
        assert desk.replay.stopping
        part = support.get("/panel/_/dead-letters/replays/r0", headers={"HX-Request": "true"}).text
        assert "It ends behind the letters that are being tried." in part
        assert 'data-says="Replay: running" hx-get=' in part
    desk.replay.task = None
    part = support.get("/panel/_/dead-letters/replays/r0", headers={"HX-Request": "true"}).text
    assert 'data-says="Replay: stopped">' in part
    assert "4,997, which wait in the list" in support.get("/panel/dead-letters/replays/r0").text
    assert support.get("/panel/dead-letters/replays/other").status_code == 404
    assert [change[1] for change in store.changes] == ["dead_letters.replayed", "dead_letters.stopped"]


def test_csv_of_dead_letters() -> None:
    """The filtered list goes out as CSV with what each record says it is of, and nothing in it is a formula."""
    desk = FakeDesk(reads=FakeReads(text="=1+1"))
    reader = user(desk, Role.READER)
    assert 'href="/panel/dead-letters.csv?reason=not_json"' in reader.get("/panel/dead-letters?reason=not_json").text
    got = reader.get("/panel/dead-letters.csv?reason=not_json&type=x&since=24+h")
    lines = got.text.splitlines()
    assert lines[0].startswith('"number","buried_at","reason","path","detail","type","user_id"')
    assert lines[1].count('"\'=1+1"') == 3


def test_a_letter_shows_what_its_type_asks_for() -> None:
    """Beside the bytes stand the schema of the type that the record says it is of, and the record's headers."""
    desk = FakeDesk(reads=FakeReads(text='{"type": "question.scored", "payload": {"score": "ten"}}'))
    got = user(desk, Role.SUPPORT).get("/panel/dead-letters/badges.events/3/88")
    assert "What the catalog asks of question.scored" in got.text
    assert "post_id" in got.text
    check_markup(got.text)
    assert "What the catalog asks" not in user(FakeDesk()).get("/panel/dead-letters/badges.events/3/88").text


def test_events_of_a_file_are_played() -> None:
    """A file of events is played after those that were pasted, and stands in the field like those."""
    line = '{"type": "comment.posted", "occurred_at": "2020-02-29T12:00:00Z"}'
    got = user(FakeDesk(), Role.SUPPORT).post(
        "/panel/diagnostics/simulator",
        data={"user": "u1", "events": line, "at": "2020-03-01T00:00:00Z"},
        files={"file": ("e.jsonl", f"{line}\r\n{line}\r\n", "application/octet-stream")},
    )
    assert got.status_code == 200
    assert got.text.count("data-played") == 3
    check_markup(got.text)


def test_a_dry_run_asks_for_a_trigger() -> None:
    """Without a badge those are asked for that listen to the trigger."""
    support = user(FakeDesk(), Role.SUPPORT)
    event = '{"type": "comment.posted", "occurred_at": "2020-02-29T12:00:00Z"}'
    asked = {"user": "u1", "event": event, "trigger": "comment.posted"}
    got = support.get("/panel/diagnostics/dry-run", params=asked).text
    assert 'aria-label="Commentator I"' in got
    assert 'aria-label="Nice question"' not in got


def test_an_erasure_is_typed_out() -> None:
    """Only an admin erases, with the id typed and a note; support exports, which is noted."""
    desk, store = FakeDesk(), FakeStore()
    admin = user(desk, Role.ADMIN, store)
    for data in ({}, {"confirm": "u1"}, {"confirm": "u2", "note": "x"}, {"confirm": "u1", "note": "a\nb"}):
        got = admin.post("/panel/users/u1/erase", data=data)
        assert got.status_code == 422
        check_markup(got.text)
    assert desk.applied == []
    assert admin.post("/panel/users/u1/erase", data={"confirm": "u1", "note": "asked"}).status_code == 303
    assert desk.applied == [("u1", "admin token", "asked")]
    gone = admin.post("/panel/users/nobody/erase", data={"confirm": "nobody", "note": "x"})
    assert gone.status_code == 404
    support = user(desk, Role.SUPPORT, store)
    assert support.post("/panel/users/u1/erase", data={"confirm": "u1", "note": "x"}).status_code == 403
    file = support.get("/panel/users/u1/export.json")
    assert file.json() == {"user_id": "u1"}
    assert file.headers["content-disposition"].startswith("attachment")
    assert support.get("/panel/users/nobody/export.json").status_code == 404
    assert [change[1] for change in store.changes] == ["user.exported"]


def test_a_token_is_shown_once() -> None:
    """A new token's text is on the page that made it; only its hash is kept."""
    desk = FakeDesk()
    admin = user(desk)
    got = admin.post("/panel/settings/tokens", data={"name": "ci", "role": "producer"})
    text = got.text.partition('<code id="made">')[2].partition("</code>")[0]
    assert text.startswith("bsk_")
    kept = desk.reads.asked[-1][1]
    assert (kept["name"], kept["role"], kept["sha256"]) == ("ci", "producer", digest(text))
    assert text not in admin.get("/panel/settings/tokens").text
    for data in ({"name": "", "role": "reader"}, {"name": "x", "role": "king"}, {"name": "taken", "role": "reader"}):
        assert admin.post("/panel/settings/tokens", data=data).status_code == 422
    assert admin.post("/panel/settings/tokens/1/revoke").status_code == 303


def test_the_simulator_plays() -> None:
    """Events that are pasted are played one by one, with metrics set; faults are told by line."""
    desk = FakeDesk()
    support = user(desk, Role.SUPPORT)
    event = {"id": "e1", "type": "question.scored", "occurred_at": "2026-02-01T00:00:00Z"}
    line = json.dumps({**event, "payload": {"score": 12, "post_id": 1}})
    got = support.post("/panel/diagnostics/simulator", data={"user": "u1", "events": line, "set": "comments = 25"})
    assert got.status_code == 200, got.text
    check_markup(got.text)
    assert got.text.count("data-played") == 1
    assert "Nothing was written" in got.text
    wrong = support.post("/panel/diagnostics/simulator", data={"events": "{\n" + HOSTILE, "set": "nope = 1", "at": "x"})
    assert wrong.status_code == 422
    assert "Line 1" in wrong.text
    assert "has no metric" in wrong.text
    assert "<script>alert" not in wrong.text
    assert desk.sent == []


def test_a_dry_run_answers() -> None:
    """A question about a user and one event more is answered with the tree."""
    support = user(FakeDesk(), Role.SUPPORT)
    event = {"id": "e1", "type": "question.scored", "occurred_at": "2026-02-01T00:00:00Z", "payload": {"score": 12}}
    event["payload"]["post_id"] = 7  # type: ignore[index]
    asked = {"user": "u1", "badge": "nice_question", "event": json.dumps(event)}
    got = support.get("/panel/diagnostics/dry-run", params=asked)
    assert got.status_code == 200
    assert "passed" in got.text
    check_markup(got.text)
    assert support.get("/panel/diagnostics/dry-run", params={"user": "u1", "at": "soon"}).status_code == 422


class AskingDesk(FakeDesk):
    """A desk whose catalog asks a condition in JavaScript; nothing is logged but one event that nobody asked about."""

    def _document(self) -> dict[str, Any]:
        flow = {"event": "question.scored", "criteria": {"$condition": {"type": "big", "params": {"over": 10}}}}
        return document() | {
            "condition_types": [{"name": "big", "source": "(event, params) => event.payload.score > params.over"}],
            "badges": [
                {"key": "big", "label": "Big", "flow": flow},
                {"key": "asks", "flow": {"event": "comment.posted"}},
            ],
            "ladders": [],
        }


SCORED = {"id": "e1", "type": "question.scored", "occurred_at": "2026-02-01T00:00:00Z", "payload": {"score": 12}}


@pytest.mark.parametrize("page", ["dry-run", "simulator"])
def test_conditions_are_asked_about_what_is_tried(page: str) -> None:
    """A condition in JavaScript is asked about events of the page's own; where none may run that is told."""
    told = {}
    for js in ("on", "off"):
        parts = {"rehearsal": FakeRehearsals(Unasked(), load_settings(js=js))}
        support = client(build(fakes(FakeStore(), **parts), load_settings(), desk=AskingDesk()), Role.SUPPORT)
        for kind in ("question.scored", "comment.posted"):
            line = json.dumps({**SCORED, "type": kind})
            asked = {"user": "u1", "badge": "big", "event": line, "events": line, "play": "1"}
            told[js, kind] = support.get(f"/panel/diagnostics/{page}", params=asked)
    assert [(*one, got.status_code) for one, got in told.items()] == [
        ("on", "question.scored", 200),
        ("on", "comment.posted", 200),
        ("off", "question.scored", 422),
        ("off", "comment.posted", 200),
    ]
    yes = told["on", "question.scored"].text
    assert "gave no answer" not in yes
    assert ">passed</span>" in yes or "data-played" in yes
    assert "BADGES_JS is off" in told["off", "question.scored"].text
    assert "set BADGES_JS=on" in told["off", "question.scored"].text


@pytest.mark.parametrize("text", ["comments", "comments = x", "nope = 1", "comments = Infinity", "= 3"])
def test_metrics_that_cannot_be_set(text: str) -> None:
    """What is no metric or no value is told in a sentence."""
    found, wrong = playing.read_overrides(text, catalog_of(document()))
    assert found == {}
    assert len(wrong) == 1


def test_what_a_filter_did_not_look_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a filter's bound was met the feed says so and goes on; its CSV looks further, and says where it ends."""
    desk = FakeDesk()
    reader = user(desk, Role.READER)
    feed = "/panel/awards?badge=nice_question"
    assert "looked at" not in reader.get(feed).text
    desk.reads.bounds = 1
    cut = reader.get(feed).text
    assert "none was looked at yet" in cut
    assert "before=1772366400000000~7~u9" in unquote(cut)
    check_markup(cut)
    desk.reads.bounds, desk.reads.empty = 1, True
    none = reader.get(feed).text
    assert "None of the newest awards matches; older ones were not looked at yet." in none
    assert "No award of the last 24 hours matches." not in none
    check_markup(none)
    assert "No award of the last 24 hours matches." in reader.get(feed).text
    desk.reads.bounds, desk.reads.empty = 2, False
    lines = reader.get("/panel/awards.csv?badge=nice_question").text.splitlines()
    assert (len(lines), "looked at" in lines[-1]) == (7, False)
    monkeypatch.setattr("worker.admin.panel.pages.awards._MOST_LOOKS", 1)
    desk.reads.bounds = 2
    lines = reader.get("/panel/awards.csv?badge=nice_question").text.splitlines()
    assert (len(lines), lines[-1]) == (
        4,
        '"Awards before 2026-03-01T12:00:00.000000Z were not looked at. Filter by less."',
    )
    monkeypatch.setattr("worker.admin.panel.pages.awards._MOST_ROWS", 1)
    lines = reader.get("/panel/awards.csv").text.splitlines()
    assert (len(lines), lines[-1]) == (3, '"More than 1 awards match: older ones are left out. Filter by less."')


#: The lists by their pages; what is not among them of what has pages is of the catalog, which is a file itself.
LISTS = {
    "/awards?origin=live": "/awards.csv?origin=live",
    "/awards/holders": "/awards/holders.csv",
    "/awards/quarantine?badge=nice_question": "/awards/quarantine.csv?badge=nice_question",
    "/dead-letters?reason=not_json": "/dead-letters.csv?reason=not_json",
    "/jobs?state=done": "/jobs.csv?state=done",
    "/settings/audit?action=a.b": "/settings/audit.csv?action=a.b",
    "/users?q=u": "/users.csv?q=u",
    "/users/u1/history": "/users/u1/history.csv",
}


def test_every_list_goes_out_as_csv() -> None:
    """Each list leads to its filtered file, in which nothing is a formula; no other page has a file."""
    desk = FakeDesk(text="=1+1", reads=FakeReads(text="=1+1"))
    admin = user(desk)
    desk.changes.append(("=1+1", "a.b", "=1+1", None, None, "=1+1"))
    for path, file in LISTS.items():
        assert f'href="/panel{file}"' in unescape(admin.get(f"/panel{path}").text), path
        got = admin.get(f"/panel{file}")
        assert got.headers["content-type"].startswith("text/csv"), path
        rows = list(csv.reader(got.text.splitlines()))
        assert any("'=1+1" in cell for row in rows[1:] for cell in row), path
        assert not any(cell.startswith("=") for row in rows for cell in row), path
    files = {name.removeprefix("GET ") for name, _ in panel_routes() if name.endswith(".csv")}
    assert files == {file.partition("?")[0].replace("u1", "{user_id}") for file in LISTS.values()}


def test_a_file_that_is_cut_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more users or awards that are held than a file has, its last line says so."""
    for module, file in (("users", "/users.csv"), ("quarantine", "/awards/quarantine.csv?badge=nice_question")):
        desk = FakeDesk()
        desk.reads.held_at = [("u1", "4"), ("u1", "5")]
        reader = user(desk, Role.READER)
        assert len(reader.get(f"/panel{file}").text.splitlines()) == 3
        monkeypatch.setattr(f"worker.admin.panel.pages.{module}._MOST_ROWS", 1)
        lines = reader.get(f"/panel{file}").text.splitlines()
        assert (len(lines), "the rest is left out" in lines[-1]) == (3, True)


def test_csv_of_the_audit_log() -> None:
    """The log goes out as CSV in which nothing is a formula."""
    desk = FakeDesk()
    desk.reads.text = "=1+1"
    got = user(desk, Role.SUPPORT).get("/panel/settings/audit.csv")
    assert got.headers["content-type"].startswith("text/csv")
    assert '"\'=1+1"' in got.text


def test_csv_of_jobs_and_holders() -> None:
    """Both lists go out as files, of jobs those that were asked for; while holders are counted first that is said."""
    desk = FakeDesk(text="=1+1", reads=FakeReads(text="=1+1"))
    reader = user(desk, Role.READER)
    assert 'href="/panel/jobs.csv?kind=backfill"' in reader.get("/panel/jobs?kind=backfill").text
    lines = reader.get("/panel/jobs.csv?kind=backfill&state=done").text.splitlines()
    assert lines[0].startswith('"id","kind","for","state","users_done"')
    assert lines[2].startswith('"1","backfill","{""badges"":[""=1+1""],""notify"":true}","done","3","10","20","2",')
    assert lines[2].count('"\'=1+1"') == 2
    assert desk.reads.asked == [("jobs", {"kind": "backfill", "state": "done", "limit": 50_000})]
    assert 'href="/panel/awards/holders.csv"' in reader.get("/panel/awards/holders").text
    rows = reader.get("/panel/awards/holders.csv").text.splitlines()
    nice = (
        '"nice_question","\'=1+1","misc","active","17","8","94","30","2026-03-01T12:00:00.000000Z","2","8","2.0","no"'
    )
    assert rows[1] == nice
    empty = user(FakeDesk(reads=FakeReads(empty=True)), Role.READER).get("/panel/awards/holders.csv")
    assert (empty.status_code, empty.headers["retry-after"]) == (503, "5")


def test_the_simulator_travels_in_time() -> None:
    """With jobs on the clock's events come by themselves; its buttons move it on; a link keeps what was asked."""
    support = client(panel(), Role.SUPPORT)
    line = '{"type": "comment.posted", "occurred_at": "2020-02-29T12:00:00Z"}'
    given = {"user": "u1", "events": line, "at": "2020-02-29T13:00:00Z"}
    still = support.post("/panel/diagnostics/simulator", data=given)
    assert ">cron.anniversary</a>" not in still.text
    moved = support.post("/panel/diagnostics/simulator", data={**given, "shift": "year"})
    assert 'value="2021-02-28T13:00:00' in moved.text
    check_markup(moved.text)
    address = re.search(r'id="kept" href="([^"]+)"', moved.text)
    assert address is not None
    again = support.get(unescape(address[1]))
    assert 'value="2021-02-28T13:00:00' in again.text
    assert "Where every badge stands then" in again.text
    long = support.post("/panel/diagnostics/simulator", data={**given, "events": line + "\n" * 5_000})
    assert "too long for a link" in long.text
    assert playing.later(0, (0, 1)) == 86_400_000_000


def test_the_simulator_lets_the_clock_run() -> None:
    """Anniversaries of a tenure come with jobs on, and not without; too many ticks are refused in a sentence."""
    made = {**document(), "tenures": [{"key": "member", "since": "comment.posted", "years": [1], "label": "Member"}]}
    made["schedules"] = [{"event": "cron.minutely", "cron": "* * * * *"}]

    class Timed(FakeDesk):
        async def catalog(self) -> Any:
            return catalog_of(made)

    support = client(panel(Timed()), Role.SUPPORT)
    line = '{"type": "comment.posted", "occurred_at": "2020-03-01T12:00:00Z"}'
    given = {"user": "u1", "events": line, "at": "2021-03-02T00:00:00Z", "jobs": "1"}
    refused = support.post("/panel/diagnostics/simulator", data=given)
    assert refused.status_code == 422
    assert "more than 20,000 events" in refused.text
    del made["schedules"]
    got = support.post("/panel/diagnostics/simulator", data=given)
    assert ">cron.anniversary</a>" in got.text
    assert "earned" in got.text
    still = support.post("/panel/diagnostics/simulator", data={**given, "jobs": ""})
    assert ">cron.anniversary</a>" not in still.text
