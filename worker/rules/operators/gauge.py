"""A figure that rises with some event types and falls with others.

Remembered per user: one number. Source: the catalog's metrics, `{count: …, less: …}`.
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import Kind, State

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar


class Gauge(Kind):
    """State: an int. Params: less, the event types that take one away; all others of the match add one. Fact: value."""

    name = "gauge"
    local = False
    joins = True
    unit_fact = "value"

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        return -1 if event.type in params["less"] else 1

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if a is None or b is None:
            return b if a is None else a
        return a + b

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"value": state or 0}

    def level(self, state: State | None) -> int:
        return int(state or 0)
