"""What the relay asks of the database and of a producer, and what it tells its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from worker.exchange import Message, OutboxRow


class OutboxStore(Protocol):
    """What the relay asks of the database (leases on shards, rows in order)."""

    async def acquire_lease(self, name: str, owner: str, ttl_seconds: float) -> UUID | None:
        """Take or keep a lease that is free, expired or ours; None where another holds it."""

    async def renew_lease(self, name: str, token: UUID, ttl_seconds: float) -> bool:
        """Keep the lease alive; False where it was lost. A crash of the database may take a renewal back."""

    async def resign_lease(self, name: str, token: UUID) -> None:
        """Give the lease back, if it is still ours."""

    async def unpublished(self, shards: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest rows of these shards that were not published, by id; at most so many of each."""

    async def mark_published(self, ids: Mapping[str, Sequence[int]], tokens: Mapping[str, UUID]) -> Collection[str]:
        """Mark rows as published, by lease; the names of the leases that hold (rows of the others are not marked).

        A crash of the database may take marks back.
        """

    async def park(
        self, row: int, lease: str, token: UUID, *, message: Message, rest: Sequence[Message], reason: str
    ) -> bool:
        """Set one message of a row aside, in a row of its own; the row keeps `rest`, or goes where that is nothing.

        False (and nothing changed) where the lease was lost.
        """

    async def outbox_figures(self) -> tuple[int, float]:
        """How many rows wait, and the age of the oldest in seconds."""


class Publisher(Protocol):
    """What the relay asks of a producer. After an exception it is of no use any more."""

    async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
        """Store all (topic, message) pairs, in order; PoisonBatch where one is refused for what it is."""

    async def close(self) -> None:
        """Let go of it, within seconds."""


@dataclass(frozen=True, slots=True)
class RelayHooks:
    """What the relay tells its surroundings: messages were published (topic, count), messages were set aside."""

    published: Callable[[str, int], None] = lambda topic, count: None  # noqa: ARG005 (the names are the interface)
    parked: Callable[[int], None] = lambda count: None  # noqa: ARG005
