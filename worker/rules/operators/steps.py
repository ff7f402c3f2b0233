"""How far a user came along a series of event types, one after the other.

Remembered per user: for each step but the last the newest time that the steps up to it were done, with the ids of the
events that did them, and where several events fall on one instant also the time before; so at most one instant a step
and, of n steps, n * n ids (n is at most `sequence.MAX_STEPS`). Once all steps were done, only how. The newest time is
enough: whatever may follow an older one may follow it as well. A trail: what lies between two events may come late.
Source: document 4 "Sequence Criteria".
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from worker.rules.operators.kind import State, Stepper, Trail

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar

#: The memory, an instant, a type and an id, to the memory after that event.
Advance = Callable[[State | None, int, str, str], State | None]
#: The ways to the steps: those of now and before it, or where something may come between, the newest and the stale.
Ways = list[Any]


class Steps(Trail):
    """State: [steps, us, between, now_us, newest, before] on the way, [steps, us, start_us, ids] once all are done.

    `steps` is the most steps ever done, `us` when they last were, `between` the type that came where another was due
    (strict; "": that other one, too late). `newest` has for each step but the last None or [us, start_us, id, id, …]:
    the newest way to it. Not strict: `before` has those that stood in its place before now_us. Strict: `newest` has
    only those at now_us, `before` those at the instant before, which nothing lies between.

    Params: sequence (types); gap_us where a step may take no longer; strict. Facts: reached_steps, reached_us,
    sequence_found, start_event_id, end_event_id, sequence_event_ids, missing_event_type, start_us, between.
    """

    name = "steps"
    local = False

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        return self.stepper(params)(state, event, calendar)

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        advance = _advance(params)
        return lambda state, event, _calendar: advance(state, event.occurred_us, event.type, event.id)

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        sequence = params["sequence"]
        steps, us = (0, None) if state is None else state[:2]
        found = steps == len(sequence)
        start_us, ids = state[2:] if found and state is not None else (None, None)
        return {
            "reached_steps": steps,
            "reached_us": us,
            "sequence_found": found,
            "start_event_id": None if ids is None else ids[0],
            "end_event_id": None if ids is None else ids[-1],
            "sequence_event_ids": None if ids is None else list(ids),
            "missing_event_type": None if found else sequence[steps],
            "start_us": start_us,
            "between": None if found or state is None else state[2] or None,
        }

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any:
        return [event.type, event.id]

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        advance = _advance(params)
        state = None
        for at in range(0, len(entries), 2):
            state = advance(state, entries[at], *entries[at + 1])
        return state


def _advance(params: Mapping[str, Any]) -> Advance:
    """The step for one series, by instant, type and id."""
    sequence, strict, extend = params["sequence"], params.get("strict", False), ways(params)
    none: Ways = [None] * (len(sequence) - 1)
    start: list[Any] = [0, None, None, None, none, none]

    def advance(state: State | None, us: int, kind: str, key: str) -> State | None:
        if state is not None and state[0] == len(sequence):
            return state
        steps, at_us, between, now_us, newest, stale = state or start
        done, ending, before = extend(newest, stale, us, kind, key, same=us == now_us)
        if len(sequence) - 1 in done:
            _, start_us, *ids = done[len(sequence) - 1]
            return [len(sequence), us, start_us, ids]
        if done:
            furthest = max(done) + 1
            if furthest >= steps:
                steps, at_us, between = furthest, us, None
        elif not strict:
            return state
        if strict and steps and us > at_us and between is None:
            between = "" if kind == sequence[steps] else kind
        elif not done and (us == now_us or not (any(newest) or any(stale))):
            return state
        return [steps, at_us, between, us, ending, before]

    return advance


class Extend(Protocol):
    """What `ways` gives: the newest ways to each step but the last and those before, to the ways that an event ends."""

    def __call__(
        self, newest: Ways, before: Ways, us: int, kind: str, key: str, *, same: bool
    ) -> tuple[dict[int, Ways], Ways, Ways]:
        """The ways it ends, by step, the last one among them; and both lists after it. `same`: as the event before."""


def ways(params: Mapping[str, Any]) -> Extend:
    """How an event goes on from the ways there are, for one series; `Steps` says what is kept of them."""
    sequence, most, strict = params["sequence"], params.get("gap_us"), params.get("strict", False)
    places: dict[str, list[int]] = {}
    for number, kind in enumerate(sequence):
        places.setdefault(kind, []).append(number)
    none: Ways = [None] * (len(sequence) - 1)

    def extend(
        newest: Ways, before: Ways, us: int, kind: str, key: str, *, same: bool
    ) -> tuple[dict[int, Ways], Ways, Ways]:
        if not same:
            before, newest = (newest, none) if strict else (none, newest)
        done: dict[int, Ways] = {}
        for number in places.get(kind, ()):
            way = _extended(newest, before, number, us, key, most=most, strict=strict)
            if way is not None:
                done[number] = way
        if not done:
            return done, newest, before
        if not strict:
            replaced = [number for number in done if number < len(none) and _is_older(newest[number], us)]
            before = [newest[at] if at in replaced else way for at, way in enumerate(before)]
        return done, [done.get(at, way) for at, way in enumerate(newest)], before

    return extend


def _is_older(way: Ways | None, us: int) -> bool:
    return way is not None and way[0] < us


def _extended(
    newest: list[Any], before: list[Any], number: int, us: int, key: str, *, most: int | None, strict: bool
) -> list[Any] | None:
    """The way to a step by an event at this instant; None where no way led to the step before it."""
    if number == 0:
        return [us, us, key]
    way = newest[number - 1]
    if strict or way is None or way[0] == us:
        way = before[number - 1]
    if way is None or (most is not None and us - way[0] > most):
        return None
    return [us, *way[1:], key]
