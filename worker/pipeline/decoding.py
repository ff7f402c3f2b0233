"""From records to what a batch applies: distinct events sorted by identity, and dead letters for what is no event."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from worker.events import Event, Record, Rejected, json_text
from worker.events.envelope import said_type
from worker.exchange import Claim, DeadLetter, Step
from worker.pipeline.facts import BatchFacts

#: How much of a dead letter is kept; the rest is read again by its coordinates (decisions 29).
RAW_LIMIT: Final = 64 * 1024
#: How much of its headers is kept, with their names; of more, none are.
HEADERS_LIMIT: Final = 16 * 1024


@dataclass(slots=True)
class Decoded:
    """A batch after step 1: distinct events sorted by (user, source, id), where each came from, what is no event.

    `rivals` have the identity of one of the events and other content: only the log can say which of them was first.
    `incarnations` are by partition, of one topic.
    """

    events: list[Event]
    sources: list[Record]
    letters: list[DeadLetter]
    incarnations: Mapping[int, int]
    rivals: list[tuple[Event, Record]] = field(default_factory=list)

    def as_they_came(self, parts: Sequence[Part]) -> list[tuple[Event, Record]]:
        """Events and rivals with their records: those of the first part first, each part's by their offset."""
        order = {part.claim.partition: number for number, part in enumerate(parts)}
        pairs = [*zip(self.events, self.sources, strict=True), *self.rivals]
        return sorted(pairs, key=lambda pair: (order[pair[1].partition], pair[1].offset))


@dataclass(frozen=True, slots=True)
class Part:
    """What a batch has of one partition: its claim and its next records, in offset order and not empty."""

    claim: Claim
    records: Sequence[Record]
    from_offset: int

    @property
    def step(self) -> Step:
        """How far the partition moves."""
        last = self.records[-1]
        return Step(self.from_offset, last.offset + 1, last.offset, record_sha(last))


@dataclass(frozen=True, slots=True)
class Judged:
    """Events with what conditions said of them, as they came, their records, and the first record that is `left`."""

    events: Sequence[Event]
    records: Sequence[Record]
    left: Record | None = None

    def of(self, parts: Sequence[Part]) -> list[Part]:
        """What there is of the parts before the record that is left."""
        found: list[Part] = []
        for part in parts:
            if self.left is None or part.claim.partition != self.left.partition:
                found.append(part)
                continue
            records = [record for record in part.records if record.offset < self.left.offset]
            return [*found, Part(part.claim, records, part.from_offset)] if records else found
        return found

    def into(self, decoded: Decoded) -> None:
        """Put the events in the place of the same ones without an answer."""
        found = {id(record): event for event, record in zip(self.events, self.records, strict=True)}
        decoded.events = [found[id(record)] for record in decoded.sources]
        decoded.rivals = [(found[id(record)], record) for _, record in decoded.rivals]


def unjudged(events: Sequence[Event]) -> int | None:
    """The place of the first event of which nothing was said, not even that nobody asks about it."""
    return next((at for at, event in enumerate(events) if event.verdicts is None), None)


def bytes_of(records: Sequence[Record]) -> int:
    """How much keys and values of records take."""
    return sum([len(record.key or b"") + len(record.value or b"") for record in records])


def record_sha(record: Record) -> bytes:
    """Identifies a record whatever its offset: sha256 of timestamp, key and value (reliability 1.3)."""
    digest = hashlib.sha256(record.timestamp_ms.to_bytes(8, "big", signed=True))
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else len(part).to_bytes(8, "big"))
        digest.update(part or b"")
    return digest.digest()


def dead_letter(record: Record, rejected: Rejected, *, incarnation: int) -> DeadLetter:
    """The dead letter of a record that is no event."""
    raw = record.value or b""
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        incarnation=incarnation,
        reason=rejected.code,
        detail=rejected.message,
        path=rejected.path,
        user_id=rejected.user_id,
        key=record.key,
        raw=raw[:RAW_LIMIT],
        sha256=hashlib.sha256(raw).digest(),
        length=len(raw),
        timestamp_ms=record.timestamp_ms,
        headers=_kept(record.headers),
        said_type=said_type(raw, record.headers),
    )


def _kept(headers: Sequence[tuple[str, bytes | None]]) -> tuple[tuple[str, bytes | None], ...] | None:
    """The headers of a record, if they are not too many to be kept."""
    size = sum(len(name) + len(value or b"") for name, value in headers)
    return tuple((name, value) for name, value in headers) if size <= HEADERS_LIMIT else None


def removed(record: Record, rejected: Rejected, *, incarnation: int) -> DeadLetter:
    """The dead letter of an event that must not come back: of an erased user's it says nothing about the person."""
    letter = dead_letter(record, rejected, incarnation=incarnation)
    return replace(letter, user_id=None, key=None, raw=b"", headers=()) if letter.reason == "erased" else letter


def same_content(one: Event, other: Event) -> bool:
    """Two events with one identity say the same (decisions 1); `cron.*` always do (decisions 2)."""
    if one.type == other.type and one.type.startswith("cron."):
        return True
    return (
        one.type == other.type and one.occurred_us == other.occurred_us and json_text.equal(one.payload, other.payload)
    )


def conflict(event: Event) -> Rejected:
    """The rejection of an event whose identity is taken by other content."""
    return Rejected(
        code="id_conflict",
        message=f'Another event of this user has the id "{event.id}" with other content. Give each event its own id.',
        path="/id",
        user_id=event.user_id,
    )


def distinct(
    read: list[tuple[Event, Record]],
    letters: list[DeadLetter],
    incarnations: Mapping[int, int],
    facts: BatchFacts,
) -> Decoded:
    """Sort by identity, for the log, the locks and the folds at once; of equal identities the first read stands."""
    read.sort(key=identity)
    decoded = Decoded([], [], letters, incarnations)
    last: Event | None = None
    for event, record in read:
        if last is None or event.id != last.id or event.user_id != last.user_id or event.source != last.source:
            last = event
            decoded.events.append(event)
            decoded.sources.append(record)
        elif same_content(last, event):
            facts.duplicate(event.type)
        else:
            decoded.rivals.append((event, record))
    return decoded


def identity(pair: tuple[Event, Record]) -> str:
    """Orders as (user, source, id) does, by code point: no text holds a NUL, and it is below every other character."""
    event = pair[0]
    return f"{event.user_id}\0{event.source}\0{event.id}"


def removal(code: str, event: Event) -> Rejected:
    """The rejection of an event that must not come back."""
    messages = {
        "erased": "The user was erased after this event occurred.",
        "too_old": f"Events of {event.type} this old were removed by retention.",
    }
    return Rejected(code=code, message=messages[code], path="/occurred_at", user_id=event.user_id)
