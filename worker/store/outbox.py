"""What the relay asks of PostgreSQL (`outbox.OutboxStore`): leases by the database's clock, waiting rows in order."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from worker.exchange import OutboxRow
from worker.store.blobs import unpack_messages
from worker.store.session import Database


class OutboxTable(Database):
    """The outbox and the leases on it; see `outbox.OutboxStore` for what each method promises."""

    async def acquire_lease(self, name: str, owner: str, ttl_seconds: float) -> UUID | None:
        """Take or keep a lease; the token is new each time."""
        found = await self.rows("acquire_lease", name, owner, ttl_seconds)
        return found[0]["token"] if found else None

    async def renew_lease(self, name: str, token: UUID, ttl_seconds: float) -> bool:
        """Keep the lease alive; False where it was lost."""
        return await self.execute("renew_lease", name, token, ttl_seconds) == 1

    async def resign_lease(self, name: str, token: UUID) -> None:
        """Give the lease back, if it is still ours."""
        await self.execute("resign_lease", name, token)

    async def unpublished(self, shard: int, limit: int) -> list[OutboxRow]:
        """The shard's oldest waiting rows, by id."""
        return [
            OutboxRow(row["id"], row["topic"], unpack_messages(row["messages"]), row["age_seconds"])
            for row in await self.rows("unpublished", shard, limit)
        ]

    async def mark_published(self, shard: int, ids: Sequence[int], lease: str, token: UUID) -> bool:
        """Mark rows as published under the lease; False where it was lost."""
        del shard  # ids are enough here; a distributed outbox would route by it
        return bool((await self.rows("mark_published", lease, token, ids))[0]["held"])

    async def park(self, ids: Sequence[int], lease: str, token: UUID, reason: str) -> bool:
        """Set rows aside that a fresh producer cannot send."""
        return bool((await self.rows("park", lease, token, ids, reason))[0]["held"])

    async def outbox_figures(self) -> tuple[int, float]:
        """How many rows wait, and the age of the oldest in seconds."""
        row = (await self.rows("outbox_figures"))[0]
        return row["waiting"], row["oldest_seconds"]

    async def prune_outbox(self, *, days: int = 7, limit: int = 10_000) -> int:
        """Remove at most `limit` rows that were published more than `days` ago; returns how many."""
        return await self.execute("prune_outbox", days, limit)
