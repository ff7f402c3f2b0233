"""Rows of which the first from an instant on is the best: against all rows, looked through one by one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.rules.operators import stairs
from worker.rules.operators.stairs import all_with, best_from, best_with, rows_before, since

#: Instants and ranks close together, so that many are equal, many in order, and some worse than all.
rows = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30)
rising = rows.map(lambda found: sorted(found)[::-1] + sorted(found))


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stairs, "PIECE", 2)


def flat(pieces: list[list[Any]], width: int) -> list[list[Any]]:
    """The rows of all pieces, each of which holds one or two."""
    assert all(0 < len(piece) <= 2 * width and len(piece) % width == 0 for piece in pieces)
    return [piece[at : at + width] for piece in pieces for at in range(0, len(piece), width)]


@given(given_rows=st.one_of(rows, rising))
@example(given_rows=[(0, 0), (2, 2), (4, 4), (6, 6), (3, 3)])  # between two full pieces
def test_the_first_row_from_an_instant_on_is_the_best_and_none_is_needless(given_rows: list[tuple[int, int]]) -> None:
    """Whatever rows came, wherever one begins; nothing is changed in place."""
    pieces: list[list[Any]] = []
    for number, (instant, rank) in enumerate(given_rows):
        before = [[*piece] for piece in pieces]
        after = best_with(pieces, [instant, rank, number])
        assert pieces == before
        assert after is pieces or after != pieces
        pieces = after
        kept = flat(pieces, 3)
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(kept))
        for at in range(14):
            seen = [row for row in enumerate(given_rows[: number + 1]) if row[1][0] >= at]
            found = best_from(pieces, at, 3)
            assert (found is None) == (not seen)
            if found is not None:
                assert found[1] == min(rank for _, (_, rank) in seen)
                assert given_rows[found[2]] == tuple(found[:2])


@given(given_rows=rows, begin=st.integers(0, 13))
def test_rows_are_counted_and_cut_off_by_their_instant(given_rows: list[tuple[int, int]], begin: int) -> None:
    """As many stay as are not earlier, in order; where that is all, the same object."""
    pieces: list[list[Any]] = []
    for instant, _ in given_rows:
        pieces = all_with(pieces, [instant])
    instants = sorted(instant for instant, _ in given_rows)
    assert [row[0] for row in flat(pieces, 1)] == instants
    left = since(pieces, begin, 1)
    assert [row[0] for row in flat(left, 1)] == [one for one in instants if one >= begin]
    assert (left is pieces) == (not instants or instants[0] >= begin)
    assert rows_before(pieces, begin, 1) == sum(one < begin for one in instants)
