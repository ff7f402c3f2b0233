"""What is usual of a badge, robustly: a day is held against the median of the last four weeks, and its own weekday's.

The median and the median distance from it (MAD) are moved by no single day, however wild. Where the weekday's own is
larger it counts: a badge that comes on one day of the week raises no alarm on that day.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from statistics import median
from typing import Final

from worker.exchange import Baseline

#: So many days before a day say what is usual on it.
DAYS: Final = 28
#: A day is a spike above so many times what may be expected of it and so many awards; an alert asks the same of the
#: last 24 hours.
SPIKE: Final = 10
LEAST: Final = 100
#: Makes the MAD of a normal distribution its standard deviation.
_SCALE: Final = 1.4826


def baseline(awards: Mapping[date, int], first: date, day: date) -> Baseline:
    """What is usual on a day; `awards` are those of the days before that had any, `first` is the badge's first day."""
    start = max(first, day - timedelta(days=DAYS))
    days = [start + timedelta(days=number) for number in range((day - start).days)]
    counts = [awards.get(one, 0) for one in days]
    if not counts:
        return Baseline(0.0, 0.0, 0)
    middle = median(counts)
    same = [awards.get(one, 0) for one in days if one.weekday() == day.weekday()]
    spread = _SCALE * median(abs(count - middle) for count in counts)
    return Baseline(float(max(middle, median(same) if same else 0)), float(spread), len(counts))


def change_ratio(awards: int, usual: Baseline | None) -> float:
    """How many times what may be expected a day's awards are: the usual figure and its spread, at least 1."""
    expected = 1.0 if usual is None else max(1.0, usual.usual + usual.spread)
    return awards / expected


def is_spike(awards: Mapping[date, int], first: date, day: date) -> bool:
    """Whether a day was far from usual, by the days before it; `awards` are those of all days that had any."""
    count = awards.get(day, 0)
    return count > LEAST and change_ratio(count, baseline(awards, first, day)) > SPIKE
