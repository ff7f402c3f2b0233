"""`$withinTimeWindow`: a flow that held, at the instant of some event, of the events of a length before it.

Written: `{"$withinTimeWindow": {"window": "24h", "conditions": flow}}`; units s, min, h, d, w. For some event time t
the events in [t - window, t] satisfy `conditions` with now = t: a `$timeWindow` of that length, latched. Remembered per
user: the conditions' own memories over their window, and whether they have held (see `latch.py`); at most what the
conditions say of such a window, fixed once they have held, inside a `$timeWindow` that moves with now an entry for each
of its events; read from the event log: nothing as events come, all of the user's after a late one. Inside such a window
the conditions are judged again whenever it is looked at, at each of its events: a cost that grows with them.

Which events give t: all of the user's in view. Conditions that only ask for so much activity (`waits`) hold at an event
they do not read only where they held at the last one they read: the window since then has only lost events, and of none
they do not hold. For these the events they read give the same answer, and only they are looked at.
Prerequisites are refused: what a user holds is no event of the window. Source: rule engine guide "Time Window Badge".
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from worker.rules.ir import (
    All,
    Bound,
    Fold,
    Held,
    Match,
    Moment,
    Node,
    Not,
    Some,
    Test,
    Windowed,
    changed,
    conditions_of,
    counted,
    nodes,
)
from worker.rules.operators.calendar import FIXED, Calendar
from worker.rules.operators.filters import of_types
from worker.rules.operators.latch import types_read
from worker.rules.operators.moments import read_length
from worker.rules.operators.moving import rises_with_now
from worker.rules.operators.place import Operator, Place

KEYS = ("window", "conditions")

#: Facts that each event raises or leaves, by the kind that states them; a strict sequence's not, but it reads all.
_RISING = {
    "count": "event_count",
    "distinct": "distinct_count",
    "periods": "unique_period_count",
    "steps": "reached_steps",
}


def read(value: Any, place: Place) -> Node | None:
    """The test of the latch; its fold carries the conditions, paths in them counted from here."""
    written = place.object(value, '{"window": "24h", "conditions": {"event": "order.paid"}}')
    if written is None:
        return None
    place.only(written, KEYS)
    before = len(place.names.faults)
    moment = _window(written, place)
    conditions = _conditions(written, place, moment or Moment(((-1, "d"),)))
    if conditions is not None:
        _refuse(conditions, place)
    if moment is None or conditions is None:
        return None
    if any(fault.severity == "error" for fault in place.names.faults[before:]):
        return None
    ((amount, unit),) = moment.steps
    params = (("window", -amount * FIXED[unit]), ("conditions", _from_here(conditions, len(place.path))))
    fold = Fold("within", of_types(place.match, _types(conditions)), params, place.names.per)
    shown = (("window", written["window"]),)
    return Test(fold, "holds", (), "$withinTimeWindow", place.path, params=shown)


def _window(written: Mapping[str, Any], place: Place) -> Moment | None:
    if "window" in written:
        return read_length(written["window"], place.at("window"))
    place.fault("missing_field", "$withinTimeWindow does not say how long it is.", 'Write "window": "24h".')
    return None


def _conditions(written: Mapping[str, Any], place: Place, moment: Moment) -> Node | None:
    """The flow, its folds over the events since `moment`; what is in view here the latch itself sees alone."""
    if "conditions" in written:
        inside = place.seeing(Match(bounds=(Bound("$gte", moment),)))
        return inside.at("conditions").flow(written["conditions"])
    example = 'Write "conditions": {"event": "order.paid"}.'
    place.fault("missing_field", "$withinTimeWindow has no conditions.", example)
    return None


def _refuse(conditions: Node, place: Place) -> None:
    """Faults for what no events of a window say."""
    at_place = Place(place.reading, "")
    for node in nodes(conditions):
        if isinstance(node, Held):
            replace(at_place, path=node.path).fault(
                "unknown_operator",
                "badge may not stand inside `conditions`: a badge that is held is no event of the window.",
                "Write it beside $withinTimeWindow, in an $and.",
            )
        elif isinstance(node, Test) and node.fold.per != place.names.per:
            replace(at_place, path=node.path).fault(
                "bad_operand",
                f"This metric is kept for the whole user, the badge is given per {place.names.per}.",
                "Write it beside $withinTimeWindow, in an $and.",
            )


def _types(conditions: Node) -> tuple[str, ...]:
    """The types whose events give an instant to look at: none for all, `*` for all beside some nobody else counts."""
    named = types_read(conditions)
    if "*" not in named and waits(conditions):
        return tuple(named)
    uncounted = {name for name in named if not counted(name)}
    return ("*", *uncounted) if uncounted else ()


def waits(node: Node) -> bool:
    """Whether a formula over a window that moves with now is false of no events, and false once events only leave.

    False also where that is not easily said: all events then give the same answer at a greater cost.
    """
    match node:
        case Test(fold=fold):
            is_lower = all(check.operator in ("$gte", "$gt") for check in node.checks) and any(map(_asks, node.checks))
            return is_lower and _RISING.get(fold.kind) == node.fact and _only_shrinks(fold.match)
        case Windowed(child=child):
            return waits(child)
        case Some(children=children):
            return all(map(waits, children))
        case All(children=children):
            asking = [child for child in children if not (isinstance(child, Test) and _merely_shows(child))]
            return bool(asking) and all(map(waits, asking))
    return False


def _merely_shows(test: Test) -> bool:
    return test.operator == "event" and not test.checks


def _asks(check: Any) -> bool:
    """Whether a lower bound leaves 0 out."""
    number = check.operand
    return isinstance(number, int | Decimal) and (number > 0 or (number == 0 and check.operator == "$gt"))


def _only_shrinks(match: Match) -> bool:
    return all(bound.operator in ("$gte", "$gt") and rises_with_now(bound.moment) for bound in match.bounds)


def _from_here(node: Node, start: int) -> Node:
    """The formula with its paths counted from here, so that it is one memory wherever it is written."""
    path = node.path[start:]
    match node:
        case All(children=children) | Some(children=children):
            return replace(node, path=path, children=tuple(_from_here(child, start) for child in children))
        case Not(child=child) | Windowed(child=child):
            return replace(node, path=path, child=_from_here(child, start))
    return replace(node, path=path)


def conditions_alone(test: Test) -> Node:
    """The conditions of a test as they are written: their folds without the window, which the operator itself names."""
    conditions = conditions_of(test.fold)
    if conditions is None:
        raise ValueError(f"{test.operator} has no conditions")
    length = dict(test.fold.params)["window"]

    def unframed(one: Test) -> Test:
        match = one.fold.match
        bounds = tuple(bound for bound in match.bounds if not _is_window(bound, length))
        return replace(one, fold=replace(one.fold, match=replace(match, bounds=bounds)))

    return changed(conditions, unframed)


def _is_window(bound: Bound, length: int) -> bool:
    steps = bound.moment.steps
    return (
        bound.operator == "$gte"
        and len(steps) == 1
        and steps[0][1] in FIXED
        and -steps[0][0] * FIXED[steps[0][1]] == length
    )


def within_verdict(
    facts: Mapping[str, Any], _params: Mapping[str, Any], _now_us: int, _calendar: Calendar
) -> tuple[bool, Mapping[str, Any]]:
    """Whether the conditions held, with their figures at the first instant at which they did; else at the last one."""
    return facts["holds"], facts["metadata"]


WITHIN_TIME_WINDOW = Operator("$withinTimeWindow", read)
