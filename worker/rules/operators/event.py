"""The event leaf: `{"event": T, "criteria": {filter…, operators…}}`.

Written: the type, then in `criteria` payload fields (bare or under `payload`) and `timestamp`, and-ed on one event, and
operators over the events that are left, and-ed; with none, at least one event is left. Remembered per user: a `count`
of the filtered events (see `count.py`), and what each operator remembers of them; at most one number and two ids, in a
window that moves with now an entry for each of its events, or for as many as are asked for (`moving.py`); read from the
event log: nothing as events come, all of the user's after a late one. Source: document 2 "Basic Structure", document 4
"Payload Field Criteria".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.rules.ir import All, Check, Node, Test
from worker.rules.operators.checks import AT_LEAST_ONE
from worker.rules.operators.filters import intersect, of_types, read_fields, read_timestamp
from worker.rules.operators.place import UNKNOWN, Operator, Place, cut, described

SHOWS = (
    ("event_count", "filtered_event_count"),
    ("first_event_id", "first_event_id"),
    ("last_event_id", "last_event_id"),
)


def read_leaf(
    flow: Mapping[str, Any], place: Place, operators: Mapping[str, Operator], elsewhere: Mapping[str, Operator]
) -> Node | None:
    """The leaf as All of its count and its operators; None where a fault was filed for it.

    `operators` may stand in `criteria`; `elsewhere` are those that may not, for a better sentence.
    """
    place.only(flow, ("event", "criteria"))
    name = flow["event"]
    if not isinstance(name, str) or not name:
        place.at("event").fault(
            "event_type_required",
            f"`event` names the type of event to look at, not {described(name)}.",
            'Write "event": "comment.posted", for example.',
        )
        return None
    canonical = place.names.event_type(name, place.at("event").path)
    criteria = flow.get("criteria", {})
    if not isinstance(criteria, Mapping):
        place.at("criteria").fault(
            "bad_operand", f"`criteria` is an object, not {described(criteria)}.", "Write {} or leave it out."
        )
        return None
    inside = place.seeing(of_types(place.match, UNKNOWN if canonical is None else (canonical,)))
    inside = _filtered(criteria, inside)
    parts = [
        _operator(word, operand, inside.at("criteria", word), operators, elsewhere)
        for word, operand in criteria.items()
        if word.startswith("$")
    ]
    known = [part for part in parts if part is not None]
    if canonical is None or len(known) < len(parts):
        return None
    return All((_count(inside, AT_LEAST_ONE if not parts else ()), *known), place.path, "event")


def _filtered(criteria: Mapping[str, Any], place: Place) -> Place:
    """The same place with only the events that pass the filter in view."""
    if not criteria:
        return place
    here = place.at("criteria")
    match = place.match
    fields = {key: value for key, value in criteria.items() if key not in ("payload", "timestamp") and key[:1] != "$"}
    clauses = read_fields(fields, here)
    if "timestamp" in criteria:
        match = intersect(match, read_timestamp(criteria["timestamp"], here.at("timestamp")))
    if "payload" in criteria:
        payload = here.at("payload").object(criteria["payload"], '"payload": {"status": "fixed"}')
        clauses += read_fields(payload or {}, here.at("payload"))
    return place if match is place.match and not clauses else place.seeing(of_types(match, match.types, clauses))


def _operator(
    word: str, operand: Any, place: Place, operators: Mapping[str, Operator], elsewhere: Mapping[str, Operator]
) -> Node | None:
    if not place.counts():
        return None
    if (operator := operators.get(word)) is not None:
        return operator.read(operand, place)
    if word in elsewhere:
        remedy = f"Write {word} as a flow of its own, beside this one in an $and."
    else:
        remedy = place.offer(word, operators)
    place.fault("unknown_operator", f"{cut(word)} may not stand inside `criteria`.", remedy)
    return None


def _count(place: Place, checks: tuple[Check, ...]) -> Test:
    return Test(place.fold("count"), "event_count", checks, "event", place.path, SHOWS)
