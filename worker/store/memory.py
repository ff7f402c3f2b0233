"""A store in memory that behaves as the one in PostgreSQL does, for tests; nothing of it survives the process."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID, uuid4

from worker.exchange import Claim, DeadLetter, Message, OutboxRow
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.touched import NOTHING, Touched
from worker.store.blobs import storable
from worker.store.catalog import StoredCatalog, VersionRow, basis_of
from worker.store.dead_letters import BuriedLetter, ReasonCount
from worker.store.memory_repairs import MemoryJobs
from worker.store.memory_tables import CatalogRow, Holder, LeaseRow, Locks, OutboxEntry, PartitionRow, Tables
from worker.store.memory_transaction import MemoryTransaction
from worker.store.transaction import RAW_LIMIT, instant_of

_GENERATION_SECONDS: Final = 60.0


class MemoryStore(MemoryJobs):
    """Answers `pipeline.protocols.Store` and `outbox.OutboxStore`; passes the contract tests of `PostgresStore`.

    `clock` gives seconds that only grow; it is what PostgreSQL's own clock is there.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.tables = Tables()
        self._clock = clock
        self._locks = Locks()
        self._ids = itertools.count(1)

    # ------------------------------------------------------------ the pipeline's

    async def claim(
        self, topic: str, partition: int, *, generation: int, owner: str, start_offset: int
    ) -> Claim | None:
        """Take the partition with a fresh token; None where a newer generation holds it."""
        key = (topic, partition)
        async with self._holding(key):
            row = self.tables.partitions.get(key)
            if row is None:
                row = PartitionRow(start_offset, generation, owner, self._clock())
            elif generation >= row.generation or row.claimed_at < self._clock() - _GENERATION_SECONDS:
                row = replace(
                    row,
                    token=uuid4(),
                    epoch=row.epoch + 1,
                    generation=generation,
                    attempts=row.attempts + (row.owner is not None),
                    owner=owner,
                    claimed_at=self._clock(),
                )
            else:
                return None
            self.tables.partitions[key] = row
            return Claim(
                topic,
                partition,
                row.token,
                row.epoch,
                row.incarnation,
                row.next_offset,
                row.last_offset,
                row.last_sha,
                row.attempts,
            )

    async def release(self, claim: Claim) -> None:
        """Give the partition back cleanly, if the token still holds."""
        key = (claim.topic, claim.partition)
        async with self._holding(key):
            row = self.tables.partitions.get(key)
            if row is not None and row.token == claim.token:
                self.tables.partitions[key] = replace(row, owner=None, attempts=0)

    async def record_gap(self, topic: str, partition: int, from_offset: int, to_offset: int, cause: str) -> None:
        """Write down a hole in a partition's offsets that was accepted."""
        self.tables.gaps.setdefault((topic, partition, from_offset, to_offset), cause)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        """A transaction: committed on leaving, undone on an exception."""
        transaction = MemoryTransaction(self.tables, self._locks, now=self._clock(), next_id=lambda: next(self._ids))
        try:
            yield transaction
            transaction.commit()
        finally:
            transaction.undo()
            self._locks.release(transaction)

    @asynccontextmanager
    async def _holding(self, key: tuple[str, int]) -> AsyncIterator[None]:
        holder = Holder()
        try:
            await self._locks.take(holder, key)
            yield
        finally:
            self._locks.release(holder)

    # ------------------------------------------------------------ the relay's

    async def acquire_lease(self, name: str, owner: str, ttl_seconds: float) -> UUID | None:
        """Take or keep a lease; the token is new each time."""
        held = self.tables.leases.get(name)
        if held is not None and held.owner != owner and held.expires_at >= self._clock():
            return None
        self.tables.leases[name] = LeaseRow(owner, uuid4(), self._clock() + ttl_seconds)
        return self.tables.leases[name].token

    async def renew_lease(self, name: str, token: UUID, ttl_seconds: float) -> bool:
        """Keep the lease alive; False where it was lost."""
        if not self._holds(name, token):
            return False
        self.tables.leases[name].expires_at = self._clock() + ttl_seconds
        return True

    async def resign_lease(self, name: str, token: UUID) -> None:
        """Give the lease back, if it is still ours."""
        if self._holds(name, token):
            del self.tables.leases[name]

    def _holds(self, name: str, token: UUID) -> bool:
        held = self.tables.leases.get(name)
        return held is not None and held.token == token

    async def unpublished(self, shards: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest waiting rows of these shards, by id."""
        found: list[OutboxRow] = []
        for shard in shards:
            waiting = [(key, row) for key, row in self._waiting() if row.shard == shard]
            found += [
                OutboxRow(key, shard, row.topic, row.messages, self._clock() - row.created_at)
                for key, row in waiting[:limit]
            ]
        return sorted(found, key=lambda row: row.id)

    def _waiting(self) -> list[tuple[int, OutboxEntry]]:
        rows = sorted(self.tables.outbox.items())
        return [(key, row) for key, row in rows if row.published_at is None and row.parked is None]

    async def mark_published(self, ids: Mapping[str, Sequence[int]], tokens: Mapping[str, UUID]) -> Collection[str]:
        """Mark rows as published, by lease; the names of the leases that hold."""
        held = [name for name, token in tokens.items() if self._holds(name, token)]
        for key in (key for name in held for key in ids.get(name, ())):
            self.tables.outbox[key].published_at = self._clock()
        return held

    async def park(
        self, row: int, lease: str, token: UUID, *, message: Message, rest: Sequence[Message], reason: str
    ) -> bool:
        """Set one message of a row aside, in a row of its own; the row keeps the rest."""
        if not self._holds(lease, token):
            return False
        whole = self.tables.outbox.pop(row)
        self.tables.outbox[next(self._ids)] = replace(whole, messages=(message,), parked=reason)
        if rest:
            self.tables.outbox[row] = replace(whole, messages=tuple(rest))
        return True

    async def outbox_figures(self) -> tuple[int, float]:
        """How many rows wait, and the age of the oldest in seconds."""
        created = [row.created_at for _, row in self._waiting()]
        return len(created), self._clock() - min(created) if created else 0.0

    async def prune_outbox(self, *, days: int = 7, limit: int = 10_000) -> int:
        """Remove at most `limit` rows that were published more than `days` ago; returns how many."""
        oldest = self._clock() - days * 86_400
        rows = self.tables.outbox.items()
        old = [key for key, row in rows if row.published_at is not None and row.published_at < oldest]
        for key in old[:limit]:
            del self.tables.outbox[key]
        return len(old[:limit])

    # ------------------------------------------------------------ catalog and dead letters

    async def catalog_head(self) -> StoredCatalog | None:
        """The version that rules; None where no catalog was ever applied."""
        if not self.tables.catalogs:
            return None
        row = self.tables.catalogs[-1]
        return StoredCatalog(len(self.tables.catalogs), row.hash, row.document, row.basis, row.memories, row.program)

    async def catalog_stored(self, version: int) -> StoredCatalog | None:
        """One version; None where there is none of this number."""
        if not 0 < version <= len(self.tables.catalogs):
            return None
        row = self.tables.catalogs[version - 1]
        return StoredCatalog(version, row.hash, row.document, row.basis, row.memories, row.program)

    async def catalog_versions(self, *, before: int | None = None, limit: int = 50) -> list[VersionRow]:
        """The newest versions, newest first; `before` is the last one of the page before."""
        newest = len(self.tables.catalogs)
        rows = [
            VersionRow(
                number, row.basis, row.badges, row.changes, row.note, row.applied_by, row.applied_us, number == newest
            )
            for number, row in enumerate(self.tables.catalogs, 1)
            if before is None or number < before
        ]
        return rows[::-1][:limit]

    async def catalog_knows(self, digest: str) -> bool:
        """Whether a catalog with this hash was ever a version."""
        return any(row.hash == digest for row in self.tables.catalogs)

    async def note_memories(self, version: int, memories: str, program: str) -> tuple[str, str]:
        """Say by which identities and program a version's memories are built, where nothing is said; what stands."""
        row = self.tables.catalogs[version - 1]
        row.memories = memories if row.memories is None else row.memories
        row.program = program if row.program is None else row.program
        return row.memories, row.program

    async def knows_memories(self, digest: str, memories: str) -> bool:
        """Whether the memories of a catalog with this hash were ever built by these identities."""
        return any((row.hash, row.memories) == (digest, memories) for row in self.tables.catalogs)

    async def apply_catalog(
        self,
        document_json: str,
        digest: str,
        *,
        badges: Sequence[Badge],
        event_types: Iterable[str],
        applied_by: str = "",
        base: int | None = None,
        builds: bool = True,
        changes: str = "",
        note: str = "",
        condition_types: Iterable[str] = (),
        touched: Touched = NOTHING,  # noqa: ARG002 - nobody asks a store in memory when an entry was changed
        reserved: Mapping[str, int] | None = None,
        definitions: Mapping[str, str] | None = None,  # noqa: ARG002 - only people ask which definition gave an award
        memories: str | None = None,
        program: str | None = None,
        anew: bool = False,
    ) -> int:
        """Write a new version and let it rule; returns its number, or the head's where that has the same hash.

        All others are as the real store takes them. Raises HeadMoved.
        """
        holder = Holder()
        try:
            await self._locks.take_catalog(holder)
            head = await self.catalog_head()
            if head is None or head.hash != digest or anew:
                basis = basis_of(head, base=base, builds=builds) or len(self.tables.catalogs) + 1
                at_us = round(self._clock() * 1_000_000)
                self.tables.catalogs.append(
                    CatalogRow(
                        digest, document_json, basis, len(badges), changes, note, applied_by, at_us, memories, program
                    )
                )
                for key, number in (reserved or {}).items():
                    self.tables.badge_ids.setdefault(key, number)
                for ids, names in (
                    (self.tables.badge_ids, [badge.key for badge in badges]),
                    (self.tables.event_type_ids, event_types),
                    (self.tables.condition_type_ids, condition_types),
                ):
                    numbers = itertools.count(max(ids.values(), default=0) + 1)
                    ids.update({name: next(numbers) for name in dict.fromkeys(names) if name not in ids})
            return len(self.tables.catalogs)
        finally:
            self._locks.release(holder)

    async def dead_letter_counts(self) -> list[ReasonCount]:
        """Reasons with their numbers, the most frequent first."""
        letters = self._letters()
        counts = Counter(letter.reason for letter in letters)
        return [
            ReasonCount(
                reason,
                count,
                min(letter.buried_us for letter in letters if letter.reason == reason),
                max(letter.buried_us for letter in letters if letter.reason == reason),
            )
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    async def dead_letters(
        self,
        *,
        reason: str | None = None,
        before: int | None = None,
        limit: int = 50,
        topic: str | None = None,
        since_us: int | None = None,
        state: str | None = None,
        event_type: str | None = None,
    ) -> list[BuriedLetter]:
        """A page, newest first; `before` is the number of the last one of the page before."""
        page = [
            replace(letter, key=None, raw=None, sha256=None, headers=None)
            for letter in self._letters(event_type)
            if reason in (None, letter.reason) and (before is None or letter.number < before)
            if topic in (None, letter.topic) and state in (None, letter.state)
            if since_us is None or letter.buried_us >= since_us
        ]
        return page[:limit]

    async def dead_letter(self, topic: str, partition: int, offset: int) -> BuriedLetter | None:
        """The letter of a record, whole."""
        place = (topic, partition, offset)
        found = [letter for letter in self._letters() if (letter.topic, letter.partition, letter.offset) == place]
        return max(found, key=lambda letter: letter.incarnation, default=None)

    def _letters(self, event_type: str | None = None) -> list[BuriedLetter]:
        there = (row for row in self.tables.dead_letters.values() if event_type in (None, row[1].said_type))
        rows = sorted(there, key=lambda row: -row[0])
        return [_buried(*row, state="replayed" if row[0] in self.tables.replayed else "new") for row in rows]


def _buried(number: int, letter: DeadLetter, at: float, *, state: str) -> BuriedLetter:
    return BuriedLetter(
        number,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.incarnation,
        letter.reason,
        storable(letter.detail),
        storable(letter.path),
        None if letter.user_id is None else storable(letter.user_id),
        letter.length,
        instant_of(letter.timestamp_ms),
        round(at * 1_000_000),
        state,
        letter.key,
        letter.raw[:RAW_LIMIT],
        letter.sha256,
        letter.headers,
    )
