"""What a job over users is about: which badges, memories and event types, as its parameters say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from worker.rules.ir import tests
from worker.rules.plan import Goal, Plan, mark_of, prerequisites

#: Types that stand for "every event of the user".
_ALL = "*"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which badges a job may grant or restore (None: all), and which memories it compares (None: none).

    `known` are the ids of all memories that the plan keeps: what is stored of others belongs to badges that are gone.
    `types` are those of which a user must have an event to be looked at (None: whoever). `sealed` are badges that read
    types of which retention removed events, `closed` their memories: what the log no longer shows is left as it is.
    """

    badges: frozenset[str] | None
    folds: frozenset[str] | None
    known: frozenset[str]
    types: frozenset[str] | None
    sealed: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()

    def about(self, badge_key: str) -> bool:
        """Whether the job is about a badge."""
        return self.badges is None or badge_key in self.badges

    def compares(self, fold_id: str) -> bool:
        """Whether the job compares a memory."""
        if fold_id in self.closed or self.folds is None:
            return False
        return fold_id in self.folds


def scope_of_job(plan: Plan, kind: str, parameters: Mapping[str, Any], floors: Collection[str] = ()) -> Scope:
    """The scope of a job: `badges`, `trigger` or `user` of its parameters; a backfill compares no memory."""
    chosen, types = _chosen(plan, parameters)
    goals = [goal for goal in plan.goals if chosen is None or goal.badge.key in chosen]
    known = _folds(plan, plan.goals)
    return Scope(
        badges=chosen,
        folds=None if kind == "backfill" else (known if chosen is None else _folds(plan, goals)),
        known=known,
        types=types,
        sealed=sealed_badges(plan, floors) if floors else frozenset(),
        closed=closed_folds(plan, floors) if floors else frozenset(),
    )


def _chosen(plan: Plan, parameters: Mapping[str, Any]) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """The badges chosen, and the types of which users must have an event."""
    trigger = parameters.get("trigger")
    if trigger is not None:
        goals = [goal for goal in plan.goals if {trigger, _ALL} & goal.badge.triggers]
        return frozenset(goal.badge.key for goal in goals), frozenset({trigger})
    keys = parameters.get("badges")
    if keys is None:
        return None, None
    types = frozenset(name for goal in _asked_for(plan, keys) for name in _read_by(goal))
    return frozenset(keys), None if _ALL in types else types


def _asked_for(plan: Plan, keys: Collection[str]) -> list[Goal]:
    """The goals of some badges and of those they ask for: what earns these may earn those."""
    waiting, found = [key for key in keys if key in plan.numbers], set()
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            asked = prerequisites(plan.goals[plan.numbers[key]].badge.formula)
            waiting += [other for other in asked if other in plan.numbers]
    return [plan.goals[plan.numbers[key]] for key in sorted(found)]


def _read_by(goal: Goal) -> frozenset[str]:
    """The types that a badge's verdict depends on."""
    found: set[str] = set(goal.badge.triggers)
    for test in tests(goal.badge.formula):
        found |= set(test.fold.match.types) or {_ALL}
    return frozenset(found)


def _folds(plan: Plan, goals: Collection[Goal]) -> frozenset[str]:
    """The ids of the memories that some badges look at, with what is noted of users for them."""
    found = {plan.sources(test).id for goal in goals for test in tests(goal.badge.formula)}
    marks = {mark_of(goal.badge.key) for goal in goals if goal.badge.key in plan.marked}
    zones = set() if plan.zones is None else {plan.zones.id}
    return frozenset(found | marks | zones)


def sealed_badges(plan: Plan, floors: Collection[str]) -> frozenset[str]:
    """Badges that read types of which retention removed events."""
    read = {goal.badge.key: _read_by(goal) for goal in plan.goals}
    return frozenset(key for key, names in read.items() if _ALL in names or not names.isdisjoint(floors))


def closed_folds(plan: Plan, floors: Collection[str]) -> frozenset[str]:
    """Memories of which the log no longer shows the whole."""
    found = set()
    for goal in plan.goals:
        for test in tests(goal.badge.formula):
            names = set(test.fold.match.types) or {_ALL}
            if _ALL in names or not names.isdisjoint(floors):
                found.add(plan.sources(test).id)
    if plan.zones is not None and plan.zones.event in floors:
        found.add(plan.zones.id)
    return frozenset(found)
