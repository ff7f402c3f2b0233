"""Appends events to the log, the fast way first: COPY, and INSERT … ON CONFLICT only where repeats are met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import asyncpg

from worker.events import Event
from worker.events.json_text import dumps
from worker.exchange import Remembered
from worker.store.blobs import STATEMENT_BYTES, chunks
from worker.store.session import Session

Row: TypeAlias = tuple[Any, ...]

#: The last one only where conditions were asked about the batch.
_COLUMNS: Final = ("user_id", "source", "id", "type", "occurred_at", "payload", "verdicts")
#: Repeats come in runs (a producer sends again, a topic is replayed): after the second batch with repeats within so
#: many, stay on the careful way until so many batches in a row had none.
_MEMORY_BATCHES: Final = 16
#: So few events go the careful way at once: it takes one round trip, COPY with its savepoint takes four.
FEW: Final = 32


class WritePath:
    """Chooses the way for the next batch of one partition, from what the last ones met."""

    def __init__(self) -> None:
        self._since_repeat = _MEMORY_BATCHES
        self._careful = False

    @property
    def staged(self) -> bool:
        """Whether the next batch should go the careful way at once."""
        return self._careful

    def learn(self, *, repeats: bool) -> None:
        """A batch was appended, and some of its events were known already, or none."""
        if not repeats:
            self._since_repeat += 1
            self._careful &= self._since_repeat < _MEMORY_BATCHES
            return
        self._careful |= self._since_repeat < _MEMORY_BATCHES
        self._since_repeat = 0


async def remember(session: Session, events: Sequence[Event], path: WritePath) -> Remembered:
    """Append events sorted by identity, none twice; returns which were new and which say something else than logged.

    Both ways give the same answer. COPY costs a third of the careful way, but one repeat undoes it: it then goes back
    to a savepoint, and this batch goes the careful way.
    """
    if not events:
        return Remembered((), ())
    rows: list[Row] = [(e.user_id, e.source, e.id, e.type, e.occurred_us, e.payload_json) for e in events]
    if events[0].verdicts is not None:
        rows = [
            (*row, dumps(event.verdicts) if event.verdicts else None) for row, event in zip(rows, events, strict=True)
        ]
    if not path.staged and len(rows) > FEW and await _copied(session, rows):
        path.learn(repeats=False)
        return Remembered(range(len(rows)), ())
    new = await _staged(session, rows)
    path.learn(repeats=len(new) < len(rows))
    if len(new) == len(rows):
        return Remembered(new, ())
    known = sorted(set(range(len(rows))).difference(new))
    return Remembered(new, await _conflicts(session, rows, known))


async def _copied(session: Session, rows: Sequence[Row]) -> bool:
    with session.door("remember"):
        await session.connection.execute("SAVEPOINT remember")
        try:
            await session.connection.copy_records_to_table("events", records=rows, columns=_COLUMNS[: len(rows[0])])
        except asyncpg.UniqueViolationError:
            await session.connection.execute("ROLLBACK TO SAVEPOINT remember; RELEASE SAVEPOINT remember")
            return False
        await session.connection.execute("RELEASE SAVEPOINT remember")
        return True


async def _staged(session: Session, rows: Sequence[Row]) -> list[int]:
    new: list[int] = []
    start = 0
    for part in chunks(rows, _size, STATEMENT_BYTES):
        judged = len(part[0]) == len(_COLUMNS)
        places = await session.rows("remember_judged" if judged else "remember_staged", *zip(*part, strict=True))
        new += [start + place - 1 for (place,) in places]
        start += len(part)
    return new


async def _conflicts(session: Session, rows: Sequence[Row], known: Sequence[int]) -> list[int]:
    conflicts: list[int] = []
    for part in chunks(known, lambda index: _size(rows[index]), STATEMENT_BYTES):
        places = await session.rows("conflicting", *zip(*(rows[index][:6] for index in part), strict=True))
        conflicts += [part[place - 1] for (place,) in places]
    return conflicts


def _size(row: Row) -> int:
    return len(row[5]) + 200
