"""Which different members of a set came within a window that moves with now: each at its newest instant.

Remembered per user: the members of the look-back, twice, by instant and by themselves, in pieces of `PIECE`; only the
newest `cap` of them once the window holds as many, where the plan sets a cap: what is older than those stays so, so
they answer "at least so many" at every later now. A step finds its member by halving and copies a piece of either, and
the number is kept, so neither a step nor a look reads all that the window holds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from operator import itemgetter
from sys import maxsize
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import State
from worker.rules.operators.sliding import After, Behind

if TYPE_CHECKING:
    from worker.rules.operators.calendar import Calendar
    from worker.rules.operators.moving import Moving

#: Rows of a piece.
PIECE = 128

#: Rows in order, none twice: [us, member] or [member, us].
Pieces = list[list[list[Any]]]

_NEWEST = itemgetter(-1)


class Newest(Behind):
    """A kind whose memory is a set, over a match that now bounds on its far side only. State: [times, members, number].

    `times` are rows [us, member], `members` the same as [member, us]. The kind's only fact is the number of members,
    and a note of it is a set of one.
    """

    name = "newest"

    __slots__ = ("_cap",)

    def __init__(self, moving: Moving) -> None:
        super().__init__(moving)
        self._cap = maxsize if moving.cap is None else moving.cap

    def after(self, params: Mapping[str, Any]) -> After:  # noqa: ARG002 - as for every window
        horizon, begins, cap = self.horizon, self.begins, self._cap

        def after(state: State | None, us: int, note: Any, calendar: Calendar) -> State | None:
            (member,) = note
            times, members, number = ([], [], 0) if state is None else state
            at, place = _place(members, [member])
            found = members[at][place] if at < len(members) else None
            if found == [member, us]:
                return state
            # Not before the window held as many, and all were told: a calendar bound may step back at any event.
            held_as_many = number >= cap and number - _before(times, begins(times[-1][-1][0], calendar)) >= cap
            times, members = [*times], [*members]
            if found is None or found[0] != member:
                _insert(members, [member, us], at, place)
                number += 1
            else:
                members[at] = [*members[at][:place], [member, us], *members[at][place + 1 :]]
                _remove(times, found[::-1])
            _insert(times, [us, member], *_place(times, [us, member]))
            gone = min(max(_before(times, horizon(us, calendar)), number - cap if held_as_many else 0), number - 1)
            _drop(times, members, gone)
            return [times, members, number - gone]

        return after

    def window(self, state: State, start: int, params: Mapping[str, Any]) -> State | None:  # noqa: ARG002 - as above
        return range(state[2] - _before(state[0], start))

    def newest_us(self, state: State) -> int:
        return int(state[0][-1][-1][0]) if isinstance(state[0], list) else super().newest_us(state)


def _place(pieces: Pieces, row: list[Any]) -> tuple[int, int]:
    """The piece and the place in it of the first row that is not less; behind all pieces where there is none."""
    at = bisect_left(pieces, row, key=_NEWEST)
    return at, bisect_left(pieces[at], row) if at < len(pieces) else 0


def _insert(pieces: Pieces, row: list[Any], at: int, place: int) -> None:
    """One more row at its place, of pieces that are one's own, their rows not: behind all in a new one once it is full.

    A piece in between that grew too long becomes two halves.
    """
    if at == len(pieces):
        if pieces and len(pieces[-1]) < PIECE:
            pieces[-1] = [*pieces[-1], row]
        else:
            pieces.append([row])
        return
    rows = [*pieces[at][:place], row, *pieces[at][place:]]
    pieces[at : at + 1] = [rows] if len(rows) <= PIECE else [rows[: PIECE // 2], rows[PIECE // 2 :]]


def _remove(pieces: Pieces, row: list[Any]) -> None:
    """A row less, which is there, of pieces as in `_insert`."""
    at, place = _place(pieces, row)
    rows = [*pieces[at][:place], *pieces[at][place + 1 :]]
    pieces[at : at + 1] = [rows] if rows else []


def _drop(times: Pieces, members: Pieces, gone: int) -> None:
    """So many of the oldest rows less, of pieces as in `_insert`."""
    while gone > 0:
        first, rest = times[0][:gone], times[0][gone:]
        times[:1] = [rest] if rest else []
        for row in first:
            _remove(members, row[::-1])
        gone -= len(first)


def _before(times: Pieces, us: int) -> int:
    """How many rows are earlier than an instant; those are few, and looked for from the first one on."""
    found = 0
    for piece in times:
        if piece[-1][0] >= us:
            return found + bisect_left(piece, [us])
        found += len(piece)
    return found
