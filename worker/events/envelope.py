"""From a record's bytes to an `Event`, or to the dead-letter code that says why it is none.

A native envelope without surprises is read in one pass by a compiled reader. Whatever that reader does not take is
read again slowly: older spellings, CloudEvents, extra keys, and everything faulty, which gets its code there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from worker.events import json_text
from worker.events.dictionary import NAME, Dictionary, EventType, is_reserved
from worker.events.instants import parse_instant
from worker.events.json_text import FAST_ERRORS, MAX_BYTES, MAX_DEPTH, MAX_DIGITS, JsonFault
from worker.events.spellings import ABSENT, Draft, is_cloud_event, read_slowly
from worker.events.types import Event, Record, Rejected

MAX_USER_ID = 200
MAX_SOURCE = 200
MAX_ID = 200

_MAX_SENTENCE = 1_000
_BACKSLASH = ord("\\")
_NO_BOUND = 1 << 62


def decode(
    record: Record, dictionary: Dictionary, *, incarnation: int = 1, max_future_us: int, control: bool = False
) -> Event | Rejected | None:
    """The event in a record; None for a tombstone; Rejected for anything else. Never raises.

    `incarnation` counts the lives of the topic (it is part of derived ids). An instant more than `max_future_us` ahead
    of the record's own timestamp is refused. The system's own types are taken from the control topic only.
    """
    value = record.value
    if value is None:
        return None
    try:
        draft = _read(value, record.headers)
    except JsonFault as fault:
        return _rejected(fault, None)
    if draft.id is ABSENT:
        draft.id = f"kafka:{record.topic}:{incarnation}:{record.partition:05}:{record.offset:020}"
    return _event(draft, dictionary, record.timestamp_ms * 1000 + max_future_us, own_types=control)


def decode_line(data: bytes, dictionary: Dictionary, *, number: int) -> Event | Rejected:
    """The event on a line of a file, all types taken and no bound on the future. Never raises.

    `number` is the line's, from 1; it stands in the id of an event without one.
    """
    try:
        draft = _read(data, ())
    except JsonFault as fault:
        return _rejected(fault, None)
    if draft.id is ABSENT:
        draft.id = f"line:{number:020}"
    return _event(draft, dictionary, _NO_BOUND, own_types=True)


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The native envelope as most producers write it."""

    type: str
    user_id: str | int
    occurred_at: str
    id: str | msgspec.UnsetType = msgspec.UNSET
    source: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_read_envelope: Callable[[bytes], _Envelope] = msgspec.json.Decoder(_Envelope).decode


def _read(value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> Draft:
    if len(value) > MAX_BYTES:
        raise JsonFault("too_large", f"the value has {len(value):,} bytes, {MAX_BYTES:,} are allowed")
    # An escape may stand for NUL or half a surrogate pair: only the slow reader looks.
    if (_BACKSLASH in value and b"\\u" in value) or (headers and is_cloud_event(headers)):
        return read_slowly(value, headers)
    try:
        found = _read_envelope(value)
        payload = json_text.read_fast(found.payload)
        payload_json = str(found.payload, "utf-8")
    except FAST_ERRORS:
        return read_slowly(value, headers)
    if not json_text.fits(payload, MAX_DEPTH - 1):
        return read_slowly(value, headers)
    return Draft(found.type, found.user_id, found.occurred_at, found.id, found.source, payload, payload_json)


def _event(draft: Draft, dictionary: Dictionary, latest_us: int, *, own_types: bool) -> Event | Rejected:
    user_id = None
    try:
        user_id = _user_id(draft)
        kind = _kind(draft, dictionary, own_types)
        occurred_us = _occurred(draft, latest_us)
        source = draft.source if draft.source is not ABSENT else ""
        if type(source) is not str or len(source) > MAX_SOURCE:
            raise _invalid(draft, "source", f"a string of at most {MAX_SOURCE} characters")
        if type(draft.id) is not str or not 0 < len(draft.id) <= MAX_ID:
            raise _invalid(draft, "id", f"a string of 1 to {MAX_ID} characters")
        payload = draft.payload if draft.payload is not ABSENT else {}
        if type(payload) is not dict:
            raise _invalid(draft, "payload", "an object")
    except JsonFault as fault:
        return _rejected(fault, user_id)
    wrong = kind.check(payload)
    if wrong is not None:
        message = f"the payload is not one of {kind.name}: {wrong[1]}"
        return _rejected(JsonFault("payload_invalid", message, draft.path("payload") + wrong[0]), user_id)
    payload_json = draft.payload_json or json_text.dumps(payload)
    return Event(user_id, kind.name, occurred_us, source, draft.id, payload, payload_json)


def _user_id(draft: Draft) -> str:
    user_id = draft.user_id
    if type(user_id) is int and abs(user_id) < 10**MAX_DIGITS:
        user_id = str(user_id)
    if type(user_id) is not str or not 0 < len(user_id) <= MAX_USER_ID:
        raise _invalid(draft, "user_id", f"a string of 1 to {MAX_USER_ID} characters, or an integer")
    return user_id


def _kind(draft: Draft, dictionary: Dictionary, own_types: bool) -> EventType:
    name = draft.type
    kind = dictionary.resolve(name) if type(name) is str else None
    if kind is not None and (own_types or not kind.builtin):
        return kind
    if type(name) is not str or NAME.fullmatch(name) is None:
        raise _invalid(draft, "type", "the name of an event type, like review.approved")
    if not own_types and is_reserved(name):
        raise JsonFault("invalid_field", f"{name} travels on the control topic only", draft.path("type"))
    nearest = dictionary.nearest(name)
    remedy = f"; did you mean {nearest}?" if nearest else ""
    message = f"the catalog's events know no {name}{remedy}"
    raise JsonFault("unknown_event_type", message, draft.path("type"))


def _occurred(draft: Draft, latest_us: int) -> int:
    text = draft.occurred_at
    if type(text) is not str:
        raise _invalid(draft, "occurred_at", "an RFC 3339 string with an offset, like 2026-03-01T12:00:00Z")
    try:
        occurred_us = parse_instant(text)
    except ValueError as error:
        raise JsonFault("invalid_field", str(error), draft.path("occurred_at")) from None
    if occurred_us < 0:
        raise JsonFault("invalid_field", f"{text} lies before 1970", draft.path("occurred_at"))
    if occurred_us > latest_us:
        ahead = (occurred_us - latest_us) // 1_000_000
        message = f"{text} lies {ahead:,} s further ahead of the record's timestamp than is allowed"
        raise JsonFault("occurred_in_future", message, draft.path("occurred_at"))
    return occurred_us


def _invalid(draft: Draft, name: str, wanted: str) -> JsonFault:
    path = draft.path(name)
    shown = path.removeprefix("/") or name
    if getattr(draft, name) is ABSENT:
        return JsonFault("missing_field", f"{shown} is missing; it must be {wanted}", path)
    return JsonFault("invalid_field", f"{shown} must be {wanted}", path)


def _rejected(fault: JsonFault, user_id: str | None) -> Rejected:
    return Rejected(fault.code, fault.message[:_MAX_SENTENCE], fault.path[:_MAX_SENTENCE], user_id)
