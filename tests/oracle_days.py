"""Operators that look at the days of events, and tenures, read naively for the oracle; no code of `worker.rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.oracle_figures import SERIES, Verdict
from tests.oracle_values import (
    anniversary,
    day_off,
    figure_matches,
    instant,
    period,
    series_of,
    written,
)
from worker.events import Event

if TYPE_CHECKING:
    from tests.oracle import View


def listed(operand: Mapping[str, Any], view: View) -> tuple[list[str], Mapping[str, list[str]]]:
    """The holidays of an operand, written out or by name, and the catalog's lists."""
    items = operand.get("holidays", [])
    return items if isinstance(items, list) else [items], view.world.holidays


def time_period(operand: Mapping[str, Any], events: Sequence[Event], view: View) -> Verdict:
    days = {view.day(e) for e in events}
    if operand.get("excludeWeekends"):
        days = {day for day in days if day.isoweekday() < 6}
    if operand.get("excludeHolidays"):
        days = {day for day in days if not day_off(day, *listed(operand, view))}
    periods = len({period(day, operand["periodType"]) for day in days})
    return figure_matches(periods, operand.get("periodCount", {"$gte": 1})), {"unique_period_count": periods}


def pattern(operand: Mapping[str, Any], events: Sequence[Event], view: View) -> Verdict:
    """The counts of every period from the first active one to the last, as `SERIES` judges them."""
    days = sorted(view.day(e) for e in events)
    keys, counts = series_of(days, operand["periodType"])
    shown, least = {"period_keys": keys, "period_counts": counts}, operand.get("minPeriods", 3)
    word = "is_" + operand["pattern"]
    if len(counts) < least:
        return False, {word: False, "reason": f"{len(counts)} of {least} periods", **shown}
    passed, figures = SERIES[operand["pattern"]](counts, operand)
    return passed, {word: passed, **figures, **shown}


def tenure(operand: Mapping[str, Any], view: View) -> Verdict:
    """From the day on, where the user is now, on which the years since the first such event are full."""
    first = next((e for e in view.events if e.type == view.world.type(operand["since"])), None)
    if first is None:
        return False, {}
    due = anniversary(view.day(first), operand["years"], view.world.document.get("feb_29", "feb_28"))
    return view.now.astimezone(view.zone).date() >= due, {"since": written(instant(first.occurred_us))}
