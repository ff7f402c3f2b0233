"""The plain data that crosses between pipeline, outbox, store and stream; no behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

#: Users are spread over so many shards of the outbox; one relay at a time serves each.
SHARDS: Final = 4

#: The minutes after one and up to another, in microseconds.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """Ownership of one partition: the token every batch must show, and where to go on.

    `last_offset`/`last_sha` name the last applied record; the first record read must be that very one, else the topic
    was re-created or cut (reliability 1.3). `attempts` counts claims since the last progress.
    """

    topic: str
    partition: int
    token: UUID
    epoch: int
    incarnation: int
    next_offset: int
    last_offset: int | None
    last_sha: bytes | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Step:
    """How far a batch moves its partition: from `from_offset` to `to_offset`, last record `last_offset`/`last_sha`."""

    from_offset: int
    to_offset: int
    last_offset: int
    last_sha: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be processed, with its reason; `raw` is at most the first 64 KiB of it.

    `headers` are None where they were too large to be kept. `said_type` is the type the whole record says it is of.
    """

    topic: str
    partition: int
    offset: int
    incarnation: int
    reason: str
    detail: str
    path: str
    user_id: str | None
    key: bytes | None
    raw: bytes
    sha256: bytes
    length: int
    timestamp_ms: int
    headers: tuple[tuple[str, bytes | None], ...] | None = ()
    said_type: str | None = None


# Not a dataclass: one event in seven may make an award, and building a frozen one costs as much as reading an event.
class Grant(msgspec.Struct, frozen=True, gc=False):
    """An award to be stored: the row of `user_badges` in the order of its columns, and the message that says so.

    `sequence` is its place in the user's line of awards.
    """

    user_id: str
    sequence: int
    badge_key: str
    context: str
    awarded_us: int
    source: str
    origin: str
    award_id: str
    catalog_version: int
    trigger_id: str
    trigger_type: str
    metadata_json: str
    message: bytes


class Revocation(msgspec.Struct, frozen=True, gc=False):
    """An award taken back: its row of `badge_awards_log`, in the order of its columns, and the message that says so.

    `award_id`, `awarded_us` and `metadata_json` are those of the award; `source`, `origin` and trigger say who took it.
    """

    user_id: str
    sequence: int
    badge_key: str
    context: str
    awarded_us: int
    source: str
    origin: str
    award_id: str
    catalog_version: int
    trigger_id: str
    trigger_type: str
    metadata_json: str
    reason: str
    message: bytes


class Withheld(msgspec.Struct, frozen=True, gc=False):
    """An award that is not given: held back, dropped, or revoked for good; its row of `withheld_awards`."""

    user_id: str
    badge_key: str
    context: str
    state: str
    awarded_us: int
    source: str
    origin: str
    catalog_version: int
    trigger_id: str
    trigger_type: str
    metadata_json: str
    reason: str


# An array on the wire: it is stored and read again by the thousand, each as [key, value, headers].
class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message to publish: key, value, headers."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A change for the log of changes: who, what (`token.created`), on what (`token 3`), how it was and is, why.

    `before` and `after` are plain JSON, None for nothing.
    """

    actor: str
    action: str
    subject: str
    before: Any = None
    after: Any = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Messages of one transaction for one topic and shard, in the order they must be published."""

    id: int
    shard: int
    topic: str
    messages: Sequence[Message]
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BuildPage:
    """What is next in the build of a version: users behind it, and the last one looked at (None: there are no more).

    `done`: nothing is left, and that was written down. `again`: all were looked at, but some are behind still.
    """

    behind: tuple[str, ...] = ()
    last: str | None = None
    done: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Seal:
    """The memory of a user at a cut of the log: by scope and fold, of those folds whose events were removed.

    It stands after the event of the key `newest` (instant, source, id). `types` are those of which events went.
    """

    newest: tuple[int, str, str]
    types: frozenset[str]
    scopes: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What became of the events handed in: indexes of the new ones, and of those whose id is logged with other content.

    The rest are duplicates.
    """

    new: Sequence[int]
    conflicts: Sequence[int]


class FailedTick(NamedTuple):
    """A tick of a scheduled job whose last run failed: how often in all, and how long ago that was (microseconds)."""

    tick_us: int
    failures: int
    ago_us: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What is written of a scheduled job's runs: its newest tick, the newest one done, and those to be run again.

    Ticks are microseconds; those to be run again rise: `unfinished` were cut off, or a service was away.
    """

    newest_us: int | None = None
    done_us: int | None = None
    unfinished: Sequence[int] = ()
    failed: Sequence[FailedTick] = ()


@dataclass(frozen=True, slots=True)
class UserJob:
    """Long work over users as it stands.

    `kind` is backfill, recompute or sweep, `state` waiting, running, done, cancelled or failed. Users
    up to `after` are done; `awards` counts those granted or put back, `changes` what was found by kind, and by badge
    under `badges`. Instants are microseconds.
    """

    id: int
    kind: str
    parameters: Mapping[str, Any]
    state: str
    after: str
    users_done: int
    users_total: int
    events: int
    awards: int
    changes: Mapping[str, Any]
    requested_by: str
    requested_us: int
    started_us: int | None
    moved_us: int | None
    done_us: int | None
    note: str


@dataclass(slots=True)
class Standing:
    """A user's awards, by (badge_key, context): each with its instant and the event that earned it (None: not known).

    `lost` were given and not taken back, as the log of awards says, but are not held; `numbers` are their sequences.
    `withheld` gives the state, held, dropped or revoked (by a person). `by_hand` are those held or lost that a person
    gave, `first` is how what a person once took back was first given, `barred` what was held back when it was revoked.
    """

    held: dict[tuple[str, str], tuple[int, str | None]] = field(default_factory=dict)
    lost: dict[tuple[str, str], tuple[int, str | None]] = field(default_factory=dict)
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    withheld: dict[tuple[str, str], str] = field(default_factory=dict)
    by_hand: set[tuple[str, str]] = field(default_factory=set)
    first: dict[tuple[str, str], tuple[int, str | None]] = field(default_factory=dict)
    barred: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """How live work is, in seconds.

    `idle` since a batch was last applied (None: never), `outbox` the age of the oldest message that waits, `running`
    that of the oldest transaction at work, `behind` how long the oldest record that is not applied has waited at least
    (0 where nobody has asked the broker).
    """

    idle: float | None
    outbox: float
    running: float
    behind: float = 0.0


@dataclass(frozen=True, slots=True)
class Followed:
    """One step of following the log: users looked at; whether they were read one by one, because what is followed is
    new; whether another step has something to do.
    """

    users: int
    began: bool
    more: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """A user's local day of joining by an event type, and the zone the user has now, named when (None: never)."""

    user_id: str
    type: str
    day: date
    zone: str
    zone_us: int | None


@dataclass(frozen=True, slots=True)
class HoldersCounted:
    """One step of counting holders: users and awards looked at, up to when; whether another has something to do."""

    users: int
    awards: int
    upto_us: int
    more: bool


@dataclass(frozen=True, slots=True)
class AwardDay:
    """Awards of a badge on a day (UTC), and the badge's first day."""

    badge_key: str
    day: date
    awards: int
    first_day: date


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual of a badge on a day: awards, how far days are from that, and from how many days that is known."""

    usual: float
    spread: float
    days: int


@dataclass(frozen=True, slots=True)
class Counted:
    """One step of counting what arrived: events and users, up to when, whether another step has something to do."""

    events: int
    users: int
    upto_us: int
    more: bool


@dataclass(frozen=True, slots=True)
class TypeDays:
    """When events of a type arrived: the last instant and day, the first day, and what came in the 28 days before.

    `counts` has the days that had any.
    """

    type: str
    last_us: int
    last_day: date
    last_events: int
    first_day: date
    counts: Mapping[date, int]
