"""The decoder takes any bytes: an event, a reason, or a tombstone, and never an exception."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.properties.examples import tried
from worker.events import Dictionary, Event, EventType, Record, Rejected, decode, decode_line, envelope, json_text

CODES = {
    "not_json",
    "too_large",
    "too_deep",
    "missing_field",
    "invalid_field",
    "unknown_event_type",
    "payload_invalid",
    "occurred_in_future",
}
KIND = EventType("a.b", aliases=("AB",), schema={"type": "object", "properties": {"n": {"type": "number"}}})
CLOSED, OPEN = Dictionary([KIND]), Dictionary.open()
DAY = 86_400_000_000
WHOLE = {
    "id": "1",
    "type": "a.b",
    "user_id": "u",
    "occurred_at": "2026-03-01T12:00:00Z",
    "payload": {"n": 1.5, "list": [1, "é", None]},
    "source": "s",
}

odd_text = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["\0", "\ud800", "a.b", "AB", "cron.anniversary", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]),
    st.sampled_from(["9999-12-31T23:59:59Z", "x" * 201, "1.0", "2026-03-01T12:00:00+14:00", "\U0001f600", "\\u0000"]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**37, 10**38, -(10**38), 2**63, 2**64, 10**400]),
    st.floats(),
    odd_text,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_text, inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    *WHOLE,
    "event_type",
    "timestamp",
    "data",
    "metadata",
    "specversion",
    "subject",
    "time",
    "extra",
    "data_base64",
]


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """An envelope with fields changed, dropped or doubled, then perhaps some bytes changed."""
    body = dict(WHOLE)
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4)):
        if draw(st.booleans()):
            body[name] = draw(values)
        else:
            body.pop(name, None)
    text = json.dumps(body, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=3)):
        match draw(st.integers(0, 3)):
            case 0 if data:
                data[place % len(data)] = byte
            case 1 if data:
                del data[place % len(data) :]
            case 2:
                data[place % (len(data) + 1) : 0] = bytes([byte])
    return bytes(data)


nests = st.builds(
    lambda opener, count: opener * count,
    st.sampled_from([b"[", b'{"a":', b'{"payload":[', b'[{"a":']),
    st.integers(1, 30_000),
)
numbers = st.builds(
    lambda digits, tail: (
        b'{"type":"a.b","user_id":1,"occurred_at":"2026-03-01T12:00:00Z","payload":{"n":%s%s}}' % (digits, tail)
    ),
    st.integers(1, 6_000).map(lambda count: b"7" * count),
    st.sampled_from([b"", b".5", b"e400", b"E-400", b"e", b".", b"e99999999999999999999", b"." + b"3" * 50]),
)
header_values = st.one_of(
    st.none(), st.binary(max_size=6), st.sampled_from([b"1.0", b"a.b", b"application/cloudevents+json", b"u"])
)
CONTROL = True
header_lists = st.lists(
    st.tuples(
        st.sampled_from(
            ["content-type", "ce_specversion", "ce_type", "ce_id", "ce_time", "ce_subject", "ce_source", "x"]
        ),
        header_values,
    ),
    max_size=7,
)


@tried(1_000)
@given(
    st.one_of(st.none(), st.binary(max_size=300), envelopes(), envelopes(), nests, numbers),
    st.one_of(st.just([]), header_lists),
    st.booleans(),
    st.sampled_from([CLOSED, OPEN]),
)
@example(b"[" * 100_000, [], CONTROL, CLOSED)
@example(b"7" * 200_000, [], CONTROL, CLOSED)
@example(b'"' + b"\\" * 200_000, [], CONTROL, CLOSED)
@example(b"[]" * 130_000, [], CONTROL, CLOSED)
def test_any_bytes_give_an_event_or_a_reason(
    value: bytes | None, headers: list[tuple[str, bytes | None]], control: bool, dictionary: Dictionary
) -> None:
    """No exception leaves the decoder; what it gives can be stored, and says what was sent."""
    record = Record("t", 0, 5, 1_772_366_400_000, None, value, headers)
    found = decode(record, dictionary, max_future_us=DAY, control=control)
    assert (found is None) is (value is None)
    check(found)
    if value is not None:
        check_ways(value, headers, dictionary, control=control)
        check(decode_line(value, dictionary, number=1))


def check_ways(value: bytes, headers: list[tuple[str, bytes | None]], dictionary: Dictionary, *, control: bool) -> None:
    """What the quick way takes, the slow way takes as the very same event."""
    latest_us = 1_772_366_400_000_000 + DAY
    quick = envelope._quickly(value, headers, dictionary, latest_us, own_types=control)
    if quick is not None:
        slow = envelope._slowly(value, headers, dictionary, latest_us, own_types=control)
        assert isinstance(slow, Event)
        assert (slow.order, slow.user_id, slow.type) == (quick.order, quick.user_id, quick.type)
        assert json_text.equal(slow.payload, quick.payload)


def check(found: Event | Rejected | None) -> None:
    """Everything in a result is storable text within bounds."""
    match found:
        case Event():
            for text in (found.user_id, found.type, found.source, found.id, found.payload_json):
                assert b"\0" not in text.encode()
            assert 0 < len(found.user_id) <= 200
            assert found.occurred_us >= 0
            assert equal_as_json(found)
        case Rejected():
            assert found.code in CODES
            for text in (found.message, found.path, found.user_id or ""):
                assert b"\0" not in text.encode()
                assert len(text) <= 1_000
        case _:
            assert found is None


def equal_as_json(event: Event) -> Any:
    return json_text.equal(json_text.loads(event.payload_json), event.payload)
