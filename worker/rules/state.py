"""What is known of one user while events are applied, and the award that comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The memory of one fold: JSON-like data (int, str, bool, None, lists or tuples of them); never mutated in place.
FoldState = Any

#: Order of events: (occurred_us, source, id), by code point.
OrderKey = tuple[int, str, str]


@dataclass(slots=True)
class UserState:
    """One user's memory, as far as it was loaded.

    `scopes` maps a scope ("" for the user, `field=value` for one value of a `per` field) to fold id to state; a scope
    that was loaded but is empty is an empty dict. `held` maps (badge_key, context) to `awarded_at` in microseconds for
    the contexts loaded. `newest` is the order key of the newest applied event. `dirty` names the scopes changed since.
    `built_version` is the catalog version whose folds this state holds; None for a user without a row yet.
    """

    user_id: str
    scopes: dict[str, dict[str, FoldState]] = field(default_factory=dict)
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    newest: OrderKey | None = None
    award_sequence: int = 0
    built_version: int | None = None
    dirty: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Award:
    """A badge earned at one event. `metadata` says why; `context` is "" where the badge has no `per`."""

    user_id: str
    badge_key: str
    context: str
    awarded_us: int
    trigger_id: str
    trigger_type: str
    trigger_source: str
    metadata: Mapping[str, Any]
