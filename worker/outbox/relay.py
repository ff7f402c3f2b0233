"""The relay's loop: which shards are read when, how much may be in the air, what a failure costs, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import random
from time import monotonic
from typing import TypeAlias

import structlog

from worker.errors import BadgesError
from worker.exchange import SHARDS, OutboxRow
from worker.outbox.flights import Flights
from worker.outbox.leases import Held, Leases
from worker.outbox.protocols import OutboxStore, Publisher, RelayHooks

log = structlog.get_logger(__name__)

Flight: TypeAlias = "asyncio.Task[int]"

#: Rows of each shard read at a time; waits after failures (doubled).
ROWS = 200
BACKOFF = (0.1, 5.0)
#: Once so many messages are in the air, nothing starts until all have landed. Fewer are sent with less delay than work;
#: where there are more, the work counts, and one flight of all shards costs what one of a single shard does.
CROWD = 32
#: How long to wait where there are no rows and nobody wakes. Another worker's commits wake nobody here, so the relay
#: looks often for as long as rows have been coming.
IDLE_SECONDS = 0.5
BUSY_SECONDS = 0.025
BUSY_FOR_SECONDS = 10.0
#: Once asked to stop: how long what is in the air and the last round may take, and how long each farewell, seconds.
FINISH_SECONDS = 4.0
FAREWELL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a flight carries: rows of these shards, so many messages."""

    shards: frozenset[int]
    messages: int


@dataclass(slots=True)
class Relay:
    """Sends what waits in the outbox; a task in every worker. Each takes whatever shards are free.

    `open_publisher` gives a started publisher, of which as many are kept as there are flights at a time, `shards` at
    most; `owner` names this worker in the leases; `clock` is monotonic seconds.
    """

    store: OutboxStore
    open_publisher: Callable[[], Awaitable[Publisher]]
    owner: str
    hooks: RelayHooks = field(default_factory=RelayHooks)
    shards: int = SHARDS
    clock: Callable[[], float] = monotonic
    _leases: Leases = field(init=False)
    _flights: Flights = field(init=False)
    _aloft: dict[Flight, Load] = field(default_factory=dict)
    _crowded: bool = False
    _busy_until: float = 0.0
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._leases = Leases(self.store, self.owner, self.clock)
        self._flights = Flights(self.store, self._leases, self.open_publisher, self.hooks)

    @property
    def held(self) -> Mapping[int, Held]:
        """The leases held now, by shard."""
        return self._leases.held

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
            tasks = {loop, stopping, *self._aloft}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=FAREWELL_SECONDS)
            await self._leases.resign(seconds=FAREWELL_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._flights.rest()
        if not loop.cancelled():
            loop.result()

    async def figures(self) -> tuple[int, float]:
        """How many rows wait, and the age of the oldest in seconds."""
        return await self.store.outbox_figures()

    async def round(self) -> int:
        """Look once at all shards that are or can be held and are not in the air, and wait until what was found landed.

        Returns how many messages were sent or set aside. Raises TransientError where that failed.
        """
        flight = await self._look()
        return 0 if flight is None else await flight

    # ---- the loop ---------------------------------------------------------------------------------------------------

    async def _loop(self, stop: asyncio.Event) -> None:
        wait, flights = BACKOFF[0], set[Flight]()
        while not stop.is_set():
            self._woken.clear()
            try:
                landed = _landed(flights)
                await self._add(flights)
                if landed or not flights:
                    wait = BACKOFF[0]
                await _wait(self._woken, BUSY_SECONDS if self.clock() < self._busy_until else IDLE_SECONDS)
            except BadgesError as error:
                log.warning("relay_waits", reason=error.message, seconds=round(wait, 2))
                await _wait(stop, wait * (0.5 + random()))  # noqa: S311 (spreads retries, no secret)
                wait = min(BACKOFF[1], wait * 2)
        try:
            await self._finish(flights)
        except BadgesError as error:
            log.warning("relay_leaves_rows", reason=error.message)

    async def _add(self, flights: set[Flight]) -> None:
        if (flight := await self._look()) is not None:
            flights.add(flight)

    async def _finish(self, flights: set[Flight]) -> None:
        """Look once more: at the shards that are free now, and at the others once they have landed."""
        await self._add(flights)
        if flights:
            await asyncio.wait(flights)
        _landed(flights)
        await self.round()

    async def _look(self) -> Flight | None:
        """Read all shards that are held and not in the air; what is found takes off together."""
        async with self._looking:
            aloft = frozenset().union(*(load.shards for load in self._aloft.values()))
            held = {
                shard: found
                for shard in range(self.shards)
                if shard not in aloft and (found := await self._leases.hold(shard)) is not None
            }
            self._crowded = self._crowded and bool(self._aloft)
            if not held or self._crowded:
                return None
            rows = await self.store.unpublished(held, ROWS)
            now = self.clock()
            if rows:
                self._busy_until = now + BUSY_FOR_SECONDS
            rows = [row for row in rows if now < held[row.shard].trusted_until]
            return self._take_off(held, rows) if rows else None

    def _take_off(self, held: Mapping[int, Held], rows: Sequence[OutboxRow]) -> Flight:
        shards = frozenset(row.shard for row in rows)
        flight = asyncio.create_task(
            self._flights.fly({shard: held[shard] for shard in shards}, rows), name="relay-flight"
        )
        self._aloft[flight] = Load(shards, sum(len(row.messages) for row in rows))
        self._crowded = self._crowded or sum(load.messages for load in self._aloft.values()) >= CROWD
        flight.add_done_callback(self._land)
        return flight

    def _land(self, flight: Flight) -> None:
        """Its shards are free, and more may wait in them: whatever woke the relay meanwhile saw others alone."""
        del self._aloft[flight]
        self._woken.set()


def _landed(flights: set[Flight]) -> int:
    """Take those that are over out of the set; how many. Raises the failure of one, a fault in the program first."""
    over = {flight for flight in flights if flight.done()}
    flights -= over
    failures = [failure for flight in over if (failure := flight.exception()) is not None]
    for failure in sorted(failures, key=lambda failure: isinstance(failure, BadgesError)):
        raise failure
    return len(over)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
