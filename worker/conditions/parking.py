"""Which condition types are asked no more: those that fail whoever is asked about, not those that fail for somebody."""

from __future__ import annotations

from collections import deque
from typing import Final

from worker.rules.catalog.definitions import Condition

#: Of a type's last calls so many are looked at; after how many at first.
LOOKED_AT: Final = 100
LEAST_CALLS: Final = 20
#: A type is parked where at least half of them were faults, of at least so many users: one user's events park nothing.
LEAST_USERS: Final = 10
#: So many calls in a row that took too long park it whoever they were about: each costs a quarter of a second.
SLOW_IN_A_ROW: Final = 20


class Parking:
    """The recent calls of each condition type, whatever its params. A source that was changed begins anew."""

    def __init__(self) -> None:
        self._recent: dict[str, _Recent] = {}

    @property
    def names(self) -> list[str]:
        """The types that are parked, sorted."""
        return sorted(name for name, recent in self._recent.items() if recent.parked)

    def is_parked(self, condition: Condition) -> bool:
        """Whether it is asked no more."""
        recent = self._recent.get(condition.name)
        return recent is not None and recent.parked and recent.source == condition.source

    def answered(self, condition: Condition) -> None:
        """One call that gave a verdict."""
        self._of(condition).add(None)

    def failed(self, condition: Condition, user_id: str, *, slow: bool) -> int:
        """One call that failed, about an event of this user; where it is parked for that, how many did lately, else 0.

        `slow`: it was stopped for its time.
        """
        recent = self._of(condition)
        recent.add(user_id, slow=slow)
        return recent.judge()

    def _of(self, condition: Condition) -> _Recent:
        recent = self._recent.get(condition.name)
        if recent is None or recent.source != condition.source:
            recent = self._recent[condition.name] = _Recent(condition.source)
        return recent


class _Recent:
    """The last calls of one source: for each the user it failed for, None where it gave a verdict."""

    __slots__ = ("_calls", "_slow", "_users", "parked", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.parked = False
        self._calls: deque[str | None] = deque()
        self._users: dict[str, int] = {}
        self._slow = 0

    def add(self, user_id: str | None, *, slow: bool = False) -> None:
        calls, users = self._calls, self._users
        if len(calls) == LOOKED_AT and (oldest := calls.popleft()) is not None:
            users[oldest] -= 1
            if not users[oldest]:
                del users[oldest]
        calls.append(user_id)
        self._slow = self._slow + 1 if slow else 0
        if user_id is not None:
            users[user_id] = users.get(user_id, 0) + 1

    def judge(self) -> int:
        faults, calls = sum(self._users.values()), len(self._calls)
        everywhere = calls >= LEAST_CALLS and 2 * faults >= calls and len(self._users) >= LEAST_USERS
        self.parked = everywhere or self._slow >= SLOW_IN_A_ROW
        return faults if self.parked else 0
