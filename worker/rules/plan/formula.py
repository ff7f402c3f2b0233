"""Formulas as functions over one user's memory at one instant, and the figures they leave in an award."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker.rules.catalog.definitions import Badge
from worker.rules.ir import All, Fold, Held, Node, Not, Some, Test, Windowed
from worker.rules.operators import VERDICTS, params_of
from worker.rules.operators import memory as keeper_of
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.facts import compile_check, figure
from worker.rules.operators.kind import Kind
from worker.rules.state import FoldState, UserState

Facts = Mapping[str, Any]


@dataclass(slots=True)
class Tally:
    """How much work a plan compiled with one has done: what tests of cost look at instead of a clock."""

    checks: int = 0
    steps: int = 0
    tests: int = 0


Read = Callable[[FoldState, int, Calendar], Facts]


class Source:
    """How the facts of one fold are read; `fixed` facts stand in for what is remembered (`simulate --set`)."""

    __slots__ = ("_fold", "_read", "fixed", "id", "per")

    def __init__(self, fold: Fold, fixed: Facts | None = None) -> None:
        self.id = ""
        self.per = fold.per
        self.fixed = fixed
        self._fold = fold
        self._read: Read | None = None

    def settle(self, fold: Fold, fold_id: str) -> None:
        """Read the fold as the plan keeps it: with its cap, under this id."""
        self.id = fold_id
        self._fold = fold

    def read(self, state: FoldState, now_us: int, calendar: Calendar) -> Facts:
        """All facts of a state of the fold, as of now and by the user's calendar now."""
        if self._read is None:
            self._read = facts_reader(self._fold)
        found = self._read(state, now_us, calendar)
        return found if self.fixed is None else {**found, **self.fixed}


def facts_reader(fold: Fold) -> Read:
    """A function from a fold's state, now, and the user's calendar now to all the fold's facts."""
    keeper, params = keeper_of(fold), params_of(fold)
    if isinstance(keeper, Kind):
        kind = keeper
        return lambda state, _now, _calendar: kind.facts(state, params)
    trail = keeper
    return lambda state, now, calendar: trail.facts(state, now, params, calendar)


class Subject:
    """One user at one instant, seen through a plan: each fold's facts are worked out once, when asked for.

    `calendar` is the user's at that instant.
    """

    __slots__ = ("_facts", "calendar", "now_us", "state")

    def __init__(self, state: UserState, now_us: int, calendar: Calendar) -> None:
        self.state = state
        self.now_us = now_us
        self.calendar = calendar
        self._facts: dict[tuple[Source, str], Facts] = {}

    def facts(self, source: Source, scope: str) -> Facts:
        """All facts of a fold in a scope; those of a user-level fold are the user's whatever the scope."""
        if source.per is None:
            scope = ""
        found = self._facts.get((source, scope))
        if found is None:
            states = self.state.scopes.get(scope)
            found = source.read(None if states is None else states.get(source.id), self.now_us, self.calendar)
            self._facts[source, scope] = found
        return found

    def since(self, badge_key: str, context: str) -> int | None:
        """Since when the user holds this award, if it was given at or before now."""
        at = self.state.held.get((badge_key, context))
        return at if at is not None and at <= self.now_us else None

    def since_any(self, badge_key: str) -> int | None:
        """Since when the user holds this badge in some context."""
        states = self.state.scopes.get("")
        at = None if states is None else states.get(mark_of(badge_key))
        return at if at is not None and at <= self.now_us else None


def mark_of(badge_key: str) -> str:
    """The id, among the user-level folds, under which the first award of a badge with contexts is noted.

    Another badge may ask for it in a context, or in none, for which that award is not loaded.
    """
    return hashlib.sha256(b"held:" + badge_key.encode()).hexdigest()[:16]


#: What one test shows of a subject in a scope: a key and an exact figure each, None where there is none.
Shown = Callable[[Subject, str], Iterable[tuple[str, Any]]]

#: A formula compiled: whether it holds for a subject, in a badge's scope and context.
Judge = Callable[[Subject, str, str], bool]


class Formulas:
    """Compiles formulas over the sources of one plan. `source_of` answers for every test of them."""

    __slots__ = ("_badges", "_source_of", "_tally")

    def __init__(
        self,
        source_of: Callable[[Test], Source],
        badges: Mapping[str, Badge],
        *,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally
        self._source_of = source_of
        self._badges = badges

    def judge(self, node: Node, per: str | None) -> Judge:
        """The formula of a badge with this `per` field as a function."""
        judge, tally = self._judge(node, per), self._tally
        if tally is None:
            return judge

        def counting(subject: Subject, scope: str, context: str) -> bool:
            tally.tests += 1
            return judge(subject, scope, context)

        return counting

    def _judge(self, node: Node, per: str | None) -> Judge:
        match node:
            case Test():
                return self._test(node)
            case Held(badge_key=key):
                return held_judge(key, self._badges[key].per, per)
            case Windowed(child=child):
                return self._judge(child, per)
            case Not(child=child):
                inner = self._judge(child, per)
                return lambda subject, scope, context: not inner(subject, scope, context)
            case All(children=children) | Some(children=children):
                parts = [self._judge(child, per) for child in children]
                if len(parts) == 1:
                    return parts[0]
                every = all if isinstance(node, All) else any
                return lambda subject, scope, context: every(part(subject, scope, context) for part in parts)

    def _test(self, test: Test) -> Judge:
        source, fact = self._source_of(test), test.fact
        if (decided := self._decided(test)) is not None:
            return lambda subject, scope, _context: decided(subject, scope)[0]
        checks = [compile_check(check) for check in test.checks]
        if not checks:
            return lambda _subject, _scope, _context: True
        if len(checks) == 1:
            passes = checks[0]
            return lambda subject, scope, _context: passes(
                subject.facts(source, scope)[fact], subject.now_us, subject.calendar
            )

        def several(subject: Subject, scope: str, _context: str) -> bool:
            value = subject.facts(source, scope)[fact]
            return all(passes(value, subject.now_us, subject.calendar) for passes in checks)

        return several

    def shows(self, node: Node, prefix: str = "") -> Iterator[Shown]:
        """What each test puts into an award's metadata, in order; `window_` is written once."""
        match node:
            case Test():
                if node.shows or node.operator in VERDICTS:
                    yield self._shown(node, prefix)
            case Windowed(child=child):
                yield from self.shows(child, "window_")
            case Not(child=child):
                yield from self.shows(child, prefix)
            case All(children=children) | Some(children=children):
                for child in children:
                    yield from self.shows(child, prefix)
            case Held():
                return

    def _decided(self, test: Test) -> Callable[[Subject, str], tuple[bool, Facts]] | None:
        """The verdict of a test that has one in place of checks."""
        verdict = VERDICTS.get(test.operator)
        if verdict is None:
            return None
        source, params = self._source_of(test), dict(test.params)
        return lambda subject, scope: verdict(subject.facts(source, scope), params, subject.now_us, subject.calendar)

    def _shown(self, test: Test, prefix: str) -> Shown:
        if (decided := self._decided(test)) is not None:
            return lambda subject, scope: (
                (prefix + key.removeprefix(prefix), value) for key, value in decided(subject, scope)[1].items()
            )
        source = self._source_of(test)
        keys = tuple((fact, prefix + key) for fact, key in test.shows)

        def stated(subject: Subject, scope: str) -> Iterator[tuple[str, Any]]:
            facts = subject.facts(source, scope)
            return ((key, facts[fact]) for fact, key in keys)

        return stated


def figures(shows: Iterable[Shown], subject: Subject, scope: str) -> dict[str, Any]:
    """Why, in figures: what the tests of all branches show, in order; where two give one key, the later wins."""
    found: dict[str, Any] = {}
    for shown in shows:
        for key, value in shown(subject, scope):
            if value is not None:
                found[key] = figure(value)
    return found


def held_since(subject: Subject, key: str, other_per: str | None, per: str | None, context: str) -> int | None:
    """Since when a badge is held: in the same context where both have one by the same field, else in any."""
    if other_per is None:
        return subject.since(key, "")
    return subject.since(key, context) if other_per == per else subject.since_any(key)


def held_judge(key: str, other_per: str | None, per: str | None) -> Judge:
    """Whether a badge is held, as `held_since` finds it."""
    return lambda subject, _scope, context: held_since(subject, key, other_per, per, context) is not None


def prerequisites(node: Node) -> Iterator[str]:
    """The keys of the badges a formula asks for."""
    match node:
        case Held(badge_key=key):
            yield key
        case Not(child=child) | Windowed(child=child):
            yield from prerequisites(child)
        case All(children=children) | Some(children=children):
            for child in children:
                yield from prerequisites(child)
        case Test():
            return
