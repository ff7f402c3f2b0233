"""From a record's bytes to an `Event`, or to the dead-letter code that says why it is none.

A native envelope without surprises becomes an event in one go, by compiled readers and no more than a look at each
part. Whatever is not taken there is read again slowly: older spellings, CloudEvents, extra keys, and everything faulty,
which gets its code there. The quick way decides nothing alone: it takes only what the slow way would take as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from worker.events import json_text
from worker.events.dictionary import NAME, Dictionary, EventType, is_reserved
from worker.events.instants import parse_instant
from worker.events.json_text import FAST_ERRORS, MAX_BYTES, MAX_DEPTH, TOP, JsonFault, fits, read_flat, read_object
from worker.events.spellings import ABSENT, Draft, is_cloud_event, read_slowly
from worker.events.types import Event, Record, Rejected

MAX_USER_ID = 200
MAX_SOURCE = 200
MAX_ID = 200

_MAX_SENTENCE = 1_000
_BACKSLASH = ord("\\")
#: May stand for NUL: only the slow reader looks whether it does. (The quick one refuses halves of surrogate pairs.)
_SUSPICIOUS = b"\\u0000"
_NO_BOUND = 1 << 62
_SAID = re.compile(rb'"(?:type|event_type)"\s*:\s*("(?:[^"\\]|\\.){1,1200}")')
_MAX_SAID = 200


def decode(
    record: Record, dictionary: Dictionary, *, incarnation: int = 1, max_future_us: int, control: bool = False
) -> Event | Rejected | None:
    """The event in a record; None for a tombstone; Rejected for anything else. Never raises.

    `incarnation` counts the lives of the topic (it is part of derived ids). An instant more than `max_future_us` ahead
    of the record's own timestamp is refused, or of the time it was received where it has none. The system's own types
    are taken from the control topic only.
    """
    value = record.value
    if value is None:
        return None
    stamp_ms = record.timestamp_ms if record.timestamp_ms >= 0 else record.received_ms
    latest_us = stamp_ms * 1000 + max_future_us
    found = _quickly(value, record.headers, dictionary, latest_us, own_types=control) or _slowly(
        value, record.headers, dictionary, latest_us, own_types=control
    )
    if type(found) is Event and not found.id:
        derived = f"kafka:{record.topic}:{incarnation}:{record.partition:05}:{record.offset:020}"
        return msgspec.structs.replace(found, id=derived)
    return found


def decode_line(data: bytes, dictionary: Dictionary, *, number: int) -> Event | Rejected:
    """The event on a line of a file, all types taken and no bound on the future. Never raises.

    `number` is the line's, from 1; it stands in the id of an event without one.
    """
    found = _quickly(data, (), dictionary, _NO_BOUND, own_types=True) or _slowly(
        data, (), dictionary, _NO_BOUND, own_types=True
    )
    if type(found) is Event and not found.id:
        return msgspec.structs.replace(found, id=f"line:{number:020}")
    return found


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The native envelope as most producers write it; the id "" stands for none."""

    type: str
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_USER_ID)] | int
    occurred_at: str
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)] = ""
    source: Annotated[str, msgspec.Meta(max_length=MAX_SOURCE)] = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_read_envelope: Callable[[bytes], _Envelope] = msgspec.json.Decoder(_Envelope).decode


class _Said(msgspec.Struct, gc=False):
    type: Any = None
    event_type: Any = None


_read_said: Callable[[bytes], _Said] = msgspec.json.Decoder(_Said).decode


def said_type(raw: bytes, headers: Sequence[tuple[str, bytes | None]] = ()) -> str | None:
    """The type a record says it is of, whatever is wrong with it; None where it says none, or a very long one.

    Of what is no whole JSON object it is the first one named anywhere.
    """
    try:
        body = _read_said(raw)
        said = body.event_type if body.type is None else body.type
    except FAST_ERRORS:
        found = _SAID.search(raw)
        said = None if found is None else _text(found[1])
    if said is None:
        said = next((_text(b'"%b"' % (value or b"")) for name, value in headers if name.lower() == "ce_type"), None)
    return said if isinstance(said, str) and 0 < len(said) <= _MAX_SAID else None


def _text(literal: bytes) -> str:
    """What a string says as JSON; what is none is taken as it stands."""
    try:
        return str(msgspec.json.decode(literal, type=str))
    except FAST_ERRORS:
        return literal[1:-1].decode("utf-8", "replace")


def _quickly(
    value: bytes,
    headers: Sequence[tuple[str, bytes | None]],
    dictionary: Dictionary,
    latest_us: int,
    *,
    own_types: bool,
) -> Event | None:
    """The event of a native envelope without surprises, its id "" where none was given; None for all the rest."""
    if len(value) > MAX_BYTES or (headers and is_cloud_event(headers)):
        return None
    if _BACKSLASH in value and _SUSPICIOUS in value:
        return None
    try:
        found = _read_envelope(value)
        kind = dictionary.resolve(found.type)
        if kind is None:
            return None
        payload = _payload(found.payload, kind.name)
        payload_json = str(found.payload, "utf-8")
        occurred_us = parse_instant(found.occurred_at)
    except FAST_ERRORS:
        return None
    user_id = found.user_id
    if type(user_id) is int and abs(user_id) < TOP:
        user_id = str(user_id)
    if (
        (kind.builtin and not own_types)
        or type(user_id) is not str
        or not 0 <= occurred_us <= latest_us
        or payload is None
        or (kind.schema is not None and kind.check(payload) is not None)
    ):
        return None
    return Event(user_id, kind.name, occurred_us, found.source, found.id, payload, payload_json)


#: Types whose payloads were seen to hold more than texts and small integers: trying in vain costs more than it saves.
_not_flat: set[str] = set()


def _payload(text: msgspec.Raw, name: str) -> dict[str, Any] | None:
    """The payload of an event of this type, one of the dictionary; None for one with unfit numbers or too deep."""
    if name not in _not_flat:
        try:
            return read_flat(text)
        except msgspec.ValidationError:
            _not_flat.add(name)
    payload = read_object(text)
    return payload if fits(payload, MAX_DEPTH - 1) else None


def _slowly(
    value: bytes,
    headers: Sequence[tuple[str, bytes | None]],
    dictionary: Dictionary,
    latest_us: int,
    *,
    own_types: bool,
) -> Event | Rejected:
    """The event, its id "" where none was given, or the code, sentence and place that say why there is none."""
    user_id = None
    try:
        draft = read_slowly(value, headers)
        user_id = _user_id(draft)
        kind = _kind(draft, dictionary, own_types)
        occurred_us = _occurred(draft, latest_us)
        source = draft.source if draft.source is not ABSENT else ""
        if type(source) is not str or len(source) > MAX_SOURCE:
            raise _invalid(draft, "source", f"a string of at most {MAX_SOURCE} characters")
        if draft.id is not ABSENT and (type(draft.id) is not str or not 0 < len(draft.id) <= MAX_ID):
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
    event_id = draft.id if draft.id is not ABSENT else ""
    return Event(user_id, kind.name, occurred_us, source, event_id, payload, json_text.dumps(payload))


def _user_id(draft: Draft) -> str:
    user_id = draft.user_id
    if type(user_id) is int and abs(user_id) < TOP:
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
