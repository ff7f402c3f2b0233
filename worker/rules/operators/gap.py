"""`$gap`: every pause between one event and the next lies within bounds, and there is one.

Written inside `criteria` over the filtered events or as a flow over all of the user's: `{"$gap": {"minGapHours": 2,
"maxGapHours": 24}}`, either bound alone or both, inclusive; `periodType` has no effect. Remembered per user: the
shortest and the longest pause (see `pauses.py`), shared by all bounds; at most seven numbers, in a window that moves
with now an entry for each of its events (`sliding.py`); read from the event log: nothing as events come, all of the
user's after a late one. Source: document 4 "Gap Criteria".
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from worker.rules.ir import Node, Test
from worker.rules.operators.calendar import FIXED, PERIODS, Calendar
from worker.rules.operators.checks import read_measure
from worker.rules.operators.place import Operator, Place

BOUNDS = ("minGapHours", "maxGapHours")


def read(value: Any, place: Place) -> Node | None:
    """The test of the shortest and the longest pause."""
    written = place.object(value, '{"minGapHours": 2, "maxGapHours": 24}')
    if written is None:
        return None
    place.only(written, (*BOUNDS, "periodType"))
    if "periodType" in written and place.at("periodType").choice(written["periodType"], PERIODS):
        place.at("periodType").fault(
            "no_effect", "A pause is the same in every period.", "Leave periodType out.", severity="warning"
        )
    if not any(key in written for key in BOUNDS):
        place.fault("missing_field", "$gap has neither bound.", "Write minGapHours, maxGapHours or both.")
        return None
    found = {key: read_measure(written[key], place.at(key), "a number of hours") for key in BOUNDS if key in written}
    least, most = (found.get(key) for key in BOUNDS)
    if least is not None and most is not None and least > most:
        place.at("maxGapHours").fault(
            "bad_operand", "The longest pause allowed is shorter than the shortest.", "Write the greater number here."
        )
        return None
    if None in found.values():
        return None
    return Test(place.fold("pauses"), "event_count", (), "$gap", place.path, params=tuple(found.items()))


def gap_verdict(
    facts: Mapping[str, Any], params: Mapping[str, Any], _now_us: int, _calendar: Calendar
) -> tuple[bool, dict[str, Any]]:
    """Whether there is a pause and all lie within the bounds; where both are broken, `min_gap` is named."""
    if facts["min_gap_us"] is None:
        return False, {}
    shortest, longest = (Fraction(facts[name], FIXED["h"]) for name in ("min_gap_us", "max_gap_us"))
    least, most = (params.get(key) for key in BOUNDS)
    failed = None
    if least is not None and shortest < Fraction(least):
        failed = "min_gap"
    elif most is not None and longest > Fraction(most):
        failed = "max_gap"
    figures = {"min_gap_hours": shortest, "max_gap_hours": longest, "gap_criterion_failed": failed}
    return failed is None, figures


GAP = Operator("$gap", read)
