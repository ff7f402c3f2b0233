"""How many events there were, and which was the first and which the last.

Remembered per user: one number and two event ids, whatever the history. Source: document 4 "Event Count Criteria",
metadata keys of the event leaf.
"""

# ruff: noqa: ARG001, ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import Kind, State, Stepper

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar


def counted(state: State | None, event: Event, calendar: Calendar) -> State:
    """The memory with one more event, whatever the calendar."""
    us = event.occurred_us
    if state is None:
        return [1, us, event.source, event.id, us, event.source, event.id]
    count, first_us, first_source, first_id, last_us, last_source, last_id = state
    if us > last_us > first_us:
        return [count + 1, first_us, first_source, first_id, us, event.source, event.id]
    order = (us, event.source, event.id)
    first = min((first_us, first_source, first_id), order)
    last = max((last_us, last_source, last_id), order)
    return [count + 1, *first, *last]


class Count(Kind):
    """State: [count, first_us, first_source, first_id, last_us, last_source, last_id].

    Facts: event_count, first_event_id, last_event_id, first_us, last_us.
    """

    name = "count"
    local = False
    joins = True
    unit_fact = "event_count"

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        us, source, key = event.occurred_us, event.source, event.id
        return [1, us, source, key, us, source, key]

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        return counted(state, event, calendar)

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        return counted

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if a is None or b is None:
            return b if a is None else a
        return [a[0] + b[0], *min(list(a[1:4]), list(b[1:4])), *max(list(a[4:7]), list(b[4:7]))]

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        if state is None:
            return {"event_count": 0, "first_event_id": None, "last_event_id": None, "first_us": None, "last_us": None}
        count, first_us, _, first_id, last_us, _, last_id = state
        return {
            "event_count": count,
            "first_event_id": first_id,
            "last_event_id": last_id,
            "first_us": first_us,
            "last_us": last_us,
        }

    def level(self, state: State | None) -> int:
        return 0 if state is None else int(state[0])

    def single(self, us: int, note: Any) -> State:
        return [1, us, "", note, us, "", note]

    def join(self, a: State, b: State) -> State:
        """As of `gather`: what comes after is later."""
        return [a[0] + b[0], *a[1:4], *b[4:7]]

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any:
        return event.id

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        """Sources are left out: a window keeps its events in order without them, and no fact shows them."""
        if not entries:
            return None
        return [len(entries) // 2, entries[0], "", entries[1], entries[-2], "", entries[-1]]
