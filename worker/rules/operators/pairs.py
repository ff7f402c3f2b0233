"""Pairs of a start and the end that closed it, and how long they took.

Remembered per user: the starts that are still open, the newest 1,000 of them, and five figures and one pair of ids. A
trail: an end closes the latest start before it. Source: document 4 "Duration Criteria".
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from worker.rules.ir import Check, Clause
from worker.rules.operators.calendar import FIXED, Calendar
from worker.rules.operators.distinct import canonical_text
from worker.rules.operators.facts import check_fact
from worker.rules.operators.kind import Noter, State, Stepper, Trail
from worker.rules.operators.values import MISSING, compile_clause, lookup

if TYPE_CHECKING:
    from worker.events.types import Event

UNITS = {"seconds": FIXED["s"], "minutes": FIXED["min"], "hours": FIXED["h"], "days": FIXED["d"]}
#: So many starts stay open, the newest.
MOST_OPEN = 1_000

#: What an event may do.
OPENS, CLOSES = 1, 2
_LONGEST = 64
_ANYWHERE = Calendar()


class Pairs(Trail):
    """State: [open, pairs, shortest, longest, fits, start_us, start_id, end_us, end_id, value]; `open` newest last.

    An open start is [us, value, id]; lengths are microseconds. An end closes the newest open start of the same value
    strictly before it; what is both closes first. Kept is the first pair whose length fits, until then the last one.

    Params: start and end, each (type, ((field, operator, operand), …)); property, where pairs share its value; checks,
    ((operator, operand), …) of the length in `unit`. Facts: pairs, fits, shortest_us, longest_us, start_us, end_us,
    start_event_id, end_event_id, and value, a text.
    """

    name = "pairs"
    local = False

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        return self.stepper(params)(state, event, calendar)

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        note, fits = self.noter(params), fitting(params)

        def step(state: State | None, event: Event, calendar: Calendar) -> State | None:
            noted = note(event, calendar)
            return state if noted is None else _after(state, event.occurred_us, noted, fits)

        return step

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        _, pairs, shortest, longest, fits, start_us, start_id, end_us, end_id, value = state or (None, 0, *(None,) * 8)
        return {
            "pairs": pairs,
            "fits": bool(fits),
            "shortest_us": shortest,
            "longest_us": longest,
            "start_us": start_us,
            "end_us": end_us,
            "start_event_id": start_id,
            "end_event_id": end_id,
            "value": value,
        }

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any | None:
        return self.noter(params)(event, calendar)

    def noter(self, params: Mapping[str, Any]) -> Noter:
        """[start 1, end 2 or both 3; value; id] of an event that is either and has a value to share."""
        starts, ends, shared = _compiled(params["start"]), _compiled(params["end"]), params.get("property")

        def note(event: Event, _calendar: Calendar) -> Any | None:
            role = OPENS * starts(event) | CLOSES * ends(event)
            if not role:
                return None
            value = "" if shared is None else _text(lookup(event.payload, shared))
            return None if value is None else [role, value, event.id]

        return note

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        fits = fitting(params)
        state = None
        for at in range(0, len(entries), 2):
            state = _after(state, entries[at], entries[at + 1], fits)
        return state


def _after(state: State | None, us: int, note: Sequence[Any], fits: Callable[[int], bool]) -> State | None:
    """The memory with one more event that starts, ends or both."""
    role, value, key = note
    opened, pairs, *figures = state or [[], 0, None, None, 0, None, None, None, None, None]
    changed = False
    if role & CLOSES and (at := closed(opened, value, us)) is not None:
        start_us, _, start_id = opened[at]
        opened = [*opened[:at], *opened[at + 1 :]]
        length, (shortest, longest, fitted, *_) = us - start_us, figures
        if not fitted:
            figures[2:] = [int(fits(length)), start_us, start_id, us, key, value]
        figures[:2] = [length, length] if shortest is None else [min(length, shortest), max(length, longest)]
        pairs, changed = pairs + 1, True
    if role & OPENS:
        opened, changed = [*opened, [us, value, key]][-MOST_OPEN:], True
    return [opened, pairs, *figures] if changed else state


def closed(opened: Sequence[Any], value: str, us: int) -> int | None:
    """Which open start an end at this instant closes."""
    for at in range(len(opened) - 1, -1, -1):
        if opened[at][1] == value and opened[at][0] < us:
            return at
    return None


def fitting(params: Mapping[str, Any]) -> Callable[[int], bool]:
    """Whether a pair that took so long is one that is asked for."""
    checks = [Check(operator, operand) for operator, operand in params["checks"]]
    unit = UNITS[params["unit"]]
    return lambda length: all(check_fact(check, Fraction(length, unit), 0, _ANYWHERE) for check in checks)


def _compiled(end: Sequence[Any]) -> Callable[[Event], bool]:
    kind, conditions = end
    clauses = [compile_clause(Clause(*condition)) for condition in conditions]
    return lambda event: event.type == kind and all(clause(event.payload) for clause in clauses)


def _text(value: Any) -> str | None:
    """One text per JSON value, equal where the values are; None where there is none."""
    if value is MISSING:
        return None
    text = _json(value)
    return text if len(text) <= _LONGEST else "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _json(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = (f"{json.dumps(key, ensure_ascii=False)}:{_json(value[key])}" for key in sorted(value))
        return f"{{{','.join(parts)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_json, value))}]"
    return canonical_text(value) or "null"
