"""Events on their way out: together, in order, refused at once while Kafka is away, taken back in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.rig.waiting import until
from worker.admin.applied import Applied
from worker.admin.outlet import Outlet, Post
from worker.errors import BadgesError, OperatorError, TransientError
from worker.exchange import Message


class Broker:
    """Publishers that store into one list; `gate` holds them up, `broken` makes them fail."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken: BadgesError | None = None
        self.unreachable: BadgesError | None = None
        self.opened = 0

    async def open(self) -> Broker:
        if self.unreachable is not None:
            raise self.unreachable
        self.opened += 1
        return self

    async def publish(self, messages: Sequence[Post]) -> None:
        await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        self.calls.append([message.value or b"" for _, message in messages])

    async def close(self) -> None:
        """Nothing to do."""


@asynccontextmanager
async def running(broker: Broker, *, wait_seconds: float = 5.0) -> AsyncIterator[Outlet]:
    outlet = Outlet(broker.open, wait_seconds=wait_seconds)
    task = asyncio.create_task(outlet.run())
    try:
        yield outlet
    finally:
        task.cancel()
        await asyncio.wait({task})


def post(text: str) -> list[Post]:
    return [("t", Message(b"u", text.encode()))]


async def test_who_waits_goes_out_together() -> None:
    """What comes while a call is on its way goes out with the next, in the order it came."""
    broker = Broker()
    async with running(broker) as outlet:
        broker.gate.clear()
        first = asyncio.create_task(outlet.send(post("0")))
        await until(lambda: not outlet._queue and outlet._publisher, "the first on its way")
        rest = [asyncio.create_task(outlet.send(post(str(number)))) for number in range(1, 4)]
        await until(lambda: len(outlet._queue) == 3, "three waiting")
        broker.gate.set()
        await asyncio.gather(first, *rest)
    assert broker.calls == [[b"0"], [b"1", b"2", b"3"]]


async def test_a_failure_is_told_and_another_producer_opened() -> None:
    """Where the broker fails all who waited are told that it is unknown; the next goes by a new producer."""
    broker = Broker()
    async with running(broker) as outlet:
        broker.broken = TransientError("Kafka did not store 1 messages in 5 s.")
        with pytest.raises(TransientError, match="unknown: send it again"):
            await outlet.send(post("0"))
        broker.broken = None
        await outlet.send(post("1"))
    assert (broker.calls, broker.opened) == ([[b"1"]], 2)


async def test_refused_at_once_while_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Kafka cannot be reached events are refused at once; when it is back they go out."""
    monkeypatch.setattr("worker.admin.outlet._AGAIN_SECONDS", 0.01)
    broker = Broker()
    broker.unreachable = OperatorError("Kafka at k:9092 refused the connection.")
    async with running(broker) as outlet:
        with pytest.raises(TransientError, match="refused the connection"):
            await outlet.send(post("0"))
        with pytest.raises(TransientError, match="refused the connection"):
            await asyncio.wait_for(outlet.send(post("0")), 0.05)
        broker.unreachable = None
        await until(lambda: outlet._away is None, "Kafka being back")
        await outlet.send(post("1"))
    assert broker.calls == [[b"1"]]


async def test_taken_back_in_time() -> None:
    """Events whose turn does not come in time are taken back: they are certainly not stored."""
    broker = Broker()
    async with running(broker, wait_seconds=0.05) as outlet:
        broker.gate.clear()
        held = asyncio.create_task(outlet.send(post("0")))
        await until(lambda: not outlet._queue and outlet._publisher, "the first on its way")
        with pytest.raises(TransientError, match="were not sent"):
            await outlet.send(post("1"))
        broker.gate.set()
        await held
    assert broker.calls == [[b"0"]]


async def test_waiting_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More events than may wait are refused."""
    monkeypatch.setattr("worker.admin.outlet._MOST_WAITING", 2)
    outlet = Outlet(Broker().open)
    with pytest.raises(TransientError, match="Too many"):
        await outlet.send(post("0") * 3)


class Log:
    """A log of events that counts who looks; `broken` fails a number of times."""

    def __init__(self) -> None:
        self.events: set[tuple[str, str, str]] = set()
        self.looks: list[int] = []
        self.broken = 0

    async def logged(self, events: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        self.looks.append(len(events))
        if self.broken:
            self.broken -= 1
            raise TransientError("PostgreSQL is away.")
        return [event for event in events if event in self.events]


async def test_one_look_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who wait are looked for together, each is told when its event is logged, and nobody looks for nobody."""
    monkeypatch.setattr("worker.admin.applied._AFTER_FAULT_SECONDS", 0.0)
    log = Log()
    log.broken = 1
    applied = Applied(log)
    waiting = [asyncio.create_task(applied.wait(("u", "", str(number)), seconds=20)) for number in (1, 1, 2)]
    await until(lambda: 2 in log.looks, "a look for both events")
    log.events = {("u", "", "1"), ("u", "", "2")}
    assert await asyncio.gather(*waiting) == [True, True, True]
    await until(lambda: applied._looking is None or applied._looking.done(), "the end of looking")
    assert not await applied.wait(("u", "", "3"), seconds=0.01)
    assert applied._waiting == {}
