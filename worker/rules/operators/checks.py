"""Checks of a figure as authors write them: `{"$gte": 5, "$lt": 10}`; several are and-ed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from worker.rules.ir import Check, Moment
from worker.rules.operators.moments import EXAMPLE, read_instant
from worker.rules.operators.place import Place, cut, described, listed, sentence, shown
from worker.rules.operators.values import NUMBER_OPERATORS, freeze, is_number, is_numeral, split_bounds

AT_LEAST_ONE = (Check("$gte", 1),)


def read_number_checks(value: Any, place: Place, *, whole: bool = False) -> tuple[Check, ...] | None:
    """Comparisons of a number; `whole`: of a count, which is never negative nor broken. None where there is a fault."""

    def one(name: str, operand: Any, here: Place) -> Check | None:
        return _number_check(name, operand, here, whole=whole)

    return _read(value, place, one, '{"$gte": 5}')


def read_instant_checks(value: Any, place: Place) -> tuple[Check, ...] | None:
    """Comparisons of an instant with instants: fixed ones as microseconds, others as Moments."""
    return _read(value, place, _instant_check, '{"$lte": "$NOW(-1y)"}')


def _read(
    value: Any, place: Place, one: Callable[[str, Any, Place], Check | None], example: str
) -> tuple[Check, ...] | None:
    if not isinstance(value, Mapping) or not value:
        place.fault(
            "bad_operand", f"A comparison must stand here, not {described(value)}.", f"Write {example}, for example."
        )
        return None
    checks: list[Check | None] = []
    for name, operand in value.items():
        here = place.at(name)
        if name in NUMBER_OPERATORS:
            checks.append(one(name, operand, here))
            continue
        checks.append(None)
        if name.startswith("$"):
            remedy = f"Write one of {listed(NUMBER_OPERATORS)}."
            here.fault("unknown_operator", f"A figure cannot be compared with {cut(name)}.", remedy)
        else:
            here.fault("bad_operand", f"{shown(name)} is no comparison.", here.offer("$" + name, NUMBER_OPERATORS))
    found = tuple(check for check in checks if check is not None)
    return found if len(found) == len(checks) else None


def _number_check(name: str, operand: Any, place: Place, *, whole: bool) -> Check | None:
    if name == "$between":
        bounds = _number_bounds(operand, place, whole=whole)
        return None if bounds is None else Check(name, bounds)
    number = _number(operand, place, whole=whole)
    return None if number is None else Check(_word(name), number)


def _number(operand: Any, place: Place, *, whole: bool) -> int | Decimal | None:
    try:
        number = freeze(operand) if is_number(operand) else None
    except ValueError:
        number = None
    if number is None:
        place.fault(
            "bad_operand",
            f"A number is compared with a number, not with {described(operand)}.",
            "Write a number without quotes.",
        )
        return None
    if whole and (number < 0 or number != int(number)):
        place.fault(
            "bad_operand", f"{operand} is no count: counts are whole numbers from 0 on.", "Write 0, 1, 2 and so on."
        )
        return None
    return int(number) if whole else _exact(number)


def _exact(number: Any) -> int | Decimal:
    return number if isinstance(number, int) else Decimal(number)


def _number_bounds(operand: Any, place: Place, *, whole: bool) -> tuple[Any, Any] | None:
    items: Any = operand
    if isinstance(operand, str):
        try:
            items = [Decimal(text) if _is_short(text) else text for text in split_bounds(operand)]
        except ValueError:
            items = None
    if not isinstance(items, list | tuple) or len(items) != 2:
        place.fault("bad_operand", f"$between takes two bounds, not {described(operand)}.", "Write [5, 10].")
        return None
    low, high = (
        _number(item, place if isinstance(operand, str) else place.at(index), whole=whole)
        for index, item in enumerate(items)
    )
    if low is None or high is None:
        return None
    return ordered_bounds(low, high, place)


def _is_short(text: str) -> bool:
    """Whether a text is a plain numeral, of no more digits than a number may have."""
    return len(text) <= 40 and is_numeral(text)


def ordered_bounds(low: Any, high: Any, place: Place) -> tuple[Any, Any] | None:
    """The bounds where the lower stands first; else a fault."""
    if low <= high:
        return low, high
    place.fault("bad_operand", "The lower bound of $between is above the upper one.", "Write the lower bound first.")
    return None


def _instant_check(name: str, operand: Any, place: Place) -> Check | None:
    if name != "$between":
        at = read_instant(operand, place)
        return None if at is None else Check(_word(name), at)
    bounds = read_instant_bounds(operand, place)
    return None if bounds is None else Check(name, bounds)


def read_instant_bounds(operand: Any, place: Place) -> tuple[int | Moment, int | Moment] | None:
    """The two instants of a `$between`."""
    items: Any = operand
    if isinstance(operand, str):
        try:
            items = split_bounds(operand)
        except ValueError:
            items = None
    if not isinstance(items, list | tuple) or len(items) != 2:
        place.fault("bad_operand", f"$between takes two instants, not {described(operand)}.", f"Write two: {EXAMPLE}.")
        return None
    low, high = (read_instant(item, place if isinstance(operand, str) else place.at(i)) for i, item in enumerate(items))
    if low is None or high is None:
        return None
    if isinstance(low, int) and isinstance(high, int):
        return ordered_bounds(low, high, place)
    return low, high


def _word(name: str) -> str:
    return "$ne" if name == "$neq" else name


def read_measure(value: Any, place: Place, what: str) -> int | Decimal | None:
    """A number from 0 on, at most 10^9."""
    try:
        number = freeze(value) if is_number(value) else None
    except ValueError:
        number = None
    if number is None or not 0 <= number <= 10**9:
        place.fault(
            "bad_operand",
            f"{sentence(described(value))} is not {what}.",
            "Write a number from 0 on, at most 1,000,000,000.",
        )
        return None
    return int(number) if number == int(number) else _exact(number)


def read_positive(value: Any, place: Place, what: str, *, whole: bool = True) -> int | Decimal | None:
    """A number above 0, whole unless said otherwise, at most 10^9."""
    try:
        number = freeze(value) if is_number(value) else None
    except ValueError:
        number = None
    if number is None or not 0 < number <= 10**9 or (whole and number != int(number)):
        place.fault(
            "bad_operand",
            f"{sentence(described(value))} is not {what}.",
            f"Write a {'whole ' if whole else ''}number above 0, at most 1,000,000,000.",
        )
        return None
    return int(number) if number == int(number) else _exact(number)
