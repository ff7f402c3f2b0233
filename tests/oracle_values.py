"""Values and instants as the language compares them, read naively for the oracle; no code of `worker.rules`."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LENGTHS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
ABSENT = object()


class Unknown(Exception):
    """The flow uses an operator this reading does not have."""


def instant(us: int) -> datetime:
    """Microseconds since 1970 as a datetime."""
    return EPOCH + timedelta(microseconds=us)


def written(at: datetime) -> str:
    """An instant as awards show it."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def same(a: Any, b: Any) -> bool:
    """JSON equality."""
    if number(a) and number(b):
        return bool(a == b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def look_up(payload: Mapping[str, Any], name: str) -> Any:
    """A literal key first, then a dotted path."""
    if name in payload:
        return payload[name]
    value: Any = payload
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def parsed(text: str) -> datetime | None:
    """An RFC 3339 instant."""
    shape = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)"
    try:
        return datetime.fromisoformat(text.upper()) if re.fullmatch(shape, text, re.ASCII) else None
    except ValueError:
        return None


def numeral(text: str) -> Decimal | None:
    return Decimal(text) if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) else None


def ordered(a: Any, b: Any) -> tuple[Any, Any] | None:
    """The two in a form Python compares, or None where they have no order."""
    if number(a) and number(b):
        return a, b
    if isinstance(a, str) and isinstance(b, str):
        for form in (parsed, numeral):
            x, y = form(a), form(b)
            if x is not None and y is not None:
                return x, y
        return a, b
    return None


ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


def bounds(operand: Any) -> tuple[Any, Any]:
    low, high = [part.strip() for part in operand.split(",")] if isinstance(operand, str) else operand
    return low, high


def field_matches(payload: Mapping[str, Any], name: str, condition: Any) -> bool:
    """One field's condition on one event: operators and-ed, or a value to equal."""
    value = look_up(payload, name)
    if value is ABSENT:
        return False
    if not isinstance(condition, dict) or not any(key.startswith("$") for key in condition):
        return same(value, condition)
    return all(value_matches(value, word, operand) for word, operand in condition.items())


def value_matches(value: Any, word: str, operand: Any) -> bool:
    match word:
        case "$eq":
            return same(value, operand)
        case "$ne" | "$neq":
            return not same(value, operand)
        case "$in" | "$nin":
            items = value if isinstance(value, list) else [value]
            return any(same(item, one) for item in items for one in operand) == (word == "$in")
        case "$contains" if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        case "$contains":
            return isinstance(value, list) and any(same(item, operand) for item in value)
        case "$startsWith":
            return isinstance(value, str) and value.startswith(operand)
        case "$endsWith":
            return isinstance(value, str) and value.endswith(operand)
        case "$regex":
            return isinstance(value, str) and re.search(operand, value) is not None
        case "$between":
            low, high = bounds(operand)
            if number(value) and isinstance(operand, str):
                # Bounds in one string have no type of their own: a number is compared with the numbers they are.
                low, high = numeral(low), numeral(high)
            return value_matches(value, "$gte", low) and value_matches(value, "$lte", high)
    pair = ordered(value, operand)
    if word not in ORDER:
        raise Unknown(word)
    return pair is not None and ORDER[word](*pair)


def text_of(payload: Mapping[str, Any], per: str | None) -> str | None:
    """The context an event belongs to: a JSON scalar as canonical text; None where there is none."""
    value = "" if per is None else look_up(payload, per)
    if isinstance(value, bool):
        return "true" if value else "false"
    if number(value):
        value = str(int(value)) if value == int(value) else format(value.normalize(), "f")
    return value if isinstance(value, str) and len(value) <= 200 else None


def figure_matches(figure: Any, check: Mapping[str, Any]) -> bool:
    """A count, sum or other figure against comparisons, and-ed."""
    for word, operand in check.items():
        if word == "$between":
            low, high = (Fraction(Decimal(bound)) for bound in bounds(operand))
            passed = low <= figure <= high
        elif word in ORDER:
            passed = ORDER[word](figure, Fraction(operand))
        elif word in ("$eq", "$ne", "$neq"):
            passed = (figure == Fraction(operand)) == (word == "$eq")
        else:
            raise Unknown(word)
        if not passed:
            return False
    return True


def months_later(at: datetime, months: int, zone: ZoneInfo) -> datetime:
    """Calendar months in the zone, clamped to the month's end."""
    local = at.astimezone(zone)
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    day = min(local.day, monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day).astimezone(UTC)


def moment(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """An RFC 3339 instant, or `$NOW` with steps from it, in order."""
    at = parsed(text)
    if at is not None:
        return at
    at = now
    for sign, amount, unit in re.findall(r"([+-])(\d+)([smhdwMy])", text.removeprefix("$NOW")):
        steps = int(sign + amount)
        if unit in "My":
            at = months_later(at, steps * (12 if unit == "y" else 1), zone)
        else:
            at += timedelta(seconds=steps * LENGTHS[unit])
    return at


def moment_matches(at: datetime, condition: Any, now: datetime, zone: ZoneInfo) -> bool:
    condition = {"$eq": condition} if isinstance(condition, str) else condition
    for word, operand in condition.items():
        if word == "$between":
            low, high = (moment(bound, now, zone) for bound in bounds(operand))
            passed = low <= at <= high
        elif word in ORDER:
            passed = ORDER[word](at, moment(operand, now, zone))
        else:
            passed = (at == moment(operand, now, zone)) == (word == "$eq")
        if not passed:
            return False
    return True


# -- days and periods --------------------------------------------------------------------------------------------------


def zone_named(name: Any) -> ZoneInfo | None:
    """The IANA zone of a name; None where there is no such zone."""
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else None
    except (OSError, ValueError, LookupError):
        return None


def anniversary(day: date, years: int, leap: str) -> date:
    """The date so many years later; of 29 February, in a common year, the day before or the day after."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, *((2, 28) if leap == "feb_28" else (3, 1)))


@cache
def public_holidays(country: str, part: str, year: int) -> frozenset[date]:
    """The public holidays of a country, or a part of it, in a year: data of the package, not of this project."""
    return frozenset(holidays.country_holidays(country, subdiv=part or None, years=year))


def day_off(day: date, items: Sequence[str], lists: Mapping[str, Sequence[str]]) -> bool:
    """Whether a date is among dates written out, the catalog's lists, or a country's public holidays."""
    for item in (one for name in items for one in lists.get(name, [name])):
        if item[:2].isalpha():
            country, _, part = item.partition("-")
            if day in public_holidays(country, part, day.year):
                return True
        elif item == day.isoformat():
            return True
    return False


def period(day: date, kind: str) -> str:
    year, week, _ = day.isocalendar()
    return {
        "day": day.isoformat(),
        "week": f"{year}-W{week:02}",
        "month": f"{day.year}-{day.month:02}",
        "quarter": f"{day.year}-Q{(day.month + 2) // 3}",
        "year": f"{day.year}",
    }[kind]


def series_of(days: Sequence[date], kind: str) -> tuple[list[str], list[int]]:
    """Every period from the first to the last of the sorted days, and how many of the days are in each."""
    if not days:
        return [], []
    span = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]
    keys = list(dict.fromkeys(period(day, kind) for day in span))
    mine = [period(day, kind) for day in days]
    return keys, [mine.count(key) for key in keys]
