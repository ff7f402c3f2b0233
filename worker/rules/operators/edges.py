"""When something happened for the first time, or for the last.

Remembered per user: one event's instant, source and id. Source: the catalog's metrics, `{first: …}` and `{last: …}`.
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.events.instants import format_instant
from worker.rules.operators.kind import Kind, State

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar


class First(Kind):
    """State: [us, source, id] of the earliest event. Facts: at_us (an instant), at (RFC 3339), event_id."""

    name = "first"
    local = False
    joins = True

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        return [event.occurred_us, event.source, event.id]

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if a is None or b is None:
            return b if a is None else a
        return a if list(a) <= list(b) else b

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        if state is None:
            return {"at_us": None, "at": None, "event_id": None}
        return {"at_us": state[0], "at": format_instant(state[0]), "event_id": state[2]}


class Last(First):
    """State: [us, source, id] of the latest event. Facts: as of First."""

    name = "last"

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if a is None or b is None:
            return b if a is None else a
        return a if list(a) >= list(b) else b
