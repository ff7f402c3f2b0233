"""`$timeWindow`: a flow evaluated on the events of a window, with the same now.

Written: `{"$timeWindow": {"start": I, "end": I, "flow": {…}}}`, either bound alone or none, or `{"last": "30d", …}`;
with `businessDaysOnly` weekends are left out, and `holidays` where given. Nested windows intersect. Remembered per
user: nothing of its own; at most what the flow says of such a window, which its folds carry: a fixed one as their
filter, a moving one as `moving.py` keeps it, or what need not read all of it (`operators.memory`); read from the event
log: nothing as events come, all of the user's after a late one. Source: document 4 "Time Window Criteria".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.rules.ir import Bound, Days, Match, Moment, Node, Windowed
from worker.rules.operators.calendar import FIXED
from worker.rules.operators.days import read_days
from worker.rules.operators.filters import intersect
from worker.rules.operators.moments import read_instant, read_look_back
from worker.rules.operators.place import Operator, Place

#: A calendar step takes more days than the first and fewer than the second, wherever it begins and whatever clocks do.
_DAYS_OF = {"M": (27, 32), "q": (88, 93), "y": (364, 367)}
KEYS = ("start", "end", "last", "businessDaysOnly", "holidays", "flow")


def read(value: Any, place: Place) -> Node | None:
    """The flow below with the window in its folds, named by a Windowed node."""
    written = place.object(value, '{"last": "30d", "flow": {"event": "user.logged_in"}}')
    if written is None:
        return None
    place.only(written, KEYS)
    before = len(place.names.faults)
    moments = _bounds(written, place)
    days = _days(written, place)
    if not any(key in written for key in KEYS[:4]):
        place.fault("no_effect", "This window has no bounds.", "Write start, end or last.", severity="warning")
    bounds = tuple(
        Bound(operator, at) for operator, at in zip(("$gte", "$lte"), moments, strict=True) if isinstance(at, Moment)
    )
    start_us, end_us = (at if isinstance(at, int) else None for at in moments)
    window = Match(start_us=start_us, end_us=end_us, days=(days,) if days else (), bounds=bounds)
    inside = place.seeing(intersect(place.match, window))
    child = _flow(written, inside)
    if child is None or any(fault.severity == "error" for fault in place.names.faults[before:]):
        return None
    last = moments[0] if isinstance(moments[0], Moment) else None
    return Windowed(child, place.path, last, start_us, end_us, days)


def _flow(written: Mapping[str, Any], place: Place) -> Node | None:
    if "flow" in written:
        return place.at("flow").flow(written["flow"])
    place.fault("missing_field", "$timeWindow has no flow to evaluate.", 'Write "flow": {"event": "user.logged_in"}.')
    return None


def _bounds(written: Mapping[str, Any], place: Place) -> tuple[int | Moment | None, int | Moment | None]:
    """The window's two bounds as written, each where there is one."""
    if "last" in written:
        if "start" in written or "end" in written:
            place.at("last").fault(
                "bad_window", "`last` stands beside `start` or `end`.", "Write either last, or start and end."
            )
        return read_look_back(written["last"], place.at("last")), None
    start, end = (read_instant(written[key], place.at(key)) if key in written else None for key in ("start", "end"))
    if _is_reversed(start, end):
        place.at("end").fault("bad_window", "This window ends before it starts.", "Write the earlier instant as start.")
    return start, end


def _is_reversed(start: int | Moment | None, end: int | Moment | None) -> bool:
    """Whether a window ends before it starts whatever now is."""
    if isinstance(start, Moment) and isinstance(end, Moment):
        return _reach(start)[0] > _reach(end)[1]
    return isinstance(start, int) and isinstance(end, int) and start > end


def _reach(moment: Moment) -> tuple[int, int]:
    """How far from now a moment is at least and at most, in microseconds; calendar steps with room to spare."""
    least = most = 0
    for amount, unit in moment.steps:
        shortest, longest = (FIXED[unit],) * 2 if unit in FIXED else (one * FIXED["d"] for one in _DAYS_OF[unit])
        ends = sorted((amount * shortest, amount * longest))
        least, most = least + ends[0], most + ends[1]
    return least, most


def _days(written: Mapping[str, Any], place: Place) -> Days | None:
    business = place.flag(written, "businessDaysOnly")
    days = read_days(written, place, weekends=business, holidays=business, switch="businessDaysOnly")
    return days if days != Days() else None


TIME_WINDOW = Operator("$timeWindow", read)
