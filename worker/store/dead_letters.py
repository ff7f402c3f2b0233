"""Reads dead letters from PostgreSQL: how many for each reason, a page of them, one of them whole."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import asyncpg

from worker.events import format_instant
from worker.store.blobs import unpack_headers
from worker.store.session import Database

#: Of the letters that a person chose one by one so many are named in the log of changes.
_NOTED: Final = 100


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many dead letters have a reason, and when the first and the last came (microseconds)."""

    reason: str
    letters: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class BuriedLetter:
    """A dead letter as it lies in the table. `number` orders letters by arrival; `raw` only where it was asked for.

    `said_type` is the type that its record says it is of; lists of the panel alone ask for it.
    """

    number: int
    topic: str
    partition: int
    offset: int
    incarnation: int
    reason: str
    detail: str
    path: str
    user_id: str | None
    length: int
    recorded_us: int | None
    buried_us: int
    state: str
    key: bytes | None = None
    raw: bytes | None = None
    sha256: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] | None = None
    said_type: str | None = None


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters: of a reason, of a topic, buried since an instant (microseconds), at places; None: any.

    `event_type`: those whose records say they are of it.
    """

    reason: str | None = None
    topic: str | None = None
    since_us: int | None = None
    places: tuple[tuple[str, int, int], ...] = ()
    event_type: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What is asked for, as JSON data; of many places the first."""
        given = {
            "reason": self.reason,
            "type": self.event_type,
            "topic": self.topic,
            "since": None if self.since_us is None else format_instant(self.since_us),
            "records": [f"{topic}:{partition}:{offset}" for topic, partition, offset in self.places[:_NOTED]] or None,
        }
        return {name: value for name, value in given.items() if value is not None}


#: In the order in which the statements name their columns.
_FIELDS: Final = tuple(field.name for field in fields(BuriedLetter))


class DeadLetterTable(Database):
    """The dead letters."""

    async def dead_letter_counts(self) -> list[ReasonCount]:
        """Reasons with their numbers, the most frequent first."""
        return [ReasonCount(*row) for row in await self.rows("dead_letter_counts")]

    async def dead_letters(
        self,
        *,
        reason: str | None = None,
        before: int | None = None,
        limit: int = 50,
        topic: str | None = None,
        since_us: int | None = None,
        state: str | None = None,
        event_type: str | None = None,
    ) -> list[BuriedLetter]:
        """A page, newest first; `before` is the number of the last one of the page before."""
        rows = await self.rows("list_dead_letters", reason, before, limit, topic, since_us, state, event_type)
        return [_letter(row) for row in rows]

    async def waiting_letters(self, wanted: LetterFilter, *, after: int, upto: int, limit: int) -> list[BuriedLetter]:
        """Letters that were not applied yet, whole, the oldest first, from one number to another."""
        rows = await self.rows("waiting_letters", after, upto, limit, *_wanted(wanted))
        return [_letter(row) for row in rows]

    async def count_letters(self, wanted: LetterFilter) -> tuple[int, int]:
        """How many letters were not applied yet, and the number of the newest."""
        (row,) = await self.rows("count_waiting_letters", *_wanted(wanted))
        return row["letters"], row["newest"] or 0

    async def dead_letter(self, topic: str, partition: int, offset: int) -> BuriedLetter | None:
        """The letter of a record, whole."""
        found = await self.rows("show_dead_letter", topic, partition, offset)
        return _letter(found[0]) if found else None


def _letter(row: asyncpg.Record) -> BuriedLetter:
    found = dict(zip(_FIELDS, row.values(), strict=False))
    if "headers" in found:
        found["headers"] = unpack_headers(found["headers"])
    return BuriedLetter(**found)


def _wanted(wanted: LetterFilter) -> tuple[Any, ...]:
    """A filter as the last parameters of the statements on letters that wait."""
    places: list[Any] = [list(part) for part in zip(*wanted.places, strict=True)] or [None] * 3
    return wanted.reason, wanted.topic, wanted.since_us, *places, wanted.event_type
