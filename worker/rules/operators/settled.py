"""Memory of what happened before some time before now, such as a week ago: what is in the window stays in it.

Remembered per user: what all events in the window come to, and of those that are to come into it, between that time and
now, one entry each, in pieces of `PIECE` (see `sliding.py`). Each is added up once, when it has come into the window.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import State
from worker.rules.operators.moving import rises_with_now
from worker.rules.operators.sliding import After, Behind, Pieces, appended, pairs

if TYPE_CHECKING:
    from worker.rules.ir import Bound
    from worker.rules.operators.calendar import Calendar


class Settled(Behind):
    """What joins, over a match that now bounds on its near side only. State: [waiting, total].

    `waiting` are pieces, flat lists of instant and note; `total` the memory of all events before them.
    """

    name = "settled"

    __slots__ = ()

    def begins(self, now_us: int, calendar: Calendar) -> int:
        """The first instant that is too late for the window."""
        return min(calendar.shift(now_us, bound.moment) + (bound.operator == "$lte") for bound in self._moving.bounds)

    def after(self, params: Mapping[str, Any]) -> After:  # noqa: ARG002 - as for every window
        begins = self.begins

        def after(state: State | None, now_us: int, noted: Any, calendar: Calendar) -> State:
            waiting, total = state or ([], None)
            return self._added(appended(waiting, now_us, noted), total, begins(now_us, calendar))

        return after

    def window(self, state: State, start: int, params: Mapping[str, Any]) -> State | None:  # noqa: ARG002 - as above
        waiting, total = state
        return self._added(waiting, total, start)[1]

    def _added(self, waiting: Pieces, total: State | None, start: int) -> list[Any]:
        """The memory with what waits for an instant before this one added up."""
        single, join = self.kind.single, self.kind.join
        at = 0
        while at < len(waiting) and waiting[at][0] < start:
            piece = waiting[at]
            end = 2 * bisect_left(piece[::2], start)
            for us, note in pairs(piece[:end]):
                one = single(us, note)
                total = one if total is None else join(total, one)
            if end < len(piece):
                return [[piece[end:], *waiting[at + 1 :]], total]
            at += 1
        return [waiting[at:], total]


def only_fills(bounds: Sequence[Bound]) -> bool:
    """Whether what has come into a window stays in it: now bounds its near side only, by fixed lengths."""
    return all(bound.operator in ("$lt", "$lte") and rises_with_now(bound.moment) for bound in bounds)
