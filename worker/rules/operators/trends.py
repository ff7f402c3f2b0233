"""What a series of counts amounts to: how steady it is, whether it rises or falls. Exact but for the roots.

Every decision is made on integers and Fractions; the figures that are roots (the standard deviation, its share of the
average, the strength of a trend) are rounded for those who read them and are never compared. Source:
document 4 "Pattern Criteria" and criteria decisions, `$pattern`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import compress
from operator import gt, lt, mul, sub

#: From as many periods on, outliers may be dropped, where they are fewer than this share of the periods.
OUTLIERS_FROM = 8
OUTLIERS_BELOW = Fraction(15, 100)
#: How far beyond the quartiles, in interquartile ranges, an outlier lies.
FENCE = Fraction(3, 2)
#: What a trend with steps back still needs: that share of its steps, and that correlation.
HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How far a series strays from its average, as a share of it; `adjusted` without its outliers.

    It is None where nothing is dropped: in a short series, or where the outliers are none, many or all of the activity.
    """

    average: Fraction
    deviation: Fraction
    adjusted: Fraction | None
    std_deviation: Fraction
    variation: Fraction


def is_steady(counts: Sequence[int], most: Fraction) -> bool:
    """Whether a series with at least one event strays no further than this, with its outliers or without."""
    if _deviation(counts) <= most:
        return True
    kept = without_outliers(counts)
    return kept is not None and _deviation(kept) <= most


def steadiness(counts: Sequence[int]) -> Steadiness:
    """Of a series with at least one event."""
    size, total = len(counts), sum(counts)
    spread = _root(size * sum(map(mul, counts, counts)) - total * total)
    kept = without_outliers(counts)
    return Steadiness(
        average=Fraction(total, size),
        deviation=_deviation(counts),
        adjusted=None if kept is None else _deviation(kept),
        std_deviation=spread / size,
        variation=spread / total,
    )


def without_outliers(counts: Sequence[int]) -> Sequence[int] | None:
    """The values within a series' fences, where there are others and they may be dropped."""
    size = len(counts)
    if size < OUTLIERS_FROM:
        return None
    ordered = sorted(counts)
    low, high = ordered[size // 4], ordered[3 * size // 4]
    reach = FENCE * (high - low)
    least, greatest = math.ceil(low - reach), math.floor(high + reach)
    kept = [count for count in counts if least <= count <= greatest]
    return kept if 0 < size - len(kept) < OUTLIERS_BELOW * size and any(kept) else None


def _deviation(counts: Sequence[int]) -> Fraction:
    """max |count - mean| / mean: one of the two ends is furthest from the mean."""
    size, total = len(counts), sum(counts)
    return Fraction(max(size * max(counts) - total, total - size * min(counts)), total)


@dataclass(frozen=True, slots=True)
class Trend:
    """A series read in one direction: its average change in per cent (None: from nothing only), its steps that way.

    `strength` is max(0, Pearson's r of index and count).
    """

    average: Fraction | None
    steps: int
    ratio: Fraction
    strength: Fraction


def is_trend(counts: Sequence[int], *, falling: bool) -> bool:
    """Whether every step of a series goes one way, or at least half of them and the whole clearly does."""
    steps, most = _steps(counts, falling=falling), len(counts) - 1
    if steps == most or 2 * steps < most:
        return steps == most
    up, spread = _correlation(counts)
    # r >= 1/2 exactly where 4 up² >= spread, both sides being whole.
    return (up < 0) is falling and up != 0 and 4 * up * up >= spread


def trend(counts: Sequence[int], *, falling: bool) -> Trend:
    """How a series of at least two periods rises, or falls."""
    steps = _steps(counts, falling=falling)
    average = average_change(counts)
    up, spread = _correlation(counts)
    sign = -1 if falling else 1
    up = max(0, sign * up)
    return Trend(
        average=None if average is None else sign * average,
        steps=steps,
        ratio=Fraction(steps, len(counts) - 1),
        strength=min(up / _root(spread), Fraction(1)) if spread else Fraction(),
    )


def _steps(counts: Sequence[int], *, falling: bool) -> int:
    return sum(map(lt if falling else gt, counts[1:], counts))


def average_change(counts: Sequence[int]) -> Fraction | None:
    """The mean, in per cent, of all changes from a period that was not empty; None where all were."""
    changes: dict[int, int] = {}
    earlier = counts[:-1]
    size = 0
    for before, change in compress(zip(earlier, map(sub, counts[1:], earlier), strict=True), earlier):
        changes[before] = changes.get(before, 0) + change
        size += 1
    if not size:
        return None
    # Over one denominator: adding fractions one by one would reduce each sum on the way.
    whole = math.lcm(*changes)
    return Fraction(100 * sum(change * (whole // before) for before, change in changes.items()), whole * size)


def _correlation(counts: Sequence[int]) -> tuple[int, int]:
    """Pearson's r of index and count as two integers: r = first / √second; second is 0 for a flat series."""
    size, total = len(counts), sum(counts)
    indexes = size * (size - 1) // 2
    squares = (size - 1) * size * (2 * size - 1) // 6
    together = size * sum(map(mul, range(size), counts)) - indexes * total
    spread = (size * squares - indexes * indexes) * (size * sum(map(mul, counts, counts)) - total * total)
    return together, spread


def _root(square: int) -> Fraction:
    """The square root to 128 binary places, exact where it has no more."""
    return Fraction(math.isqrt(square << 256), 1 << 128)
