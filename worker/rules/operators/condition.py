"""`$condition`: whether a condition of the author's own, in JavaScript, said yes to an event.

Written inside `criteria`: `{"$condition": {"type": "big_order", "params": {"min": 100}}}`; the types stand in the
catalog's `condition_types`. Met once it said yes to one of the filtered events. No JavaScript runs here: the answer
comes with the event (`Event.verdicts`); a fault is no yes, nor is an event that nobody asked about, as where the type
was parked by then. Remembered per user: five numbers and the first event with a yes; at most these, in a window that
moves with now an entry for each of its events (`sliding.py`); read from the event log: nothing as events come, all of
the user's after a late one. The fold's identity holds the hash of source and params. Source: document 3 "Core
Components", the format beyond the documents.
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping
from operator import add
from typing import TYPE_CHECKING, Any

from worker.rules.ir import Node, Test
from worker.rules.operators.checks import AT_LEAST_ONE
from worker.rules.operators.kind import Kind, State
from worker.rules.operators.place import Operator, Place, described

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar

_EXAMPLE = '{"type": "big_order", "params": {"min": 100}}'


class Answers(Kind):
    """State: [yes, no, errors, unasked, first_us, first_source, first_id], the first event with a yes or three nulls.

    Behind them, where there are any, how many events were not asked about for the type was parked. Params: condition
    (the hash). Facts: yes_count, no_count, error_count, unasked_count, parked_count, event_id, yes_us.
    """

    name = "condition"
    local = False
    joins = True

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        answer = None if event.verdicts is None else event.verdicts.get(params["condition"])
        if answer == "yes":
            return [1, 0, 0, 0, event.occurred_us, event.source, event.id]
        if answer == "parked":
            return [0, 0, 0, 0, None, None, None, 1]
        return [0, int(answer == "no"), int(answer == "error"), int(answer is None), None, None, None]

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if a is None or b is None:
            return b if a is None else a
        firsts = [list(one[4:7]) for one in (a, b) if one[0]]
        parked = sum(a[7:]) + sum(b[7:])
        behind = [parked] if parked else []
        return [*map(add, a[:4], b[:4]), *min(firsts, default=[None, None, None]), *behind]

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        yes, no, errors, unasked, first_us, _, first_id, *parked = state or (0, 0, 0, 0, None, None, None)
        return {
            "yes_count": yes,
            "no_count": no,
            "error_count": errors,
            "unasked_count": unasked,
            "parked_count": sum(parked),
            "event_id": first_id,
            "yes_us": first_us,
        }


def answered(facts: Mapping[str, Any]) -> bool:
    """Whether the condition said anything, or had nothing to say it of."""
    silent = facts["error_count"] or facts["unasked_count"] or facts["parked_count"]
    return bool(facts["yes_count"] or facts["no_count"]) or not silent


def read(value: Any, place: Place) -> Node | None:
    """The test that there was a yes."""
    written = place.object(value, _EXAMPLE)
    if written is None:
        return None
    place.only(written, ("type", "params"))
    name, params = written.get("type"), written.get("params", {})
    if not isinstance(name, str) or not name:
        here, found = (place.at("type"), described(name)) if "type" in written else (place, "nothing")
        message = f"`type` names one of the catalog's condition types, not {found}."
        here.fault("bad_operand", message, f"Write {_EXAMPLE}.")
        return None
    if not isinstance(params, Mapping):
        place.at("params").fault(
            "bad_operand", f"`params` is an object, not {described(params)}.", "Write {} or leave it out."
        )
        return None
    if "params" not in written and len(written) > 1:
        return None  # a key that is not known stands where they should
    known = place.names.condition(name, params, place.path)
    if known is None:
        return None
    fold = place.fold("condition", (("condition", known),))
    shows = (("event_id", "condition_event_id"),)
    return Test(fold, "yes_count", AT_LEAST_ONE, "$condition", place.path, shows, (("type", name),))


CONDITION = Operator("$condition", read)
