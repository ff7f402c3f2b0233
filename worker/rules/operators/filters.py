"""The filter of an event leaf: payload fields, bare or under `payload`, and `timestamp`; all and-ed on one event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.rules.ir import Bound, Check, Clause, Match, Moment, canonical
from worker.rules.operators.checks import read_instant_checks
from worker.rules.operators.expressions import MAX_REGEX, TooManySteps, check_regex
from worker.rules.operators.moments import read_instant
from worker.rules.operators.place import EVERYTHING, Place, cut, described, listed, shown
from worker.rules.operators.values import (
    FIELD_OPERATORS,
    NUMBER_OPERATORS,
    compare,
    freeze,
    is_number,
    split_bounds,
)

MAX_LISTED = 10_000

_TEXT_OPERATORS = ("$startsWith", "$endsWith")
_ORDER_OPERATORS = ("$gt", "$gte", "$lt", "$lte")


def read_fields(fields: Mapping[str, Any], place: Place) -> tuple[Clause, ...]:
    """The clauses of an object of payload fields; faults are filed at each field."""
    clauses: list[Clause] = []
    for name, condition in fields.items():
        here = place.at(name)
        if name.startswith("$"):
            here.fault(
                "unknown_operator", f"{cut(name)} may not stand among payload fields.", "Write it beside `payload`."
            )
        elif here.short(name):
            here.known_field(name)
            clauses.extend(_condition(name, condition, here))
    return tuple(clauses)


def _condition(name: str, condition: Any, place: Place) -> list[Clause]:
    """One field's condition: several operators and-ed, or a bare value to equal."""
    if not place.counts():
        return []
    if not isinstance(condition, Mapping) or not any(key.startswith("$") for key in condition):
        operand = _value(condition, place)
        return [] if operand is _REFUSED else [Clause(name, "$eq", operand)]
    clauses = []
    for word, operand in condition.items():
        here = place.at(word)
        if not word.startswith("$"):
            here.fault(
                "bad_operand",
                f"{shown(word)} is a plain key beside operators.",
                "Write either operators or a value to equal, not both in one condition.",
            )
        elif word not in FIELD_OPERATORS:
            here.fault(
                "unknown_operator", f"A field cannot be compared with {cut(word)}.", here.offer(word, FIELD_OPERATORS)
            )
        else:
            operator = "$ne" if word == "$neq" else word
            frozen = _operand(operator, operand, here)
            if frozen is not _REFUSED:
                clauses.append(Clause(name, operator, frozen))
    return clauses


_REFUSED: Any = object()


def _operand(operator: str, operand: Any, place: Place) -> Any:
    """The frozen operand of one operator, or _REFUSED with its fault."""
    if operator in ("$in", "$nin"):
        return _list(operator, operand, place)
    if operator in _TEXT_OPERATORS:
        return _text(operator, operand, place)
    if operator == "$regex":
        return _expression(operand, place)
    if operator == "$between":
        return _bounds(operand, place)
    if operator in _ORDER_OPERATORS and not (is_number(operand) or isinstance(operand, str)):
        return _refuse(place, f"{operator} takes a number or a text, not {described(operand)}.", f'"{operator}": 10')
    return _value(operand, place)


def _refuse(place: Place, message: str, example: str, code: str = "bad_operand") -> Any:
    place.fault(code, message, f"Write {example}, for example.")
    return _REFUSED


def _value(value: Any, place: Place) -> Any:
    try:
        frozen = freeze(value)
    except ValueError as error:
        return _refuse(place, f"This value cannot be compared with: {error}.", "a text, a number, true, false or null")
    return frozen if all(place.short(text) for text in _texts(frozen)) else _REFUSED


def _texts(frozen: Any) -> list[str]:
    if isinstance(frozen, str):
        return [frozen]
    return [text for item in frozen for text in _texts(item)] if isinstance(frozen, tuple) else []


def _list(operator: str, operand: Any, place: Place) -> Any:
    if not isinstance(operand, list | tuple):
        return _refuse(place, f"{operator} takes an array, not {described(operand)}.", f'"{operator}": ["a", "b"]')
    if len(operand) > MAX_LISTED:
        return _refuse(place, f"{operator} takes at most {MAX_LISTED:,} values.", "the values as several badges")
    return _value(operand, place)


def _text(operator: str, operand: Any, place: Place) -> Any:
    if not isinstance(operand, str):
        return _refuse(place, f"{operator} takes a text, not {described(operand)}.", f'"{operator}": "pre"')
    return _value(operand, place)


def _expression(operand: Any, place: Place) -> Any:
    if not isinstance(operand, str):
        return _refuse(place, f"$regex takes a text, not {described(operand)}.", r'"$regex": "\\d{2}"')
    if len(operand) > MAX_REGEX:
        return _refuse(place, f"This expression is longer than {MAX_REGEX:,} characters.", "a shorter one")
    try:
        check_regex(operand, place.reading.expressions, place.names.expressions)
    except TooManySteps as error:
        return _refuse(place, f"{error}.", error.help, "bad_regex")
    except ValueError as error:
        return _refuse(
            place,
            f"{shown(operand)} is no valid expression: {error}.",
            r'an RE2 expression such as "^ab+\\d"; look-around and back-references are not taken',
            "bad_regex",
        )
    return operand


def _bounds(operand: Any, place: Place) -> Any:
    example = '"$between": [5, 10]'
    pair: Sequence[Any]
    if isinstance(operand, str):
        try:
            pair = split_bounds(operand)
        except ValueError as error:
            return _refuse(place, f"{shown(operand)} does not name a range: {error}.", example)
    elif isinstance(operand, list | tuple) and len(operand) == 2:
        pair = operand
    else:
        return _refuse(place, f"$between takes two bounds, not {described(operand)}.", example)
    frozen = _value(list(pair), place)
    if frozen is _REFUSED:
        return _REFUSED
    sign = compare(*frozen)
    if sign is None:
        return _refuse(place, "The bounds of $between are not both numbers or both texts.", example)
    if sign > 0:
        return _refuse(place, "The lower bound of $between is above the upper one.", f"the lower one first: {example}")
    return operand if isinstance(operand, str) else frozen


# -- timestamp and the match -------------------------------------------------------------------------------------------


def read_timestamp(condition: Any, place: Place) -> Match:
    """What `timestamp` asks of `occurred_at`, as a match of its own; faults are filed."""
    if not place.counts():
        return EVERYTHING
    if isinstance(condition, str):
        at = read_instant(condition, place)
        return EVERYTHING if at is None else _within(Check("$eq", at))
    for word in condition if isinstance(condition, Mapping) else ():
        if word in FIELD_OPERATORS and word not in NUMBER_OPERATORS:
            place.at(word).fault(
                "unknown_operator", f"An instant cannot be compared with {word}.", f"Write {listed(NUMBER_OPERATORS)}."
            )
            return EVERYTHING
    checks = read_instant_checks(condition, place)
    match = EVERYTHING
    for check in checks or ():
        match = intersect(match, _within(check))
    return match


def _within(check: Check) -> Match:
    if check.operator == "$between":
        low, high = check.operand
        return intersect(_within(Check("$gte", low)), _within(Check("$lte", high)))
    at = check.operand
    if isinstance(at, Moment):
        return Match(bounds=(Bound(check.operator, at),))
    match check.operator:
        case "$eq":
            return Match(start_us=at, end_us=at)
        case "$gte":
            return Match(start_us=at)
        case "$gt":
            return Match(start_us=at + 1)
        case "$lte":
            return Match(end_us=at)
        case "$lt":
            return Match(end_us=at - 1)
    return Match(bounds=(Bound(check.operator, Moment(at_us=at)),))


def intersect(a: Match, b: Match) -> Match:
    """The events that belong to both; at most one of the two names types. Equal filters give equal matches."""
    if a is EVERYTHING:
        return b
    if b is EVERYTHING:
        return a
    starts = [us for us in (a.start_us, b.start_us) if us is not None]
    ends = [us for us in (a.end_us, b.end_us) if us is not None]
    return Match(
        types=a.types or b.types,
        clauses=_sorted((*a.clauses, *b.clauses)),
        start_us=max(starts, default=None),
        end_us=min(ends, default=None),
        days=_sorted((*a.days, *b.days)),
        bounds=_sorted((*a.bounds, *b.bounds)),
    )


def _sorted(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each part once, in one order whatever the author's."""
    if len(parts) < 2:
        return parts
    return tuple({canonical(part): part for part in sorted(parts, key=canonical)}.values())


def of_types(match: Match, types: tuple[str, ...], clauses: tuple[Clause, ...] = ()) -> Match:
    """The match with these types, and only events that satisfy these clauses as well."""
    return Match(
        types if len(types) < 2 else tuple(sorted(types)),
        _sorted((*match.clauses, *clauses)),
        match.start_us,
        match.end_us,
        match.days,
        match.bounds,
    )
