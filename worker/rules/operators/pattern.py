"""`$pattern`: whether activity was steady, rose or fell, period by period.

Written inside `criteria` over the filtered events or as a flow over all of the user's: `{"$pattern": {"pattern":
"increasing", "periodType": "week", "minPeriods": 4, "minIncreasePct": 10}}`; the limit of `consistent` is
`maxDeviation`, that of `decreasing` is `maxDecreasePct`. Remembered per user: the number of events per period (see
`tally.py`), shared by all patterns and limits; at most two integers for each of 3,650 periods, in a window that moves
with now an instant for each of its events (`tallied.py`); read from the event log: nothing as events come, all of the
user's after a late one. What the series amounts to is worked out when a badge is tested, in time that grows with its
periods and not with its events (see `trends.py`). Source: document 4 "Pattern Criteria".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from worker.rules.ir import Node, Test
from worker.rules.operators.calendar import Calendar, period_name
from worker.rules.operators.checks import read_measure, read_positive
from worker.rules.operators.facts import Told
from worker.rules.operators.place import Operator, Place, listed
from worker.rules.operators.tally import MOST_PERIODS
from worker.rules.operators.time_period import read_period
from worker.rules.operators.trends import average_change, is_steady, is_trend, steadiness, trend

#: The limit of each pattern, its default, and how it is described.
LIMITS: Mapping[str, tuple[str, int | Decimal, str]] = {
    "consistent": ("maxDeviation", Decimal("0.2"), "a deviation from the average, such as 0.2"),
    "increasing": ("minIncreasePct", 5, "a percentage"),
    "decreasing": ("maxDecreasePct", 5, "a percentage"),
}
LEAST_PERIODS = {"consistent": 1, "increasing": 2, "decreasing": 2}
MIN_PERIODS = 3
KEYS = ("pattern", "periodType", "minPeriods", *(key for key, _, _ in LIMITS.values()))


def read(value: Any, place: Place) -> Node | None:
    """The test of the series; its thresholds stand in the test's params, defaults filled in."""
    written = place.object(value, '{"pattern": "consistent", "periodType": "day"}')
    if written is None:
        return None
    place.only(written, KEYS)
    pattern, period = _pattern(written, place), read_period(written, place)
    periods = _min_periods(written, place, pattern)
    limits = {}
    for word, (key, default, what) in LIMITS.items():
        limits[word] = read_measure(written[key], place.at(key), what) if key in written else default
        if key in written and pattern not in (word, None):
            remedy = f"Leave it out, or write {LIMITS[pattern][0]}."
            place.at(key).fault("no_effect", f"{key} is no limit of {pattern} activity.", remedy, severity="warning")
    if pattern is None or period is None or periods is None or None in limits.values():
        return None
    params = (("pattern", pattern), ("minPeriods", periods), (LIMITS[pattern][0], limits[pattern]))
    return Test(place.fold("tally", (("period", period),)), "counts", (), "$pattern", place.path, params=params)


def _pattern(written: Mapping[str, Any], place: Place) -> str | None:
    if "pattern" in written:
        return place.at("pattern").choice(written["pattern"], tuple(LIMITS))
    place.fault("bad_operand", "$pattern does not say which pattern to look for.", f"Write one of {listed(LIMITS)}.")
    return None


def _min_periods(written: Mapping[str, Any], place: Place, pattern: str | None) -> int | None:
    if "minPeriods" not in written:
        return MIN_PERIODS
    here = place.at("minPeriods")
    number = read_positive(written["minPeriods"], here, "a number of periods")
    least = 1 if pattern is None else LEAST_PERIODS[pattern]
    if number is None or least <= number <= MOST_PERIODS:
        return None if number is None else int(number)
    problem = "takes two periods at least" if number < least else f"is looked for in at most {MOST_PERIODS:,} periods"
    here.fault("bad_operand", f"A pattern {problem}.", f"Write a whole number from {least} to {MOST_PERIODS:,}.")
    return None


def pattern_verdict(
    facts: Mapping[str, Any], params: Mapping[str, Any], _now_us: int, _calendar: Calendar
) -> tuple[bool, Mapping[str, Any]]:
    """Whether the series follows the pattern, and its figures; none but the series where there are too few periods."""
    counts, word = facts["counts"], params["pattern"]
    limit = Fraction(params[LIMITS[word][0]])
    passed = len(counts) >= params["minPeriods"] and _follows(counts, word, limit)
    return passed, Told(lambda: _told(facts, params, passed=passed))


def _follows(counts: Sequence[int], word: str, limit: Fraction) -> bool:
    if word == "consistent":
        return is_steady(counts, limit)
    falling = word == "decreasing"
    if not is_trend(counts, falling=falling):
        return False
    change = average_change(counts)
    return change is not None and (0 < -change <= limit if falling else change >= limit)


def _told(facts: Mapping[str, Any], params: Mapping[str, Any], *, passed: bool) -> dict[str, Any]:
    counts, start, word, least = facts["counts"], facts["start"], params["pattern"], params["minPeriods"]
    figures: dict[str, Any] = {"reason": f"{len(counts)} of {least} periods"}
    if len(counts) >= least:
        figures = _consistent(counts) if word == "consistent" else _trend(counts, word)
    keys = [period_name(facts["period_type"], start + place) for place in range(len(counts))]
    return {f"is_{word}": passed, **figures, "period_keys": keys, "period_counts": counts}


def _consistent(counts: Sequence[int]) -> dict[str, Any]:
    """The figures of a series; where no outlier is dropped, the adjusted deviation is the deviation."""
    found = steadiness(counts)
    return {
        "average": found.average,
        "max_deviation": found.deviation,
        "std_deviation": found.std_deviation,
        "coefficient_var": found.variation,
        "adjusted_max_deviation": found.deviation if found.adjusted is None else found.adjusted,
    }


def _trend(counts: Sequence[int], word: str) -> dict[str, Any]:
    falling = word == "decreasing"
    found = trend(counts, falling=falling)
    return {
        f"average_percent_{'decrease' if falling else 'increase'}": found.average,
        f"{word}_periods_ratio": found.ratio,
        "trend_strength": found.strength,
    }


PATTERN = Operator("$pattern", read)
