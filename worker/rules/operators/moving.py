"""Memory over a window that moves with now: the events that may still lie in it, one entry each.

Remembered per user: the matching events of the look-back, the newest `cap` of them once the window holds as many
where the plan sets a cap (`may_cap`), else as many as the look-back holds; a match without a lower bound (`$lt:
"$NOW(-1M)"`) keeps all of them. Where now bounds the window on its far side only, other keepers than this one
(`sliding.py`, `newest.py`, `tallied.py`, `stepped.py`, `paired.py`) hold the cost of an event however much the window
holds, but for counts, which are kept here, and a window around a latch (`latch.py`), whose cost grows with it; and
where now bounds it on its near side only, by a fixed length, `settled.py`. Source: documents 4 "Time Window Criteria"
(`last`) and 5 "Window Count Rule"; `$NOW` of the rule engine guide.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from sys import maxsize
from typing import TYPE_CHECKING, Any

from worker.rules.ir import Bound, Fold, Moment
from worker.rules.operators.calendar import FIXED, MAX_US, MIN_US, Calendar
from worker.rules.operators.kind import Around, Kind, State, Stepper, Trail
from worker.rules.operators.sliding import PIECE, appended, cut, is_behind, newest

if TYPE_CHECKING:
    from worker.events.types import Event

#: A calendar step back from a later now may land earlier: 30 and 31 March both clamp to 28 February; clocks change; on
#: 1 March the month before has 28 days, and 31 once the user is in a zone where it is February still. By less than this
#: many microseconds a step.
_SLACK = 5 * FIXED["d"]
#: A longer window is kept in pieces: numbers in a flat list.
_LONG = 4 * PIECE


class Moving(Around):
    """A counter or trail over a match with moving bounds. State: a flat list, instant, note, instant, note …, in order.

    A long one that `keeps_window` is [entries, piece, piece, …], each piece such a list.

    But for such a count, facts are worked out again from all of the window whenever they are asked for.
    """

    name = "moving"

    __slots__ = ("_lower", "bounds", "cap", "keeps_window", "kind")

    def __init__(self, kind: Kind | Trail, bounds: tuple[Bound, ...], cap: int | None = None) -> None:
        self.kind = kind
        self.bounds = bounds
        self.cap = cap
        #: Whether the state, right after a step, is the window and nothing else.
        self.keeps_window = kind.name == "count" and all(
            bound.operator == "$gte" and rises_with_now(bound.moment) for bound in bounds
        )
        self._lower = tuple(bound.moment for bound in bounds if bound.operator in ("$gte", "$gt", "$eq"))

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        return self.stepper(params)(state, event, calendar)

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        length = self._length()
        if self.keeps_window and length is not None:
            return _window_of(length, self.cap)
        note, within, horizon = self.kind.noter(params), self.within, self._horizon(length)
        most = None if self.cap is None else 2 * self.cap

        def step(state: State | None, event: Event, calendar: Calendar) -> State | None:
            noted = note(event, calendar)
            if noted is None:
                return state
            now_us = event.occurred_us
            earlier: list[Any] = _later(state or [], horizon(now_us, calendar))
            kept = earlier + [now_us, noted]  # noqa: RUF005 - as in _window_of
            # Not before the window held as many, and all were told: a calendar bound may step back at any event.
            held_as_many = most is not None and state and len(within(state, state[-2], calendar)) >= most
            return kept[-most:] if most is not None and held_as_many else kept

        return step

    def horizon(self) -> Callable[[int, Calendar], int]:
        """From now to the instant further back than which no now from there on looks."""
        return self._horizon(self._length())

    def _length(self) -> int | None:
        """How far the window looks back where that is one length, in microseconds; a negative one looks ahead."""
        lengths = []
        for moment in self._lower:
            if moment.at_us is not None or len(moment.steps) > 1 or any(unit not in FIXED for _, unit in moment.steps):
                return None
            lengths.append(-sum(amount * FIXED[unit] for amount, unit in moment.steps))
        return min(lengths, default=None)

    def _horizon(self, length: int | None) -> Callable[[int, Calendar], int]:
        """From now to the instant further back than which no now from there on looks."""
        if length is not None:
            return lambda now_us, _: min(max(now_us - length, MIN_US), MAX_US)
        lower = self._lower
        return lambda now_us, calendar: max((_earliest(moment, now_us, calendar) for moment in lower), default=MIN_US)

    def within(self, state: State | None, now_us: int, calendar: Calendar) -> list[Any]:
        """What is within the bounds as of now, in order: a flat list as the state is."""
        entries: list[Any] = state or []
        if entries and entries[1].__class__ is list and self.keeps_window:
            entries = [item for piece in entries[1:] for item in piece]
        instants = entries[::2]
        low, high, left_out = 0, bisect_right(instants, now_us), []
        for bound in self.bounds:
            at = calendar.shift(now_us, bound.moment)
            if bound.operator in ("$gte", "$eq"):
                low = max(low, bisect_left(instants, at))
            if bound.operator == "$gt":
                low = max(low, bisect_right(instants, at))
            if bound.operator in ("$lte", "$eq"):
                high = min(high, bisect_right(instants, at))
            if bound.operator == "$lt":
                high = min(high, bisect_left(instants, at))
            if bound.operator == "$ne":
                left_out.append(at)
        if not left_out:
            return entries[2 * low : 2 * high]
        kept = [at for at in range(low, high) if instants[at] not in left_out]
        return [item for at in kept for item in entries[2 * at : 2 * at + 2]]

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        if state and state[1].__class__ is list and self.keeps_window and state[-1][-2] <= now_us:
            start = max(calendar.shift(now_us, bound.moment) for bound in self.bounds)
            return self.told(_counted(state, start), now_us, params, calendar)
        return self.told(self.gather(self.within(state, now_us, calendar), params), now_us, params, calendar)


def may_cap(fold: Fold) -> bool:
    """Whether keeping only the newest K entries leaves every answer to `unit fact >= K` as it is.

    It does where each entry adds one to the unit fact and now bounds the window on its far side only.
    """
    return fold.kind in ("count", "distinct", "periods") and is_behind(fold.match.bounds)


def rises_with_now(moment: object) -> bool:
    """Whether a later now always means a later instant: not so for months, as 30 and 31 March may mean 28 February."""
    return isinstance(moment, Moment) and all(unit in FIXED for _, unit in moment.steps)


def _window_of(length: int, cap: int | None) -> Stepper:
    """The step of a count over the last so many microseconds: what a busy user's every event takes."""
    most = maxsize if cap is None else 2 * cap

    def step(state: State | None, event: Event, calendar: Calendar) -> State:  # noqa: ARG001 - a Stepper
        now_us = event.occurred_us
        if not state:
            return [now_us, event.id]
        if state[1].__class__ is list:
            return _next_in_pieces(state, now_us, event.id, min(max(now_us - length, MIN_US), MAX_US), most // 2)
        size = len(state)
        at = 0 if size < most else size + 2 - most
        if at < size and state[at] < now_us - length:
            start = min(max(now_us - length, MIN_US), MAX_US)
            while at < size and state[at] < start:
                at += 2
        # Not a display, which would take more memory than it holds.
        kept: list[Any] = (state[at:] if at else state) + [now_us, event.id]
        return kept if len(kept) <= _LONG else [len(kept) // 2, *cut(kept)]

    return step


def _next_in_pieces(state: list[Any], now_us: int, key: str, start: int, most: int) -> State:
    """The step of a long window, [entries, piece, piece, …]: of its pieces the first and the last are copied."""
    count, at = state[0] + 1, 1
    while at < len(state) and state[at][-2] < start:
        count -= len(state[at]) // 2
        at += 1
    pieces = state[at:]
    if pieces:
        head, low = pieces[0], max(count - most, 0)
        while 2 * low < len(head) and head[2 * low] < start:
            low += 1
        if low:
            count -= low
            pieces = [head[2 * low :], *pieces[1:]] if 2 * low < len(head) else pieces[1:]
    return [count, *appended(pieces, now_us, key)]


def held(state: list[Any]) -> int:
    """How many entries a window that `keeps_window` holds."""
    return int(state[0]) if state[1].__class__ is list else len(state) // 2


def _counted(state: list[Any], start: int) -> State | None:
    """What `Count.gather` makes of the entries of a long window from an instant on, of which two pieces are read."""
    count, *pieces = state
    at = bisect_left(pieces, start, key=newest)
    if at == len(pieces):
        return None
    first, last = pieces[at], pieces[-1]
    low = bisect_left(first[::2], start)
    count -= low + sum(map(len, pieces[:at])) // 2
    return [count, first[2 * low], "", first[2 * low + 1], last[-2], "", last[-1]]


def _later(entries: list[Any], start: int) -> list[Any]:
    """The entries from an instant on."""
    return entries[2 * bisect_left(entries[::2], start) :] if entries and entries[0] < start else entries


def _earliest(moment: Moment, now_us: int, calendar: Calendar) -> int:
    slack = 0 if moment.at_us is not None else _SLACK * sum(unit not in FIXED for _, unit in moment.steps)
    return calendar.shift(now_us, moment) - slack
