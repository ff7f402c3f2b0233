"""The envelope: every spelling of an event, every reason to refuse one."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from worker.events import Dictionary, Event, EventType, Record, Rejected, decode, decode_line, parse_instant
from worker.resources import resource

NOW = parse_instant("2026-03-01T12:00:00Z")
HOUR = 3_600_000_000
REVIEW = EventType(
    "review.approved",
    aliases=("ReviewApproved",),
    schema={"type": "object", "properties": {"item": {"type": "string"}, "score": {"type": "integer"}}},
)
DICTIONARY = Dictionary([REVIEW])
NATIVE: dict[str, Any] = {
    "id": "e1",
    "type": "review.approved",
    "user_id": "u42",
    "occurred_at": "2026-03-01T12:00:00.123Z",
    "payload": {"item": "i9"},
    "source": "shop",
}
EXPECTED = Event("u42", "review.approved", NOW + 123_000, "shop", "e1", {"item": "i9"}, '{"item":"i9"}')
CLOUD = {
    "specversion": "1.0",
    "id": "e1",
    "type": "review.approved",
    "source": "shop",
    "time": "2026-03-01T12:00:00.123Z",
    "subject": "u42",
    "data": {"item": "i9"},
}


def record(
    value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = (), *, timestamp_us: int = NOW
) -> Record:
    return Record("badges.events", 3, 17, timestamp_us // 1000, b"u42", value, headers)


def taken(body: Any, headers: tuple[tuple[str, bytes | None], ...] = (), *, control: bool = False) -> Any:
    value = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return decode(record(value, headers), DICTIONARY, max_future_us=24 * HOUR, control=control)


def event(body: Any, headers: tuple[tuple[str, bytes | None], ...] = (), *, control: bool = False) -> Event:
    found = taken(body, headers, control=control)
    assert isinstance(found, Event), found
    return found


def without(name: str, body: dict[str, Any] = NATIVE) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


def same(found: Event, expected: Event = EXPECTED) -> bool:
    return (found.order, found.user_id, found.type, found.payload, json.loads(found.payload_json)) == (
        expected.order,
        expected.user_id,
        expected.type,
        expected.payload,
        json.loads(expected.payload_json),
    )


def test_a_native_event_is_read() -> None:
    """The native envelope gives an event with the payload's text as it came."""
    assert event(json.dumps(NATIVE, separators=(",", ":")).encode()) == EXPECTED


def test_the_payloads_text_is_kept_as_it_came() -> None:
    """Spaces, order and digits of the payload survive."""
    text = b'{"type":"review.approved","user_id":"u","occurred_at":"2026-03-01T12:00:00Z","payload": %s }'
    text %= b'{"b" : 1.50, "a": 1}'
    assert event(text).payload_json == '{"b" : 1.50, "a": 1}'


def test_the_time_of_receiving_bounds_a_record_without_a_timestamp() -> None:
    """Where a record has no timestamp, the future begins at the time the worker read it."""
    value = json.dumps(NATIVE).encode()
    for received_us, wanted in ((NOW - HOUR // 2, Event), (NOW - 2 * HOUR, Rejected)):
        stampless = Record("badges.events", 3, 17, -1, b"u42", value, received_ms=received_us // 1000)
        assert type(decode(stampless, DICTIONARY, max_future_us=HOUR)) is wanted


def test_escapes_are_read_whatever_they_stand_for() -> None:
    """Escaped letters, backslashes and whole surrogate pairs are text; NUL and half a pair are refused."""
    for text in (r"\u00e9", r"\\u0000", r"\ud83d\ude00", r"\\\\"):
        body = b'{"type":"review.approved","user_id":"u","occurred_at":"2026-03-01T12:00:00Z","payload":{"item":"%s"}}'
        assert event(body % text.encode()).payload == {"item": json.loads(f'"{text}"')}
    for text in (r"\u0000", r"\ud83d", r"\ude00\ud83d", r"\ud83dx"):
        found = taken(body % text.encode())
        assert isinstance(found, Rejected), found
        assert (found.code, found.path) == ("invalid_field", "/payload/item")


def test_a_tombstone_is_nothing() -> None:
    """A null value is neither an event nor rejected."""
    assert taken(None) is None
    assert taken(None, (("ce_specversion", b"1.0"),)) is None


@pytest.mark.parametrize(
    "renamed", [{"type": "event_type"}, {"occurred_at": "timestamp"}, {"payload": "data"}, {"payload": "metadata"}]
)
def test_older_spellings_mean_the_same(renamed: dict[str, str]) -> None:
    """`event_type`, `timestamp`, `data` and `metadata` are taken for the native names."""
    assert same(event({renamed.get(key, key): value for key, value in NATIVE.items()}))


@pytest.mark.parametrize(
    ("extra", "value"),
    [
        ("event_type", "review.approved"),
        ("timestamp", "2026-03-01T12:00:00.123Z"),
        ("timestamp", "2026-03-01T13:00:00.123000+01:00"),
        ("data", {"item": "i9"}),
        ("metadata", {"item": "i9"}),
    ],
)
def test_two_spellings_that_agree_are_one(extra: str, value: Any) -> None:
    """A field spelled twice is taken where both mean the same."""
    assert same(event(NATIVE | {extra: value}))


@pytest.mark.parametrize(
    ("extra", "value"),
    [
        ("event_type", "other.type"),
        ("timestamp", "2026-03-01T12:00:00.124Z"),
        ("timestamp", "x"),
        ("timestamp", None),
        ("data", {"item": "i8"}),
        ("metadata", {}),
    ],
)
def test_two_spellings_that_differ_are_refused(extra: str, value: Any) -> None:
    """A field spelled twice with two meanings is an invalid field, at the second spelling."""
    found = taken(NATIVE | {extra: value})
    assert isinstance(found, Rejected)
    assert (found.code, found.path) == ("invalid_field", "/" + extra)


def test_extra_keys_are_ignored() -> None:
    """Keys the envelope does not know change nothing."""
    assert same(event(NATIVE | {"trace": {"a": [1, 2.5]}, "version": 7}))
    assert same(event(NATIVE, (("traceparent", b"00-ab"), ("x", None))))


@pytest.mark.parametrize("mime", [b"application/cloudevents+json", b"Application/CloudEvents+JSON; charset=utf-8"])
def test_a_structured_cloud_event_is_read(mime: bytes) -> None:
    """CloudEvents 1.0 in structured mode is known by the record's content type."""
    assert same(event(CLOUD, (("content-type", mime),)))


def test_a_structured_cloud_event_is_known_by_its_body() -> None:
    """A body with `specversion` is a CloudEvent without any header."""
    assert same(event(CLOUD))


def test_a_binary_cloud_event_is_read() -> None:
    """CloudEvents 1.0 in binary mode: attributes in headers, the value is the data."""
    headers = tuple(("ce_" + key, value.encode()) for key, value in CLOUD.items() if isinstance(value, str))
    assert same(event({"item": "i9"}, headers))
    assert same(event({"item": "i9"}, (*headers, ("content-type", b"application/json"))))
    assert event(b"", headers).payload == {}


@pytest.mark.parametrize(
    ("body", "headers", "code", "path"),
    [
        (CLOUD | {"specversion": "0.3"}, (), "invalid_field", "/specversion"),
        (CLOUD | {"data_base64": "AA=="}, (), "invalid_field", "/data_base64"),
        (CLOUD | {"data": "text"}, (), "invalid_field", "/data"),
        (CLOUD | {"data": {"score": "x"}}, (), "payload_invalid", "/data/score"),
        (without("subject", CLOUD), (), "missing_field", "/subject"),
        (without("time", CLOUD), (), "missing_field", "/time"),
        (NATIVE, (("content-type", b"application/cloudevents+json"),), "missing_field", "/specversion"),
        ([CLOUD], (("content-type", b"application/cloudevents-batch+json"),), "invalid_field", ""),
        ({}, (("ce_specversion", b"1.0"),), "missing_field", ""),
        ({}, (("ce_specversion", b"\xff"),), "invalid_field", ""),
        ({}, (("ce_specversion", b"1.0"), ("ce_subject", b"\x00")), "invalid_field", ""),
        ({}, (("ce_type", b"review.approved"),), "invalid_field", ""),
        (b"<xml/>", (("ce_specversion", b"1.0"),), "not_json", ""),
    ],
)
def test_faulty_cloud_events_are_refused(body: Any, headers: Any, code: str, path: str) -> None:
    """CloudEvents have the codes of native events, with pointers into what was sent."""
    found = taken(body, headers)
    assert isinstance(found, Rejected)
    assert (found.code, found.path) == (code, path)


def test_ids_are_derived_from_the_coordinates() -> None:
    """An event without id gets one that sorts as the records were written and is the same at a redelivery."""
    body = json.dumps(without("id")).encode()
    found = decode(record(body), DICTIONARY, incarnation=2, max_future_us=0)
    assert isinstance(found, Rejected)
    found = decode(record(body), DICTIONARY, incarnation=2, max_future_us=HOUR)
    assert isinstance(found, Event)
    assert found.id == "kafka:badges.events:2:00003:00000000000000000017"
    line = decode_line(body, DICTIONARY, number=7)
    assert isinstance(line, Event)
    assert line.id == "line:00000000000000000007"


@pytest.mark.parametrize(
    ("user", "kept"), [("u" * 200, "u" * 200), (7, "7"), (-7, "-7"), (10**37, "1" + "0" * 37), ("é", "é")]
)
def test_user_ids_are_kept_as_strings(user: Any, kept: str) -> None:
    """A string of up to 200 characters or an integer is a user id."""
    assert event(NATIVE | {"user_id": user}).user_id == kept
    assert event(NATIVE | {"user_id": user, "extra": 1}).user_id == kept


@pytest.mark.parametrize("name", ["payload", "source"])
def test_what_may_be_absent_has_a_default(name: str) -> None:
    """Without payload it is {}, without source it is ""."""
    found = event(without(name))
    assert found.payload == ({} if name == "payload" else {"item": "i9"})
    assert found.source == ("" if name == "source" else "shop")
    assert json.loads(found.payload_json) == found.payload


def test_aliases_are_resolved() -> None:
    """An event sent under an alias has the canonical type."""
    assert event(NATIVE | {"type": "ReviewApproved"}).type == "review.approved"


BAD_FIELDS = [
    ("user_id", ""),
    ("user_id", "u" * 201),
    ("user_id", True),
    ("user_id", None),
    ("user_id", 1.5),
    ("user_id", 10**40),
    ("user_id", ["u"]),
    ("user_id", "a\0"),
    ("user_id", "\ud800"),
    ("id", ""),
    ("id", "i" * 201),
    ("id", 5),
    ("id", None),
    ("id", "a\0"),
    ("source", "s" * 201),
    ("source", None),
    ("source", 5),
    ("payload", []),
    ("payload", None),
    ("payload", "x"),
    ("type", ""),
    ("type", 5),
    ("type", None),
    ("type", "two words"),
    ("type", "t" * 300),
    ("occurred_at", ""),
    ("occurred_at", 1772366400),
    ("occurred_at", None),
    ("occurred_at", "2026-03-01T12:00:00"),
    ("occurred_at", "1969-12-31T23:59:59Z"),
    ("occurred_at", "0001-01-01T00:00:00Z"),
    ("occurred_at", "9999-12-31T23:59:59-23:59"),
]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS)
def test_a_field_out_of_bounds_is_invalid(name: str, value: Any) -> None:
    """Each field has its bounds; the pointer names it, and so it is on a line of a file."""
    for body in (NATIVE | {name: value}, NATIVE | {name: value, "extra": 1}):
        for found in (taken(body), decode_line(json.dumps(body).encode(), DICTIONARY, number=1)):
            assert isinstance(found, Rejected)
            assert (found.code, found.path) == ("invalid_field", "/" + name)


@pytest.mark.parametrize("name", ["type", "user_id", "occurred_at"])
def test_a_missing_field_is_named(name: str) -> None:
    """What must be there and is not is a missing field."""
    found = taken(without(name))
    assert isinstance(found, Rejected)
    assert (found.code, found.path) == ("missing_field", "/" + name)
    assert found.user_id == (None if name == "user_id" else "u42")


NESTED: Any = 1
for _ in range(31):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", "not_json", ""),
        (b"\xff\xfe", "not_json", ""),
        (b"hello", "not_json", ""),
        (b"null", "invalid_field", ""),
        (b"[]", "invalid_field", ""),
        (b'"x"', "invalid_field", ""),
        (json.dumps(NATIVE).encode() + b"}", "not_json", ""),
        (NATIVE | {"payload": {"score": float("nan")}}, "not_json", ""),
        (NATIVE | {"payload": {"item": "\0"}}, "invalid_field", "/payload/item"),
        (NATIVE | {"payload": {"item": "\ud800"}}, "invalid_field", "/payload/item"),
        (NATIVE | {"payload": {"score": 10**38}}, "invalid_field", "/payload/score"),
        (NATIVE | {"payload": {"a": [{"b": 10**38}]}}, "invalid_field", "/payload/a/0/b"),
        (NATIVE | {"payload": {"item": 5}}, "payload_invalid", "/payload/item"),
        (NATIVE | {"data": 1} | {"payload": 1}, "invalid_field", "/payload"),
        (NATIVE | {"payload": {"a": NESTED}}, "too_deep", ""),
        (NATIVE | {"extra": [NESTED]}, "too_deep", ""),
        (NATIVE | {"extra": "\0"}, "invalid_field", "/extra"),
        (NATIVE | {"type": "review.aproved"}, "unknown_event_type", "/type"),
        (NATIVE | {"occurred_at": "2026-03-02T12:00:00.000001Z"}, "occurred_in_future", "/occurred_at"),
        (NATIVE | {"occurred_at": "9999-12-31T23:59:59Z"}, "occurred_in_future", "/occurred_at"),
        (b'{"a":' * 50_000, "too_deep", ""),
        (b'{"payload":' + b"9" * 5_000 + b"}", "invalid_field", "/payload"),
        (b" " * (256 * 1024 + 1), "too_large", ""),
    ],
)
def test_poison_has_its_code(body: Any, code: str, path: str) -> None:
    """Every dead-letter code that the bytes decide, with a sentence that can be stored."""
    found = taken(body)
    assert isinstance(found, Rejected)
    assert (found.code, found.path) == (code, path)
    assert 0 < len(found.message.encode()) < 1_200


def test_thirty_two_levels_are_taken() -> None:
    """The bound on depth is inclusive, whichever way the value is read."""
    body = NATIVE | {"payload": {"a": NESTED[0]}}
    assert event(body).payload == body["payload"]
    assert event(body | {"extra": 1}).payload == body["payload"]


def test_the_nearest_type_is_offered() -> None:
    """An unknown event type's sentence offers the known one most like it."""
    found = taken(NATIVE | {"type": "review.aproved"})
    assert "review.approved" in found.message


def test_the_future_is_measured_from_the_records_own_timestamp() -> None:
    """The bound is inclusive and moves with the record, not with the clock; files have none."""
    body = json.dumps(NATIVE | {"occurred_at": "2026-03-02T12:00:00Z"}).encode()
    assert isinstance(decode(record(body), DICTIONARY, max_future_us=24 * HOUR), Event)
    earlier = record(body, timestamp_us=NOW - 1000)
    assert isinstance(decode(earlier, DICTIONARY, max_future_us=24 * HOUR), Rejected)
    line = decode_line(json.dumps(NATIVE | {"occurred_at": "9999-12-31T23:59:59Z"}).encode(), DICTIONARY, number=1)
    assert isinstance(line, Event)


@pytest.mark.parametrize("name", ["cron.anniversary", "cron.unheard_of", "badge.awarded", "user.erased", "grant.added"])
def test_the_systems_own_types_come_by_the_control_topic_only(name: str) -> None:
    """On an app's topic they are an invalid field, whatever the dictionary knows."""
    body = NATIVE | {"type": name, "payload": {"badge_key": "b", "note": "n", "actor": "anna"}}
    found = taken(body)
    assert isinstance(found, Rejected)
    assert (found.code, found.path, found.user_id) == ("invalid_field", "/type", "u42")
    controlled = taken(body, control=True)
    assert controlled.code == "unknown_event_type" if name == "cron.unheard_of" else controlled.type == name


def test_repeated_keys_take_the_last_value() -> None:
    """Of two equal keys the last one counts, in the envelope and in the payload."""
    text = (
        b'{"type":"x.y","user_id":"u","type":"review.approved","occurred_at":"2026-03-01T12:00:00Z",'
        b'"payload":{"item":"a"},"payload":{"item":"b","item":"c"}}'
    )
    assert event(text).payload == {"item": "c"}
    escaped = text.replace(b'"item":"b"', rb'"item":"\u0000"')
    assert event(escaped).payload_json == '{"item":"c"}'


def test_the_published_schema_says_what_the_decoder_takes() -> None:
    """`schemas/event.json` is a valid schema, takes the native event and refuses what the decoder calls invalid."""
    schema = json.loads(resource("schemas").joinpath("event.json").read_text())
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for example in (*schema["examples"], NATIVE, without("id"), NATIVE | {"extra": 1}):
        assert validator.is_valid(example)
        assert isinstance(decode_line(json.dumps(example).encode(), DICTIONARY, number=1), Event)
    for name, value in BAD_FIELDS:
        storable = not (isinstance(value, str) and ("\0" in value or "\ud800" in value))
        beyond_a_schema = name == "occurred_at" and isinstance(value, str) and value.endswith(("Z", "-23:59"))
        if storable and not beyond_a_schema and value != 10**40:
            assert not validator.is_valid(NATIVE | {name: value}), (name, value)
