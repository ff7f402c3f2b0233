"""The store in PostgreSQL: partitions and transactions for the pipeline, with outbox, catalog and dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.exchange import Claim
from worker.store.admin import AdminTables
from worker.store.dead_letters import DeadLetterTable
from worker.store.entries import EntryTables
from worker.store.holders import HolderTables
from worker.store.jobs import JobTables
from worker.store.outbox import OutboxTable
from worker.store.pool import SCHEMA, Pool
from worker.store.profiles import ProfileTables
from worker.store.quarantine import QuarantineTable
from worker.store.remember import WritePath
from worker.store.requests import RequestTables
from worker.store.tenures import TenureTables
from worker.store.transaction import PostgresTransaction
from worker.store.user_jobs import UserJobTable


class PostgresStore(
    TenureTables,
    HolderTables,
    OutboxTable,
    DeadLetterTable,
    EntryTables,
    JobTables,
    ProfileTables,
    UserJobTable,
    AdminTables,
    RequestTables,
    QuarantineTable,
):
    """Answers `pipeline.protocols.Store` and `outbox.OutboxStore` for one consumer group.

    One connection per transaction; `schema` must be the one the pool was made with.
    """

    def __init__(self, pool: Pool, *, group_id: str = "badges", schema: str = SCHEMA) -> None:
        super().__init__(pool, schema=schema)
        self.group_id = group_id
        self._paths: dict[tuple[str, int], WritePath] = {}

    async def claim(
        self, topic: str, partition: int, *, generation: int, owner: str, start_offset: int
    ) -> Claim | None:
        """Take the partition with a fresh token; None where a newer generation holds it."""
        found = await self.rows("claim", self.group_id, topic, partition, start_offset, generation, owner)
        return Claim(topic, partition, **dict(found[0])) if found else None

    async def release(self, claim: Claim) -> None:
        """Give the partition back cleanly, if the token still holds."""
        await self.execute("release", self.group_id, claim.topic, claim.partition, claim.token)

    async def record_gap(self, topic: str, partition: int, from_offset: int, to_offset: int, cause: str) -> None:
        """Write down a hole in a partition's offsets that was accepted."""
        await self.execute("record_gap", self.group_id, topic, partition, from_offset, to_offset, cause)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        """A transaction on a connection of its own: committed on leaving, rolled back on an exception.

        It begins with the shared lock of the catalog, held to the end: while it runs, the head does not move.
        """
        first, second = self.catalog_lock
        async with self.work(f"BEGIN; SELECT pg_advisory_xact_lock_shared({first}, {second})") as session:
            yield PostgresTransaction(session, group_id=self.group_id, path_of=self._path_of)

    def _path_of(self, topic: str, partition: int) -> WritePath:
        return self._paths.setdefault((topic, partition), WritePath())
