"""Publishes granted awards and dead letters: in order per user, at least once, with stable ids.

Theory of operation. A row waits in the outbox until it is marked; a relay that holds the lease of a shard sends the
shard's oldest rows in order, waits until all are stored, then marks them under the lease. Whatever goes wrong on the
way, nothing is guessed: the producer is thrown away and the rows are read and sent again, so a message may come twice,
with the same id. Two relays on one shard (one was frozen) do no harm: both send in order, so first copies are in order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import random
from time import monotonic
from typing import Protocol
from uuid import UUID

import structlog

from worker.errors import BadgesError, PoisonBatch, TransientError
from worker.exchange import SHARDS, Message, OutboxRow

log = structlog.get_logger(__name__)

#: A lease on a shard, seconds; it is renewed at a third, and trusted a second less than it lasts.
LEASE_SECONDS = 10.0
TRUST_MARGIN_SECONDS = 1.0
RENEW_SECONDS = LEASE_SECONDS / 3
#: Rows read at a time; how long to wait where there are none and nobody wakes; waits after failures (doubled).
ROWS = 200
IDLE_SECONDS = 0.5
BACKOFF = (0.1, 5.0)
#: How often a fresh producer must be refused a row alone before the row is set aside.
REFUSALS = 3
#: Once asked to stop: how long the running round may take, and how long each farewell, seconds.
FINISH_SECONDS = 4.0
FAREWELL_SECONDS = 2.0


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


class Publisher(Protocol):
    """What the relay asks of a producer. After an exception it is of no use any more."""

    async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
        """Store all (topic, message) pairs, in order; PoisonBatch where one is refused for what it is."""

    async def close(self) -> None:
        """Let go of it, within seconds."""


@dataclass(frozen=True, slots=True)
class RelayHooks:
    """What the relay tells its surroundings: messages were published (topic, count), rows were set aside."""

    published: Callable[[str, int], None] = lambda topic, count: None  # noqa: ARG005 (the names are the interface)
    parked: Callable[[int], None] = lambda count: None  # noqa: ARG005


@dataclass(slots=True)
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
class Relay:
    """Sends what waits in the outbox; a task in every worker. Each takes whatever shards are free.

    `open_publisher` gives a started publisher; `owner` names this worker in the leases; `clock` is monotonic seconds.
    """

    store: OutboxStore
    open_publisher: Callable[[], Awaitable[Publisher]]
    owner: str
    hooks: RelayHooks = field(default_factory=RelayHooks)
    shards: int = SHARDS
    clock: Callable[[], float] = monotonic
    held: dict[int, Held] = field(default_factory=dict)
    _publisher: Publisher | None = None
    _asked_at: dict[int, float] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Say that rows were committed just now; without it the relay looks every half second."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set, then once more, and give the leases back; ends within 10 s of being asked."""
        loop = asyncio.create_task(self._loop(stop), name="relay")
        stopping = asyncio.create_task(stop.wait(), name="relay-stop")
        try:
            await asyncio.wait({loop, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({loop}, timeout=FINISH_SECONDS)
        finally:
            stopping.cancel()
            loop.cancel()
            await asyncio.wait({loop}, timeout=FAREWELL_SECONDS)
            await self._farewell()
        if not loop.cancelled():
            loop.result()

    async def figures(self) -> tuple[int, float]:
        """How many rows wait, and the age of the oldest in seconds."""
        return await self.store.outbox_figures()

    # ---- the loop ---------------------------------------------------------------------------------------------------

    async def _loop(self, stop: asyncio.Event) -> None:
        wait, ending = BACKOFF[0], False
        while not ending:
            ending = stop.is_set()
            self._woken.clear()
            try:
                sent = await self.round()
                wait, pause = BACKOFF[0], 0.0 if sent else IDLE_SECONDS
            except BadgesError as error:
                log.warning("relay_waits", reason=error.message, seconds=round(wait, 2))
                await self._drop_publisher()
                pause = wait * (0.5 + random())  # noqa: S311 (spreads retries, no secret)
                wait = min(BACKOFF[1], wait * 2)
                self._woken.clear()
            if pause and not ending:
                await self._idle(stop, pause)

    async def _idle(self, stop: asyncio.Event, seconds: float) -> None:
        waiting = [asyncio.create_task(event.wait()) for event in (self._woken, stop)]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def round(self) -> int:
        """Look once at every shard that is or can be held; returns how many rows were sent."""
        sent = 0
        for shard in range(self.shards):
            held = await self._hold(shard)
            if held is None:
                continue
            rows = await self.store.unpublished(shard, ROWS)
            if rows and self.clock() < held.trusted_until:
                sent += await self._relay(held, rows)
        return sent

    # ---- leases -----------------------------------------------------------------------------------------------------

    async def _hold(self, shard: int) -> Held | None:
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

    async def _renew(self, held: Held) -> bool:
        now = self.clock()
        if await self.store.renew_lease(lease_name(held.shard), held.token, LEASE_SECONDS):
            self._trust(held, now)
            return True
        self._lost(held)
        return False

    @staticmethod
    def _trust(held: Held, asked: float) -> None:
        """Counted from before the request: the database may have answered at once, and the answer come late."""
        held.trusted_until = asked + LEASE_SECONDS - TRUST_MARGIN_SECONDS
        held.renew_at = asked + RENEW_SECONDS

    def _lost(self, held: Held) -> None:
        self.held.pop(held.shard, None)
        log.warning("lease_lost", shard=held.shard)

    # ---- sending ----------------------------------------------------------------------------------------------------

    async def _relay(self, held: Held, rows: Sequence[OutboxRow]) -> int:
        """1 send all rows in order; 2 mark them under the lease. Returns how many were marked."""
        try:
            await self._send(held, rows)
        except PoisonBatch:
            return await self._single_out(held, rows)
        return await self._mark(held, rows)

    async def _send(self, held: Held, rows: Sequence[OutboxRow]) -> None:
        """Publish; the lease is kept alive meanwhile. After any failure the producer is thrown away."""
        if self._publisher is None:
            self._publisher = await self.open_publisher()
        messages = [(row.topic, message) for row in rows for message in row.messages]
        publishing = asyncio.ensure_future(self._publisher.publish(messages))
        try:
            while not publishing.done():
                if held.shard not in self.held:
                    await asyncio.wait({publishing})
                    break
                await asyncio.wait({publishing}, timeout=max(0.0, held.renew_at - self.clock()))
                if not publishing.done():
                    await self._keep(held)
            publishing.result()
        except BaseException:
            publishing.cancel()
            await asyncio.wait({publishing}, timeout=FINISH_SECONDS)
            if publishing.done() and not publishing.cancelled():
                publishing.exception()
            await self._drop_publisher()
            raise

    async def _keep(self, held: Held) -> None:
        """Renew while messages are on their way; a database that is away now is met again when they are marked."""
        held.renew_at = self.clock() + RENEW_SECONDS
        with suppress(TransientError):
            await self._renew(held)

    async def _mark(self, held: Held, rows: Sequence[OutboxRow]) -> int:
        ids = [row.id for row in rows]
        if not await self.store.mark_published(held.shard, ids, lease_name(held.shard), held.token):
            self._lost(held)
            return 0
        for topic, count in _counted(rows).items():
            self.hooks.published(topic, count)
        return len(rows)

    async def _single_out(self, held: Held, rows: Sequence[OutboxRow]) -> int:
        """Send row by row, each with a fresh producer after a refusal, until the culprit is set aside."""
        sent = 0
        for row in rows:
            reason = await self._refusal(held, row)
            if held.shard not in self.held:
                return sent
            if reason is None:
                sent += await self._mark(held, [row])
                continue
            log.error("outbox_row_parked", row=row.id, topic=row.topic, reason=reason)
            if not await self.store.park([row.id], lease_name(held.shard), held.token, reason):
                self._lost(held)
            self.hooks.parked(1)
            return sent + 1
        return sent

    async def _refusal(self, held: Held, row: OutboxRow) -> str | None:
        """None once it is sent; else why it was refused as often as is enough."""
        reason = ""
        for _ in range(REFUSALS):
            try:
                await self._send(held, [row])
            except PoisonBatch as refused:
                reason = refused.message
            else:
                return None
        return reason

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def _drop_publisher(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()

    async def _farewell(self) -> None:
        """Let others take the shards at once."""
        for held in list(self.held.values()):
            with suppress(BadgesError, TimeoutError):
                await asyncio.wait_for(self.store.resign_lease(lease_name(held.shard), held.token), FAREWELL_SECONDS)
        self.held.clear()
        await self._drop_publisher()


def _counted(rows: Sequence[OutboxRow]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row.topic] += len(row.messages)
    return counts
