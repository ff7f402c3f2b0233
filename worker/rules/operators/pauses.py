"""The pauses between one event and the next: the shortest and the longest.

Remembered per user: seven numbers, whatever the history. A trail: between two events another one may come late. Source:
document 4 "Gap Criteria".
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
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
    joins = True

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        one = self.single(event.occurred_us, 1)
        return one if state is None else self.join(state, one)

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
        singles = [self.single(us, 1) for us in entries[::2]]
        return reduce(self.join, singles) if singles else None

    def single(self, us: int, note: Any) -> State:
        return [1, us, us, None, None, None, None]

    def join(self, a: State, b: State) -> State:
        """The pauses of both, and the one between them; of equal ones the first stays."""
        count, first, last, shortest, short_end, longest, long_end = a
        between = b[1] - last
        for least, least_end, most, most_end in ((between, b[1], between, b[1]), b[3:]):
            if least is not None and (shortest is None or least < shortest):
                shortest, short_end = least, least_end
            if most is not None and (longest is None or most > longest):
                longest, long_end = most, most_end
        return [count + b[0], first, b[2], shortest, short_end, longest, long_end]
