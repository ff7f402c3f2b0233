"""The plain data of events: the record as it came, the event it holds, or the reason it holds none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


# Not dataclasses, these two: building a frozen one costs more than reading the event's JSON. Neither can be part of a
# reference cycle, so the collector need not look at the thousands of them that a batch holds.
class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record as bytes.

    `timestamp_ms` is the record's own timestamp, negative where it has none; then `received_ms` is when it was read.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    received_ms: int = 0


class Event(msgspec.Struct, frozen=True, gc=False):
    """A domain event of one user. (`user_id`, `source`, `id`) identifies it (decisions 1).

    `type` is canonical (aliases resolved); `occurred_us` is microseconds since the Unix epoch, UTC; numbers in
    `payload` are int or Decimal; `payload_json` is the payload's JSON text. `verdicts` are what the conditions in
    JavaScript said, `yes`, `no` or `error` by their hash; None where none was asked (decisions 34).
    """

    user_id: str
    type: str
    occurred_us: int
    source: str
    id: str
    payload: Mapping[str, Any]
    payload_json: str
    verdicts: Mapping[str, str] | None = None

    @property
    def order(self) -> tuple[int, str, str]:
        """Events of a user are ordered by this, by code point (decisions 3)."""
        return (self.occurred_us, self.source, self.id)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a record or a line is no event: a dead-letter code, a sentence, and a JSON pointer where there is one."""

    code: str
    message: str
    path: str = ""
    user_id: str | None = None
