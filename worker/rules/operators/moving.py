"""Memory over a window that moves with now: the events that may still lie in it, one entry each.

Remembered per user: the matching events of the look-back, the newest `cap` of them once the window holds as many where
the plan sets a cap (`may_cap`), else as many as the look-back holds; a match without a lower bound
(`$lt: "$NOW(-7d)"`) keeps all of them. Source: documents 4 "Time Window Criteria" (`last`) and 5 "Window Count Rule";
`$NOW` of the rule engine guide.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.rules.ir import Bound, Fold, Moment
from worker.rules.operators.calendar import FIXED, MIN_US, Calendar
from worker.rules.operators.kind import Entry, Kind, State, Trail

if TYPE_CHECKING:
    from worker.events.types import Event

#: A calendar step back from a later now may land earlier (30 March and 31 March both clamp to 28 February; clocks
#: change), by less than this many microseconds a step.
_SLACK = 5 * FIXED["d"]


class Moving(Trail):
    """A kind over a match with moving bounds. State: a list of entries [occurred_us, source, id, note] in order."""

    name = "moving"

    __slots__ = ("_lower", "bounds", "cap", "kind")

    def __init__(self, kind: Kind, bounds: tuple[Bound, ...], cap: int | None = None) -> None:
        self.kind = kind
        self.bounds = bounds
        self.cap = cap
        self._lower = tuple(bound.moment for bound in bounds if bound.operator in ("$gte", "$gt", "$eq"))

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        note = self.kind.note(event, params, calendar)
        if note is None:
            return state
        horizon = self._horizon(event.occurred_us, calendar)
        entries: list[Entry] = state or []
        keep = bisect_left(entries, horizon, key=_instant) if entries and entries[0][0] < horizon else 0
        kept = [*entries[keep:], [event.occurred_us, event.source, event.id, note]]
        if self.cap is None or len(kept) <= self.cap or len(self.within(kept, event.occurred_us, calendar)) < self.cap:
            return kept
        # Not before the window holds as many: a calendar bound that steps back may bring older ones in again.
        return kept[-self.cap :]

    def _horizon(self, now_us: int, calendar: Calendar) -> int:
        """No now from here on looks further back than this."""
        return max((self._earliest(moment, now_us, calendar) for moment in self._lower), default=MIN_US)

    @staticmethod
    def _earliest(moment: Moment, now_us: int, calendar: Calendar) -> int:
        slack = 0 if moment.at_us is not None else _SLACK * sum(unit not in FIXED for _, unit in moment.steps)
        return calendar.shift(now_us, moment) - slack

    def within(self, state: State | None, now_us: int, calendar: Calendar) -> list[Entry]:
        """The entries within the bounds as of now, in order."""
        entries: list[Entry] = state or []
        low, high, left_out = 0, bisect_right(entries, now_us, key=_instant), []
        for bound in self.bounds:
            at = calendar.shift(now_us, bound.moment)
            if bound.operator in ("$gte", "$eq"):
                low = max(low, bisect_left(entries, at, key=_instant))
            if bound.operator == "$gt":
                low = max(low, bisect_right(entries, at, key=_instant))
            if bound.operator in ("$lte", "$eq"):
                high = min(high, bisect_right(entries, at, key=_instant))
            if bound.operator == "$lt":
                high = min(high, bisect_left(entries, at, key=_instant))
            if bound.operator == "$ne":
                left_out.append(at)
        return [entry for entry in entries[low:high] if entry[0] not in left_out] if left_out else entries[low:high]

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        return self.kind.facts(self.kind.gather(self.within(state, now_us, calendar), params), params)


def may_cap(fold: Fold) -> bool:
    """Whether keeping only the newest K entries leaves every answer to `unit fact >= K` as it is.

    It does where each entry adds one to the unit fact and now bounds the window on its far side only.
    """
    return fold.kind == "count" and all(bound.operator in ("$gte", "$gt") for bound in fold.match.bounds)


def _instant(entry: Entry) -> int:
    return int(entry[0])
