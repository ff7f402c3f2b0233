"""Compiles a catalog into a plan: which folds are kept, behind which gates, and when each badge is tested."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from worker.events.instants import format_instant
from worker.events.types import Event
from worker.rules.catalog.definitions import Badge, Catalog, Condition
from worker.rules.ir import Node, Test, changed, conditions_of, counted, leaves, tests
from worker.rules.normalize import true_on_empty
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.condition import Answers
from worker.rules.operators.latch import with_fixed
from worker.rules.plan.dispatch import Check, Dispatch, Watch, filter_of
from worker.rules.plan.formula import Formulas, Source, Tally, mark_of, prerequisites
from worker.rules.plan.identity import gate_key
from worker.rules.plan.keeping import Keeping, Kept
from worker.rules.plan.model import Gate, Goal, Memory, Plan, Route
from worker.rules.plan.timing import (
    UP,
    Threshold,
    ceilings,
    covers,
    drift,
    thresholds,
)
from worker.rules.plan.zones import Zones, zone_rule

#: Badges of these statuses are tested (decisions 25).
EVALUATED = frozenset({"active", "hidden"})
#: What `revocable` says of a badge that is taken back once its criterion no longer holds.
AUTO: Final = "auto"

Touches = frozenset[str | None]


def compile_plan(
    catalog: Catalog,
    *,
    exact: bool = False,
    only: Collection[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    tally: Tally | None = None,
) -> Plan:
    """The plan of a catalog.

    `exact` sets no caps. `only` tests these badges, whatever their status, and the badges they ask for. `overrides`
    gives metrics a value wherever a snapshot reads them. `tally` counts the work done, for tests of cost.
    """
    was_on = gc.isenabled()
    gc.disable()  # millions of objects that all stay: looking for garbage among them takes half of the time
    try:
        return _Compiler(catalog, exact=exact, overrides=overrides or {}, tally=tally).plan(only)
    finally:
        if was_on:
            gc.enable()


class _Compiler:
    """The steps of one compilation, in order."""

    def __init__(self, catalog: Catalog, *, exact: bool, overrides: Mapping[str, Any], tally: Tally | None) -> None:
        self.catalog = catalog
        self.exact = exact
        self.tally = tally
        self.calendar = Calendar(catalog.timezone)
        self.rule = zone_rule(catalog)
        self.zones = Zones.of(self.rule, self.calendar)
        self.badges = {badge.key: _overridden(badge, catalog, overrides) for badge in catalog.badges}
        self.keeping = Keeping(self.rule, exact=exact, tally=tally)
        self.overrides = overrides
        self.fixed_sources: dict[tuple[str, int], Source] = {}
        self.needs: dict[str, tuple[str, ...]] = {}
        self.touches: dict[str, Touches] = {}
        self.one_field: dict[str | None, Touches] = {}
        self.watchers: dict[str, list[int]] = defaultdict(list)
        self.falls: dict[str, list[int]] = defaultdict(list)
        self.asked: dict[str, list[int]] = defaultdict(list)
        self.marked: set[str] = set()
        self.catch_up = _catching_up(catalog)

    def plan(self, only: Collection[str] | None) -> Plan:
        chosen = self._in_order(self._chosen(only), only or ())
        for number, badge in enumerate(chosen):
            self._arrange(number, badge)
        memories = self.keeping.settle()
        goals, reach = self._goals(chosen)
        gates = self._gates(memories, reach)
        routes, other, uncounted = self._routes(gates, reach)
        return Plan(
            catalog=self.catalog,
            calendar=self.calendar,
            zones=self.zones,
            badges=self.badges,
            goals=tuple(goals),
            numbers={goal.badge.key: number for number, goal in enumerate(goals)},
            sources=self._source_of,
            routes=routes,
            other=other,
            uncounted=uncounted,
            counts=Counter(trigger for badge in chosen for trigger in badge.triggers),
            asked={key: tuple(numbers) for key, numbers in self.asked.items()},
            marked=frozenset(self.marked),
            falling=frozenset(badge.key for badge in chosen if badge.revocable == AUTO),
            falls={name: self._falling_at(name) for name in self.falls},
            falls_anywhere=tuple(self.falls.get("*", ())),
            exact=self.exact,
            conditions=asked_conditions(self.catalog, chosen),
            contexts=any(route.alike is None for route in (*routes.values(), other, uncounted)),
        )

    def _chosen(self, only: Collection[str] | None) -> list[str]:
        if only is None:
            return [badge.key for badge in self.catalog.badges if badge.status in EVALUATED]
        return [badge.key for badge in self.catalog.badges if badge.key in only]

    def _in_order(self, keys: Iterable[str], asked: Collection[str]) -> list[Badge]:
        """The badges and those they need that are tested at all, each after what it needs, else in the order given."""
        placed: dict[str, Badge] = {}
        for key in keys:
            stack = [key]
            while stack:
                badge = self.badges[stack[-1]]
                if badge.key not in self.needs and (needs := tuple(dict.fromkeys(prerequisites(badge.formula)))):
                    self.needs[badge.key] = needs
                wanted = [
                    other
                    for other in self.needs.get(badge.key, ())
                    if other not in placed and (self.badges[other].status in EVALUATED or other in asked)
                ]
                if wanted:
                    stack.extend(wanted)
                else:
                    placed.setdefault(stack.pop(), badge)
        return list(placed.values())

    # -- when each badge is tested

    def _arrange(self, number: int, badge: Badge) -> None:
        """Decide where the badge hangs: on the rungs of ladders, on changes of its folds, or on its triggers."""
        found = list(tests(badge.formula))
        kept = [self.keeping.of(test.fold) for test in found]
        self.touches[badge.key] = self._touched(badge.per, found)
        watched = self._is_watched(badge, found)
        rungs = thresholds(badge.formula) if watched else None
        self._keep(kept, (*(rungs or ()), *ceilings(badge.formula)))
        moves = drift(badge.formula)
        if badge.revocable == AUTO:
            for name in {*badge.triggers, *(name for test in found for name in test.fold.match.types or ("*",))}:
                self.falls[name].append(number)
        if not watched or moves & UP or (moves and badge.revocable == AUTO):
            for trigger in badge.triggers:
                self.watchers[trigger].append(number)
        elif rungs is not None:
            for rung in rungs:
                self.keeping.of(rung.fold).rungs.append((rung, number))
        else:
            for each in kept:
                each.dependents.append(number)
        if watched:
            for login in self.catch_up & (self.catch_up if "*" in badge.triggers else badge.triggers):
                self.watchers[login].append(number)

    def _falling_at(self, name: str) -> tuple[int, ...]:
        """The goals of badges that may be taken back at events of a type."""
        stars = self.falls.get("*", ()) if name != "*" and counted(name) else ()
        return tuple(sorted({*self.falls.get(name, ()), *stars}))

    def _touched(self, per: str | None, found: Sequence[Test]) -> Touches:
        """The `per` fields of a badge and its folds: one object for all badges that have the same."""
        for test in found:
            if test.fold.per != per:
                break
        else:
            return self.one_field.setdefault(per, frozenset({per}))
        return frozenset({per, *(test.fold.per for test in found)})

    def _is_watched(self, badge: Badge, found: Sequence[Test]) -> bool:
        """Whether the badge is false at first and every step of one of its folds is one of its triggers."""
        per = badge.per
        for test in found:
            if test.fold.per != per or (self.overrides and self._is_fixed(test)):
                return False
        for key in self.needs.get(badge.key, ()):
            if not self._is_granted_here(badge, key):
                return False
        return covers(badge.triggers, found) and not true_on_empty(badge.formula)

    def _is_granted_here(self, badge: Badge, key: str) -> bool:
        """Whether the grant of what a badge asks for is an occasion to test it in each context that it changes."""
        return badge.per is None or self.badges[key].per == badge.per

    def _keep(self, kept: Sequence[Kept], marks: Sequence[Threshold]) -> None:
        """Say how much of each fold the badge needs: up to these marks, or all of what it asks and merely shows."""
        bounded = [self.keeping.need(mark) for mark in marks]
        for each in kept:
            if each not in bounded:
                each.whole = True

    # -- goals

    def _goals(self, chosen: Sequence[Badge]) -> tuple[list[Goal], list[Touches]]:
        """The goals, and for each what testing it and all that its grant leads to may touch."""
        asked, marked = self.asked, self.marked
        for number, badge in enumerate(chosen):
            for key in self.needs.get(badge.key, ()):
                asked[key].append(number)
                if self.badges[key].per not in (None, badge.per):
                    marked.add(key)
        formulas = Formulas(self._source_of, self.badges, tally=self.tally)
        goals = []
        for badge in chosen:
            touches = self.touches[badge.key]
            if marked.intersection(self.needs.get(badge.key, ())):
                touches |= {None}
            mark = mark_of(badge.key) if badge.key in marked else None
            dependents = tuple(asked[badge.key]) if badge.key in asked else ()
            goals.append(Goal(badge, formulas, touches=touches, dependents=dependents, mark=mark))
        reach = [goal.touches for goal in goals]
        for number in range(len(goals) - 1, -1, -1):
            if goals[number].dependents:
                reach[number] = reach[number].union(*(reach[other] for other in goals[number].dependents))
        return goals, reach

    def _is_fixed(self, test: Test) -> bool:
        return bool(self.overrides) and dict(test.params).get("metric") in self.overrides

    def _source_of(self, test: Test) -> Source:
        kept = self.keeping.of(test.fold)
        return self._fixed_source(test, kept) if self._is_fixed(test) else kept.source

    def _fixed_source(self, test: Test, kept: Kept) -> Source:
        key = (dict(test.params)["metric"], id(kept))
        if key not in self.fixed_sources:
            source = Source(test.fold, _fixed_facts(test, self.catalog, self.overrides))
            source.settle(kept.fold, kept.source.id)
            self.fixed_sources[key] = source
        return self.fixed_sources[key]

    # -- gates and routes

    def _gates(self, memories: Iterable[Memory], reach: Sequence[Touches]) -> list[Gate]:
        behind: dict[Hashable, list[Memory]] = defaultdict(list)
        for memory in memories:
            behind[gate_key(memory.fold.match, memory.fold.per)].append(memory)
        gates = []
        for group in behind.values():
            goals = {number for memory in group for number in memory.goals}
            per = group[0].fold.per
            gates.append(Gate(per, tuple(group), _union({per}, (reach[number] for number in goals))))
        return gates

    def _routes(self, gates: Iterable[Gate], reach: Sequence[Touches]) -> tuple[dict[str, Route], Route, Route]:
        own: dict[str, list[Gate]] = defaultdict(list)
        everything: list[Gate] = []
        for gate in gates:
            types = gate.memories[0].fold.match.types
            for name in types:
                (everything if name == "*" else own[name]).append(gate)
            if not types:
                everything.append(gate)
        shared = self._ways(everything)
        stars = self.watchers.get("*", [])
        routes = {}
        falls = self.falls.get("*", ())
        other, uncounted = _route([shared], stars, reach, falls), _route([self._ways(())], (), reach)
        named = {*own, *self.watchers, *self.falls} - {"*"}
        for name in sorted(named):
            ways = [self._ways(own[name]), *([shared] if counted(name) else ())]
            watchers = {*self.watchers.get(name, ()), *(stars if counted(name) else ())}
            routes[name] = _route(ways, watchers, reach, self._falling_at(name))
        for name in self.catalog.dictionary.types:
            routes.setdefault(name, other if counted(name) else uncounted)
        return routes, other, uncounted

    def _ways(self, gates: Sequence[Gate]) -> _Ways:
        return _Ways(
            gates=self._dispatch(gates),
            contexts=self._dispatch([gate for gate in gates if gate.touches - {None}], whatever_day=True),
            touches_user=self.zones is not None or any(None in gate.touches for gate in gates),
        )

    def _dispatch(self, gates: Iterable[Gate], *, whatever_day: bool = False) -> Dispatch[Gate]:
        """Finds the gates an event passes; those it may pass in some calendar where days are not to matter."""
        matches = ((gate, gate.memories[0].fold.match) for gate in gates)
        filters = [filter_of(gate, replace(match, days=()) if whatever_day else match) for gate, match in matches]
        return Dispatch(filters, self._watch())

    def _watch(self) -> Watch | None:
        tally = self.tally
        if tally is None:
            return None

        def watch(check: Check) -> Check:
            def counting(event: Event, calendar: Calendar) -> bool:
                tally.checks += 1
                return check(event, calendar)

            return counting

        return watch


def _fixed_facts(test: Test, catalog: Catalog, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a test of a metric reads where the metric is given a value."""
    name = dict(test.params)["metric"]
    instant = {"at": format_instant(overrides[name])} if catalog.metrics[name].instant else {}
    return {test.fact: overrides[name], **instant}


def _overridden(badge: Badge, catalog: Catalog, overrides: Mapping[str, Any]) -> Badge:
    """The badge with the values given to metrics also where conditions over windows read them."""
    if not overrides:
        return badge

    def fix(test: Test) -> Test:
        conditions = conditions_of(test.fold)
        if conditions is None:
            named = dict(test.params).get("metric") in overrides
            return with_fixed(test, _fixed_facts(test, catalog, overrides)) if named else test
        return _with_conditions(test, changed(conditions, fix))

    def outer(test: Test) -> Test:
        conditions = conditions_of(test.fold)
        return test if conditions is None else _with_conditions(test, changed(conditions, fix))

    return replace(badge, formula=changed(badge.formula, outer))


def _with_conditions(test: Test, conditions: Node) -> Test:
    params = tuple((name, conditions if name == "conditions" else value) for name, value in test.fold.params)
    return replace(test, fold=replace(test.fold, params=params))


def _catching_up(catalog: Catalog) -> frozenset[str]:
    """The logins at which all that logins trigger is tested, whether or not they change it (`catch_up_on_login`)."""
    if not catalog.options.get("catch_up_on_login"):
        return frozenset()
    return frozenset(name for name, kind in catalog.dictionary.types.items() if kind.login)


def asked_conditions(catalog: Catalog, badges: Iterable[Badge]) -> dict[str, tuple[Condition, ...]] | None:
    """What to ask about each event for these badges, by its type; None where nothing is to be asked.

    Whatever the filters before a condition: those may change, and the answers stay with the events.
    """
    if not catalog.conditions:
        return None
    found: dict[str, dict[str, Condition]] = defaultdict(dict)
    for badge in badges:
        for test in leaves(badge.formula):
            if test.fold.kind == Answers.name:
                asked = catalog.conditions[dict(test.fold.params)["condition"]]
                for event_type in test.fold.match.types:
                    found[event_type][asked.hash] = asked
    return {name: tuple(asked.values()) for name, asked in found.items()} or None


@dataclass(frozen=True, slots=True)
class _Ways:
    """The gates of some event types: all of them, and those that touch other scopes than the user's own."""

    gates: Dispatch[Gate]
    contexts: Dispatch[Gate]
    touches_user: bool


def _route(
    ways: Sequence[_Ways], watchers: Collection[int], reach: Sequence[Touches], falls: Collection[int] = ()
) -> Route:
    own: Touches = frozenset({None} if any(way.touches_user for way in ways) else ())
    touches = _union(set(own), (reach[number] for number in (*watchers, *falls)))
    dispatches = tuple(way.gates for way in ways if way.gates.size)
    contexts = tuple(way.contexts for way in ways if way.contexts.size)
    alike = all(dispatch.alike for dispatch in dispatches)
    return Route(
        dispatches=dispatches,
        watchers=tuple(sorted(watchers)),
        touches=touches,
        contexts=contexts,
        every=tuple(gate for dispatch in dispatches for gate in dispatch.free) if alike else None,
        alike=("",) * (None in touches) if not contexts and touches <= {None} else None,
    )


def _union(first: set[str | None], others: Iterable[Touches]) -> Touches:
    for other in others:
        first |= other
    return frozenset(first)
