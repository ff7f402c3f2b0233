"""`$aggregate`: the least, greatest, average, sum or number of the numbers in one payload field.

Written inside `criteria` over the filtered events or as a flow over all of the user's, in either of two spellings:
`{"$aggregate": {"type": "sum", "field": "points", "value": {"$gte": 1000}}}` or `function`/`property`/`result`.
Remembered per user: what `number.py` keeps, shared by all five; at most four numbers, in a window that moves with now
an entry for each of its events (`sliding.py`); read from the event log: nothing as events come, all of the user's after
a late one. Source: document 4 "Aggregation Criteria".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.rules.ir import Check, Node, Test
from worker.rules.operators.checks import AT_LEAST_ONE, read_number_checks
from worker.rules.operators.place import Operator, Place, listed

FUNCTIONS = ("min", "max", "avg", "sum", "count")
SPELLINGS = (("type", "field", "value"), ("function", "property", "result"))


def read(value: Any, place: Place) -> Node | None:
    """The test of the figure. Without a comparison it asks for at least one value."""
    written = place.object(value, '{"type": "sum", "field": "points", "value": {"$gte": 1000}}')
    if written is None:
        return None
    place.only(written, (*SPELLINGS[0], *SPELLINGS[1]))
    used = [spelling for spelling in SPELLINGS if any(key in written for key in spelling)]
    if len(used) > 1:
        place.fault(
            "mixed_spelling",
            "These keys are of two spellings.",
            f"Write {listed(SPELLINGS[0])} or {listed(SPELLINGS[1])}.",
        )
        return None
    function_key, field_key, value_key = used[0] if used else SPELLINGS[0]
    function = _function(written, function_key, place)
    field = read_field(written, field_key, place)
    checks: tuple[Check, ...] | None = AT_LEAST_ONE
    if value_key in written:
        checks = read_number_checks(written[value_key], place.at(value_key))
    if function is None or field is None or checks is None:
        return None
    if function == "count" and not any(map(_asks_for_one, checks)):
        checks = (*AT_LEAST_ONE, *checks)
    fact = function if value_key in written else "count"
    fold = place.fold("number", (("field", field),))
    shows = ((function, f"{function}_{field}"),)
    return Test(fold, fact, checks, "$aggregate", place.path, shows, (("type", function),))


def _asks_for_one(check: Check) -> bool:
    """Whether a check of a count passes no 0: without values the operator is false, whatever it asks."""
    return (check.operator == "$gte" and check.operand >= 1) or (check.operator == "$gt" and check.operand >= 0)


def _function(written: Mapping[str, Any], key: str, place: Place) -> str | None:
    if key in written:
        return place.at(key).choice(written[key], FUNCTIONS)
    place.fault("bad_operand", f"$aggregate needs a {key}.", f"Write one of {listed(FUNCTIONS)}.")
    return None


def read_field(written: Mapping[str, Any], key: str, place: Place) -> str | None:
    """The name of the payload field under a key that must be there."""
    if key not in written:
        place.fault(
            "missing_field", f"{place.last()} does not say which payload field to look at.", f'Write "{key}": "score".'
        )
        return None
    here = place.at(key)
    field = here.text(written[key], '"score"')
    if field is not None:
        here.known_field(field)
    return field


AGGREGATE = Operator("$aggregate", read)
