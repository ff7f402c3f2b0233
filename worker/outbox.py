"""Publishes granted awards and dead letters: in order per user, at least once, with stable ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from worker.exchange import OutboxRow


class OutboxStore(Protocol):
    """What the relay asks of the database (leases on shards, rows in order)."""

    async def acquire_lease(self, name: str, owner: str, ttl_seconds: float) -> UUID | None:
        """Take or keep a lease that is free, expired or ours; None where another holds it."""

    async def renew_lease(self, name: str, token: UUID, ttl_seconds: float) -> bool:
        """Keep the lease alive; False where it was lost."""

    async def resign_lease(self, name: str, token: UUID) -> None:
        """Give the lease back, if it is still ours."""

    async def unpublished(self, shard: int, limit: int) -> list[OutboxRow]:
        """The shard's oldest rows that were not published, by id."""

    async def mark_published(self, shard: int, ids: Sequence[int], lease: str, token: UUID) -> bool:
        """Mark rows as published under the lease; False (and nothing marked) where the lease was lost."""

    async def park(self, ids: Sequence[int], lease: str, token: UUID, reason: str) -> bool:
        """Set rows aside that a fresh producer cannot send."""

    async def outbox_figures(self) -> tuple[int, float]:
        """How many rows wait, and the age of the oldest in seconds."""
