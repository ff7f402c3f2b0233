"""Whether a formula has held at the instant of some event, of the events shortly before it.

Remembered per user: of the conditions' folds what a window of that length holds (see `moving.py`; `cap` as the plan
sets it), the newest instant looked at and the verdict there. Once a later event finds that the conditions held, the
memory stays as it is: it says when, and with which figures. Source: rule engine guide "Time Window Badge".
"""

# ruff: noqa: ARG002 - every trail has the same signatures

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import is_
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from worker.rules.ir import (
    All,
    Fold,
    Held,
    Match,
    Node,
    Not,
    Some,
    Test,
    Windowed,
    conditions_of,
    counted,
    leaves,
    tests,
)
from worker.rules.operators.facts import Told, Verdict, check_fact
from worker.rules.operators.kind import Kind, Noter, State, Stepper, Trail
from worker.rules.operators.values import compile_clause

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar

#: The parameter of a fold that fixes facts of it.
_FIXED = "fixed"

#: What keeps a fold, and the verdicts of operators: the tables of `operators`, which hold this trail itself.
KeeperOf = Callable[[Fold], Kind | Trail]
Verdicts = Mapping[str, Verdict]

#: The memories of the conditions' folds, in the order of `_Conditions.inner`.
States = Sequence[State | None]


class Within(Trail):
    """State: [instant, verdict, memories of the conditions' folds]. Params: window (microseconds), conditions (a Node).

    The instant is that of the newest event that the conditions read; where they hold, the first at which they do. What
    `gather` makes of a window's events has None for the verdict and the notes for the memories: its facts are the same.

    Facts: holds, at_us, metadata (figures of the conditions then), tested (facts of each of their tests, in order).
    """

    name = "within"

    __slots__ = ("_conditions", "_keeper_of", "_verdicts")

    def __init__(self, keeper_of: KeeperOf, verdicts: Verdicts, conditions: _Conditions | None = None) -> None:
        self._keeper_of = keeper_of
        self._verdicts = verdicts
        self._conditions = conditions

    def of(self, params: Mapping[str, Any]) -> Within:
        return Within(self._keeper_of, self._verdicts, self._compiled(params))

    def _compiled(self, params: Mapping[str, Any]) -> _Conditions:
        return self._conditions or _Conditions(params["conditions"], params["window"], self._keeper_of, self._verdicts)

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        return self._compiled(params).step(state, event, calendar)

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        return self._compiled(params).step

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        if state is not None and state[1] is None:
            state = self._compiled(params).replayed(state[2], calendar)
        if state is None:
            empty = Told(lambda: self._untested(params, now_us, calendar))
            return {"holds": False, "at_us": None, "metadata": {}, "tested": empty}
        at_us, holds, states = state
        moment = _Instant(self._compiled(params), states, at_us, calendar)
        return {"holds": holds, "at_us": at_us, "metadata": Told(moment.metadata), "tested": Told(moment.tested)}

    def _untested(self, params: Mapping[str, Any], now_us: int, calendar: Calendar) -> Mapping[int, Any]:
        conditions = self._compiled(params)
        return _Instant(conditions, [None] * len(conditions.inner), now_us, calendar).tested()

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any:
        return self._compiled(params).note(event, calendar)

    def noter(self, params: Mapping[str, Any]) -> Noter:
        return self._compiled(params).note

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        return [entries[-2], None, entries] if entries else None


def types_read(conditions: Node) -> frozenset[str]:
    """The types of the events that conditions look at, `*` for all: conditions within them ask of each event's time."""
    found = {name for test in leaves(conditions) for name in test.fold.match.types or ("*",)}
    if any(conditions_of(test.fold) is not None for test in tests(conditions)):
        found.add("*")
    return frozenset(found)


def _among(event_type: str, types: Collection[str]) -> bool:
    return event_type in types or ("*" in types and counted(event_type))


def with_fixed(test: Test, facts: Mapping[str, Any]) -> Test:
    """A test within conditions for which these facts stand in place of what is remembered (`simulate --set`)."""
    params = tuple(pair for pair in test.fold.params if pair[0] != _FIXED)
    return replace(test, fold=replace(test.fold, params=(*params, (_FIXED, tuple(facts.items())))))


class _Inner:
    """One fold of the conditions: what keeps it, which events it takes, the facts that stand fixed."""

    __slots__ = ("fixed", "keeper", "match", "note", "params", "passes", "step")

    def __init__(self, fold: Fold, keeper_of: KeeperOf) -> None:
        self.params = dict(fold.params)
        self.fixed = dict(self.params.pop(_FIXED, ()))
        self.keeper = keeper = _trail(keeper_of(replace(fold, params=tuple(self.params.items()))))
        self.match = fold.match
        self.step = keeper.stepper(self.params)
        self.note = keeper.noter(self.params)
        self.passes = _filter(fold.match)


class _Conditions:
    """A formula over windows that end at the event looked at, compiled."""

    __slots__ = ("_routes", "inner", "judge", "length", "places", "told", "types")

    def __init__(self, node: Node, length: int, keeper_of: KeeperOf, verdicts: Verdicts) -> None:
        self.length = length
        found = list(tests(node))
        self.types = types_read(node)
        numbers: dict[str, int] = {}
        self.places = [numbers.setdefault(test.fold.id, len(numbers)) for test in found]
        folds = {test.fold.id: test.fold for test in found}
        self.inner = [_Inner(folds[key], keeper_of) for key in numbers]
        self._routes: dict[str, tuple[int, ...] | None] = {}
        at = {id(test): place for test, place in zip(found, self.places, strict=True)}
        self.judge = _judge(node, at, verdicts)
        self.told = [_tells(test, at[id(test)], verdicts) for test in found]

    def route(self, event_type: str) -> tuple[int, ...] | None:
        """The folds that look at events of this type; None where the conditions do not read it."""
        if event_type not in self._routes:
            read = _among(event_type, self.types)
            places = (
                place for place, inner in enumerate(self.inner) if _among(event_type, inner.match.types or ("*",))
            )
            self._routes[event_type] = tuple(places) if read else None
        return self._routes[event_type]

    def step(self, state: State | None, event: Event, calendar: Calendar) -> State | None:
        """The memory with one newer event: the conditions are judged at its instant, unless they held before it."""
        us = event.occurred_us
        if state is not None and state[1] and us > state[0]:
            return state
        reading = self.route(event.type)
        at_us, held, before = (None, False, [None] * len(self.inner)) if state is None else state
        states = [*before]
        for place in reading or ():
            inner = self.inner[place]
            if inner.passes is None or inner.passes(event, calendar):
                states[place] = inner.step(states[place], event, calendar)
        holds = self.holds(states, us, calendar)
        if (reading is None and not holds) or (us == at_us and holds == held and all(map(is_, states, before))):
            return state
        return [us, holds, states]

    def holds(self, states: States, us: int, calendar: Calendar) -> bool:
        """Whether the conditions hold at an instant, of the memories up to it."""
        return self.judge(_Instant(self, states, us, calendar))

    def note(self, event: Event, calendar: Calendar) -> Any:
        """What it takes to judge this event's instant again: number and note of each fold; 0 where none reads it."""
        reading = self.route(event.type)
        noted: list[Any] = []
        for place in reading or ():
            inner = self.inner[place]
            if inner.passes is None or inner.passes(event, calendar):
                note = inner.note(event, calendar)
                if note is not None:
                    noted += (place, note)
        return 0 if reading is None else noted

    def replayed(self, entries: Sequence[Any], calendar: Calendar) -> State | None:
        """The memory of these events alone, given as instant, note, instant, note …, in order.

        Costs one judgement for each instant, over what its window holds.
        """
        lines: list[list[Any]] = [[] for _ in self.inner]
        found: State | None = None
        pairs = zip(entries[::2], entries[1::2], strict=True)
        for us, group in groupby(pairs, key=lambda pair: pair[0]):
            notes = [note for _, note in group]
            for note in notes:
                for place, noted in zip(note[::2], note[1::2], strict=True) if note else ():
                    lines[place] += (us, noted)
            lines = [_since(line, us - self.length) for line in lines]
            holds = self.holds(lines, us, calendar)
            if holds or any(note != 0 for note in notes):
                found = [us, holds, lines]
            if holds:
                break
        return found


class _Instant:
    """The conditions' folds at one instant: the facts of each are worked out once, when asked for."""

    __slots__ = ("_facts", "calendar", "conditions", "states", "us")

    def __init__(self, conditions: _Conditions, states: States, us: int, calendar: Calendar) -> None:
        self.conditions = conditions
        self.states = states
        self.us = us
        self.calendar = calendar
        self._facts: dict[int, dict[str, Any]] = {}

    def facts(self, place: int) -> dict[str, Any]:
        """All facts of one fold."""
        found = self._facts.get(place)
        if found is None:
            inner = self.conditions.inner[place]
            found = inner.keeper.facts(self.states[place], self.us, inner.params, self.calendar)
            if inner.fixed:
                found = {**found, **inner.fixed}
            self._facts[place] = found
        return found

    def tested(self) -> dict[int, dict[str, Any]]:
        """The facts that each test looks at, by its number."""
        return {number: self.facts(place) for number, place in enumerate(self.conditions.places)}

    def metadata(self) -> dict[str, Any]:
        """What the conditions' tests tell, as from within a window; where two give one key, the later wins."""
        found: dict[str, Any] = {}
        for told in self.conditions.told:
            for key, value in told(self):
                if value is not None:
                    found["window_" + key.removeprefix("window_")] = value
        return found


Judge = Callable[[_Instant], bool]
Tells = Callable[[_Instant], Iterable[tuple[str, Any]]]


def _judge(node: Node, at: Mapping[int, int], verdicts: Verdicts) -> Judge:
    """The formula as a function; `at` are the numbers of the folds of its tests."""
    match node:
        case Test():
            return _judge_of_test(node, at[id(node)], verdicts)
        case Windowed(child=child):
            return _judge(child, at, verdicts)
        case Not(child=child):
            inner = _judge(child, at, verdicts)
            return lambda instant: not inner(instant)
        case All(children=children):
            parts = [_judge(child, at, verdicts) for child in children]
            return lambda instant: all(part(instant) for part in parts)
        case Some(children=children):
            parts = [_judge(child, at, verdicts) for child in children]
            return lambda instant: any(part(instant) for part in parts)
        case Held():
            raise ValueError("what a user holds is no event of a window")


def _judge_of_test(test: Test, place: int, verdicts: Verdicts) -> Judge:
    if (verdict := verdicts.get(test.operator)) is not None:
        params = dict(test.params)
        return lambda instant: verdict(instant.facts(place), params, instant.us, instant.calendar)[0]
    fact, checks = test.fact, test.checks

    def judge(instant: _Instant) -> bool:
        if not checks:
            return True
        value = instant.facts(place)[fact]
        return all(check_fact(check, value, instant.us, instant.calendar) for check in checks)

    return judge


def _tells(test: Test, place: int, verdicts: Verdicts) -> Tells:
    """What a test puts into an award's metadata."""
    if (verdict := verdicts.get(test.operator)) is not None:
        params = dict(test.params)
        return lambda instant: verdict(instant.facts(place), params, instant.us, instant.calendar)[1].items()
    shows = test.shows

    def told(instant: _Instant) -> Iterator[tuple[str, Any]]:
        facts = instant.facts(place) if shows else {}
        return ((key, facts[fact]) for fact, key in shows)

    return told


def _filter(match: Match) -> Callable[[Event, Calendar], bool] | None:
    """Whether an event of the right type belongs to a match, its moving bounds aside; None where each does."""
    clauses = tuple(compile_clause(clause) for clause in match.clauses)
    start, end, days = match.start_us, match.end_us, match.days
    if not clauses and start is None and end is None and not days:
        return None

    def passes(event: Event, calendar: Calendar) -> bool:
        us = event.occurred_us
        return (
            (start is None or start <= us)
            and (end is None or us <= end)
            and all(clause(event.payload) for clause in clauses)
            and not any(calendar.drops(us, each) for each in days)
        )

    return passes


def _since(line: list[Any], start: int) -> list[Any]:
    """The entries from an instant on: those before it are few each time."""
    at = 0
    while at < len(line) and line[at] < start:
        at += 2
    return line[at:] if at else line


def _trail(keeper: Kind | Trail) -> Trail:
    """What keeps a fold of the conditions: they look at a window, so it is a trail."""
    if isinstance(keeper, Kind):
        raise TypeError(f"conditions look at a window that moves, {keeper.name} does not")
    return keeper
