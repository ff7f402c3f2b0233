"""Values as the language compares them: JSON equality, order, the field operators.

The rulings are those of the specification's "Values": no coercion between strings and numbers, a missing field never
matches, what has no order does not match. Nothing here raises on data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from worker.events.instants import parse_instant
from worker.rules.ir import Clause, Frozen
from worker.rules.operators.expressions import compile_regex
from worker.rules.operators.problems import MISSING_FIELD, note, note_value

MISSING: Any = object()

_NUMERAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?\Z")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")

Payload = Mapping[str, Any]
Test = Callable[[Any], bool]


# -- lookup ------------------------------------------------------------------------------------------------------------


def lookup(payload: Payload, field: str) -> Any:
    """The field's value or MISSING: a literal key first, then a dotted path through objects (longest literal first)."""
    value = payload.get(field, MISSING)
    if value is not MISSING or "." not in field:
        return value
    return _path(payload, field.split("."))


def _path(value: Any, parts: list[str]) -> Any:
    for part in parts:
        if not isinstance(value, Mapping):
            return MISSING
        value = value.get(part, MISSING)
        if value is MISSING:
            return MISSING
    return value


# -- equality ----------------------------------------------------------------------------------------------------------


def freeze(value: Any) -> Any:
    """JSON data as a frozen operand: arrays as tuples, objects as Frozen, floats as the Decimal they are written as.

    Raises ValueError for what is no JSON value (NaN, a date, nesting deeper than 32).
    """
    return _freeze(value, 0)


def _freeze(value: Any, depth: int) -> Any:
    if depth > 32:
        raise ValueError("it is nested deeper than 32 levels")
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("NaN and Infinity are no JSON numbers")
        return value
    if isinstance(value, list | tuple):
        return tuple(_freeze(item, depth + 1) for item in value)
    if isinstance(value, Mapping):
        items = ((key, _freeze(item, depth + 1)) for key, item in value.items())
        return Frozen(tuple(sorted(items, key=lambda item: item[0])))
    raise ValueError(f"a {type(value).__name__} is no JSON value; write text in quotes")


def equal(value: Any, operand: Any) -> bool:
    """JSON equality of data with a frozen operand: numbers by value, `true` is not 1, objects whatever their order."""
    if isinstance(operand, bool) or operand is None:
        return value is operand
    if isinstance(operand, str):
        return isinstance(value, str) and value == operand
    if is_number(operand):
        return is_number(value) and bool(value == operand)
    if isinstance(operand, tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(operand)
            and all(equal(left, right) for left, right in zip(value, operand, strict=True))
        )
    return (
        isinstance(operand, Frozen)
        and isinstance(value, Mapping)
        and len(value) == len(operand.items)
        and all(key in value and equal(value[key], item) for key, item in operand.items)
    )


def is_number(value: Any) -> bool:
    """Whether a value is a JSON number."""
    return isinstance(value, int | Decimal | float) and not isinstance(value, bool)


# -- order -------------------------------------------------------------------------------------------------------------


def is_numeral(text: str) -> bool:
    """Whether a string is a plain numeral: digits, perhaps a sign and a fraction, no exponent."""
    return _NUMERAL.match(text) is not None


@lru_cache(maxsize=4096)
def instant(text: str) -> int | None:
    """The instant an RFC 3339 string names, in microseconds; None where it names none."""
    if len(text) > 64 or _INSTANT.match(text) is None:
        return None
    try:
        return parse_instant(text)
    except ValueError:
        return None


def compare(left: Any, right: Any) -> int | None:
    """-1, 0 or 1 for two values that have an order, else None: numbers; strings as instants, numerals or text."""
    if is_number(left) and is_number(right):
        return _sign(left, right)
    if not (isinstance(left, str) and isinstance(right, str)):
        return None
    then, now = instant(left), instant(right)
    if then is not None and now is not None:
        return _sign(then, now)
    if is_numeral(left) and is_numeral(right):
        return _sign(Decimal(left), Decimal(right))
    return _sign(left, right)


def _sign(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


_ORDER: Mapping[str, Callable[[int], bool]] = {
    "$gt": lambda sign: sign > 0,
    "$gte": lambda sign: sign >= 0,
    "$lt": lambda sign: sign < 0,
    "$lte": lambda sign: sign <= 0,
}


# -- field operators ---------------------------------------------------------------------------------------------------


def compile_clause(clause: Clause) -> Callable[[Payload], bool]:
    """A predicate on payloads for one clause; a missing field never matches."""
    field = clause.field
    holds = compile_operator(clause.operator, clause.operand)
    if "." not in field:

        def plain(payload: Payload) -> bool:
            value = payload.get(field, MISSING)
            if value is not MISSING:
                return holds(value)
            note(MISSING_FIELD)
            return False

        return plain

    def dotted(payload: Payload) -> bool:
        value = lookup(payload, field)
        if value is not MISSING:
            return holds(value)
        note(MISSING_FIELD)
        return False

    return dotted


def compile_operator(operator: str, operand: Any) -> Test:
    """A predicate on values that are present, for one field operator and its frozen operand."""
    return _COMPILERS[operator](operand)


def _eq(operand: Any) -> Test:
    if isinstance(operand, str):
        return lambda value: isinstance(value, str) and value == operand
    if isinstance(operand, bool) or operand is None:
        return lambda value: value is operand
    return lambda value: equal(value, operand)


def _ne(operand: Any) -> Test:
    same = _eq(operand)
    return lambda value: not same(value)


def _ordered(operator: str) -> Callable[[Any], Test]:
    holds = _ORDER[operator]

    def compiled(operand: Any) -> Test:
        def test(value: Any) -> bool:
            sign = compare(value, operand)
            if sign is not None:
                return holds(sign)
            note_value(value)
            return False

        return test

    return compiled


def _in(operand: tuple[Any, ...]) -> Test:
    member = _membership(operand)

    def test(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return any(map(member, value))
        return member(value)

    return test


def _nin(operand: tuple[Any, ...]) -> Test:
    listed = _in(operand)
    return lambda value: not listed(value)


def _membership(operand: tuple[Any, ...]) -> Test:
    """Whether a value equals one of the operands, in constant time for scalars."""
    strings = frozenset(item for item in operand if isinstance(item, str))
    numbers = frozenset(item for item in operand if is_number(item))
    singles = [item for item in operand if item is None or isinstance(item, bool)]
    compound = [item for item in operand if isinstance(item, tuple | Frozen)]

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return value in strings
        if value is None or isinstance(value, bool):
            return any(value is item for item in singles)
        if isinstance(value, int | Decimal | float):
            return value in numbers
        return any(equal(value, item) for item in compound)

    return test


def _contains(operand: Any) -> Test:
    def test(value: Any) -> bool:
        if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        if isinstance(value, list | tuple):
            return any(equal(item, operand) for item in value)
        note_value(value)
        return False

    return test


def _starts(operand: str) -> Test:
    return _of_text(lambda text: text.startswith(operand))


def _ends(operand: str) -> Test:
    return _of_text(lambda text: text.endswith(operand))


def _regex(operand: str) -> Test:
    expression = compile_regex(operand)
    return _of_text(lambda text: expression.search(text) is not None)


def _of_text(holds: Callable[[str], bool]) -> Test:
    def test(value: Any) -> bool:
        if isinstance(value, str):
            return holds(value)
        note_value(value)
        return False

    return test


def _between(operand: tuple[Any, Any] | str) -> Test:
    """Within [lo, hi]. In the spelling "lo,hi" the bounds have no type: numerals are bounds of numbers, too."""
    if isinstance(operand, str):
        low, high = split_bounds(operand)
        strings = _between((low, high))
        if not (is_numeral(low) and is_numeral(high)):
            return strings
        numbers = _between((Decimal(low), Decimal(high)))
        return lambda value: numbers(value) if is_number(value) else strings(value)
    low, high = operand

    def test(value: Any) -> bool:
        above, below = compare(value, low), compare(value, high)
        if above is not None and below is not None:
            return above >= 0 and below <= 0
        note_value(value)
        return False

    return test


def split_bounds(text: str) -> tuple[str, str]:
    """The two bounds of "lo,hi"; ValueError where there are not two."""
    low, comma, high = text.partition(",")
    if not comma or "," in high:
        raise ValueError('two bounds are needed, written as [lo, hi] or "lo,hi"')
    return low.strip(), high.strip()


_COMPILERS: Mapping[str, Callable[[Any], Test]] = {
    "$eq": _eq,
    "$ne": _ne,
    **{operator: _ordered(operator) for operator in _ORDER},
    "$in": _in,
    "$nin": _nin,
    "$contains": _contains,
    "$startsWith": _starts,
    "$endsWith": _ends,
    "$regex": _regex,
    "$between": _between,
}

#: The field operators as authors may write them; `$neq` is `$ne`.
FIELD_OPERATORS = (*_COMPILERS, "$neq")
#: What a number that was counted or added up may be compared with.
NUMBER_OPERATORS = ("$eq", "$ne", "$neq", "$gt", "$gte", "$lt", "$lte", "$between")
