"""Publishes granted awards and dead letters: in order per user, at least once, with stable ids.

Theory of operation. A row waits in the outbox until it is marked; a relay that holds the leases of some shards sends
their oldest rows in order, waits until all are stored, then marks them under the leases. Whatever goes wrong on the
way, nothing is guessed: the producer is thrown away and the rows are read and sent again, so a message may come twice,
with the same id. Two relays on one shard (one was frozen) do no harm: both send in order, so first copies are in order.
A message that no producer can send is searched for by halves, so that its neighbours go out, and is set aside alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import random
from time import monotonic
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from worker.errors import BadgesError, PoisonBatch, TransientError
from worker.exchange import SHARDS, Message, OutboxRow

log = structlog.get_logger(__name__)

#: A lease on a shard, seconds; it is renewed at a third, and trusted a second less than it lasts.
LEASE_SECONDS = 10.0
TRUST_MARGIN_SECONDS = 1.0
RENEW_SECONDS = LEASE_SECONDS / 3
#: Rows of each shard read at a time; waits after failures (doubled).
ROWS = 200
BACKOFF = (0.1, 5.0)
#: How long to wait where there are no rows and nobody wakes. Another worker's commits wake nobody here, so the relay
#: looks often for as long as rows have been coming.
IDLE_SECONDS = 0.5
BUSY_SECONDS = 0.025
BUSY_FOR_SECONDS = 10.0
#: How often a fresh producer must be refused a message alone before it is set aside.
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

    async def unpublished(self, shards: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest rows of these shards that were not published, by id; at most so many of each."""

    async def mark_published(self, ids: Mapping[str, Sequence[int]], tokens: Mapping[str, UUID]) -> Collection[str]:
        """Mark rows as published, by lease; the names of the leases that hold (rows of the others are not marked)."""

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


@dataclass(slots=True)
class Held:
    """A lease that is held: `trusted_until` and `renew_at` on the local monotonic clock."""

    shard: int
    token: UUID
    trusted_until: float
    renew_at: float


class Place(NamedTuple):
    """One message of a row."""

    row: OutboxRow
    at: int

    @property
    def last(self) -> bool:
        """Whether the row ends with it."""
        return self.at == len(self.row.messages) - 1


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
    _busy_until: float = 0.0
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Say that rows were committed just now; without it the relay looks after a while."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set, then once more, and give the leases back; ends within 10 s of being asked."""
        loop = asyncio.create_task(self._loop(stop), name="relay")
        stopping = asyncio.create_task(stop.wait(), name="relay-stop")
        try:
            await asyncio.wait({loop, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self.wake()
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
                wait = BACKOFF[0]
                if not sent and not ending:
                    await _wait(self._woken, BUSY_SECONDS if self.clock() < self._busy_until else IDLE_SECONDS)
            except BadgesError as error:
                log.warning("relay_waits", reason=error.message, seconds=round(wait, 2))
                await self._drop_publisher()
                if not ending:
                    await _wait(stop, wait * (0.5 + random()))  # noqa: S311 (spreads retries, no secret)
                wait = min(BACKOFF[1], wait * 2)

    async def round(self) -> int:
        """Look once at all shards that are or can be held; returns how many messages were sent or set aside."""
        held = {shard: found for shard in range(self.shards) if (found := await self._hold(shard)) is not None}
        rows = await self.store.unpublished(held, ROWS) if held else []
        now = self.clock()
        if rows:
            self._busy_until = now + BUSY_FOR_SECONDS
        rows = [row for row in rows if now < held[row.shard].trusted_until]
        return await self._relay(held, rows) if rows else 0

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

    async def _relay(self, held: Mapping[int, Held], rows: Sequence[OutboxRow]) -> int:
        """1 send all rows in order; 2 mark them under the leases. Returns how many messages were sent and marked."""
        try:
            await self._send(held, [(row.topic, message) for row in rows for message in row.messages])
        except PoisonBatch:
            return await self._single_out(held, [Place(row, at) for row in rows for at in range(len(row.messages))])
        return await self._mark(held, rows)

    async def _send(self, held: Mapping[int, Held], messages: Sequence[tuple[str, Message]]) -> None:
        """Publish; the leases are kept alive meanwhile. After any failure the producer is thrown away."""
        if self._publisher is None:
            self._publisher = await self.open_publisher()
        publishing = asyncio.ensure_future(self._publisher.publish(messages))
        try:
            while not publishing.done():
                ours = [one for shard, one in held.items() if shard in self.held]
                due = min((one.renew_at for one in ours), default=None)
                await asyncio.wait({publishing}, timeout=None if due is None else max(0.0, due - self.clock()))
                if not publishing.done():
                    await self._keep(ours)
            publishing.result()
        except BaseException:
            publishing.cancel()
            await asyncio.wait({publishing}, timeout=FINISH_SECONDS)
            if publishing.done() and not publishing.cancelled():
                publishing.exception()
            await self._drop_publisher()
            raise

    async def _keep(self, held: Sequence[Held]) -> None:
        """Renew while messages are on their way; a database that is away now is met again when they are marked."""
        now = self.clock()
        for one in held:
            if one.renew_at <= now:
                one.renew_at = now + RENEW_SECONDS
                with suppress(TransientError):
                    await self._renew(one)

    async def _mark(self, held: Mapping[int, Held], rows: Sequence[OutboxRow]) -> int:
        """Returns how many messages the rows have that were marked: all but those whose lease was lost."""
        ids: dict[str, list[int]] = {}
        for row in rows:
            ids.setdefault(lease_name(row.shard), []).append(row.id)
        tokens = {lease_name(row.shard): held[row.shard].token for row in rows}
        holding = await self.store.mark_published(ids, tokens)
        for shard in {row.shard for row in rows if lease_name(row.shard) not in holding}:
            self._lost(held[shard])
        marked = [row for row in rows if lease_name(row.shard) in holding]
        for topic, count in _counted(marked).items():
            self.hooks.published(topic, count)
        return sum(len(row.messages) for row in marked)

    async def _single_out(self, held: Mapping[int, Held], places: Sequence[Place]) -> int:
        """Send everything before the first message that is refused alone, mark that, set the culprit aside."""
        count, reason = await self._find(held, places)
        whole = [place.row for place in places[:count] if place.last]
        sent = await self._mark(held, whole) if whole else 0
        if reason is not None:
            sent += await self._set_aside(held[places[count].row.shard], places[count], reason)
        return sent

    async def _find(self, held: Mapping[int, Held], places: Sequence[Place]) -> tuple[int, str | None]:
        """How many messages were sent before the first that is refused, and why that is; None where none is, alone.

        The first `low` are stored, and among those up to `high` one is at fault: the first half is tried each time.
        """
        messages = [(place.row.topic, place.row.messages[place.at]) for place in places]
        low, high = 0, len(places)
        reason, refusals = None, 0
        while refusals < REFUSALS and all(place.row.shard in self.held for place in places):
            middle = (low + high + 1) // 2
            try:
                await self._send(held, messages[low:middle])
            except PoisonBatch as refused:
                if high - low == 1:
                    reason, refusals = refused.message, refusals + 1
                high = middle
            else:
                if middle == high:
                    return high, None
                low = middle
        return low, reason

    async def _set_aside(self, held: Held, place: Place, reason: str) -> int:
        row, name, message = place.row, lease_name(held.shard), place.row.messages[place.at]
        rest = row.messages[place.at + 1 :]
        if not await self.store.park(row.id, name, held.token, message=message, rest=rest, reason=reason):
            self._lost(held)
            return 0
        log.error("outbox_message_parked", row=row.id, topic=row.topic, reason=reason)
        if place.at:
            self.hooks.published(row.topic, place.at)
        self.hooks.parked(1)
        return place.at + 1

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


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _counted(rows: Sequence[OutboxRow]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row.topic] += len(row.messages)
    return counts
