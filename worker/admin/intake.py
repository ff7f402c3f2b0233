"""From a body to a message for the topic of events: read as a worker will read it, completed, written in one form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, TypeAlias

import msgspec

from worker.admin.problems import Problem
from worker.events import Dictionary, Event, Record, Rejected, decode, format_instant
from worker.events.json_text import FAST_ERRORS, MAX_BYTES
from worker.exchange import Message

Headers = Sequence[tuple[str, bytes | None]]

#: Why an event is refused that a catalog younger than the one known here may take.
YOUNGER: Final = frozenset({"unknown_event_type", "payload_invalid"})

#: What `decode` gives an event without an id, here where there is no record yet.
_NO_ID: Final = "kafka::1:00000:00000000000000000000"
#: Where the instant would stand in each spelling, and the name it is given there.
_INSTANTS: Final = {"/occurred_at": b"occurred_at", "/time": b"time"}
#: An id, an instant and the names of all fields add less than this to a body.
_COMPLETION: Final = 2_000
_STATUS: Final = {"not_json": 400, "too_large": 413}
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")


class _Envelope(msgspec.Struct, gc=False):
    """The native envelope, as it goes out."""

    id: str
    type: str
    user_id: str | int
    occurred_at: str
    payload: msgspec.Raw
    source: str


_encode: Final = msgspec.json.Encoder().encode


_EMPTY: Final = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True)
class Taken:
    """An event that may go out. `dated`: the sender said when it happened; else it is the time it came."""

    event: Event
    dated: bool

    def message(self) -> Message:
        """What is stored in Kafka."""
        event = self.event
        value = _encode(
            _Envelope(
                event.id,
                event.type,
                event.user_id,
                format_instant(event.occurred_us),
                msgspec.Raw(event.payload_json.encode()),
                event.source,
            )
        )
        return Message(event.user_id.encode(), value)


def take(
    body: bytes,
    dictionary: Dictionary,
    *,
    now_us: int,
    max_future_us: int,
    headers: Headers = (),
    key: str | None = None,
) -> Taken | Rejected:
    """The event in a body, by the decoder of the workers; without an instant it happened now.

    One without an id gets `key`, or a random one.
    """
    quick = None if headers else _quickly(body, dictionary, now_us, max_future_us, key)
    if quick is not None:
        return quick
    dated = True
    found = _decoded(body, headers, dictionary, now_us, max_future_us)
    if type(found) is Rejected and found.code == "missing_field":
        completed = _dated(body, headers, found.path, format_instant(now_us))
        if completed is not None:
            dated = False
            found = _decoded(*completed, dictionary, now_us, max_future_us)
    if isinstance(found, Rejected):
        return found
    taken = Taken(_identified(found, key), dated)
    if len(body) > MAX_BYTES - _COMPLETION and len(taken.message().value or b"") > MAX_BYTES:
        return Rejected("too_large", f"with its id and instant the event has more than {MAX_BYTES:,} bytes")
    return taken


_ABSENT: Final = msgspec.UNSET
_Text: TypeAlias = str | msgspec.UnsetType
_Json: TypeAlias = msgspec.Raw | msgspec.UnsetType


class _Sent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event in the native spelling or that of the older systems."""

    user_id: str | int
    type: _Text = _ABSENT
    event_type: _Text = _ABSENT
    occurred_at: _Text = _ABSENT
    timestamp: _Text = _ABSENT
    id: _Text = _ABSENT
    source: str = ""
    payload: _Json = _ABSENT
    data: _Json = _ABSENT
    metadata: _Json = _ABSENT


_read_sent: Final = msgspec.json.Decoder(_Sent).decode


def _quickly(body: bytes, dictionary: Dictionary, now_us: int, max_future_us: int, key: str | None) -> Taken | None:
    """An event without surprises, by way of the envelope that decoders read quickest; None for all the rest."""
    try:
        sent = _read_sent(body)
    except FAST_ERRORS:
        return None
    kinds = [text for text in (sent.type, sent.event_type) if text is not _ABSENT]
    instants = [text for text in (sent.occurred_at, sent.timestamp) if text is not _ABSENT]
    payloads = [text for text in (sent.payload, sent.data, sent.metadata) if text is not _ABSENT]
    if len(kinds) != 1 or len(instants) > 1 or len(payloads) > 1:
        return None
    envelope = _Envelope(
        (key or token_hex(16)) if sent.id is _ABSENT else sent.id,
        kinds[0],
        sent.user_id,
        instants[0] if instants else format_instant(now_us),
        payloads[0] if payloads else _EMPTY,
        sent.source,
    )
    found = _decoded(_encode(envelope), (), dictionary, now_us, max_future_us)
    return None if isinstance(found, Rejected) else Taken(found, dated=bool(instants))


def _identified(event: Event, key: str | None) -> Event:
    return msgspec.structs.replace(event, id=key or token_hex(16)) if event.id == _NO_ID else event


def _decoded(
    body: bytes, headers: Headers, dictionary: Dictionary, now_us: int, max_future_us: int
) -> Event | Rejected:
    record = Record("", 0, 0, now_us // 1000, None, body, headers)
    found = decode(record, dictionary, max_future_us=max_future_us)
    return Rejected("not_json", "there is no body") if found is None else found


def _dated(body: bytes, headers: Headers, path: str, instant: str) -> tuple[bytes, Headers] | None:
    """Body and headers with the instant that is missing; None where something else is missing."""
    if not path and not any(name.lower() == "ce_time" for name, _ in headers):
        return body, (*headers, ("ce_time", instant.encode()))
    name = _INSTANTS.get(path)
    if name is None:
        return None
    return _with_instant(body.lstrip(), name, instant), headers


def _with_instant(body: bytes, name: bytes, instant: str) -> bytes:
    """An object's text with one field more, as its first."""
    rest = body[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"%s":"%s"%s%s' % (name, instant.encode(), comma, rest)


def refusal(rejected: Rejected) -> Problem:
    """Why an event is not taken, as an answer."""
    sentence = rejected.message[:1].upper() + rejected.message[1:].rstrip(".") + "."
    return Problem(
        _STATUS.get(rejected.code, 422),
        sentence,
        code=rejected.code,
        details=[{"path": rejected.path, "message": rejected.message}],
    )


def checked_key(text: str | None) -> str | None:
    """An `Idempotency-Key`, which becomes the event's id; Problem 400 where it is none."""
    if text is None:
        return None
    key = text.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]  # a string of structured fields, as the draft of the header has it
    if _KEY.fullmatch(key) is None:
        raise Problem(400, "Idempotency-Key must be 1 to 200 printable ASCII characters.", code="bad_request")
    return key
