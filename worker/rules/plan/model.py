"""What a plan is made of: memories to step, gates that guard them, goals to test, and a route per event type."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from worker.events.types import Event
from worker.rules.catalog.definitions import Badge, Catalog, Condition
from worker.rules.ir import Fold, Test, counted
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.values import lookup
from worker.rules.plan.dispatch import Dispatch
from worker.rules.plan.formula import Formulas, Judge, Shown, Source, Subject
from worker.rules.plan.zones import Zones
from worker.rules.state import FoldState, UserState

#: Longer values of a `per` field make no context (decisions 11).
LONGEST_CONTEXT = 200
#: Where no day is looked at.
_ANY_CALENDAR = Calendar()


class UnitLadder(NamedTuple):
    """A ladder over a count: a step raises it by one at most, so only the rung it stands on can be newly reached.

    `level` reads the count of a memory that holds something, as of its last step. `rungs` are the goals by threshold;
    those below held at the step that brought the count there, and were tested then.
    """

    level: Callable[[FoldState], int]
    rungs: Mapping[int, tuple[int, ...]]


NO_LADDER: tuple[None, Mapping[int, tuple[int, ...]]] = (None, {})


@dataclass(frozen=True, slots=True)
class FigureLadder:
    """A ladder over any figure. `level` reads it, as of an instant and by the user's calendar then (None: there is
    none); `keys` are (number, strict), rising."""

    level: Callable[[FoldState, int, Calendar], Any]
    keys: tuple[tuple[Any, bool], ...]
    goals: tuple[int, ...]

    def crossed(self, before: FoldState, after: FoldState, now_us: int, calendar: Calendar, due: list[int]) -> None:
        """Append the goals whose threshold lies above the old figure and not above the new one."""
        high = self.level(after, now_us, calendar)
        if high is None:
            return
        last = bisect_right(self.keys, (high, False))
        if last == 0:
            return
        low = self.level(before, now_us, calendar)
        first = 0 if low is None else bisect_right(self.keys, (low, False))
        if last > first:
            due.extend(self.goals[first:last])


@dataclass(frozen=True, slots=True)
class Memory:
    """One fold as it is kept: how it is stepped, and who looks at it when it changed."""

    fold: Fold
    id: str
    step: Callable[[FoldState, Event, Calendar], FoldState]
    unit: UnitLadder | None
    figures: tuple[FigureLadder, ...]
    dependents: tuple[int, ...]

    @property
    def goals(self) -> Iterator[int]:
        """The goals that a step may make true, repeats among them."""
        yield from self.dependents
        for rung in () if self.unit is None else self.unit.rungs.values():
            yield from rung
        for ladder in self.figures:
            yield from ladder.goals


#: A memory laid out: its id, its step, the level and rungs of its unit ladder, its other ladders, its dependents.
Turn = tuple[
    str,
    Callable[[FoldState, Event, Calendar], FoldState],
    Callable[[FoldState], int] | None,
    Mapping[int, tuple[int, ...]],
    tuple[FigureLadder, ...],
    tuple[int, ...],
]


@dataclass(frozen=True, slots=True)
class Gate:
    """One filter with the memories behind it. `touches` are the `per` fields whose scopes may be read or written."""

    per: str | None
    memories: tuple[Memory, ...]
    touches: frozenset[str | None]
    turns: tuple[Turn, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Lay out what each event needs of the memories, to be had in one move."""
        turns = tuple(
            (one.id, one.step, *(one.unit or NO_LADDER), one.figures, one.dependents) for one in self.memories
        )
        object.__setattr__(self, "turns", turns)


class Goal:
    """One badge as it is tested. Goals are numbered so that each comes after the badges it asks for.

    `dependents` are the goals that ask whether this badge is held; `mark` is the id under which the first award of a
    badge with contexts is noted for those that ask in another context (None: nobody does). Its formula becomes a
    function when it is first tested: of a large catalog most badges wait long for that.
    """

    __slots__ = ("_formulas", "_judge", "_shows", "badge", "dependents", "mark", "touches")

    def __init__(
        self,
        badge: Badge,
        formulas: Formulas,
        *,
        touches: frozenset[str | None],
        dependents: tuple[int, ...],
        mark: str | None,
    ) -> None:
        self.badge = badge
        self.touches = touches
        self.dependents = dependents
        self.mark = mark
        self._formulas = formulas
        self._judge: Judge | None = None
        self._shows: tuple[Shown, ...] | None = None

    def holds(self, subject: Subject, scope: str, context: str) -> bool:
        """Whether the badge's formula holds for this subject, in the badge's scope and context."""
        judge = self._judge
        if judge is None:
            judge = self._judge = self._formulas.judge(self.badge.formula, self.badge.per)
        return judge(subject, scope, context)

    @property
    def shows(self) -> tuple[Shown, ...]:
        """What its award tells, test by test, in order."""
        if self._shows is None:
            self._shows = tuple(self._formulas.shows(self.badge.formula))
        return self._shows


@dataclass(frozen=True, slots=True)
class Route:
    """Where events of one type go: the dispatches that find their gates, and the goals tested at each of them.

    `every` are the gates where each event of the type passes the same ones, `alike` the scopes where each touches the
    same ones. `touches` are the `per` fields that an event may touch whatever gates it passes, None among them where
    some gate touches the user's own scope; `contexts` find the gates that touch others, on whatever day: what to load
    is asked before the user, and so the user's calendar, is known.
    """

    dispatches: tuple[Dispatch[Gate], ...]
    watchers: tuple[int, ...]
    touches: frozenset[str | None]
    contexts: tuple[Dispatch[Gate], ...] = ()
    every: tuple[Gate, ...] | None = None
    alike: tuple[str, ...] | None = None

    def gates(self, event: Event, calendar: Calendar) -> Sequence[Gate]:
        """The gates this event passes, days by the user's calendar at it."""
        if self.every is not None:
            return self.every
        found: list[Gate] = []
        for dispatch in self.dispatches:
            dispatch.passed(event, calendar, found)
        return found

    def scopes(self, event: Event) -> tuple[str, ...]:
        """See `Plan.scopes`."""
        fields = set(self.touches)
        found: list[Gate] = []
        for dispatch in self.contexts:
            dispatch.passed(event, _ANY_CALENDAR, found)
        for gate in found:
            fields |= gate.touches
        return tuple(scope for per in fields if (scope := scope_of(event.payload, per)) is not None)


@dataclass(frozen=True, slots=True)
class Plan:
    """A catalog compiled: immutable, swapped whole. `counts` is the number of badges tested per trigger.

    `calendar` is that of the catalog's zone, `zones` finds those of users who have their own (None: nobody has).
    `numbers` finds a badge's goal. `exact` plans keep all of a moving window, so that an explanation shows true figures
    also above a threshold. `sources` finds what a test of one of the goals looks at. `asked` are the goals that ask
    whether a badge is held, for each badge asked for, tested or not; `marked` those asked for in other contexts.
    `conditions` are to be asked, by event type, before an event is applied (None: there are none). `contexts` is
    whether any event may touch a scope other than the user's own. `falling` are the badges that are taken back once
    they no longer hold, `falls` their goals by the type of event that may make them, `falls_anywhere` those that any
    counted event of another type may make.
    """

    catalog: Catalog
    calendar: Calendar
    zones: Zones | None
    badges: Mapping[str, Badge]
    goals: tuple[Goal, ...]
    numbers: Mapping[str, int]
    sources: Callable[[Test], Source]
    routes: Mapping[str, Route]
    other: Route
    uncounted: Route
    counts: Mapping[str, int]
    asked: Mapping[str, tuple[int, ...]]
    marked: frozenset[str]
    exact: bool = False
    conditions: Mapping[str, tuple[Condition, ...]] | None = None
    contexts: bool = True
    falling: frozenset[str] = frozenset()
    falls: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    falls_anywhere: tuple[int, ...] = ()

    @property
    def version(self) -> int:
        """The version of the catalog it was compiled from."""
        return self.catalog.version

    @property
    def basis(self) -> int:
        """The version whose memories and tests it still uses: users built for that one need no build for this one."""
        return self.catalog.version if self.catalog.basis is None else self.catalog.basis

    def calendar_of(self, state: UserState) -> Calendar:
        """The user's calendar after the newest event of a state of this plan."""
        return self.calendar if self.zones is None else self.zones.now(state)

    def route(self, event_type: str) -> Route:
        """The route of a canonical event type, also of one that no badge names."""
        route = self.routes.get(event_type)
        if route is not None:
            return route
        return self.other if counted(event_type) else self.uncounted

    def falling_at(self, event_type: str) -> tuple[int, ...]:
        """The goals of badges that an event of this type may take back."""
        found = self.falls.get(event_type)
        if found is None:
            return self.falls_anywhere if self.falls_anywhere and counted(event_type) else ()
        return found

    def scopes(self, event: Event) -> tuple[str, ...]:
        """The scopes that applying this event may read or write.

        The user's own, "", is named for every event of a type that may touch it; others only where the event does.
        """
        route = self.routes.get(event.type) or self.route(event.type)
        return route.scopes(event) if route.alike is None else route.alike


def context_of(payload: Mapping[str, Any], per: str) -> str | None:
    """The context an event belongs to: the field's scalar as canonical text; None where it has none (decisions 11)."""
    value = lookup(payload, per)
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = str(value)
    elif isinstance(value, Decimal):
        text = _plain(value)
    else:
        return None
    return text if len(text) <= LONGEST_CONTEXT else None


def scope_of(payload: Mapping[str, Any], per: str | None) -> str | None:
    """The scope an event belongs to: "" for the user, `field=context` for a `per` field; None where it has none."""
    if per is None:
        return ""
    context = context_of(payload, per)
    return None if context is None else scope_name(per, context)


def scope_name(per: str | None, context: str) -> str:
    """The scope in which a badge's folds lie; what follows its first = is the context, whatever the field's name."""
    return "" if per is None else f"{per.replace('=', '%3D')}={context}"


def _plain(number: Decimal) -> str:
    """A number without exponent and without zeros that say nothing: 1, 1.5, -0.25."""
    if not number:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
