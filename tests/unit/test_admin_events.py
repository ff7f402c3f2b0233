"""`POST /api/v1/events`: what is taken and refused, ids and instants, streams, waiting for awards, a broker away."""

from __future__ import annotations

import asyncio
import json
import time
from functools import cache
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from tests.unit.serving import NOON, FakeOutlet, FakePlans, FakeStore, client, fakes, served
from worker.admin.api import events
from worker.admin.intake import Taken, take
from worker.admin.roles import Role
from worker.config import load_settings
from worker.errors import TransientError
from worker.events import Dictionary, Event, Record, decode, format_instant
from worker.rules.catalog.load import catalog_from_document
from worker.rules.plan import Plan, compile_plan
from worker.store.requests import EarnedAward

PATH = "/api/v1/events"
DAY = 24 * 3600 * 1_000_000


@cache
def plan(*more: str) -> Plan:
    """A catalog with two event types, one with a schema, and a badge."""
    events: dict[str, Any] = {
        "question.scored": {
            "aliases": ["QuestionScored"],
            "schema": {"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}},
        },
        "comment.posted": {},
        **{name: {} for name in more},
    }
    return planned(events)


def planned(events: dict[str, Any]) -> Plan:
    """A catalog of these event types with the badge."""
    badge = {"key": "first", "label": "First", "icon": "star", "flow": {"event": "comment.posted", "criteria": {}}}
    return compile_plan(catalog_from_document({"version": 1, "events": events, "badges": [badge]}, version=1))


class Rig:
    """The application with its fakes, and a producer's client."""

    def __init__(self, **settings: Any) -> None:
        self.store, self.outlet, self.plans = FakeStore(), FakeOutlet(), FakePlans(current=plan())
        self.app = served(self.store, plans=self.plans, outlet=self.outlet, **settings)
        self.client = client(self.app, Role.PRODUCER)

    def post(self, body: Any, **options: Any) -> Any:
        """The answer to an event."""
        return self.client.post(PATH, json=body, **options)

    def stream(self, *lines: Any, **options: Any) -> Any:
        """The answer to a stream of events."""
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        return self.client.post(PATH, content=text, headers={"Content-Type": "application/x-ndjson"}, **options)


@pytest.fixture
def rig() -> Rig:
    return Rig()


COMMENT = {"event_type": "comment.posted", "user_id": "u1"}


# ---------------------------------------------------------------- one event


def test_an_event_goes_out_as_workers_read_it(rig: Rig) -> None:
    """What goes out is the native envelope with every field, under the user's key, on the first topic of events."""
    answer = rig.post(
        {
            "event_type": "QuestionScored",
            "user_id": 7,
            "timestamp": "2026-03-01T13:00:00.123456789+01:00",
            "data": {"score": 10, "ratio": 1.50},
            "id": "e1",
        }
    )
    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "event_id": "e1", "message": "Event processed successfully"},
    )
    ((topic, message),) = rig.outlet.sent
    assert (topic, message.key) == ("badges.events", b"7")
    assert json.loads(message.value or b"") == {
        "id": "e1",
        "type": "question.scored",
        "user_id": "7",
        "occurred_at": "2026-03-01T12:00:00.123456Z",
        "payload": {"score": 10, "ratio": 1.5},
        "source": "",
    }
    read = decode(
        Record("t", 0, 0, NOON // 1000, message.key, message.value), plan().catalog.dictionary, max_future_us=DAY
    )
    assert isinstance(read, Event)


def test_without_instant_and_id(rig: Rig) -> None:
    """An event without an instant happened now; one without an id gets a random one, and both are told."""
    first, second = rig.post(COMMENT), rig.post(COMMENT | {"payload": {}})
    ids = [answer.json()["event_id"] for answer in (first, second)]
    assert [event["id"] for event in rig.outlet.events()] == ids
    assert ids[0] != ids[1]
    assert {event["occurred_at"] for event in rig.outlet.events()} == {format_instant(NOON)}


def test_cloud_events(rig: Rig) -> None:
    """CloudEvents are taken as structured JSON and as headers, with and without an instant."""
    body = {"specversion": "1.0", "type": "comment.posted", "source": "/shop", "id": "c1", "subject": "u1"}
    structured = rig.client.post(PATH, json=body, headers={"Content-Type": "application/cloudevents+json"})
    binary = rig.client.post(
        PATH,
        json={"a": 1},
        headers={"ce-specversion": "1.0", "ce-type": "comment.posted", "ce-subject": "u%201", "ce-id": "c2"},
    )
    assert [structured.status_code, binary.status_code] == [200, 200], binary.text
    one, two = rig.outlet.events()
    assert (one["id"], one["source"], one["user_id"]) == ("c1", "/shop", "u1")
    assert (two["id"], two["payload"], two["user_id"], two["occurred_at"]) == (
        "c2",
        {"a": 1},
        "u 1",
        format_instant(NOON),
    )


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        (b"", 400, "not_json", ""),
        (b"{", 400, "not_json", ""),
        (b"[]", 422, "invalid_field", ""),
        (b"{}", 422, "missing_field", "/user_id"),
        (b'{"event_type": "nope", "user_id": "u1"}', 422, "unknown_event_type", "/event_type"),
        (b'{"event_type": "comment.posted", "user_id": ""}', 422, "invalid_field", "/user_id"),
        (b'{"event_type": "comment.posted"}', 422, "missing_field", "/user_id"),
        (b'{"user_id": "u1"}', 422, "missing_field", "/type"),
        (b'{"type": "question.scored", "user_id": "u1", "payload": {"score": "x"}}', 422, "payload_invalid",
         "/payload/score"),
        (b'{"type": "comment.posted", "user_id": "u1", "timestamp": "soon"}', 422, "invalid_field", "/timestamp"),
        (b'{"type": "comment.posted", "user_id": "u1", "timestamp": "2026-03-03T12:00:00Z"}', 422,
         "occurred_in_future", "/timestamp"),
        (b'{"type": "comment.posted", "user_id": "u1", "id": ""}', 422, "invalid_field", "/id"),
        (b'{"type": "grant.added", "user_id": "u1"}', 422, "invalid_field", "/type"),
        (b'{"type": "comment.posted", "payload": ' + b"[" * 40 + b"]" * 40 + b"}", 422, "too_deep", None),
        (b'{"type": "comment.posted", "payload": {"x": "' + b"x" * 262_144 + b'"}}', 413, "too_large", None),
    ],
)  # fmt: skip
def test_refused(rig: Rig, body: bytes, status: int, code: str, path: str | None) -> None:
    """What a worker would refuse is refused here, with the same code and a pointer into the body; nothing goes out."""
    answer = rig.client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    if path is not None:
        assert error["details"][0]["path"] == path
    assert rig.outlet.sent == []


def test_a_type_made_a_moment_ago(rig: Rig) -> None:
    """A type that is younger than the catalog known here is found at the head before an event is refused."""
    rig.plans.later = plan("brand.new")
    assert rig.post({"event_type": "brand.new", "user_id": "u1"}).status_code == 200


def test_without_a_catalog() -> None:
    """Before the first catalog every type is unknown."""
    made = Rig()
    made.plans.current = None
    assert made.post(COMMENT).json()["error"]["code"] == "unknown_event_type"


def test_topics_by_pattern_name_none() -> None:
    """Where the topics are a pattern there is none to send to, and the answer says which setting to change."""
    answer = Rig(event_topics="^events").post(COMMENT)
    assert answer.status_code == 503
    assert "BADGES_EVENT_TOPICS" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"event_type": "comment.posted", "user_id": "u1"},
        {"type": "QuestionScored", "user_id": 7, "data": {"score": 1}, "timestamp": "2026-03-01T12:00:00Z", "id": "a"},
        {"type": "comment.posted", "event_type": "comment.posted", "user_id": "u1", "id": "a"},
        {"type": "comment.posted", "user_id": "u1", "payload": {"id": 1, "timestamp": "x"}, "more": 1},
        {"type": "comment.posted", "user_id": "u1", "metadata": {"x": "\u0000"}},
        {"type": "comment.posted", "user_id": True},
        {"type": "comment.posted", "user_id": "u1", "occurred_at": ""},
        {"type": "comment.posted", "user_id": "u1", "payload": None},
        {"type": "comment.posted", "user_id": "u1", "source": "s" * 201},
        {"type": "comment.posted", "user_id": "u1", "source": None},
        {"type": None, "user_id": "u1"},
        {"type": "question.scored", "user_id": "u1", "payload": {"score": 10**50}},
    ],
)
def test_the_quick_way_decides_nothing_alone(body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An event read the quick way is what the slow way makes of it, and what is refused is refused alike."""
    text, types = json.dumps(body).encode(), plan().catalog.dictionary

    def taken() -> Any:
        return take(text, types, now_us=NOON, max_future_us=DAY, key="k")

    quick = taken()
    monkeypatch.setattr("worker.admin.intake._quickly", lambda *_: None)
    slow = taken()
    assert type(quick) is type(slow)
    if isinstance(quick, Taken):
        assert json.loads(quick.message().value or b"") == json.loads(slow.message().value or b"")
        assert (quick.message().key, quick.dated) == (slow.message().key, slow.dated)
    else:
        assert quick == slow


def test_an_event_that_is_too_large_once_completed(rig: Rig) -> None:
    """An event that has room for its own text alone is refused here, not by the worker that would bury it."""
    room = 262_144 - len(json.dumps(COMMENT | {"payload": {"x": ""}}))
    answer = rig.post(COMMENT | {"payload": {"x": "x" * room}})
    assert (answer.status_code, answer.json()["error"]["code"]) in [(413, "too_large")]
    assert rig.post(COMMENT | {"payload": {"x": "x" * (room - 200)}}).status_code == 200
    assert len(rig.outlet.sent[0][1].value or b"") <= 262_144


# ---------------------------------------------------------------- again


def test_idempotency_key(rig: Rig) -> None:
    """A retry with the same key is the same event, to the instant; another body under the key is a conflict."""
    key = {"Idempotency-Key": "k-1"}
    clock = rig.app.state.services.now
    first = rig.post(COMMENT, headers=key)
    clock.at += 5_000_000
    again = rig.post(COMMENT, headers=key)
    assert first.json() == again.json()
    assert first.json()["event_id"] == "k-1"
    one, two = rig.outlet.events()
    assert one == two
    other = rig.post(COMMENT | {"payload": {"x": 1}}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert len(rig.outlet.sent) == 2


def test_idempotency_key_of_another_user(rig: Rig) -> None:
    """The same key for another user is another event, as ids are."""
    for user in ("u1", "u2"):
        assert rig.post(COMMENT | {"user_id": user}, headers={"Idempotency-Key": "k"}).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb", "é"])
def test_wrong_idempotency_key(rig: Rig, key: str) -> None:
    """A key that could be no id is refused."""
    answer = rig.post(COMMENT, headers={"Idempotency-Key": key.encode()})
    assert answer.status_code == 400
    assert rig.outlet.sent == []


# ---------------------------------------------------------------- the broker


def test_broker_away(rig: Rig) -> None:
    """While the broker is away the answer is 503 with Retry-After, alone and in a stream."""
    rig.outlet.broken = TransientError("Kafka at k:9092 refused the connection.")
    for answer in (rig.post(COMMENT), rig.stream(COMMENT, COMMENT)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0


def test_database_away(rig: Rig) -> None:
    """While the database is away nothing that needs it goes out: a keyed event is 503, and not sent."""
    rig.post(COMMENT)
    rig.store.broken = TransientError("PostgreSQL cannot be reached.")
    answer = rig.post(COMMENT, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 503
    assert len(rig.outlet.sent) == 1


# ---------------------------------------------------------------- streams


def test_stream(rig: Rig) -> None:
    """Each line of a stream has its result; faulty lines stop nobody; blank ones are passed over, numbers stay."""
    answer = rig.stream(COMMENT | {"id": "a"}, "", "{", {"event_type": "nope", "user_id": "u"}, COMMENT | {"id": "b"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert [(result["line"], result["success"]) for result in results] == [(1, True), (3, False), (4, False), (5, True)]
    assert [result["error"]["code"] for result in results if "error" in result] == ["not_json", "unknown_event_type"]
    assert [event["id"] for event in rig.outlet.events()] == ["a", "b"]


def test_a_line_is_judged_by_the_catalog_of_this_moment(rig: Rig) -> None:
    """A type and a schema that are younger than the catalog known here are found before a line is refused."""
    rig.plans.later = planned({"question.scored": {}, "comment.posted": {}, "brand.new": {}})
    widened = {"event_type": "question.scored", "user_id": "u1", "payload": {"score": "ten"}}
    assert rig.stream(widened).json()["success"] is True
    rig.plans.current, rig.plans.later = plan(), planned({"comment.posted": {}, "brand.new": {}})
    assert rig.stream({"event_type": "brand.new", "user_id": "u1"}).json()["success"] is True


@pytest.mark.parametrize(
    "odd",
    [
        {"event_type": "nope", "user_id": "u1"},
        {"event_type": "question.scored", "user_id": "u1", "payload": {"score": "ten"}},
    ],
)
def test_a_line_that_cannot_be_judged_is_unavailable(rig: Rig, odd: dict[str, Any]) -> None:
    """While nobody can look whether the catalog knows more, such a line is `unavailable`; the others are sent."""
    rig.plans.broken = TransientError("PostgreSQL cannot be reached.")
    ids = [f"e{number:04}" for number in range(900)]
    answer = rig.stream(*(COMMENT | {"id": one} for one in ids), odd, "{", odd, COMMENT | {"id": "last"})
    assert answer.status_code == 200, answer.text
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert [result["line"] for result in results if result["success"]] == [*range(1, 901), 904]
    codes = [(result["line"], result["error"]["code"]) for result in results if not result["success"]]
    assert codes == [(901, "unavailable"), (902, "not_json"), (903, "unavailable")]
    assert [event["id"] for event in rig.outlet.events()] == [*ids, "last"]
    alone = rig.stream(odd)
    assert (alone.status_code, alone.json()["error"]["code"]) == (503, "unavailable"), "nothing was sent"


async def test_a_stream_that_breaks_off_leaves_no_sends_behind() -> None:
    """What is on its way when a stream breaks off is waited for."""
    release, stored = asyncio.Event(), []

    class Slow(FakeOutlet):
        async def send(self, posts: Any) -> None:
            await release.wait()
            stored.append(len(posts))

    async def broken() -> Any:
        yield (json.dumps(COMMENT).encode() + b"\n") * 500
        release.set()
        raise ClientDisconnect

    made = fakes(plans=FakePlans(current=plan()), outlet=Slow())
    with pytest.raises(ClientDisconnect):
        await events._lines(broken(), made, load_settings(), "t", now_us=NOON)
    assert stored == [400]


def test_long_stream_in_pieces(rig: Rig) -> None:
    """A long stream is sent in pieces, in order, and answered line by line."""
    ids = [f"e{number:04}" for number in range(1001)]
    answer = rig.stream(*(COMMENT | {"id": one} for one in ids))
    assert [json.loads(line)["event_id"] for line in answer.text.splitlines()] == ids
    assert [event["id"] for event in rig.outlet.events()] == ids
    assert rig.outlet.calls == 3


def test_lines_that_are_too_long(rig: Rig) -> None:
    """A line longer than an event may be is refused by itself, with or without an end; others go on."""
    long = json.dumps(COMMENT | {"payload": {"x": "x" * 300_000}})
    results = [json.loads(line) for line in rig.stream(COMMENT, long, COMMENT, long).text.splitlines()]
    assert [(result["line"], result["success"]) for result in results] == [(1, True), (2, False), (3, True), (4, False)]
    assert results[1]["error"]["code"] == "too_large"


def test_stream_that_is_too_long() -> None:
    """A stream announced as too long is refused whole; one that grows too long is cut, and the result says where."""
    made = Rig(max_stream="1KiB")
    line = json.dumps(COMMENT).encode() + b"\n"
    head = {"Content-Type": "application/x-ndjson"}
    assert made.client.post(PATH, content=line * 100, headers=head).status_code == 413
    answer = made.client.post(PATH, content=iter([line * 10, line * 90]), headers=head)
    results = [json.loads(text) for text in answer.text.splitlines()]
    whole = 1024 // len(line)
    assert [result["success"] for result in results] == [True] * whole + [False]
    assert results[-1]["line"] == whole + 1


def test_stream_with_a_key(rig: Rig) -> None:
    """A stream with a key gives its lines ids of their own, the same in a retry, and the same instant."""
    clock = rig.app.state.services.now
    for _ in range(2):
        answer = rig.client.post(
            PATH,
            content=json.dumps(COMMENT) + "\n" + json.dumps(COMMENT),
            headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": "k"},
        )
        assert [json.loads(line)["event_id"] for line in answer.text.splitlines()] == ["k:1", "k:2"]
        clock.at += 1_000_000
    events = rig.outlet.events()
    assert events[:2] == events[2:]


def test_a_key_is_for_one_stream(rig: Rig) -> None:
    """Another stream under a used key is 409, however long, and nothing of it goes out; one without events as well."""
    head = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "k"}
    line = json.dumps(COMMENT).encode() + b"\n"
    long = line * (2 * 1024 * 1024 // len(line))
    assert rig.client.post(PATH, content=line, headers=head).status_code == 200
    for other in (line + line, line[:-1], long, b""):
        answer = rig.client.post(PATH, content=other, headers=head)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert len(rig.outlet.sent) == 1
    assert rig.client.post(PATH, content=line, headers=head).status_code == 200
    fresh = {**head, "Idempotency-Key": "k2"}
    answers = [rig.client.post(PATH, content=iter([long[:1000], long[1000:]]), headers=fresh) for _ in range(2)]
    assert answers[0].status_code == 200
    assert answers[0].text == answers[1].text
    assert answers[0].text.count("\n") == len(long) // len(line)
    assert rig.client.post(PATH, content=long[:-1], headers=fresh).status_code == 409


def test_a_stream_with_a_key_that_is_too_long() -> None:
    """It is cut like one without a key."""
    made = Rig(max_stream="1KiB")
    line = json.dumps(COMMENT).encode() + b"\n"
    results = [
        [json.loads(text)["success"] for text in answer.text.splitlines()]
        for more in ({}, {"Idempotency-Key": "k"})
        for answer in [
            made.client.post(
                PATH, content=iter([line * 10, line * 90]), headers={"Content-Type": "application/x-ndjson", **more}
            )
        ]
    ]
    assert results[0] == results[1]
    assert results[0][-1] is False


def test_long_keys_of_streams_are_told_apart(rig: Rig) -> None:
    """Two streams whose keys differ at the end alone are two: no line takes the id of the other's."""
    ids = set()
    for end in "ab":
        head = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "k" * 199 + end}
        ids.add(json.loads(rig.client.post(PATH, content=json.dumps(COMMENT), headers=head).text)["event_id"])
    assert len(ids) == 2
    assert max(map(len, ids)) <= 200


# ---------------------------------------------------------------- waiting


def test_wait_for_awards(rig: Rig) -> None:
    """With wait=award the answer comes after evaluation, with what the event earned and what a toast shows."""
    rig.store.log.add(("u1", "", "e1"))
    rig.store.earned["u1", "e1"] = [EarnedAward("first", "", NOON, "live")]
    said = rig.post(COMMENT | {"id": "e1"}, params={"wait": "award", "timeout_ms": 2000}).json()
    assert said["evaluated"] is True
    (award,) = said["awards"]
    assert (
        award.items()
        >= {
            "key": "first",
            "name": "First",
            "icon": "star",
            "awarded_at": format_instant(NOON),
            "origin": "live",
        }.items()
    )


def test_wait_in_vain(rig: Rig) -> None:
    """An event that no worker applied in time is stored all the same, and the answer says that it was not evaluated."""
    answer = rig.post(COMMENT, params={"wait": "award", "timeout_ms": 30})
    assert (answer.status_code, answer.json()["evaluated"], answer.json()["awards"]) == (200, False, [])
    assert len(rig.outlet.sent) == 1


def test_the_wait_ends_in_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the broker took is part of timeout_ms; a database that does not answer adds a tenth of a second to it."""
    clock, left = [100.0], []

    async def slowly(messages: Any) -> None:
        clock[0] += 0.4

    async def wait(event: Any, *, seconds: float) -> bool:
        left.append(round(seconds, 3))
        clock[0] += seconds
        return True

    async def never(user_id: str, event_id: str) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("worker.admin.api.events.monotonic", lambda: clock[0])
    monkeypatch.setattr(rig.outlet, "send", slowly)
    monkeypatch.setattr(rig.app.state.services.applied, "wait", wait)
    monkeypatch.setattr(rig.store, "awards_by", never)
    for timeout_ms, rest in ((1_000, 0.6), (300, 0.0)):
        began = time.monotonic()
        said = rig.post(COMMENT, params={"wait": "award", "timeout_ms": timeout_ms}).json()
        assert (said["evaluated"], left[-1]) == (False, rest)
        assert time.monotonic() - began < 0.8


@pytest.mark.parametrize("query", ["wait=badge", "wait=award&timeout_ms=0", "wait=award&timeout_ms=60000"])
def test_wrong_wait(rig: Rig, query: str) -> None:
    """What cannot be waited for is refused before anything goes out."""
    assert rig.client.post(f"{PATH}?{query}", json=COMMENT).status_code == 422
    assert rig.outlet.sent == []


def test_nothing_is_awaited_of_a_stream(rig: Rig) -> None:
    """A stream is answered at once."""
    assert rig.stream(COMMENT, params={"wait": "award"}).status_code == 400


def test_own_types_are_not_taken() -> None:
    """The dictionary of an empty catalog knows the system's own types, and none of them is taken from outside."""
    made = Rig()
    for name in Dictionary().types:
        assert made.post({"event_type": name, "user_id": "u1"}).status_code == 422
