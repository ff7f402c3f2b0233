"""Memory over a window that begins some time before now, at a cost that does not grow with what the window holds.

Remembered per user: the matching events of the look-back, one entry each, in pieces of `PIECE`, so that a step copies
one piece and not all. The older entries (the front) stand with what they and all after them in the front come to, the
newer ones (the back) as they were noted, with what all of them come to; so a window that begins in the front is one of
the former and the latter joined. When it has left the front, the back becomes the front: one join for each entry, once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import Around, Kind, State, Stepper, Trail

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.ir import Bound
    from worker.rules.operators.calendar import Calendar
    from worker.rules.operators.moving import Moving

#: Entries of a piece.
PIECE = 128

Pieces = list[list[Any]]


class Sliding(Around):
    """What joins, over a match that now bounds on its far side only. State: [front, back, total].

    `front` and `back` are pieces, flat lists of instant and memory, instant and note; `total` the memory of the back.
    A flat state, as `Moving` keeps it, is read as a back.
    """

    name = "sliding"

    __slots__ = ("_horizon", "_moving", "kind")

    def __init__(self, moving: Moving) -> None:
        """`moving` is the same memory as a list; its kind joins."""
        self.kind: Kind | Trail = moving.kind
        self._moving = moving
        self._horizon = moving.horizon()

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        return self.stepper(params)(state, event, calendar)

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        note, single, join = self.kind.noter(params), self.kind.single, self.kind.join
        horizon, begins = self._horizon, self._begins

        def step(state: State | None, event: Event, calendar: Calendar) -> State | None:
            noted = note(event, calendar)
            if noted is None:
                return state
            now_us = event.occurred_us
            front, back, total = self._read(state)
            one = single(now_us, noted)
            total = one if total is None else join(total, one)
            back, front = appended(back, now_us, noted), _from(front, horizon(now_us, calendar))
            start = begins(now_us, calendar)
            if back[0][0] < start and (not front or front[-1][-2] < start):
                front, back, total = self._turned(front, back, total, horizon(now_us, calendar)), [], None
            return [front, back, total]

        return step

    def _read(self, state: State | None) -> tuple[Pieces, Pieces, State | None]:
        if not state:
            return [], [], None
        if isinstance(state[0], list):
            front, back, total = state
            return front, back, total
        pieces = cut(state)
        return [], pieces, self._sum(pieces)

    def _sum(self, pieces: Pieces) -> State | None:
        singles = [self.kind.single(us, note) for piece in pieces for us, note in _pairs(piece)]
        return reduce(self.kind.join, singles) if singles else None

    def _turned(self, front: Pieces, back: Pieces, total: State, start: int) -> Pieces:
        """The front of all entries from an instant on: each with what it and all after it come to."""
        join = self.kind.join
        older = [(us, join(kept, total)) for piece in front for us, kept in _pairs(piece) if us >= start]
        newer: list[tuple[int, State]] = []
        after: State | None = None
        for piece in reversed(back):
            for us, note in reversed(_pairs(piece)):
                one = self.kind.single(us, note)
                after = one if after is None else join(one, after)
                newer.append((us, after))
        entries = [*older, *((us, kept) for us, kept in reversed(newer) if us >= start)]
        return cut([item for entry in entries for item in entry])

    def _begins(self, now_us: int, calendar: Calendar) -> int:
        """The first instant of the window."""
        return max(calendar.shift(now_us, bound.moment) + (bound.operator == "$gt") for bound in self._moving.bounds)

    def _window(self, state: State | None, now_us: int, calendar: Calendar) -> State | None:
        front, back, total = self._read(state)
        start = self._begins(now_us, calendar)
        if front and front[-1][-2] >= start:
            piece = front[bisect_left(front, start, key=_newest)]
            kept = piece[2 * bisect_left(piece[::2], start) + 1]
            return kept if total is None else self.kind.join(kept, total)
        if not back or back[0][0] >= start:
            return total
        pieces = _from(back, start)
        return self._sum(
            [[item for us, note in _pairs(piece) if us >= start for item in (us, note)] for piece in pieces]
        )

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        return self.told(self._window(state, now_us, calendar), now_us, params, calendar)


def slides(kind: Kind | Trail, bounds: Sequence[Bound]) -> bool:
    """Whether a window of these bounds over this memory is kept so."""
    return kind.joins and all(bound.operator in ("$gte", "$gt") for bound in bounds)


def _newest(piece: Sequence[Any]) -> int:
    return int(piece[-2])


def _pairs(piece: Sequence[Any]) -> list[tuple[int, Any]]:
    return list(zip(piece[::2], piece[1::2], strict=True))


def cut(entries: list[Any]) -> Pieces:
    """A flat list of entries in pieces."""
    return [entries[at : at + 2 * PIECE] for at in range(0, len(entries), 2 * PIECE)]


def appended(pieces: Pieces, us: int, note: Any) -> Pieces:
    """The pieces with one more entry."""
    if pieces and len(pieces[-1]) < 2 * PIECE:
        return [*pieces[:-1], [*pieces[-1], us, note]]
    return [*pieces, [us, note]]


def _from(pieces: Pieces, start: int) -> Pieces:
    """The pieces without those that lie before an instant."""
    if not pieces or pieces[0][-2] >= start:
        return pieces
    return pieces[bisect_left(pieces, start, key=_newest) :]
