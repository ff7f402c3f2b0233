"""Pairs of a start and the end that closed it within a window that moves with now, and how long they took.

A pair lies in the window where its start does: an end closes the newest start before it, so what lies before the
window, having been left alone by those within, changes nothing for them.

Remembered per user: the starts that are still open, the newest 1,000 of them in the look-back; of the closed ones in it
their instants, for how many there are; and in a few rows (see `stairs.py`), wherever the window begins, the shortest
and the longest pair, the first that fits and the last one. So a step copies a few pieces, whatever the window holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import State
from worker.rules.operators.pairs import CLOSES, MOST_OPEN, OPENS, closed, fitting
from worker.rules.operators.sliding import After, Behind
from worker.rules.operators.stairs import all_with, best_from, best_with, rows_before, since

if TYPE_CHECKING:
    from worker.rules.operators.calendar import Calendar

#: The widths of rows: an instant alone; with a rank; with a rank, start's id, end's instant, its id, and the value.
_ONE, _RANKED, _TOLD = 1, 2, 6


class Paired(Behind):
    """Pairs over a match that now bounds on its far side only.

    State: [open, number, within, starts, shortest, longest, first, last]. `open` as `Pairs` has it; `number` of pairs
    ever closed, `within` the rows of `starts` [start_us]; `shortest` and `longest` rows of [start_us, length] and
    [start_us, -length]; `first` (of those that fit) and `last` rows of [start_us, ±number, start_id, end_us, end_id,
    value].
    """

    name = "paired"

    __slots__ = ()

    def after(self, params: Mapping[str, Any]) -> After:
        horizon, fits = self.horizon, fitting(params)

        def after(state: State | None, us: int, note: Sequence[Any], calendar: Calendar) -> State | None:
            role, value, key = note
            opened, *pairs = state or [[], 0, 0, [], [], [], [], []]
            at = closed(opened, value, us) if role & CLOSES else None
            if at is None and not role & OPENS:
                return state
            begin = horizon(us, calendar)
            if at is not None:
                start_us, _, start_id = opened[at]
                opened = [*opened[:at], *opened[at + 1 :]]
                if start_us >= begin:
                    pairs = _with(pairs, [start_us, start_id, us, key, value], begin, fits=fits(us - start_us))
            if role & OPENS:
                opened = [*opened, [us, value, key]][-MOST_OPEN:]
            if opened and opened[0][0] < begin:
                opened = [one for one in opened if one[0] >= begin]
            return [opened, *pairs]

        return after

    def window(self, state: State, start: int, params: Mapping[str, Any]) -> State | None:  # noqa: ARG002 - as for all
        _, _, within, starts, shortest, longest, first, last = state
        least, most = best_from(shortest, start, _RANKED), best_from(longest, start, _RANKED)
        told = fits = best_from(first, start, _TOLD)
        if told is None:
            told = best_from(last, start, _TOLD)
        if least is None or most is None or told is None:
            return None
        pairs = within - rows_before(starts, start, _ONE)
        return [[], pairs, least[1], -most[1], int(fits is not None), told[0], *told[2:]]


def _with(pairs: Sequence[Any], pair: Sequence[Any], begin: int, *, fits: bool) -> list[Any]:
    """What is kept of pairs with one more, [start_us, start_id, end_us, end_id, value]; it ended last of all."""
    number, within, starts, shortest, longest, first, last = pairs
    start_us, start_id, us, key, value = pair
    number, within = number + 1, within + 1 - rows_before(starts, begin, _ONE)
    first, told = since(first, begin, _TOLD), [start_id, us, key, value]
    return [
        number,
        within,
        all_with(since(starts, begin, _ONE), [start_us]),
        best_with(since(shortest, begin, _RANKED), [start_us, us - start_us]),
        best_with(since(longest, begin, _RANKED), [start_us, start_us - us]),
        best_with(first, [start_us, number, *told]) if fits else first,
        best_with(since(last, begin, _TOLD), [start_us, -number, *told]),
    ]
