"""JSON to formula: a flow, or a milestone's rule, as nodes; everything unknown is refused with its place.

Nothing is raised for what an author wrote: all faults at once are added to `names.faults`, each with the pointer to the
smallest wrong place and what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.rules.ir import Node
from worker.rules.operators import CRITERIA_OPERATORS, FLOW_OPERATORS
from worker.rules.operators.event import read_leaf
from worker.rules.operators.milestone import read_rule
from worker.rules.operators.names import Metric, Names
from worker.rules.operators.place import MAX_DEPTH, Place, Reading, cut, described, listed, offer, shown

__all__ = ["Metric", "Names", "parse_flow", "parse_milestone"]

_EXAMPLE = '{"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 10}}}'
_UNSUPPORTED = {
    "steps": 'Write the order of events as {"$sequence": {"sequence": ["a.done", "b.done"]}}.',
    "condition": f"Write the condition as a flow: {_EXAMPLE}.",
}


def parse_flow(flow: Any, *, path: str, names: Names) -> Node | None:
    """The formula of a flow that stands at `path`; None where an error was added to `names.faults`.

    Warnings (`no_effect`) may be added for a flow that is read.
    """
    before = len(names.faults)
    node = _flow(flow, Place(Reading(names, _flow), path))
    return None if any(fault.severity == "error" for fault in names.faults[before:]) else node


def parse_milestone(definition: Mapping[str, Any], *, path: str, names: Names) -> tuple[Node, str] | None:
    """The formula of a milestone and the canonical type of its `trigger_event`; None where an error was added.

    Reads `trigger_event`, `rule_type` and `rule_data`; the other keys are the catalog's.
    """
    before = len(names.faults)
    place = Place(Reading(names, _flow), path)
    trigger = _trigger(definition, place)
    node = read_rule(definition, place, trigger)
    if node is None or trigger is None or any(fault.severity == "error" for fault in names.faults[before:]):
        return None
    return node, trigger


def _trigger(definition: Mapping[str, Any], place: Place) -> str | None:
    if "trigger_event" not in definition:
        place.fault("missing_key", "The milestone has no trigger_event.", 'Write "trigger_event": "habit.completed".')
        return None
    here = place.at("trigger_event")
    name = here.text(definition["trigger_event"], '"habit.completed"')
    trigger = None if name is None else place.names.event_type(name, here.path)
    if trigger is not None and definition.get("rule_type") == "return_after_gap" and not place.names.is_login(trigger):
        here.fault(
            "bad_operand",
            f"return_after_gap looks at logins, and {trigger} is none.",
            "Name a login event such as UserLoggedIn, or write login: true at this event type.",
        )
        return None
    return trigger


def _flow(flow: Any, place: Place) -> Node | None:
    """One flow object: an event leaf or exactly one operator."""
    if place.depth >= MAX_DEPTH:
        place.fault("bad_operand", f"This flow is nested deeper than {MAX_DEPTH} levels.", "Write it flatter.")
        return None
    if not place.counts():
        return None
    if not isinstance(flow, Mapping) or not flow:
        place.fault("flow_definition_required", f"A flow must stand here, not {described(flow)}.", f"Write {_EXAMPLE}.")
        return None
    if _older_format(flow, place):
        return None
    operators = [key for key in flow if key.startswith("$") or key in FLOW_OPERATORS]
    if len(operators) + ("event" in flow) > 1:
        words = [*(["event"] if "event" in flow else []), *map(cut, operators)]
        place.fault(
            "multiple_operators",
            f"This flow has {listed(words)} side by side.",
            "Write one of them, or join them: " + '{"$and": [{…}, {…}]}.',
        )
        return None
    if "event" in flow:
        return read_leaf(flow, place, CRITERIA_OPERATORS, FLOW_OPERATORS)
    if not operators:
        place.fault(
            "event_type_required",
            f"This flow names neither an event type nor an operator, only {listed([shown(key) for key in flow])}.",
            f"Write {_EXAMPLE}.",
        )
        return None
    place.only(flow, operators)
    return _operator(operators[0], flow[operators[0]], place.at(operators[0]))


def _older_format(flow: Mapping[str, Any], place: Place) -> bool:
    """Whether the flow is of a format that is refused by name."""
    for key, remedy in _UNSUPPORTED.items():
        if key in flow:
            place.at(key).fault("unsupported_format", f"A flow of `{key}` is of a format that is not taken.", remedy)
            return True
    if "pattern" in flow and "event" not in flow:
        place.fault(
            "missing_pattern_wrapper",
            "A pattern stands here without its operator.",
            'Write {"$pattern": {"pattern": …, "periodType": …}}.',
        )
        return True
    return False


def _operator(word: str, operand: Any, place: Place) -> Node | None:
    if (operator := FLOW_OPERATORS.get(word)) is not None:
        return operator.read(operand, place)
    if word in CRITERIA_OPERATORS:
        remedy = f'Write it inside an event\'s criteria: {{"event": "comment.posted", "criteria": {{"{word}": …}}}}.'
        place.fault("unknown_operator", f"{word} may not stand as a flow of its own.", remedy)
    else:
        place.fault("unknown_operator", f"There is no operator {shown(word)}.", offer(word, FLOW_OPERATORS))
    return None
