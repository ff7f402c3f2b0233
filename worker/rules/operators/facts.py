"""Facts as tests look at them: the checks of a figure or an instant, and the figure as an award tells it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from worker.rules.ir import Check, Moment
from worker.rules.operators.calendar import Calendar

#: How a test whose thresholds are no checks of one fact is decided: from all facts of its fold, its own thresholds as
#: written (`dict(test.params)`) and now, to whether it holds and what the award tells, in order: exact figures as facts
#: are; what is None is not told. It may not hang on now alone: what time changes, a moving window's facts say.
Verdict = Callable[[Mapping[str, Any], Mapping[str, Any], int, Calendar], tuple[bool, Mapping[str, Any]]]


class Told(Mapping[Any, Any]):
    """A mapping that is worked out when it is first read: what an award or an explanation tells, a verdict does not."""

    __slots__ = ("_found", "_tell")

    def __init__(self, tell: Callable[[], Mapping[Any, Any]]) -> None:
        self._tell = tell
        self._found: Mapping[Any, Any] | None = None

    def _read(self) -> Mapping[Any, Any]:
        if self._found is None:
            self._found = self._tell()
        return self._found

    def __getitem__(self, key: Any) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


#: Integers of as many digits stand in metadata as they are.
_LONG = 10**38

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def check_fact(check: Check, value: Any, now_us: int, calendar: Calendar) -> bool:
    """Whether a fact passes a check as of `now_us`. A fact that is None passes none.

    `$years` is the check of a tenure: operand (years, "feb_28" | "mar_1"), the fact a local date's ordinal; it passes
    from the first moment of the local day on which the years are complete.
    """
    if value is None:
        return False
    if check.operator == "$years":
        years, feb_29 = check.operand
        since = date.fromordinal(value)
        due = calendar.anniversary(since, years, feb_29=feb_29)
        return due.year == since.year + years and calendar.local_date(now_us) >= due
    if check.operator == "$between":
        low, high = (_bound(item, now_us, calendar) for item in check.operand)
        return bool(low <= value <= high)
    return _COMPARE[check.operator](value, _bound(check.operand, now_us, calendar))


def _bound(operand: Any, now_us: int, calendar: Calendar) -> Any:
    if isinstance(operand, Moment):
        return calendar.shift(now_us, operand)
    return Fraction(operand) if isinstance(operand, Decimal) else operand


def compile_check(check: Check) -> Callable[[Any, int, Calendar], bool]:
    """`check_fact` for one check: a function of the fact, now, and the user's calendar now."""
    compare, bound = _COMPARE.get(check.operator), check.operand
    if compare is None or isinstance(bound, Moment):
        return lambda value, now_us, calendar: check_fact(check, value, now_us, calendar)
    if isinstance(bound, Decimal):
        bound = Fraction(bound)
    return lambda value, _now, _calendar: value is not None and compare(value, bound)


def figure(value: Any) -> Any:
    """A fact as it stands in metadata: exact numbers as JSON numbers (int where integral, else Decimal)."""
    kind = type(value)
    if kind is str or (kind is int and -_LONG < value < _LONG):
        return value
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return figure(value.numerator)
        return Decimal(repr(float(value))) if _in_double_range(value) else Decimal(value.numerator) / value.denominator
    if isinstance(value, Decimal):
        if value == value.to_integral_value() and value.adjusted() < 38:
            return int(value)
        return value
    return Decimal(value) if kind is int else value


def _in_double_range(value: Fraction) -> bool:
    return Fraction(1, 10**300) < abs(value) < 10**300
