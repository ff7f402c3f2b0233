"""The leases on shards: taken where they are free, renewed when due, trusted for less than they last, given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from worker.errors import BadgesError, TransientError
from worker.outbox.protocols import OutboxStore

log = structlog.get_logger(__name__)

#: A lease on a shard, seconds; it is renewed at a third, and trusted a second less than it lasts.
LEASE_SECONDS = 10.0
TRUST_MARGIN_SECONDS = 1.0
RENEW_SECONDS = LEASE_SECONDS / 3


@dataclass(slots=True, eq=False)
class Held:
    """A lease that is held: `trusted_until` and `renew_at` on the local monotonic clock."""

    shard: int
    token: UUID
    trusted_until: float
    renew_at: float


def lease_name(shard: int) -> str:
    """The name of a shard's lease."""
    return f"outbox-{shard}"


@dataclass(slots=True)
class Leases:
    """Those held now, by shard; `owner` names this worker in them, `clock` is monotonic seconds."""

    store: OutboxStore
    owner: str
    clock: Callable[[], float]
    held: dict[int, Held] = field(default_factory=dict)
    _asked_at: dict[int, float] = field(default_factory=dict)

    async def hold(self, shard: int) -> Held | None:
        """The shard's lease: renewed when due, taken where it is free; None where another holds it."""
        held, now = self.held.get(shard), self.clock()
        if held is not None and now < held.trusted_until:
            if now >= held.renew_at and not await self._renew(held):
                return None
            return held
        self.held.pop(shard, None)
        if now < self._asked_at.get(shard, now):
            return None
        token = await self.store.acquire_lease(lease_name(shard), self.owner, LEASE_SECONDS)
        if token is None:
            self._asked_at[shard] = now + RENEW_SECONDS
            return None
        self.held[shard] = Held(shard, token, 0.0, 0.0)
        self._trust(self.held[shard], now)
        log.info("lease_taken", shard=shard)
        return self.held[shard]

    async def keep(self, held: Sequence[Held]) -> None:
        """Renew while messages are on their way; a database that is away now is met again when they are marked."""
        now = self.clock()
        for one in held:
            if one.renew_at <= now:
                one.renew_at = now + RENEW_SECONDS
                with suppress(TransientError):
                    await self._renew(one)

    def keeps(self, held: Held) -> bool:
        """Whether this very lease was not lost, as far as is known here."""
        return self.held.get(held.shard) is held

    def lost(self, held: Held) -> None:
        """Another holds it."""
        if self.keeps(held):
            del self.held[held.shard]
        log.warning("lease_lost", shard=held.shard)

    async def resign(self, *, seconds: float) -> None:
        """Let others take the shards at once; what the database does not do in time is left to the leases' ends."""
        held, self.held = list(self.held.values()), {}
        if held:
            await asyncio.wait({asyncio.create_task(self._resign(one, seconds)) for one in held})

    async def _resign(self, held: Held, seconds: float) -> None:
        with suppress(BadgesError, TimeoutError):
            async with asyncio.timeout(seconds):
                await self.store.resign_lease(lease_name(held.shard), held.token)

    async def _renew(self, held: Held) -> bool:
        now = self.clock()
        if await self.store.renew_lease(lease_name(held.shard), held.token, LEASE_SECONDS):
            self._trust(held, now)
            return True
        self.lost(held)
        return False

    @staticmethod
    def _trust(held: Held, asked: float) -> None:
        """Counted from before the request: the database may have answered at once, and the answer come late."""
        held.trusted_until = asked + LEASE_SECONDS - TRUST_MARGIN_SECONDS
        held.renew_at = asked + RENEW_SECONDS
