"""What the relay asks of PostgreSQL (`outbox.OutboxStore`): leases by the database's clock, waiting rows in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec

from worker.exchange import Message, OutboxRow
from worker.store.blobs import pack_messages
from worker.store.session import Database

#: About so many bytes of messages are read at once from each shard, and at least a row.
READ_BYTES: Final = 4 * 1024 * 1024

_read_messages = msgspec.msgpack.Decoder(list[Message]).decode


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

    async def unpublished(self, shards: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest waiting rows of these shards, by id."""
        return [
            OutboxRow(row["id"], row["shard"], row["topic"], _read_messages(row["messages"]), row["age_seconds"])
            for row in await self.rows("unpublished", list(shards), limit, READ_BYTES)
        ]

    async def mark_published(self, ids: Mapping[str, Sequence[int]], tokens: Mapping[str, UUID]) -> Collection[str]:
        """Mark rows as published, by lease; the names of the leases that hold."""
        names = [name for name, marked in ids.items() for _ in marked]
        flat = [row for marked in ids.values() for row in marked]
        held = await self.rows("mark_published", list(tokens), list(tokens.values()), names, flat)
        return [row["name"] for row in held]

    async def park(
        self, row: int, lease: str, token: UUID, *, message: Message, rest: Sequence[Message], reason: str
    ) -> bool:
        """Set one message of a row aside, in a row of its own; the row keeps the rest."""
        packed = pack_messages(rest) if rest else None
        found = await self.rows("park", lease, token, row, reason, pack_messages([message]), packed)
        return bool(found[0]["held"])

    async def outbox_figures(self) -> tuple[int, float]:
        """How many rows wait, and the age of the oldest in seconds."""
        row = (await self.rows("outbox_figures"))[0]
        return row["waiting"], row["oldest_seconds"]

    async def prune_outbox(self, *, days: int = 7, limit: int = 10_000) -> int:
        """Remove at most `limit` rows that were published more than `days` ago; returns how many."""
        return await self.execute("prune_outbox", days, limit)
