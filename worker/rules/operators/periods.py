"""In which calendar periods the user was active.

Remembered per user: one integer per active period (a day of activity every day for ten years: 3,650), or the earliest
`cap` of them where the plan sets a cap. Source: document 4 "Time Period Criteria".
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import Kind, State

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar


class Periods(Kind):
    """State: the keys of the active periods (`Calendar.period`), sorted. Params: period. Fact: unique_period_count."""

    name = "periods"
    unit_fact = "unique_period_count"

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        return [calendar.period(event.occurred_us, params["period"])]

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        key = calendar.period(event.occurred_us, params["period"])
        if not state:
            return [key]
        last, cap = state[-1], params.get("cap")
        if key >= last:
            return state if key == last or (cap is not None and len(state) >= cap) else [*state, key]
        at = bisect_left(state, key)
        if state[at] == key:
            return state
        return [*state[:at], key, *state[at:]][:cap]

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if not a or not b:
            return a or b or None
        return sorted({*a, *b})[:cap]

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        return sorted({one for note in entries[1::2] for one in note})[: params.get("cap")] or None

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"unique_period_count": len(state or ())}

    def level(self, state: State | None) -> int:
        return len(state or ())
