"""What is known of one user while events are applied, and the award that comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec

#: The memory of one fold: JSON-like data (int, str, bool, None, lists or tuples of them); never mutated in place.
FoldState = Any

#: An award of a user: (badge_key, context), the context "" where the badge has none.
AwardKey = tuple[str, str]

#: Order of events: (occurred_us, source, id), by code point.
OrderKey = tuple[int, str, str]


#: Stands among the awards held for one that is withheld: it counts as given, and as held at no instant (decisions 18).
NEVER: Final = 1 << 62

#: The scopes changed of most users: their own.
OWN_SCOPE: Final = frozenset({""})


# Made by the thousand, and never part of a cycle.
class UserState(msgspec.Struct, gc=False):
    """One user's memory, as far as it was loaded.

    `scopes` maps a scope ("" for the user, `field=value` for one value of a `per` field) to fold id to state; a scope
    that was loaded but is empty is an empty dict. `held` maps (badge_key, context) to `awarded_at` in microseconds for
    the contexts loaded, its keys best made by `award_key`, and what is withheld there to `NEVER`. `newest` is the order
    key of the newest applied event.
    `dirty` names the scopes changed since, as `touch` notes them; it is replaced when they are written.
    `built_version` is the catalog version whose folds this state holds (a plan's `basis`); None for a user without a
    row yet.
    `evaluations` counts the badges tested since the state was made; it is stored nowhere.
    `unsaved` counts the events applied since the state was last written.
    `fixed` are those of the awards held that a person gave: automatic work leaves them alone.
    """

    user_id: str
    scopes: dict[str, dict[str, FoldState]] = {}
    held: dict[AwardKey, int] = {}
    newest: OrderKey | None = None
    award_sequence: int = 0
    built_version: int | None = None
    evaluations: int = 0
    dirty: AbstractSet[str] = frozenset()
    unsaved: int = 0
    fixed: AbstractSet[AwardKey] = frozenset()

    def touch(self, scope: str) -> None:
        """Note a scope as changed. Users of whom nothing but their own scope has changed share one set."""
        dirty = self.dirty
        if scope in dirty:
            return
        if not dirty and not scope:
            self.dirty = OWN_SCOPE
        elif isinstance(dirty, set):
            dirty.add(scope)
        else:
            self.dirty = {*dirty, scope}


# Not a dataclass: building a frozen one costs as much as finding out that the badge is earned.
class Award(msgspec.Struct, frozen=True):
    """A badge earned at one event. `metadata` says why; `context` is "" where the badge has no `per`.

    `by_hand`: a person gave it. `held_back`: the badge's breaker keeps it for an operator to look at.
    """

    user_id: str
    badge_key: str
    context: str
    awarded_us: int
    trigger_id: str
    trigger_type: str
    trigger_source: str
    metadata: Mapping[str, Any]
    by_hand: bool = False
    held_back: bool = False


class Withdrawal(msgspec.Struct, frozen=True):
    """A badge taken back at one event, for a reason; `by_hand` by a person, who may take what is not held."""

    user_id: str
    badge_key: str
    context: str
    at_us: int
    trigger_id: str
    trigger_type: str
    trigger_source: str
    reason: str
    by_hand: bool = False


#: What an event does to a user's awards.
Change = Award | Withdrawal


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that is stored of a user's awards, by badge and context.

    `held` gives the instant and the earning event's id (None: no event's), `by_hand` those of them that a person gave.
    `withheld` gives the state, held, dropped or revoked; `barred` are those that were held back when they were revoked,
    and so never given. `first` is how what was once taken back was first given.
    """

    held: Mapping[AwardKey, tuple[int, str | None]] = field(default_factory=dict)
    by_hand: AbstractSet[AwardKey] = frozenset()
    withheld: Mapping[AwardKey, str] = field(default_factory=dict)
    first: Mapping[AwardKey, tuple[int, str | None]] = field(default_factory=dict)
    barred: AbstractSet[AwardKey] = frozenset()


def award_key(badge_key: str, context: str = "") -> AwardKey:
    """The key of an award among those a user holds: one object for all who hold a badge without contexts."""
    return (badge_key, context) if context else _of_user(badge_key)


@lru_cache(maxsize=100_000)
def _of_user(badge_key: str) -> AwardKey:
    return (badge_key, "")
