"""What a batch takes from the settings, and what it says about itself when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.events import Record
from worker.rules.state import Change, Withdrawal


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch takes from the settings.

    `past`: the records were there before (replays, dead letters after a fix). What they earn is told to nobody, its
    origin `backfill` where no other one fits first (decisions 16), and what must not come back leaves no dead letter.
    """

    award_topic: str
    dead_letter_topic: str
    control_topic: str
    max_future_us: int
    late_events_inline: int = 10_000
    past: bool = False


@dataclass(slots=True)
class AwardFacts:
    """What became of awards: given by badge and origin, taken back likewise, held back by badge."""

    awards: Counter[tuple[str, str]] = field(default_factory=Counter, kw_only=True)
    revoked: Counter[tuple[str, str]] = field(default_factory=Counter, kw_only=True)
    held_back: Counter[str] = field(default_factory=Counter, kw_only=True)

    def changed(self, change: Change, origin: str) -> None:
        """Count a change of an award."""
        if isinstance(change, Withdrawal):
            self.revoked[change.badge_key, origin] += 1
        elif change.held_back:
            self.held_back[change.badge_key] += 1
        else:
            self.awards[change.badge_key, origin] += 1

    @property
    def publishes(self) -> bool:
        """Whether there is a message about an award to be published."""
        return bool(self.awards or self.revoked)


@dataclass(slots=True)
class BatchFacts(AwardFacts):
    """What one batch did, for its log line and for the metrics. Times are seconds.

    A batch of several partitions says `partition` and `next_offset` of one; `passed` has them of all. `removed` are the
    events that must not come back, by dead-letter code, whether or not they leave a letter.
    """

    topic: str
    partition: int
    next_offset: int
    passed: Sequence[tuple[int, int]] = ()
    records: int = 0
    tombstones: int = 0
    duplicates: int = 0
    late_users: int = 0
    queued_users: int = 0
    users: int = 0
    evaluations: int = 0
    types: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    requested: int = 0
    oldest_record_ms: int = 0
    decode_seconds: float = 0.0
    transaction_seconds: float = 0.0

    def of(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of a partition's records that it passed; all of them where nothing is said of any partition."""
        end = dict(self.passed).get(records[0].partition, 0)
        if not self.passed or records[-1].offset < end:
            return records
        return [record for record in records if record.offset < end]

    def duplicate(self, event_type: str) -> None:
        """Count an event that said again what the log or the batch holds."""
        self.duplicates += 1
        self.types[event_type, "duplicate"] += 1


@dataclass(slots=True)
class BuildFacts(AwardFacts):
    """What one slice of a build did; `done` where no user is behind any more, `again` where it begins once more."""

    version: int
    done: bool = False
    again: bool = False
    users: int = 0
    events: int = 0
