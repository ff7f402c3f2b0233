"""What one event costs each operator after a short history and after a long one, over the same periods: ratios.

The engine alone, no services: the same events are applied to a user with 100 events behind him and to one with 100,000,
in turn, and medians count. No badge here is ever earned, so each event is remembered and judged.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import monotonic, thread_time_ns
from typing import Any, Final

import msgspec

from worker.bench.cpu import machine
from worker.events import Event
from worker.events.json_text import dumps
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import apply, fold
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import UserState

Said = Callable[[str], None]
Json = dict[str, Any]

#: Every history covers as many days, however many events it has.
DAYS: Final = 100
#: Events in a user's history: the short one and the long one.
HISTORY: Final = (100, 100_000)
#: The most that the long history may cost, in times of the short one.
BOUND: Final = 1.5

_DAY_US: Final = 86_400_000_000
#: Monday, 1 January 2024.
_START_US: Final = 1_704_067_200_000_000
_MINUTE_US: Final = 60_000_000
_NEVER: Final = 10**9
#: A case that is slow is measured in fewer rounds, seconds.
_MOST_SECONDS: Final = 10.0
_LEAST_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: events of the two histories, rounds, and events a round."""

    mode: str
    history: tuple[int, int]
    rounds: int
    events: int


NORMAL: Final = Effort("normal", HISTORY, rounds=21, events=300)
QUICK: Final = Effort("quick", (100, 10_000), rounds=7, events=100)


@dataclass(frozen=True, slots=True)
class Case:
    """An operator in a flow that these events never satisfy, or in a badge that the user holds already (`held`).

    `sections` are what its catalog holds besides.
    """

    operator: str
    means: str
    flow: Json
    types: tuple[str, ...] = ("a.done",)
    sections: Json = field(default_factory=dict)
    held: bool = False


def _leaf(**criteria: Any) -> Json:
    return {"event": "a.done", "criteria": {f"${word}": operand for word, operand in criteria.items()}}


def _window(flow: Json, last: str = "30d") -> Json:
    return {"$timeWindow": {"last": last, "flow": flow}}


_MANY: Final = {"$gte": _NEVER}
_SUM: Final = {"type": "sum", "field": "n", "value": _MANY}
_DAYS_OF: Final = {"periodType": "day", "periodCount": {"$gte": 10 * DAYS}}
_PAIR: Final = {
    "startEvent": {"type": "a.done"},
    "endEvent": {"type": "b.done"},
    "matchProperty": "session",
    "duration": _MANY,
}
_STEADY: Final = {"pattern": "consistent", "periodType": "day", "minPeriods": 10 * DAYS}
_RISE: Final = {"pattern": "increasing", "periodType": "day", "minIncreasePct": 10**6}
_FALL: Final = {"pattern": "decreasing", "periodType": "day", "maxDecreasePct": 0.001}
_ABC: Final = {"$sequence": {"sequence": ["a.done", "b.done", "c.done"]}}
_STRICT_ABC: Final = {"$sequence": {**_ABC["$sequence"], "maxGapSeconds": 86_400, "requireStrict": True}}
_AB: Final = {"$sequence": {"sequence": ["a.done", "b.done"]}}
_BOTH: Final = ("a.done", "b.done")
_METRIC: Final = {"metrics": {"done": {"count": "a.done"}}}
_ASKED: Final = {"condition_types": [{"name": "asked", "source": "() => true"}]}
_METRICS: Final = {
    "metrics": {
        "level": {"count": "a.done", "less": "b.done"},
        "first": {"first": "a.done"},
        "last": {"last": "a.done"},
    }
}
_LONG_AGO: Final = {"$lt": "2000-01-01T00:00:00Z"}
_NOBODY: Final = {"badges": [{"key": "nobody", "flow": _leaf(eventCount=_MANY)}]}

#: At least one for each operator that authors may write.
CASES: Final = (
    Case("$eventCount", "so many events", _leaf(eventCount=_MANY)),
    Case("$timePeriod", "so many days", _leaf(timePeriod=_DAYS_OF)),
    Case(
        "$eventCount", "so many events of more than a week ago",
        {"event": "a.done", "criteria": {"timestamp": {"$lt": "$NOW(-7d)"}, "$eventCount": _MANY}},
    ),
    Case("$distinctCount", "so many different values", _leaf(distinctCount={"field": "item", **_MANY})),
    Case("$aggregate", "a sum", _leaf(aggregate=_SUM)),
    Case("$condition", "an answer that came with the event", _leaf(condition={"type": "asked"}), sections=_ASKED),
    Case("$gap", "a longest pause", {"$gap": {"maxGapHours": 0.001}}),
    Case("$pattern", "steady days", {"$pattern": _STEADY}),
    Case("$pattern", "rising days", {"$pattern": _RISE}),
    Case("$pattern", "falling days", {"$pattern": _FALL}),
    Case("$sequence", "a, b, then c", _ABC, _BOTH),
    Case("$sequence", "the same, strict and within a day", _STRICT_ABC, _BOTH),
    Case("$duration", "starts and their ends", {"$duration": _PAIR}, _BOTH),
    Case("$timeWindow", "50 in the last 30 days", _window(_leaf(eventCount={"$gte": 50})), held=True),
    Case("$timeWindow", "fewer than so many in the last month", _window(_leaf(eventCount={"$lt": 0}), "1m")),
    Case(
        "$timeWindow", "20 different values in the last 30 days, each event another",
        _window(_leaf(distinctCount={"field": "new", "$gte": 20})), held=True,
    ),
    Case(
        "$timeWindow", "an answer that came with the event in the last 30 days",
        _window(_leaf(condition={"type": "asked"})), sections=_ASKED,
    ),
    Case(
        "$timeWindow", "a metric that rises and falls in the last 30 days",
        _window({"snapshot": {"level": _MANY}}), _BOTH, sections=_METRICS,
    ),
    Case(
        "$timeWindow", "a metric's first event in the last 30 days",
        _window({"snapshot": {"first": _LONG_AGO}}), sections=_METRICS,
    ),
    Case(
        "$timeWindow", "a metric's last event in the last 30 days",
        _window({"snapshot": {"last": _LONG_AGO}}), sections=_METRICS,
    ),
    Case("$timeWindow", "days in the last 30 days", _window(_leaf(timePeriod=_DAYS_OF))),
    Case("$timeWindow", "a sum in the last 30 days", _window(_leaf(aggregate=_SUM))),
    Case("$timeWindow", "a longest pause in the last 30 days", _window({"$gap": {"maxGapHours": 0.001}})),
    Case("$timeWindow", "a, b, then c in the last 30 days", _window(_ABC), _BOTH),
    Case("$timeWindow", "the same, strict and each within a day", _window(_STRICT_ABC), _BOTH),
    Case(
        "$timeWindow", "a, then b in the last 30 days, time and again",
        {"$and": [_window(_AB), _leaf(eventCount=_MANY)]}, _BOTH,
    ),
    Case("$timeWindow", "starts and their ends in the last 30 days", _window({"$duration": _PAIR}), _BOTH),
    Case("$timeWindow", "steady days in the last 30 days", _window({"$pattern": _STEADY})),
    Case("$timeWindow", "rising days in the last 30 days", _window({"$pattern": _RISE})),
    Case("$timeWindow", "falling days in the last 30 days", _window({"$pattern": _FALL})),
    Case(
        "$timeWindow", "a sum between two dates",
        {"$timeWindow": {"start": "2024-01-01T00:00:00Z", "end": "2024-12-31T00:00:00Z",
                         "flow": _leaf(aggregate=_SUM)}},
    ),
    Case(
        "$withinTimeWindow", "both within an hour",
        {"$withinTimeWindow": {"window": "1h", "conditions": {"$and": [{"event": "a.done"}, {"event": "c.done"}]}}},
        _BOTH,
    ),
    Case(
        "$withinTimeWindow", "a, b, then c within a day",
        {"$withinTimeWindow": {"window": "1d", "conditions": _ABC}}, _BOTH,
    ),
    Case(
        "$withinTimeWindow", "starts and their ends within a day",
        {"$withinTimeWindow": {"window": "1d", "conditions": {"$duration": _PAIR}}}, _BOTH,
    ),
    Case(
        "$withinTimeWindow", "steady days within 30 days",
        {"$withinTimeWindow": {"window": "30d", "conditions": {"$pattern": _STEADY}}},
    ),
    Case(
        "$withinTimeWindow", "so many events within 30 days",
        {"$withinTimeWindow": {"window": "30d", "conditions": _leaf(eventCount=_MANY)}},
    ),
    Case(
        "$withinTimeWindow", "different values within 30 days",
        {"$withinTimeWindow": {"window": "30d", "conditions": _leaf(distinctCount={"field": "item", **_MANY})}},
    ),
    Case(
        "$withinTimeWindow", "an answer that came with the event within 30 days",
        {"$withinTimeWindow": {"window": "30d", "conditions": _leaf(condition={"type": "asked"})}}, sections=_ASKED,
    ),
    Case("$and", "of two", {"$and": [_leaf(eventCount=_MANY), _leaf(aggregate=_SUM)]}),
    Case("$or", "of two", {"$or": [_leaf(eventCount=_MANY), _leaf(aggregate=_SUM)]}),
    Case("$not", "of a count", {"$and": [{"$not": _leaf(eventCount={"$gte": 1})}, _leaf(eventCount=_MANY)]}),
    Case("snapshot", "a metric", {"snapshot": {"done": _MANY}}, sections=_METRIC),
    Case("badge", "a badge before it", {"$and": [{"badge": "nobody"}, {"event": "a.done"}]}, sections=_NOBODY),
)  # fmt: skip


def measure(effort: Effort, said: Said) -> Json:
    """Every case's cost after the short and the long history, as one JSON-ready object."""
    begun = monotonic()
    rows = []
    for case in CASES:
        row = _row(case, effort)
        said(f"{case.operator}, {case.means}: {row['ratio']:.2f} times")
        rows.append(row)
    return {
        "scenario": "operators",
        "mode": effort.mode,
        "days": DAYS,
        "history": list(effort.history),
        "operators": rows,
        "steepest": max(row["ratio"] for row in rows),
        "machine": machine(),
        "seconds": monotonic() - begun,
    }


def _row(case: Case, effort: Effort) -> Json:
    plan = compile_plan(catalog_from_document(document(case), 1))
    users = [user(plan, case, length) for length in effort.history]
    later = [following(case, number) for number in range(effort.events)]
    rounds: list[list[float]] = [[], []]
    spent = monotonic()
    for number in range(effort.rounds):
        if number >= _LEAST_ROUNDS and monotonic() - spent > _MOST_SECONDS:
            break
        for at in (0, 1) if number % 2 == 0 else (1, 0):
            rounds[at].append(_applied(plan, users[at], later))
    costs = [median(found) for found in rounds]
    return {
        "operator": case.operator,
        "means": case.means,
        "us": costs,
        "ratio": costs[1] / costs[0],
        "bytes": [len(msgspec.msgpack.encode(state.scopes)) for state in users],
    }


def document(case: Case) -> Json:
    """The catalog of a case: its badge, and what that needs."""
    badges = [*case.sections.get("badges", ()), {"key": "measured", "flow": case.flow}]
    events: Json = {"a.done": {}, "b.done": {}, "c.done": {}}
    return {"version": 1, "events": events, **case.sections, "badges": badges}


def user(plan: Plan, case: Case, length: int) -> UserState:
    """A user after so many events, spread evenly over the days."""
    state = UserState("u", held=holds(case))
    for event in history(case, length):
        fold(plan, state, event)
    return state


def holds(case: Case) -> dict[tuple[str, str], int]:
    """What the user holds before the first event."""
    return {("measured", ""): _START_US} if case.held else {}


def history(case: Case, length: int) -> Iterator[Event]:
    """So many events over DAYS days: the same days, however many there are."""
    apart = DAYS * _DAY_US // length
    for number in range(length):
        yield _event(case, number, _START_US + number * apart)


def following(case: Case, number: int) -> Event:
    """One of the measured events: all on the day after, minutes apart, whatever was before."""
    return _event(case, number, _START_US + DAYS * _DAY_US + number * _MINUTE_US)


def _event(case: Case, number: int, us: int) -> Event:
    payload: Mapping[str, Any] = {
        "n": number % 7,
        "item": number % 50,
        "new": us // 1_000_000 * 2_654_435_761 % 2**32,
        "session": number // len(case.types),
    }
    return Event("u", case.types[number % len(case.types)], us, "", f"{us:020}", payload, dumps(payload))


def _applied(plan: Plan, state: UserState, later: list[Event]) -> float:
    """CPU microseconds an event, of these applied to a copy of the user; memories are never changed in place."""
    scopes = {scope: dict(states) for scope, states in state.scopes.items()}
    copy = UserState("u", scopes=scopes, held=dict(state.held), newest=state.newest)
    gc.collect()
    gc.disable()
    try:
        begun = thread_time_ns()
        for event in later:
            apply(plan, copy, event)
        taken = thread_time_ns() - begun
    finally:
        gc.enable()
    return taken / 1_000 / len(later)
