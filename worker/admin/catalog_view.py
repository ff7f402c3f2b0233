"""The catalog as the API shows it: each entry with its id and times, found by id, key or name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from worker.errors import BadgesError, Fault
from worker.events import EventType
from worker.exchange import AuditLine
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.catalog.edits import Edit
from worker.rules.takes import Takes


class BadgeFacts(Protocol):
    """What the database keeps of a badge, whether or not the catalog still has it; instants in microseconds."""

    @property
    def key(self) -> str:
        """Its key."""

    @property
    def id(self) -> int:
        """Its number, which no other badge ever has."""

    @property
    def label(self) -> str:
        """Its label, as last known."""

    @property
    def description(self) -> str:
        """Its description, as last known."""

    @property
    def family(self) -> str:
        """Its family, as last known."""

    @property
    def tier(self) -> int | None:
        """Its place in a ladder."""

    @property
    def sort_score(self) -> int:
        """Its place on profiles."""

    @property
    def created_us(self) -> int:
        """When it was first part of a catalog."""

    @property
    def updated_us(self) -> int:
        """When it was last changed."""

    @property
    def criteria_updated_us(self) -> int:
        """When what it asks was last changed."""


class EntryFacts(Protocol):
    """What the database keeps of an event type or a condition type; instants in microseconds."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def id(self) -> int:
        """Its number, which no other one ever has."""

    @property
    def created_us(self) -> int:
        """When it was first part of a catalog."""

    @property
    def updated_us(self) -> int:
        """When it was last changed."""


@dataclass(frozen=True, slots=True)
class Known:
    """A badge: what the database keeps of it, and what the catalog says (None: it has it no more)."""

    facts: BadgeFacts
    badge: Badge | None

    @property
    def key(self) -> str:
        """Its key."""
        return self.facts.key

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.badge.label if self.badge is not None else self.facts.label

    @property
    def status(self) -> str:
        """Its status; a badge that the catalog left out is deprecated."""
        return self.badge.status if self.badge is not None else "deprecated"


@dataclass(frozen=True)
class View:
    """One version of the catalog with the ids of its entries. Version 0 is the empty catalog before the first."""

    version: int
    catalog: Catalog
    badge_facts: Sequence[BadgeFacts]
    event_type_facts: Sequence[EntryFacts]
    condition_type_facts: Sequence[EntryFacts]

    @cached_property
    def badges(self) -> Mapping[str, Known]:
        """Every badge that ever was one, by key, in the order of ids."""
        defined = {badge.key: badge for badge in self.catalog.badges}
        return {facts.key: Known(facts, defined.get(facts.key)) for facts in self.badge_facts}

    @cached_property
    def event_types(self) -> Mapping[str, EntryFacts]:
        """The event types of the catalog, its own and those built in, by name, in the order of ids."""
        known = self.catalog.dictionary.types
        return {facts.name: facts for facts in self.event_type_facts if facts.name in known}

    @cached_property
    def condition_types(self) -> Mapping[str, EntryFacts]:
        """The condition types of the catalog, by name, in the order of ids."""
        known = self.conditions
        return {facts.name: facts for facts in self.condition_type_facts if facts.name in known}

    @cached_property
    def conditions(self) -> Mapping[str, Mapping[str, Any]]:
        """The entries of the condition types, by name."""
        return {entry["name"]: entry for entry in self.catalog.document.get("condition_types") or ()}

    @cached_property
    def takes(self) -> Takes:
        """Says what a badge takes, in words."""
        return Takes(self.catalog)

    @cached_property
    def _badges_by_id(self) -> Mapping[int, Known]:
        return {known.facts.id: known for known in self.badges.values()}

    @cached_property
    def _badges_by_label(self) -> Mapping[str, Known]:
        # of several with one label the one that is given, and of those the first
        ordered = sorted(self.badges.values(), key=lambda known: (known.status != "active", known.facts.id))
        return {known.label: known for known in reversed(ordered)}

    def badge(self, ref: str) -> Known | None:
        """The badge of this id, key or name, in this order."""
        if (number := _number(ref)) is not None and number in self._badges_by_id:
            return self._badges_by_id[number]
        return self.badges.get(ref) or self._badges_by_label.get(ref)

    def event_type(self, ref: str) -> tuple[EventType, EntryFacts] | None:
        """The event type of this id, name or alias."""
        number = _number(ref)
        name = next((name for name, facts in self.event_types.items() if facts.id == number), ref)
        kind = self.catalog.dictionary.resolve(name)
        return None if kind is None or kind.name not in self.event_types else (kind, self.event_types[kind.name])

    def condition_type(self, ref: str) -> tuple[Mapping[str, Any], EntryFacts] | None:
        """The condition type of this id or name."""
        number = _number(ref)
        name = next((name for name, facts in self.condition_types.items() if facts.id == number), ref)
        return (self.conditions[name], self.condition_types[name]) if name in self.condition_types else None

    def types_by_id(self) -> Mapping[int, str]:
        """The names of the event types by their ids, for rules that know them by those."""
        return {facts.id: name for name, facts in self.event_types.items()}

    def shown(self, statuses: frozenset[str]) -> Iterator[Known]:
        """The badges of these statuses, in the order of ids."""
        return (known for known in self.badges.values() if known.status in statuses)


def _number(ref: str) -> int | None:
    return int(ref) if ref.isascii() and ref.isdigit() and len(ref) <= 10 else None


#: Makes an edit of what it is shown; the text is the key for a badge whose name gives none (see `edits.Nameless`).
Change = Callable[[View, str | None], Edit]
#: What the log of changes says of an edit: what it was made of, and the version that it became.
Line = Callable[[Edit, View, int], AuditLine]


class Refused(BadgesError):
    """The catalog cannot be changed so, or not now; nothing was changed. `faults` are those of other entries."""

    def __init__(self, message: str, *, help: str | None = None, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message, help=help)
        self.faults = tuple(faults)


class Catalogs(Protocol):
    """The catalog's head, to be read and to be changed."""

    async def view(self) -> View:
        """The version that rules now."""

    async def holders(self, keys: Sequence[str]) -> tuple[Mapping[str, int], Mapping[str, float]]:
        """How many hold each of these badges, and which part of the active users does, 0 to 1, both as last counted."""

    async def awards_held(self, key: str) -> int | None:
        """How many awards of a badge are held; None where that could not be counted in time."""

    async def edit(
        self, change: Change, *, by: str, note: str, line: Line, expected: int | None = None
    ) -> tuple[Edit, View, View]:
        """Make a change a version of its own: the edit, the catalog as it was, and as it rules now.

        `by` and `note` stand in the list of versions, and `line` in the log of changes if and only if it is made. A
        change that meets another one is made again on top of it, unless another version than `expected` rules. Raises
        AuthorError for faults in what was sent; Taken, Fixed and Refused where it cannot be.
        """
