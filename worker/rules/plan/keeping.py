"""What is kept for a plan's badges: each fold once, capped where that changes nothing, with those who look at it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from msgspec.structs import replace

from worker.errors import AuthorError, Fault
from worker.events.types import Event
from worker.rules.ir import Fold, Test, canonical, changed, conditions_of
from worker.rules.operators import KINDS, params_of
from worker.rules.operators import memory as keeper_of
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.count import Count
from worker.rules.operators.kind import Around
from worker.rules.operators.moving import Moving, held
from worker.rules.plan.formula import Source, Tally, facts_reader
from worker.rules.plan.identity import fold_key
from worker.rules.plan.model import FigureLadder, Memory, UnitLadder
from worker.rules.plan.timing import Threshold, exact_number, is_unit, may_be_capped, thresholds
from worker.rules.plan.zones import ZoneRule, memory_id
from worker.rules.state import FoldState

Step = Callable[[FoldState, Event, Calendar], FoldState]

#: For windows under a unit ladder, whose bounds are fixed lengths: where the calendar bends them, time alone can make a
#: threshold true (`timing.drift`), and that is no ladder's matter.
_ANYWHERE = Calendar()


@dataclass(slots=True, eq=False)
class Kept:
    """A fold while the plan is made. `whole` is set where some badge needs more of it than a threshold does.

    `source` is where its facts are read, once the plan is settled.
    """

    fold: Fold
    source: Source
    rungs: list[tuple[Threshold, int]] = field(default_factory=list)
    dependents: list[int] = field(default_factory=list)
    enough: int = 0
    whole: bool = False


class Keeping:
    """The folds of a plan, each once."""

    def __init__(self, rule: ZoneRule, *, exact: bool, tally: Tally | None) -> None:
        self._rule = rule
        self._exact = exact
        self._tally = tally
        self._kept: dict[Hashable, Kept] = {}
        self._by_object: dict[int, Kept] = {}

    def of(self, fold: Fold) -> Kept:
        """The one record of this fold. Found by the object first: the catalog keeps its folds as long as the plan."""
        kept = self._by_object.get(id(fold))
        if kept is None:
            key = fold_key(fold)
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = Kept(fold, Source(fold))
            self._by_object[id(fold)] = kept
        return kept

    def need(self, found: Threshold) -> Kept:
        """A badge needs the fold of a threshold as far as that threshold, one at least; returns what is kept of it."""
        kept = self.of(found.fold)
        if is_unit(found.fold, found.fact):
            kept.enough = max(kept.enough, whole_number(found), 1)
        else:
            kept.whole = True
        return kept

    def settle(self) -> tuple[Memory, ...]:
        """Caps what may be capped and gives every fold its memory; no fold is used for the first time afterwards."""
        memories: dict[str, Memory] = {}
        for kept in self._kept.values():
            if not self._exact:
                kept.fold = _bounded(kept)
            memory = self._memory(kept)
            if memory.id in memories:
                raise _collision(memory.id, memory.fold, memories[memory.id].fold)
            memories[memory.id] = memory
            kept.source.settle(kept.fold, memory.id)
        return tuple(memories.values())

    def _memory(self, kept: Kept) -> Memory:
        unit, figures = _watched(kept)
        return Memory(
            fold=kept.fold,
            id=memory_id(kept.fold, self._rule),
            step=_stepper(kept.fold, self._tally),
            unit=unit,
            figures=figures,
            dependents=tuple(dict.fromkeys(kept.dependents)),
        )


def _bounded(kept: Kept) -> Fold:
    """The fold with all caps that change nothing: its own, and those of the folds of its conditions."""
    fold = kept.fold
    if not kept.whole and kept.enough > 0 and may_be_capped(fold):
        return replace(fold, cap=kept.enough)
    conditions = conditions_of(fold)
    if conditions is None or (rungs := thresholds(conditions)) is None:
        return fold
    enough: dict[Hashable, int] = {}
    for rung in rungs:
        if not is_unit(rung.fold, rung.fact) or not may_be_capped(rung.fold):
            return fold
        key = fold_key(rung.fold)
        enough[key] = max(enough.get(key, 0), whole_number(rung))

    def capped(test: Test) -> Test:
        return replace(test, fold=replace(test.fold, cap=enough.get(fold_key(test.fold)) or None))

    bounded = changed(conditions, capped)
    return replace(fold, params=tuple((name, bounded if name == "conditions" else one) for name, one in fold.params))


def whole_number(found: Threshold) -> int:
    """The least whole number that passes a threshold."""
    return math.floor(found.number) + 1 if found.strict else math.ceil(found.number)


def _collision(fold_id: str, one: Fold, other: Fold) -> AuthorError:
    message = f"Two criteria need memories with the same identity {fold_id}: {canonical(one)} and {canonical(other)}."
    return AuthorError([Fault("duplicate_key", "", message, "Change one of the two, in the smallest way that suits.")])


def _stepper(fold: Fold, tally: Tally | None) -> Step:
    step = keeper_of(fold).stepper(params_of(fold))
    if tally is None:
        return step

    def counting(state: FoldState, event: Event, calendar: Calendar) -> FoldState:
        tally.steps += 1
        return step(state, event, calendar)

    return counting


def _watched(kept: Kept) -> tuple[UnitLadder | None, tuple[FigureLadder, ...]]:
    """The ladder over the fold's unit fact, and those over its other facts."""
    by_fact: dict[str, list[tuple[Threshold, int]]] = defaultdict(list)
    for found, goal in kept.rungs:
        by_fact[found.fact].append((found, goal))
    unit, figures = None, []
    for fact, rungs in by_fact.items():
        if is_unit(kept.fold, fact):
            unit = _unit_ladder(kept.fold, rungs)
        else:
            figures.append(_figure_ladder(kept.fold, fact, rungs))
    return unit, tuple(figures)


def _unit_ladder(fold: Fold, rungs: Sequence[tuple[Threshold, int]]) -> UnitLadder:
    goals: dict[int, list[int]] = defaultdict(list)
    for found, goal in rungs:
        goals[whole_number(found)].append(goal)
    return UnitLadder(_unit_level(fold, rungs[0][0].fact), {at: tuple(rung) for at, rung in goals.items()})


def _figure_ladder(fold: Fold, fact: str, rungs: Sequence[tuple[Threshold, int]]) -> FigureLadder:
    rows = sorted(((found.number, found.strict), goal) for found, goal in rungs)
    read = facts_reader(fold)
    return FigureLadder(
        level=lambda state, now, calendar: exact_number(read(state, now, calendar)[fact]),
        keys=tuple(key for key, _ in rows),
        goals=tuple(goal for _, goal in rows),
    )


def _unit_level(fold: Fold, fact: str) -> Callable[[FoldState], int]:
    """Reads the unit fact of a state that holds something, as of its own last step."""
    keeper, kind = keeper_of(fold), KINDS[fold.kind]
    if not isinstance(keeper, Around):
        return itemgetter(0) if isinstance(kind, Count) else kind.level
    if isinstance(keeper, Moving) and keeper.keeps_window:
        return held
    around, params = keeper, params_of(fold)
    return lambda state: int(around.facts(state, around.newest_us(state), params, _ANYWHERE)[fact])
