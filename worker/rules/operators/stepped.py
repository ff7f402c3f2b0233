"""How far a user came along a series of event types within a window that moves with now.

A chain of events lies in the window where its first one does. Of all chains to a step the one that ended last began
last as well: whatever may follow an older event of a step may follow a newer one of it. So the latest beginning of a
chain to each step says how far the window's chains come, wherever it begins.

Remembered per user: of n steps, what `steps.py` does, at most n * n ids, and where nothing may come between one row of
three more a step; and of the chains that came to the end, each that began later than all that ended before it, the
newest `MOST_CHAINS` of the look-back, with its n ids: the first of these that began in the window is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import State
from worker.rules.operators.sliding import After, Behind
from worker.rules.operators.stairs import Pieces, best_from, best_with, since
from worker.rules.operators.steps import ways

if TYPE_CHECKING:
    from worker.rules.operators.calendar import Calendar

#: So many chains that came to the end are told apart; where a window has more, the first of the newest is told.
MOST_CHAINS = 1_000
_WIDTH = 3


class Stepped(Behind):
    """Steps over a match that now bounds on its far side only. State: [chains, now_us, newest, before, marks].

    `chains` are rows [start_us, us, ids] as `stairs.py` keeps them. `newest` and `before` are as `Steps` has them.
    `marks` has for each step but the last None or [us, start_us, between] of the chain that came there last; it is
    None where something may come between: `newest` says as much.
    """

    name = "stepped"

    __slots__ = ()

    def after(self, params: Mapping[str, Any]) -> After:
        horizon, extend = self.horizon, ways(params)
        sequence, strict = params["sequence"], params.get("strict", False)
        last = len(sequence) - 1
        none: list[Any] = [None] * last
        begin: list[Any] = [[], None, none, none, none if strict else None]

        def after(state: State | None, us: int, note: Sequence[str], calendar: Calendar) -> State | None:
            kind, key = note
            chains, now_us, newest, before, marks = state or begin
            done, ending, ended = extend(newest, before, us, kind, key, same=us == now_us)
            marked = _marked(marks, done, us, kind, sequence) if strict else marks
            if not done and marked is marks and (not strict or us == now_us or not (any(newest) or any(before))):
                return state
            if last in done:
                _, start_us, *ids = done[last]
                chains = _newest(best_with(since(chains, horizon(us, calendar), _WIDTH), [start_us, us, ids]))
            return [chains, us, ending, ended, marked]

        return after

    def window(self, state: State, start: int, params: Mapping[str, Any]) -> State | None:
        chains, _, newest, _, marks = state
        found = best_from(chains, start, _WIDTH)
        if found is not None:
            start_us, us, ids = found
            return [len(params["sequence"]), us, start_us, ids]
        ends = newest if marks is None else marks
        for number in range(len(ends) - 1, -1, -1):
            end = ends[number]
            if end is not None and end[1] >= start:
                return [number + 1, end[0], None if marks is None else end[2]]
        return None


def _marked(marks: list[Any], done: Mapping[int, Any], us: int, kind: str, sequence: Sequence[str]) -> list[Any]:
    """The marks after an event that took these steps; the same object where it changes none."""
    found = marks
    for number, mark in enumerate(marks):
        if number in done:
            new = [us, done[number][1], None]
        elif mark is not None and mark[2] is None and us > mark[0]:
            new = [*mark[:2], "" if kind == sequence[number + 1] else kind]
        else:
            continue
        found = [*marks] if found is marks else found
        found[number] = new
    return found


def _newest(chains: Pieces) -> Pieces:
    """No more of them than are told apart."""
    over = sum(map(len, chains)) - MOST_CHAINS * _WIDTH
    if over <= 0:
        return chains
    return [chains[0][over:], *chains[1:]] if over < len(chains[0]) else chains[1:]
