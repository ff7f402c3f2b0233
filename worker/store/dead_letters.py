"""Reads dead letters from PostgreSQL: how many for each reason, a page of them, one of them whole."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from worker.store.session import Database


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many dead letters have a reason, and when the first and the last came (microseconds)."""

    reason: str
    letters: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class BuriedLetter:
    """A dead letter as it lies in the table. `number` orders letters by arrival; `raw` only where it was asked for."""

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


class DeadLetterTable(Database):
    """The dead letters."""

    async def dead_letter_counts(self) -> list[ReasonCount]:
        """Reasons with their numbers, the most frequent first."""
        return [ReasonCount(*row) for row in await self.rows("dead_letter_counts")]

    async def dead_letters(
        self, *, reason: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[BuriedLetter]:
        """A page, newest first; `before` is the number of the last one of the page before."""
        return [_letter(row) for row in await self.rows("list_dead_letters", reason, before, limit)]

    async def dead_letter(self, topic: str, partition: int, offset: int) -> BuriedLetter | None:
        """The letter of a record, whole."""
        found = await self.rows("show_dead_letter", topic, partition, offset)
        return _letter(found[0]) if found else None


def _letter(row: asyncpg.Record) -> BuriedLetter:
    return BuriedLetter(*row)
