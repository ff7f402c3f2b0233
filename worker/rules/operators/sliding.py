"""Memory over a window that begins some time before now, at a cost that does not grow with what the window holds.

Remembered per user: the matching events of the look-back, one entry each, in pieces of `PIECE`, so that a step copies
one piece and not all. The older entries (the front) stand with what they and all after them in the front come to, the
newer ones (the back) as they were noted, with what all of them come to; so a window that begins in the front is one of
the former and the latter joined. When it has left the front, the back becomes the front: one join for each entry, once.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
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

#: The memory, an event's instant, what is noted of it and the user's calendar at it, to the memory after that event.
After = Callable[[State | None, int, Any, "Calendar"], State | None]


class Behind(Around):
    """A window that now bounds on one side only, kept so that neither a step nor a look reads all that it holds.

    A flat state, as `Moving` keeps it, is read as well.
    """

    __slots__ = ("_moving", "horizon", "kind")

    def __init__(self, moving: Moving) -> None:
        """`moving` is the same memory as a list."""
        self.kind: Kind | Trail = moving.kind
        #: From now to the instant further back than which no now from there on looks.
        self.horizon = moving.horizon()
        self._moving = moving

    @abstractmethod
    def after(self, params: Mapping[str, Any]) -> After:
        """The step by what is noted of an event; gives the very same object where that changes nothing."""

    @abstractmethod
    def window(self, state: State, start: int, params: Mapping[str, Any]) -> State | None:
        """The inner memory of the events from where the window begins; only what its facts say of it must be right."""

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        return self.stepper(params)(state, event, calendar)

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        note, after = self.kind.noter(params), self.after(params)

        def step(state: State | None, event: Event, calendar: Calendar) -> State | None:
            noted = note(event, calendar)
            if noted is None:
                return state
            if state and not isinstance(state[0], list):
                entries, state = state, None
                for us, earlier in pairs(entries):
                    state = after(state, us, earlier, calendar)
            return after(state, event.occurred_us, noted, calendar)

        return step

    def begins(self, now_us: int, calendar: Calendar) -> int:
        """The first instant of the window."""
        return max(calendar.shift(now_us, bound.moment) + (bound.operator == "$gt") for bound in self._moving.bounds)

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        if not state:
            return self.told(None, now_us, params, calendar)
        if not isinstance(state[0], list):
            return self._moving.facts(state, now_us, params, calendar)
        return self.told(self.window(state, self.begins(now_us, calendar), params), now_us, params, calendar)


class Sliding(Behind):
    """What joins, over a match that now bounds on its far side only. State: [front, back, total].

    `front` and `back` are pieces, flat lists of instant and memory, instant and note; `total` the memory of the back.
    """

    name = "sliding"

    __slots__ = ()

    def after(self, params: Mapping[str, Any]) -> After:  # noqa: ARG002 - as for every window
        single, join, horizon, begins = self.kind.single, self.kind.join, self.horizon, self.begins

        def after(state: State | None, now_us: int, noted: Any, calendar: Calendar) -> State:
            front, back, total = state or ([], [], None)
            one = single(now_us, noted)
            total = one if total is None else join(total, one)
            back, front = appended(back, now_us, noted), _from(front, horizon(now_us, calendar))
            start = begins(now_us, calendar)
            if back[0][0] < start and (not front or front[-1][-2] < start):
                front, back, total = self._turned(front, back, total, horizon(now_us, calendar)), [], None
            return [front, back, total]

        return after

    def newest_us(self, state: State) -> int:
        if not isinstance(state[0], list):
            return super().newest_us(state)
        front, back, _ = state
        return int((back or front)[-1][-2])

    def _sum(self, pieces: Pieces) -> State | None:
        singles = [self.kind.single(us, note) for piece in pieces for us, note in pairs(piece)]
        return reduce(self.kind.join, singles) if singles else None

    def _turned(self, front: Pieces, back: Pieces, total: State, start: int) -> Pieces:
        """The front of all entries from an instant on: each with what it and all after it come to."""
        join = self.kind.join
        older = [(us, join(kept, total)) for piece in front for us, kept in pairs(piece) if us >= start]
        newer: list[tuple[int, State]] = []
        after: State | None = None
        for piece in reversed(back):
            for us, note in reversed(pairs(piece)):
                one = self.kind.single(us, note)
                after = one if after is None else join(one, after)
                newer.append((us, after))
        entries = [*older, *((us, kept) for us, kept in reversed(newer) if us >= start)]
        return cut([item for entry in entries for item in entry])

    def window(self, state: State, start: int, params: Mapping[str, Any]) -> State | None:  # noqa: ARG002 - as above
        front, back, total = state
        if front and front[-1][-2] >= start:
            piece = front[bisect_left(front, start, key=newest)]
            kept = piece[2 * bisect_left(piece[::2], start) + 1]
            return kept if total is None else self.kind.join(kept, total)
        if not back or back[0][0] >= start:
            return total
        pieces = _from(back, start)
        return self._sum(
            [[item for us, note in pairs(piece) if us >= start for item in (us, note)] for piece in pieces]
        )


def is_behind(bounds: Sequence[Bound]) -> bool:
    """Whether now bounds a window on its far side only."""
    return all(bound.operator in ("$gte", "$gt") for bound in bounds)


def newest(piece: Sequence[Any]) -> int:
    """The instant of a piece's last entry."""
    return int(piece[-2])


def pairs(piece: Sequence[Any]) -> list[tuple[int, Any]]:
    """Instant and note of each entry of a flat list."""
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
    return pieces[bisect_left(pieces, start, key=newest) :]
