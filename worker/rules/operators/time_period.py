"""`$timePeriod`: in how many different calendar periods there was activity; gaps are allowed.

Written inside `criteria` over the filtered events or as a flow over all of the user's: `{"$timePeriod": {"periodType":
"day", "periodCount": {"$gte": 5}, "excludeWeekends": true}}`. Remembered per user: the active periods (see
`periods.py`), of the events on days that are not left out; at most one integer for each, of as many as are asked for
where the plan sets a cap, in a window that moves with now the newest instant of each besides (`newest.py`); read from
the event log: nothing as events come, all of the user's after a late one. Source: document 4 "Time Period Criteria".
"""

from __future__ import annotations

from typing import Any

from worker.rules.ir import Days, Match, Node, Test
from worker.rules.operators.calendar import PERIODS
from worker.rules.operators.checks import AT_LEAST_ONE, read_number_checks
from worker.rules.operators.days import read_days
from worker.rules.operators.filters import intersect
from worker.rules.operators.place import Operator, Place, listed

KEYS = ("periodType", "periodCount", "excludeWeekends", "excludeHolidays", "holidays")


def read(value: Any, place: Place) -> Node | None:
    """The test of the number of periods."""
    written = place.object(value, '{"periodType": "day", "periodCount": {"$gte": 5}}')
    if written is None:
        return None
    place.only(written, KEYS)
    period = read_period(written, place)
    checks: Any = AT_LEAST_ONE
    if "periodCount" in written:
        checks = read_number_checks(written["periodCount"], place.at("periodCount"), whole=True)
    weekends, holidays = place.flag(written, "excludeWeekends"), place.flag(written, "excludeHolidays")
    days = read_days(written, place, weekends=weekends, holidays=holidays, switch="excludeHolidays")
    if period is None or checks is None or days is None:
        return None
    match = intersect(place.match, Match(days=(days,))) if days != Days() else place.match
    fold = place.fold("periods", (("period", period),), match=match)
    shows = (("unique_period_count", "unique_period_count"),)
    return Test(fold, "unique_period_count", checks, "$timePeriod", place.path, shows)


def read_period(written: Any, place: Place) -> str | None:
    """The word under `periodType`."""
    if "periodType" in written:
        return place.at("periodType").choice(written["periodType"], PERIODS)
    place.fault("bad_operand", f"{place.last()} needs a periodType.", f"Write one of {listed(PERIODS)}.")
    return None


TIME_PERIOD = Operator("$timePeriod", read)
