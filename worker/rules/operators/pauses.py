"""The pauses between one event and the next: the shortest and the longest.

Remembered per user: six numbers, whatever the history. A trail: between two events another one may come late. Source:
document 4 "Gap Criteria".
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import State, Trail

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar


class Pauses(Trail):
    """State: [count, first_us, last_us, shortest, its end, longest, its end]; four are None at first.

    Facts: event_count, first_us, last_us; min_gap_us and max_gap_us (microseconds), min_gap_end_us and max_gap_end_us:
    when the first pause so short, so long was over. Events at one instant have a pause of 0 between them.
    """

    name = "pauses"
    local = False

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        return _after(state, event.occurred_us)

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        count, first, last, shortest, short_end, longest, long_end = state or (0, *(None,) * 6)
        return {
            "event_count": count,
            "first_us": first,
            "last_us": last,
            "min_gap_us": shortest,
            "min_gap_end_us": short_end,
            "max_gap_us": longest,
            "max_gap_end_us": long_end,
        }

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any:
        return 1

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        state = None
        for us in entries[::2]:
            state = _after(state, us)
        return state


def _after(state: State | None, us: int) -> State:
    """The memory with one more event, at or after its last one."""
    if state is None:
        return [1, us, us, None, None, None, None]
    count, first, last, shortest, short_end, longest, long_end = state
    pause = us - last
    if shortest is None:
        return [count + 1, first, us, pause, us, pause, us]
    if pause < shortest:
        shortest, short_end = pause, us
    if pause > longest:
        longest, long_end = pause, us
    return [count + 1, first, us, shortest, short_end, longest, long_end]
