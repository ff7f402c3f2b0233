"""Breakers: awards of a badge that come much faster than is usual are held back until a person looks at them.

Awards are counted by badge and by the minute of their record's own timestamp, each partition in its own rows, in the
transaction that gives them. So a breaker trips late by at most one batch of each other partition. Producers set those
timestamps, and no producer may switch a breaker off: one ahead of this machine's clock counts as the latest of its
batch that is not, and a batch longer than the window is judged window by window from its newest record back, so that
one record far ahead of the others hides none of them. What a backfill, a replay, a recompute or a person gives is not
counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.events import Event, Record
from worker.exchange import Span
from worker.pipeline.protocols import Transaction
from worker.rules.catalog.definitions import Catalog
from worker.rules.operators.calendar import FIXED

MINUTE_US: Final = 60_000_000
#: What a breaker does where the catalog says no more than that there is one.
FACTOR: Final = 10
WINDOW: Final = "1h"
LIMIT: Final = 1_000
#: What is usual is read again after so many seconds; counts are kept for a day after their window.
USUAL_SECONDS: Final = 300.0
KEPT_US: Final = 86_400_000_000

_LENGTH: Final = re.compile(r"([0-9]+)([A-Za-z]+)")
#: Months, quarters and years as windows of a breaker, in days.
_DAYS: Final = {"m": 30, "M": 30, "q": 91, "y": 365}


@dataclass(frozen=True, slots=True)
class Rule:
    """When a badge's breaker trips: after `factor` times the awards of a usual day within the window.

    After `limit` of them while nothing is known to be usual.
    """

    factor: int
    window_us: int
    limit: int

    def bound(self, usual: float | None) -> float:
        """How many awards in the window are let through, given what is usual for a day."""
        return self.factor * usual if usual is not None and usual >= 1 else self.limit


def rules_of(catalog: Catalog) -> dict[str, Rule]:
    """The breakers of a catalog by badge; a badge's own goes before the catalog's."""
    found: dict[str, Rule] = {}
    common = catalog.options.get("breaker")
    for badge in catalog.badges:
        written = common if badge.breaker is None else badge.breaker
        if isinstance(written, Mapping):
            found[badge.key] = _rule(written)
    return found


def _rule(written: Mapping[str, Any]) -> Rule:
    length = _LENGTH.fullmatch(written.get("window", WINDOW))
    assert length is not None  # noqa: S101 (the catalog was found clean)
    number, unit = int(length[1]), length[2]
    window = number * (FIXED[unit] if unit in FIXED else _DAYS[unit] * FIXED["d"])
    return Rule(int(written.get("factor", FACTOR)), max(window, MINUTE_US), int(written.get("limit", LIMIT)))


class Breakers:
    """The breakers of the catalog in use; `begin` makes that of one batch."""

    def __init__(self, rules: Mapping[str, Rule], clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._wall = wall
        self._usual: Mapping[str, float] = {}
        self._usual_at: float | None = None

    @property
    def any(self) -> bool:
        """Whether any badge has a breaker."""
        return bool(self._rules)

    async def begin(
        self, transaction: Transaction, events: Sequence[Event], sources: Sequence[Record]
    ) -> Breaker | None:
        """What is counted for a batch of these events; None where no badge has a breaker."""
        if not self._rules:
            return None
        read_ms = int(self._wall() * 1000)
        until = _minute(max((ms for record in sources if (ms := _stamp(record)) <= read_ms), default=read_ms))
        minutes = {
            (event.user_id, event.source, event.id): min(_minute(_stamp(record)), until)
            for event, record in zip(events, sources, strict=True)
        }
        now = self._clock()
        if self._usual_at is None or now - self._usual_at > USUAL_SECONDS:
            self._usual, self._usual_at = await transaction.usual(), now
            await transaction.forget_tallies(until - max(rule.window_us for rule in self._rules.values()) - KEPT_US)
        windows = {rule.window_us for rule in self._rules.values()}
        spans = {window: _spans({until, *minutes.values()}, window) for window in windows}
        counted = await transaction.tallied({span for found in spans.values() for span in found.values()})
        return Breaker(self._rules, self._usual, minutes, until, spans, counted)


class Breaker:
    """Says of each award of a batch whether it is held back, and counts it."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        usual: Mapping[str, float],
        minutes: Mapping[tuple[str, str, str], int],
        until_us: int,
        spans: Mapping[int, Mapping[int, Span]],
        counted: Mapping[Span, Mapping[str, int]],
    ) -> None:
        self._rules = rules
        self._usual = usual
        self._minutes = minutes
        self._until_us = until_us
        self._spans = spans
        self._counted = counted
        self._here: Counter[tuple[str, Span]] = Counter()
        self._tallies: Counter[tuple[str, int]] = Counter()

    def holds(self, badge_key: str, event: Event) -> bool:
        """Whether the award that this event earns is one too many for the window that its minute lies in."""
        rule = self._rules.get(badge_key)
        if rule is None:
            return False
        minute = self._minutes.get((event.user_id, event.source, event.id), self._until_us)
        self._tallies[badge_key, minute] += 1
        span = self._spans[rule.window_us][minute]
        self._here[badge_key, span] += 1
        before = self._counted[span].get(badge_key, 0)
        return before + self._here[badge_key, span] > rule.bound(self._usual.get(badge_key))

    async def write(self, transaction: Transaction) -> None:
        """Add what this batch gave, or held back, to the counts."""
        await transaction.tally([(key, minute, count) for (key, minute), count in sorted(self._tallies.items())])


def _spans(minutes: Collection[int], window_us: int) -> dict[int, Span]:
    """The window that each minute is judged in: they end at the newest, and at the next one that it does not reach."""
    found: dict[int, Span] = {}
    span = None
    for minute in sorted(minutes, reverse=True):
        if span is None or minute <= span[0]:
            span = (minute - window_us, minute)
        found[minute] = span
    return found


def _stamp(record: Record) -> int:
    """A record's own timestamp, milliseconds; when it was read, where it has none."""
    return record.timestamp_ms if record.timestamp_ms >= 0 else record.received_ms


def _minute(stamp_ms: int) -> int:
    """The minute of a timestamp, microseconds."""
    return stamp_ms * 1000 // MINUTE_US * MINUTE_US
