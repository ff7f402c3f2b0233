"""How many events there were in each calendar period, from the first active one to the last.

Remembered per user: one pair of integers per active period among the newest 3,650 periods, and the first period of all,
threshold-free. The newest period's number stands apart, so that an event in it makes four new integers and shares the
rest: only an event that opens a period (or a late one) copies the older pairs, at most 3,649 of them. Source:
document 4 "Pattern Criteria"; the bound is that of decisions 6.
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import Kind, State

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar

#: A series has at most as many periods, the newest ones.
MOST_PERIODS = 3_650


class Tally(Kind):
    """State: [first, last, number in last, [period, number, …]], the older active periods in order. Params: period.

    Periods are keys of `Calendar.period`. Facts: period_type, start (the series' first period, None where there is
    none) and counts, the number of events of each period from there on, empty ones 0.
    """

    name = "tally"

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        key = calendar.period(event.occurred_us, params["period"])
        return [key, key, 1, []]

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> int:
        return calendar.period(event.occurred_us, params["period"])

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        return _counted(state, calendar.period(event.occurred_us, params["period"]), 1)

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if a is None or b is None:
            return b if a is None else a
        if len(a[3]) < len(b[3]):
            a, b = b, a
        merged = a
        for at in range(0, len(b[3]), 2):
            merged = _counted(merged, b[3][at], b[3][at + 1])
        merged = _counted(merged, b[1], b[2])
        return [min(a[0], b[0]), *merged[1:]]

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        if state is None:
            return {"period_type": params["period"], "start": None, "counts": []}
        first, last, newest, older = state
        start = max(first, last - MOST_PERIODS + 1)
        counts = [0] * (last - start) + [newest]
        for at in range(0, len(older), 2):
            counts[older[at] - start] = older[at + 1]
        return {"period_type": params["period"], "start": start, "counts": counts}

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        return of_numbers(Counter(entries[1::2]))


def of_numbers(numbers: Mapping[int, int]) -> State | None:
    """The memory of so many events in each period."""
    if not numbers:
        return None
    keys = sorted(numbers)
    kept = keys[bisect_left(keys, keys[-1] - MOST_PERIODS + 1) : -1]
    return [keys[0], keys[-1], numbers[keys[-1]], [part for key in kept for part in (key, numbers[key])]]


def _counted(state: State | None, key: int, number: int) -> State:
    """The memory with so many more events in a period."""
    if state is None:
        return [key, key, number, []]
    first, last, newest, older = state
    if key == last:
        return [first, last, newest + number, older]
    first = min(first, key)
    if key > last:
        dropped = bisect_left(older[::2], key - MOST_PERIODS + 1)
        kept = older[2 * dropped :] if dropped else older
        return [first, key, number, [*kept, last, newest] if last > key - MOST_PERIODS else []]
    if key <= last - MOST_PERIODS:
        return state if first == state[0] else [first, last, newest, older]
    at = 2 * bisect_left(older[::2], key)
    if at < len(older) and older[at] == key:
        return [first, last, newest, [*older[: at + 1], older[at + 1] + number, *older[at + 2 :]]]
    return [first, last, newest, [*older[:at], key, number, *older[at:]]]
