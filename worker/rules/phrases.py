"""The small words of sentences: figures, instants, bounds, lists, plurals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from worker.events.instants import format_instant
from worker.rules.ir import Check, Clause, Days, Frozen, Moment
from worker.rules.operators.calendar import MAX_US, MIN_US, Calendar
from worker.rules.operators.facts import check_fact

BOUNDS = {
    "$gte": "at least",
    "$gt": "more than",
    "$lte": "at most",
    "$lt": "less than",
    "$eq": "exactly",
    "$ne": "not",
    "$in": "one of",
    "$nin": "none of",
    "$contains": "containing",
    "$startsWith": "starting with",
    "$endsWith": "ending with",
    "$regex": "matching",
}
INSTANT_BOUNDS = {
    "$gte": "no earlier than",
    "$gt": "later than",
    "$lte": "no later than",
    "$lt": "earlier than",
    "$eq": "exactly",
    "$ne": "not",
}
UNITS = {
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "M": "month",
    "q": "quarter",
    "y": "year",
}

_LISTED = 5
_LONGEST_TEXT = 80
_MOST_PLACES = 40
_UTC = Calendar()


def number(value: Any, checks: Iterable[Check] = ()) -> str:
    """1,269 or 9.96: two decimals at most, or as many more as it takes not to round past a bound."""
    checks = [check for check in checks if not isinstance(check.operand, Moment)]
    true = Fraction(value)
    places = 0
    shown = true
    while places < _MOST_PLACES:
        places += 2
        shown = round(true, places)
        if shown == true or all(_agrees(check, true, shown) for check in checks):
            break
    return _grouped(shown, places)


def _agrees(check: Check, true: Fraction, shown: Fraction) -> bool:
    return check_fact(check, true, 0, _UTC) == check_fact(check, shown, 0, _UTC)


def _grouped(value: Fraction, places: int) -> str:
    whole, rest = divmod(int(abs(value) * 10**places), 10**places)
    sign = "-" if value < 0 else ""
    if whole >= 10**21:
        return f"{sign}{Decimal(whole):.6e}"
    return f"{sign}{whole:,}" + (f".{rest:0{places}}".rstrip("0") if rest else "")


def plural(count: Any, word: str, checks: Iterable[Check] = (), *, bare: bool = False) -> str:
    """`1 day`, `7 days`; only the word where `bare`."""
    form = word if count == 1 else f"{word}s"
    return form if bare else f"{number(count, checks)} {form}"


def moment(us: int) -> str:
    """An instant to the second: 2017-12-06 03:00:00Z."""
    at = datetime.fromtimestamp(min(max(us, MIN_US), MAX_US) // 1_000_000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def short_instant(us: int) -> str:
    """RFC 3339 in UTC, without a fraction where there is none: 2026-03-01T12:00:00Z, 2026-03-01T12:00:00.123000Z."""
    return format_instant(us).replace(".000000Z", "Z")


def need_of(checks: Sequence[Check]) -> Any:
    """The number that must be reached, where that is all that is asked."""
    if len(checks) == 1 and checks[0].operator == "$gte" and isinstance(checks[0].operand, int | Decimal):
        return checks[0].operand
    return None


def bounds(checks: Iterable[Check], *, counted: bool = False) -> str:
    """at least 10 and at most 20; what is `counted` is fewer, what is measured less."""
    text = joined([bound(check.operator, check.operand) for check in checks])
    return text.replace(BOUNDS["$lt"], "fewer than") if counted else text


def bound(operator: str, operand: Any) -> str:
    """One comparison in words: at least 10, 5 to 9, one of a and b."""
    if operator == "$between":
        low, high = operand.split(",") if isinstance(operand, str) else operand
        return f"{plain(low)} to {plain(high)}"
    word = BOUNDS.get(operator, operator)
    if operator in ("$in", "$nin") and isinstance(operand, tuple):
        return f"{word} {_listed(operand)}"
    return f"{word} {plain(operand)}"


def clause(one: Clause) -> str:
    """A condition on a payload field: score at least 10, part tags."""
    if one.operator == "$eq":
        return f"{one.field} {plain(one.operand)}"
    return f"{one.field} {bound(one.operator, one.operand)}"


def _listed(items: Sequence[Any]) -> str:
    shown = [plain(item) for item in items[:_LISTED]]
    if len(items) > _LISTED:
        return f"{', '.join(shown)} and {len(items) - _LISTED:,} more"
    return joined(shown) or "nothing"


def plain(value: Any) -> str:
    """A value as it stands in a sentence; long ones are cut."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | Decimal() | Fraction():
            return number(value)
        case str():
            return value.strip() if len(value) <= _LONGEST_TEXT else f"{value[: _LONGEST_TEXT - 1]}…"
        case tuple():
            return f"[{', '.join(map(plain, value[:_LISTED]))}{', …' if len(value) > _LISTED else ''}]"
        case Frozen(items=items):
            return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in items[:_LISTED]) + "}"
    return str(value)


def joined(parts: Sequence[str]) -> str:
    """a, b and c."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def left_out(days: Iterable[Days]) -> str:
    """ ", weekends and holidays left out", or nothing."""
    found = list(days)
    words = []
    if any(one.exclude_weekends for one in found):
        words.append("weekends")
    if any(one.holidays or one.countries for one in found):
        words.append("holidays")
    return f", {' and '.join(words)} left out" if words else ""
