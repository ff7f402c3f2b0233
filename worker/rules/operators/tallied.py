"""How many events of a window that moves with now there were in each calendar period.

Remembered per user: the instants of the matching events of the look-back, by runs of one period, each in pieces of
`PIECE` with how many it holds. So a step copies one piece, and the series is read run by run, at a cost that grows with
the periods of the window and not with its events. (Where a user's zone changes, a period may come in several runs.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import State
from worker.rules.operators.sliding import After, Behind
from worker.rules.operators.stairs import PIECE, rows_before, since
from worker.rules.operators.tally import of_numbers

if TYPE_CHECKING:
    from worker.rules.operators.calendar import Calendar

#: [period, number, piece, piece, …]: the instants of events that followed one another in one period, in order.
Run = list[Any]


class Tallied(Behind):
    """A tally over a match that now bounds on its far side only. State: [run, run, …], the newest last."""

    name = "tallied"

    __slots__ = ()

    def after(self, params: Mapping[str, Any]) -> After:  # noqa: ARG002 - as for every window
        horizon = self.horizon

        def after(state: State | None, us: int, key: int, calendar: Calendar) -> State:
            runs = _since(state or [], horizon(us, calendar))
            if not runs or runs[-1][0] != key:
                return [*runs, [key, 1, [us]]]
            number, *pieces = runs[-1][1:]
            last = pieces[-1]
            grown = [*pieces[:-1], [*last, us]] if len(last) < PIECE else [*pieces, [us]]
            return [*runs[:-1], [key, number + 1, *grown]]

        return after

    def window(self, state: State, start: int, params: Mapping[str, Any]) -> State | None:  # noqa: ARG002 - as above
        numbers: dict[int, int] = {}
        for run in _since(state, start):
            key = run[0]
            numbers[key] = numbers.get(key, 0) + run[1]
        return of_numbers(numbers)


def _since(runs: list[Run], start: int) -> list[Run]:
    """The runs from an instant on, of the first what is left of it."""
    at = 0
    while at < len(runs) and runs[at][-1][-1] < start:
        at += 1
    if at == len(runs):
        return []
    key, number, *pieces = runs[at]
    if pieces[0][0] >= start:
        return runs[at:] if at else runs
    return [[key, number - rows_before(pieces, start, 1), *since(pieces, start, 1)], *runs[at + 1 :]]
