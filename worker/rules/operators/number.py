"""What the numbers in one payload field come to: how many, sum, average, least and greatest, exactly.

Remembered per user: four numbers. A sum of n numbers of 38 digits and exponents within ±308 has at most some 700 digits
more than log10(n). Source: document 4 "Aggregation Criteria"; only JSON numbers are values, also for the count.
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import Kind, State
from worker.rules.operators.problems import note_unusable
from worker.rules.operators.values import MISSING, is_number, lookup

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar

#: Wide enough for every sum of numbers the events may hold; what would not fit exactly is an error of ours.
_EXACT = Context(prec=4000, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact])
#: Integers beyond this are stored as text, so that every reader of the state keeps them whole.
_PLAIN = 2**53

Number = int | str


class Numbers(Kind):
    """State: [count, sum, least, greatest], each number an int up to 2^53 or else text. Params: field.

    Facts: count, sum, avg (a Fraction), min, max; but for count they are None while there is no number.
    `total` is the sum with 0 for no number: the fact of a metric that adds up.
    """

    name = "number"
    local = False
    joins = True

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        value = lookup(event.payload, params["field"])
        if not is_number(value):
            note_unusable(value, MISSING)
            return None
        number = _stored(value)
        return [1, number, number, number]

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if a is None or b is None:
            return b if a is None else a
        least = a[2] if _read(a[2]) <= _read(b[2]) else b[2]
        greatest = a[3] if _read(a[3]) >= _read(b[3]) else b[3]
        return [a[0] + b[0], _add(a[1], b[1]), least, greatest]

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        if state is None:
            return {"count": 0, "sum": None, "avg": None, "min": None, "max": None, "total": 0}
        count, total = state[0], _read(state[1])
        return {
            "count": count,
            "sum": total,
            "avg": Fraction(total) / count,
            "min": _read(state[2]),
            "max": _read(state[3]),
            "total": total,
        }


def _stored(value: Decimal | float) -> Number:
    """One form per number, whatever it was written as: 1, 1.0 and 1E0 are 1."""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        if value.adjusted() < 18 and value == value.to_integral_value():
            value = int(value)
        else:
            return str(value.normalize(_EXACT))
    return value if -_PLAIN <= value <= _PLAIN else str(Decimal(value).normalize(_EXACT))


def _read(number: Number) -> int | Decimal:
    return number if isinstance(number, int) else Decimal(number)


def _add(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int):
        return _stored(a + b)
    return _stored(_EXACT.add(Decimal(a), Decimal(b)))
