"""The arithmetic of patterns: exact bounds, outliers, trends, and what has no average."""

from __future__ import annotations

from fractions import Fraction

import pytest

from worker.rules.operators.trends import average_change, is_steady, is_trend, steadiness, trend, without_outliers


def test_a_flat_series_strays_by_nothing() -> None:
    """Equal counts have no deviation, no variation and nothing to drop."""
    found = steadiness([3, 3, 3])
    assert (found.average, found.deviation, found.adjusted) == (3, 0, None)
    assert found.std_deviation == found.variation == 0


def test_the_deviation_is_the_furthest_from_the_average_on_either_side() -> None:
    """A low count may be further away than a high one; the share is of the average."""
    assert steadiness([1, 5, 6]).deviation == Fraction(3, 4)
    assert steadiness([2, 2, 5]).deviation == Fraction(2, 3)


def test_a_bound_is_met_exactly() -> None:
    """0.2 means 0.2: a deviation of exactly a fifth is within it, of a hair more is not."""
    assert is_steady([8, 10, 12], Fraction("0.2"))
    assert not is_steady([8, 10, 12], Fraction("0.1999999999999999999"))


def test_the_standard_deviation_is_the_populations() -> None:
    """The mean square is over all periods, and its root exact where it is a whole number."""
    found = steadiness([2, 4, 4, 4, 5, 5, 7, 9])
    assert found.std_deviation == 2
    assert found.variation == Fraction(2, 5)
    assert float(steadiness([1, 2]).std_deviation) == 0.5
    assert abs(float(steadiness([1, 2, 3]).std_deviation) - 0.816496580927726) < 1e-15


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([5] * 9 + [20], [5] * 9),
        ([5] * 6 + [20], None),
        ([5] * 7 + [20], [5] * 7),
        ([5] * 11 + [20, 20], None),
        ([5] * 17 + [20, 20, 20], None),
        ([5] * 18 + [20, 20, 20], [5] * 18),
        ([5] * 10, None),
        ([9] + [0] * 12 + [9], None),
        ([0] + [4] * 9, [4] * 9),
        ([20] + [5] * 7 + [9] * 2, [5] * 7 + [9] * 2),
    ],
    ids=[
        "one of ten",
        "seven periods are too few",
        "eight are enough",
        "two of thirteen are too many",
        "three of twenty are 15 %",
        "three of twenty-one are fewer",
        "none",
        "nothing would be left",
        "low",
        "quartiles of ten",
    ],
)
def test_few_outliers_are_dropped_from_a_long_series(counts: list[int], kept: list[int] | None) -> None:
    """Values outside the fences go where there are 8 periods or more and they are under 15 % of them."""
    assert without_outliers(counts) == kept
    assert is_steady(counts, Fraction(0)) is (len(set(kept or counts)) == 1)


def test_a_value_on_a_fence_is_no_outlier() -> None:
    """The fences, 1.5 times the distance of the quartiles beyond them, belong to what is kept."""
    quartiles = [4, 4, 4, 5, 6, 6, 6, 6]
    assert without_outliers([1, *quartiles, 9]) is None
    assert without_outliers([*quartiles, 9]) is None
    assert without_outliers([*quartiles, 10]) == quartiles


@pytest.mark.parametrize(
    ("counts", "falling", "is_one"),
    [
        ([1, 2, 3], False, True),
        ([1, 2, 3], True, False),
        ([3, 2, 1], True, True),
        ([1, 1, 2], False, True),
        ([2, 2, 2], False, False),
        ([2, 2, 2], True, False),
        ([10, 20, 10, 20, 10, 20], False, False),
        ([1, 5, 1, 5], False, False),
        ([10, 11, 9, 12, 13], False, True),
        ([100, 90, 95, 80, 70], True, True),
        ([2, 2, 2, 2, 2, 12], False, False),
    ],
)
def test_a_trend_goes_one_way_in_every_step_or_clearly(counts: list[int], falling: bool, is_one: bool) -> None:
    """Every step, or at least half of them with a correlation of at least a half; a flat series is no trend."""
    assert is_trend(counts, falling=falling) is is_one


def test_the_strength_of_a_half_is_decided_exactly() -> None:
    """A correlation of exactly a half is enough, whatever its double says; the least bit less is not."""
    half = trend([0, 2, 1], falling=False)
    assert (half.strength, half.ratio) == (Fraction(1, 2), Fraction(1, 2))
    assert is_trend([0, 2, 1], falling=False)
    assert is_trend([2, 0, 1], falling=True)
    assert not is_trend([0, 2001, 1000], falling=False)
    assert is_trend([0, 1999, 1000], falling=False)
    assert not is_trend([0, 2, 1], falling=True)


def test_a_perfect_rise_has_strength_one() -> None:
    """The figure is never above 1 for being rounded."""
    assert trend(list(range(1, 400)), falling=False).strength == 1
    assert trend([10**9 * n for n in range(1, 50)], falling=False).strength == 1


def test_changes_are_averaged_over_the_periods_that_were_not_empty() -> None:
    """A change from nothing has no percentage; dips count as they are, a fall to nothing as 100."""
    assert average_change([10, 20, 10]) == 25
    assert average_change([0, 5, 10]) == 100
    assert average_change([4, 0, 4]) == -100
    assert average_change([0, 0, 4]) is None
    assert trend([20, 18, 9], falling=True).average == 30
    assert trend([0, 0, 4], falling=True).average is None
