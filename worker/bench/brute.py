"""Which awards a stream must give, found the naive way: each user's whole history, each rule read off it by counting.

Nothing of the engine is used here, so that both can be held against each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

#: (user, badge, context, the instant it was earned in microseconds since 1970).
Award: TypeAlias = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class CountRule:
    """So many events of a type."""

    key: str
    event: str
    count: int

    def earned(self, instants: list[int]) -> int | None:
        """When, of sorted instants; None: not yet."""
        return instants[self.count - 1] if len(instants) >= self.count else None


@dataclass(frozen=True, slots=True)
class WindowRule:
    """So many events of a type within so many days, both ends included."""

    key: str
    event: str
    count: int
    days: int

    def earned(self, instants: list[int]) -> int | None:
        """When, of sorted instants; None: not yet."""
        width = self.days * 86_400_000_000
        for last in range(self.count - 1, len(instants)):
            if instants[last] - instants[last - self.count + 1] <= width:
                return instants[last]
        return None


Rule: TypeAlias = CountRule | WindowRule


def awards_of(records: Iterable[tuple[bytes, bytes]], rules: Iterable[Rule]) -> frozenset[Award]:
    """Every award these records must give; a repeated id counts once."""
    told: dict[tuple[str, str], tuple[str, int]] = {}
    for _, value in records:
        body = json.loads(value)
        since = datetime.fromisoformat(body["occurred_at"]) - _EPOCH
        told.setdefault((body["user_id"], body["id"]), (body["type"], since // timedelta(microseconds=1)))
    histories: dict[tuple[str, str], list[int]] = {}
    for (user, _), (kind, at) in told.items():
        histories.setdefault((user, kind), []).append(at)
    asked = list(rules)
    found: set[Award] = set()
    for (user, kind), instants in histories.items():
        instants.sort()
        for rule in asked:
            earned = rule.earned(instants) if rule.event == kind else None
            if earned is not None:
                found.add((user, rule.key, "", earned))
    return frozenset(found)
