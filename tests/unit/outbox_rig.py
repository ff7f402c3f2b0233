"""An outbox and a broker held in memory, with a clock that the test turns; fixtures `clock`, `store` and `broker`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

import pytest

from worker.errors import PoisonBatch, TransientError
from worker.exchange import Message, OutboxRow
from worker.outbox import Relay


def row(number: int, *texts: str, shard: int = 0) -> OutboxRow:
    """A row of one user's messages."""
    return OutboxRow(number, shard, "awards", tuple(Message(b"u", text.encode()) for text in texts or (f"m{number}",)))


@dataclass
class MemoryOutbox:
    """An outbox that keeps leases by the clock it is given, and fails where it is told to."""

    clock: Callable[[], float]
    rows: dict[int, list[OutboxRow]] = field(default_factory=dict)
    leases: dict[str, tuple[UUID, str, float]] = field(default_factory=dict)
    parked: dict[bytes, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    read: list[list[int]] = field(default_factory=list)

    def commit(self, *rows: OutboxRow) -> None:
        """Rows that wait from now on."""
        for one in rows:
            self.rows.setdefault(one.shard, []).append(one)

    def _call(self, name: str) -> None:
        self.asked.append(name)
        if name in self.failing:
            raise TransientError(f"{name} failed")

    def _holds(self, name: str, token: UUID) -> bool:
        held = self.leases.get(name)
        return held is not None and held[0] == token

    async def acquire_lease(self, name: str, owner: str, ttl_seconds: float) -> UUID | None:
        self._call("acquire_lease")
        held = self.leases.get(name)
        if held is not None and held[1] != owner and held[2] > self.clock():
            return None
        self.leases[name] = (uuid4(), owner, self.clock() + ttl_seconds)
        return self.leases[name][0]

    async def renew_lease(self, name: str, token: UUID, ttl_seconds: float) -> bool:
        self._call("renew_lease")
        if not self._holds(name, token):
            return False
        self.leases[name] = (token, self.leases[name][1], self.clock() + ttl_seconds)
        return True

    async def resign_lease(self, name: str, token: UUID) -> None:
        self._call("resign_lease")
        if self._holds(name, token):
            del self.leases[name]

    async def unpublished(self, shards: Collection[int], limit: int) -> list[OutboxRow]:
        self._call("unpublished")
        self.read.append(sorted(shards))
        found = [item for shard in shards for item in self.rows.get(shard, [])[:limit]]
        return sorted(found, key=lambda item: item.id)

    async def mark_published(self, ids: Mapping[str, Sequence[int]], tokens: Mapping[str, UUID]) -> Collection[str]:
        self._call("mark_published")
        held = [name for name, token in tokens.items() if self._holds(name, token)]
        marked = {number for name in held for number in ids[name]}
        self.rows = {shard: [item for item in rows if item.id not in marked] for shard, rows in self.rows.items()}
        return held

    async def park(
        self, row: int, lease: str, token: UUID, *, message: Message, rest: Sequence[Message], reason: str
    ) -> bool:
        self._call("park")
        if not self._holds(lease, token):
            return False
        self.parked[message.value or b""] = reason
        for shard, rows in self.rows.items():
            left = [replace(item, messages=rest) if item.id == row else item for item in rows]
            self.rows[shard] = [item for item in left if item.messages]
        return True

    async def outbox_figures(self) -> tuple[int, float]:
        return sum(map(len, self.rows.values())), 0.0


@dataclass
class Broker:
    """A log of what was stored; each publisher it opens dies with its first failure, as real ones do.

    `turns` says how many turns of the loop each send takes, `begun` what was handed over, stored or not.
    """

    log: list[bytes] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    faults: list[Exception | None] = field(default_factory=list)
    poison: set[bytes] = field(default_factory=set)
    store_before_failing: int = 0
    during: Callable[[], None] = lambda: None
    gates: dict[bytes, asyncio.Event] = field(default_factory=dict)
    turns: list[int] = field(default_factory=list)
    begun: list[bytes] = field(default_factory=list)

    def hold(self, *values: bytes) -> asyncio.Event:
        """Messages that are not stored, nor refused, before this is set."""
        gate = asyncio.Event()
        self.gates.update(dict.fromkeys(values, gate))
        return gate

    async def open(self) -> BrokerPublisher:
        self.opened += 1
        return BrokerPublisher(self)


@dataclass
class BrokerPublisher:
    """One publisher of the broker."""

    broker: Broker
    closed: bool = False
    busy: bool = False

    async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
        assert not self.closed, "a publisher was used after its failure"
        assert not self.busy, "a publisher was used by two"
        self.busy = True
        self.broker.during()
        values = [message.value or b"" for _, message in messages]
        self.broker.begun += values
        for _ in range(self.broker.turns.pop(0) if self.broker.turns else 0):
            await asyncio.sleep(0)
        for value in values:
            if (gate := self.broker.gates.get(value)) is not None:
                await gate.wait()
        fault = self.broker.faults.pop(0) if self.broker.faults else None
        if fault is None and self.broker.poison.intersection(values):
            fault = PoisonBatch("too large")
        if fault is not None:
            self.broker.log += values[: self.broker.store_before_failing]
            raise fault
        self.broker.log += values
        self.busy = False

    async def close(self) -> None:
        self.broker.closed += not self.closed
        self.closed = True


class Clock:
    """Monotonic seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(
    store: MemoryOutbox, broker: Broker, clock: Clock, *, owner: str = "one", shards: int = 2, **more: object
) -> Relay:
    return Relay(store=store, open_publisher=broker.open, owner=owner, clock=clock, shards=shards, **more)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    """The clock of the test's relays and of its leases."""
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryOutbox:
    """An outbox without rows."""
    return MemoryOutbox(clock)


@pytest.fixture
def broker() -> Broker:
    """A broker that has stored nothing yet."""
    return Broker()
