"""The two kinds of memory a fold may be: a counter (any order, any cut) and a trail (appends only)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar

#: JSON-like data: int, str, bool, None, lists of them. A memory that was loaded may hold lists where tuples were saved.
State = Any

#: The memory before an event, the event, and the user's calendar at it, to the memory after: `step`, parameters bound.
Stepper = Callable[[State | None, "Event", "Calendar"], State | None]

#: What a moving window keeps of an event, by the user's calendar at it: `note`, parameters bound.
Noter = Callable[["Event", "Calendar"], Any]


class Kind(ABC):
    """A counter: a commutative monoid over events that can state facts. None is the empty memory everywhere.

    Laws, held by `tests/properties/test_kinds.py`: `merge` is associative and commutative with None neutral; `step` is
    `merge` with `lift`; so every order and every cut of a history leaves one memory. No method changes what it was
    given, and `step` returns the very same object where an event changes nothing.

    `params` is `dict(fold.params)`; where the fold has a cap, the plan adds it as `params["cap"]` (see `params_of`).
    """

    name: ClassVar[str]
    #: The fact a ladder of `>= K` thresholds looks at. It rises by at most 1 per step. None: the kind has no such fact.
    unit_fact: ClassVar[str | None] = None
    #: Whether one history may leave different memories in different calendars.
    local: ClassVar[bool] = True
    #: Whether a moving window keeps what its events come to (see `sliding.py`); the note must be the memory.
    joins: ClassVar[bool] = False

    @abstractmethod
    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        """The memory of this one event; None where there is nothing to remember."""

    @abstractmethod
    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        """The memory of two histories together; `cap` bounds kinds that keep a set."""

    @abstractmethod
    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        """All facts, also of the empty memory. Numbers are exact (int, Decimal or Fraction); absent ones are None."""

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        """The memory with one more event."""
        lifted = self.lift(event, params, calendar)
        return state if lifted is None else self.merge(state, lifted, params.get("cap"))

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        """`step` for one fold, its parameters bound."""
        step = self.step
        return lambda state, event, calendar: step(state, event, params, calendar)

    def level(self, state: State | None) -> int:
        """The unit fact as an int, without building the other facts."""
        raise NotImplementedError(f"{self.name} has no unit fact")

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any | None:
        """What a moving window keeps of one event beside its time; None: the event is not kept."""
        return self.lift(event, params, calendar)

    def noter(self, params: Mapping[str, Any]) -> Noter:
        """`note` for one fold, its parameters bound."""
        note = self.note
        return lambda event, calendar: note(event, params, calendar)

    def single(self, us: int, note: Any) -> State:  # noqa: ARG002 - a trail looks at the instant
        """The memory of one entry of a moving window, where the kind joins."""
        return note

    def join(self, a: State, b: State) -> State:
        """The memory of a history and of the one after it, where the kind joins."""
        return self.merge(a, b)

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        """The memory of what a moving window holds within its bounds: instant, note, instant, note …, in order."""
        cap = params.get("cap")
        state: State | None = None
        for note in entries[1::2]:
            state = self.merge(state, note, cap)
        return state


class Trail(ABC):
    """An ordered, bounded memory: valid for appends in order only; an older event rebuilds it from the log.

    None is the empty memory. `step` returns the very same object where an event changes nothing. `gather` of what
    `note` gave for each of some events is a memory that states what the one after stepping exactly these does.
    """

    name: ClassVar[str]
    #: Whether one history may leave different memories in different calendars.
    local: ClassVar[bool] = True
    #: As a kind's.
    joins: ClassVar[bool] = False

    def of(self, params: Mapping[str, Any]) -> Trail:  # noqa: ARG002 - for those that compile them
        """This trail for folds with these parameters only, with what can be compiled of them compiled."""
        return self

    @abstractmethod
    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        """The memory with one newer event; never changes `state` in place."""

    def stepper(self, params: Mapping[str, Any]) -> Stepper:
        """`step` for one fold, its parameters bound."""
        step = self.step
        return lambda state, event, calendar: step(state, event, params, calendar)

    @abstractmethod
    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        """All facts as of now, also of the empty memory. They change with now only behind moving bounds."""

    @abstractmethod
    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any | None:
        """What a moving window keeps of one event beside its time; None: the event is not kept."""

    def noter(self, params: Mapping[str, Any]) -> Noter:
        """`note` for one fold, its parameters bound."""
        note = self.note
        return lambda event, calendar: note(event, params, calendar)

    def single(self, us: int, note: Any) -> State:
        """The memory of one entry of a moving window, where the trail joins."""
        raise NotImplementedError(f"{self.name} does not join")

    def join(self, a: State, b: State) -> State:
        """The memory of a history and of the one after it, where the trail joins."""
        raise NotImplementedError(f"{self.name} does not join")

    @abstractmethod
    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        """The memory of what a moving window holds within its bounds: instant, note, instant, note …, in order."""


class Around(Trail):
    """A window around a memory: what it keeps of each event, and what it tells, is the memory's."""

    kind: Kind | Trail

    def told(
        self, gathered: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar
    ) -> dict[str, Any]:
        """The facts of what the window holds."""
        if isinstance(self.kind, Kind):
            return self.kind.facts(gathered, params)
        return self.kind.facts(gathered, now_us, params, calendar)

    def newest_us(self, state: State) -> int:
        """The instant of the newest event of a memory that holds something: here a flat list of instants and notes."""
        return int(state[-2])

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any | None:
        return self.kind.note(event, params, calendar)

    def noter(self, params: Mapping[str, Any]) -> Noter:
        return self.kind.noter(params)

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        return self.kind.gather(entries, params)
