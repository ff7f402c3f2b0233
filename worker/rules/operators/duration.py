"""`$duration`: some start and the end that closed it lie so far apart.

Written as a flow over the user's events: `{"$duration": {"startEvent": {"type": "session.started", "mode": "focus"},
"endEvent": {"type": "session.ended"}, "matchProperty": "session_id", "duration": {"$gte": 30}, "unit": "minutes"}}`.
Keys beside `type` are payload conditions; any pair will do, without `duration` any at all; the unit is hours unless
said. Remembered per user: the open starts and what the pairs come to (see `pairs.py`); at most 1,000 starts, in a
window that moves with now an instant for each of its pairs besides (`paired.py`); read from the event log: nothing as
events come, all of the user's after a late one. Source: document 4 "Duration Criteria".
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from operator import itemgetter
from typing import Any

from worker.rules.ir import Frozen, Node, Test
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.checks import read_number_checks
from worker.rules.operators.filters import of_types, read_fields
from worker.rules.operators.pairs import UNITS
from worker.rules.operators.place import EVERYTHING, UNKNOWN, Operator, Place

KEYS = ("startEvent", "endEvent", "matchProperty", "duration", "unit")
_EXAMPLE = '{"type": "session.started"}'


def read(value: Any, place: Place) -> Node | None:
    """The test of the pairs."""
    written = place.object(value, f'{{"startEvent": {_EXAMPLE}, "endEvent": {{"type": "session.ended"}}}}')
    if written is None:
        return None
    place.only(written, KEYS)
    before = len(place.names.faults)
    start, end = _end(written, "startEvent", place), _end(written, "endEvent", place)
    unit = place.at("unit").choice(written["unit"], UNITS) if "unit" in written else "hours"
    params: list[tuple[str, Any]] = [("end", end)]
    if "matchProperty" in written:
        params.append(("property", _property(written["matchProperty"], place.at("matchProperty"), (start, end))))
    checks = read_number_checks(written["duration"], place.at("duration")) if "duration" in written else ()
    if start is None or end is None or unit is None or checks is None or _is_refused(place, before):
        return None
    asked = tuple(sorted(((check.operator, check.operand) for check in checks), key=itemgetter(0)))
    params += [("start", start), ("unit", unit), ("checks", asked)]
    fold = place.fold("pairs", tuple(sorted(params)), match=of_types(place.match, tuple({start[0], end[0]})))
    thresholds = ((("duration", Frozen(asked)),) if checks else ()) + (("unit", unit),)
    return Test(fold, "pairs", (), "$duration", place.path, params=thresholds)


def _end(written: Mapping[str, Any], key: str, place: Place) -> tuple[str, tuple[Any, ...]] | None:
    """(type, conditions) of one end of the pair."""
    if key not in written:
        place.fault("missing_field", f"$duration has no {key}.", f'Write "{key}": {_EXAMPLE}.')
        return None
    here = place.at(key)
    end = here.object(written[key], f'"{key}": {_EXAMPLE}')
    if end is None:
        return None
    if "type" not in end:
        here.fault("bad_operand", f"{key} does not name a type of event.", f'Write "{key}": {_EXAMPLE}.')
        return None
    name = here.at("type").text(end["type"], _EXAMPLE)
    kind = None if name is None else place.names.event_type(name, here.at("type").path)
    conditions = {field: condition for field, condition in end.items() if field != "type"}
    seen = of_types(EVERYTHING, UNKNOWN if kind is None else (kind,))
    clauses = read_fields(conditions, here.seeing(seen))
    if kind is None:
        return None
    found = of_types(EVERYTHING, (kind,), clauses).clauses
    return kind, tuple((clause.field, clause.operator, clause.operand) for clause in found)


def _property(value: Any, place: Place, ends: tuple[tuple[str, Any] | None, ...]) -> str | None:
    """The payload field whose value both ends share."""
    name = place.text(value, '"matchProperty": "session_id"')
    types = tuple({end[0] for end in ends if end is not None})
    if name is not None and types:
        place.seeing(of_types(EVERYTHING, types)).known_field(name)
    return name


def _is_refused(place: Place, before: int) -> bool:
    return any(fault.severity == "error" for fault in place.names.faults[before:])


def duration_verdict(
    facts: Mapping[str, Any], params: Mapping[str, Any], _now_us: int, _calendar: Calendar
) -> tuple[bool, dict[str, Any]]:
    """Whether some pair fits; told is the first that does, else the last, and the extremes of all in the unit."""
    if not facts["pairs"]:
        return False, {}
    unit = UNITS[params["unit"]]
    return facts["fits"], {
        "start_event_id": facts["start_event_id"],
        "end_event_id": facts["end_event_id"],
        "shortest_duration": Fraction(facts["shortest_us"], unit),
        "longest_duration": Fraction(facts["longest_us"], unit),
    }


DURATION = Operator("$duration", read)
