"""What the in-memory store holds, and the locks that make its transactions wait for each other as PostgreSQL's do."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from worker.errors import TransientError
from worker.events import Event
from worker.exchange import DeadLetter, Grant, Message, Revocation, Seal, Withheld
from worker.rules.state import OrderKey

_LOCK_SECONDS: Final = 10.0


@dataclass(slots=True)
class PartitionRow:
    """One row of `partitions`."""

    next_offset: int
    generation: int
    owner: str | None
    claimed_at: float
    token: UUID = field(default_factory=uuid4)
    epoch: int = 1
    incarnation: int = 1
    last_offset: int | None = None
    last_sha: bytes | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class UserRow:
    """One row of `users`."""

    revision: int = 0
    award_sequence: int = 0
    built_version: int | None = None
    newest: OrderKey | None = None
    state: bytes | None = None
    home: UUID | None = None


@dataclass(slots=True)
class OutboxEntry:
    """One row of `outbox`."""

    shard: int
    topic: str
    messages: tuple[Message, ...]
    created_at: float
    published_at: float | None = None
    parked: str | None = None


@dataclass(slots=True)
class LeaseRow:
    """One row of `leases`."""

    owner: str
    token: UUID
    expires_at: float


@dataclass(slots=True)
class CatalogRow:
    """One version of the catalog."""

    hash: str
    document: str
    basis: int
    badges: int
    changes: str
    note: str
    applied_by: str
    applied_us: int
    memories: str | None = None
    program: str | None = None


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One row of `catalog_builds`."""

    after: str = ""
    users: int = 0
    awards: int = 0
    done: bool = False


@dataclass(slots=True)
class Tables:
    """Everything that is committed. Keys are those of the tables in PostgreSQL."""

    partitions: dict[tuple[str, int], PartitionRow] = field(default_factory=dict)
    gaps: dict[tuple[str, int, int, int], str] = field(default_factory=dict)
    erased_users: dict[bytes, int] = field(default_factory=dict)
    retention_floors: dict[str, int] = field(default_factory=dict)
    events: dict[str, dict[tuple[str, str], Event]] = field(default_factory=dict)
    arrived: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)
    users: dict[str, UserRow] = field(default_factory=dict)
    scopes: dict[tuple[str, str], bytes] = field(default_factory=dict)
    user_badges: dict[str, dict[tuple[str, str], Grant]] = field(default_factory=dict)
    awards_log: list[Grant | Revocation] = field(default_factory=list)
    revoked: list[tuple[str, str, str]] = field(default_factory=list)
    withheld: dict[tuple[str, str, str], tuple[Withheld, float]] = field(default_factory=dict)
    tallies: dict[tuple[int, str, str, int], int] = field(default_factory=dict)
    usual: dict[str, float] = field(default_factory=dict)
    outbox: dict[int, OutboxEntry] = field(default_factory=dict)
    leases: dict[str, LeaseRow] = field(default_factory=dict)
    dead_letters: dict[tuple[str, int, int, int], tuple[int, DeadLetter, float]] = field(default_factory=dict)
    sealed: dict[str, Seal] = field(default_factory=dict)
    replayed: set[int] = field(default_factory=set)
    catalogs: list[CatalogRow] = field(default_factory=list)
    builds: dict[int, BuildRow] = field(default_factory=dict)
    queue: dict[str, int] = field(default_factory=dict)
    user_jobs: dict[int, Any] = field(default_factory=dict)
    badge_ids: dict[str, int] = field(default_factory=dict)
    event_type_ids: dict[str, int] = field(default_factory=dict)
    condition_type_ids: dict[str, int] = field(default_factory=dict)


class Holder:
    """Somebody who holds locks until the end; the others wait for that end."""

    def __init__(self) -> None:
        self.done = asyncio.Event()


class Locks:
    """Exclusive locks by key, and one shared lock for the catalog."""

    def __init__(self) -> None:
        self._holders: dict[Hashable, Holder] = {}
        self._readers: set[Holder] = set()
        self._writer: Holder | None = None

    async def take(self, holder: Holder, key: Hashable) -> None:
        """Hold a key to the holder's end; taking it twice is taking it once."""
        while (other := self._holders.get(key)) is not None and other is not holder:
            await _end_of(other)
        self._holders[key] = holder

    def try_take(self, holder: Holder, key: Hashable) -> bool:
        """Hold a key if nobody else does; says whether."""
        return self._holders.setdefault(key, holder) is holder

    async def share_catalog(self, holder: Holder) -> None:
        """Hold the catalog with others; waits for who moves the head, or waits to."""
        while self._writer is not None and holder not in self._readers:
            await _end_of(self._writer)
        self._readers.add(holder)

    async def take_catalog(self, holder: Holder) -> None:
        """Hold the catalog alone: waits for every reader, and keeps new ones waiting meanwhile."""
        while self._writer is not None:
            await _end_of(self._writer)
        self._writer = holder
        while self._readers:
            await _end_of(next(iter(self._readers)))

    def release(self, holder: Holder) -> None:
        """Let go of everything."""
        self._holders = {key: other for key, other in self._holders.items() if other is not holder}
        self._readers.discard(holder)
        if self._writer is holder:
            self._writer = None
        holder.done.set()


async def _end_of(holder: Holder) -> None:
    try:
        await asyncio.wait_for(holder.done.wait(), _LOCK_SECONDS)
    except TimeoutError:
        raise TransientError("a lock was not free in time") from None
