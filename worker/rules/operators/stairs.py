"""What is best from an instant on, whichever is asked for: rows by rising instant, each better than all after it.

A row is needless once another of the same or a later instant is as good, so what is best from an instant on is the
first row from there. Rows are [instant, rank, …] of one width, the lower rank the better, laid end to end in pieces, so
that a row more copies one piece and not all. Nothing is changed in place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

#: Rows of a piece.
PIECE = 128

Pieces = list[list[Any]]


def best_with(pieces: Pieces, row: Sequence[Any]) -> Pieces:
    """The rows with one more, without those that it makes needless; the same object where it is needless itself."""
    width, (instant, rank) = len(row), row[:2]
    before, head, tail, after = _cut(pieces, instant, width)
    if tail and tail[1] <= rank:
        return pieces
    if tail and tail[0] == instant:
        tail = tail[width:]
    apart = False
    while head or before:
        if not head:
            head, apart = before.pop(), True
        end = len(head)
        while end and head[end - width + 1] >= rank:
            end -= width
        head = head[:end]
        if head:
            break
    if apart and head and len(head) + len(tail) >= PIECE * width:  # two pieces that do not become one
        before, head = [*before, head], []
    return [*before, *_pieces(head, row, tail, last=not after), *after]


def all_with(pieces: Pieces, row: Sequence[Any]) -> Pieces:
    """The rows with one more, none of which is needless; of one instant the one that came last is the first."""
    width, instant = len(row), row[0]
    before, head, tail, after = _cut(pieces, instant, width)
    return [*before, *_pieces(head, row, tail, last=not after), *after]


def best_from(pieces: Pieces, instant: int, width: int) -> list[Any] | None:
    """The first row of an instant or later: the best of them."""
    for piece in pieces if pieces and pieces[0][-width] >= instant else _from(pieces, instant, width):
        at = width * bisect_left(piece[::width], instant)
        return piece[at : at + width]
    return None


def since(pieces: Pieces, instant: int, width: int) -> Pieces:
    """The rows of an instant or later; the same object where that is all."""
    if not pieces or pieces[0][0] >= instant:
        return pieces
    left = _from(pieces, instant, width)
    at = width * bisect_left(left[0][::width], instant) if left else 0
    return [left[0][at:], *left[1:]] if at else left


def rows_before(pieces: Pieces, instant: int, width: int) -> int:
    """How many rows are earlier than an instant; those are looked for from the first one on."""
    found = 0
    for piece in pieces:
        if piece[-width] >= instant:
            return found + bisect_left(piece[::width], instant)
        found += len(piece) // width
    return found


def _from(pieces: Pieces, instant: int, width: int) -> Pieces:
    return pieces[bisect_left(pieces, instant, key=lambda piece: piece[-width]) :]


def _cut(pieces: Pieces, instant: int, width: int) -> tuple[Pieces, list[Any], list[Any], Pieces]:
    """The pieces before the one an instant lies in, that one up to the instant and from there on, those behind it."""
    at = bisect_left(pieces, instant, key=lambda piece: piece[-width])
    if at == len(pieces):
        return (pieces[:-1], pieces[-1], [], []) if pieces else ([], [], [], [])
    piece = pieces[at]
    place = width * bisect_left(piece[::width], instant)
    return pieces[:at], piece[:place], piece[place:], pieces[at + 1 :]


def _pieces(head: list[Any], row: Sequence[Any], tail: list[Any], *, last: bool) -> Pieces:
    """One piece, or two where it grew too long: halves, but at the end of all a full one and the rest."""
    rows, width = [*head, *row, *tail], len(row)
    most = PIECE * width
    if len(rows) <= most:
        return [rows]
    middle = most if last and not tail else most // 2
    return [rows[:middle], rows[middle:]]
