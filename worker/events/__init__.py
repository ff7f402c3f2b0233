"""Events: bytes from a topic or a line of a file to an `Event`, or to the reason why not.

`instants` reads and writes RFC 3339, `json_text` reads JSON strictly, `dictionary` knows the event types, `envelope`
puts the three together. No IO, no clock.
"""

from __future__ import annotations

from worker.events.dictionary import Dictionary, EventType
from worker.events.envelope import decode, decode_line
from worker.events.instants import format_instant, parse_instant
from worker.events.types import Event, Record, Rejected

__all__ = [
    "Dictionary",
    "Event",
    "EventType",
    "Record",
    "Rejected",
    "decode",
    "decode_line",
    "format_instant",
    "parse_instant",
]
