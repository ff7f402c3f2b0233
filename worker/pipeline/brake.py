"""The brake: notices that a bad deploy drains the topic into the dead letters, and says so until the worker ends."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from worker.errors import OperatorError


class DeadLetterLimit(Protocol):
    """When so many records are dead letters that the worker must take no more (decisions 29)."""

    @property
    def share(self) -> float:
        """The share of records, 0 to 1."""

    @property
    def least(self) -> int:
        """How many records there must be in the window before the share counts."""

    @property
    def seconds(self) -> float:
        """The length of the window."""


@dataclass(slots=True)
class Brake:
    """Trips where more than the limit's share of the window's records were dead letters; once tripped it stays so.

    Only a new one, that of a worker which a person has started again, looks afresh.
    """

    limit: DeadLetterLimit | None
    tripped: OperatorError | None = None
    _seen: deque[tuple[float, int, Mapping[str, int]]] = field(default_factory=deque)
    _total: int = 0
    _dead: Counter[str] = field(default_factory=Counter)

    def observe(self, at: float, *, records: int, dead: Mapping[str, int]) -> OperatorError | None:
        """Take one batch in, its dead letters by reason; why no more may be taken, where this batch trips the brake.

        `at` is monotonic seconds, and never falls.
        """
        if self.limit is None or self.tripped is not None:
            return None
        self._seen.append((at, records, dict(dead)))
        self._total += records
        self._dead.update(dead)
        while self._seen[0][0] < at - self.limit.seconds:
            _, gone, gone_dead = self._seen.popleft()
            self._total -= gone
            self._dead.subtract(gone_dead)
        bad = self._dead.total()
        if self._total < self.limit.least or bad <= self._total * self.limit.share:
            return None
        (reason, count), *_ = self._dead.most_common(1)
        self.tripped = OperatorError(
            f"{bad:,} of the last {self._total:,} records, within {self.limit.seconds:g} s, became dead letters, most "
            f"often for {reason} ({count:,}): more than {self.limit.share:.0%}, so no more are taken.",
            help="see `badges dlq list`, mend the producer or the catalog, then start the worker again; "
            "BADGES_DEAD_LETTER_LIMIT sets the share, `off` lifts it",
        )
        return self.tripped
