"""Several flights in the air: shards do not wait for each other, and what befalls one befalls no other."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig.waiting import until
from tests.unit.outbox_rig import Broker, Clock, MemoryOutbox, broker, clock, make, row, store
from worker.errors import TransientError
from worker.exchange import OutboxRow
from worker.outbox import LEASE_SECONDS, Relay, lease_name
from worker.outbox import relay as relay_room

__all__ = ["broker", "clock", "store"]


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[asyncio.Event]:
    """The relay runs; it is stopped at the end, or when the event that comes out is set."""
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        async with asyncio.timeout(10):
            yield stop
            stop.set()
            await task
    finally:
        task.cancel()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that looks when it was woken, and never because time has passed."""
    monkeypatch.setattr(relay_room, "IDLE_SECONDS", 60.0)
    monkeypatch.setattr(relay_room, "BUSY_SECONDS", 60.0)


async def turns(count: int = 50) -> None:
    """Let everything happen that can."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("patient")
async def test_a_shard_does_not_wait_for_another(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """While the broker keeps one shard's messages, those of another that come later are sent and marked."""
    gate = broker.hold(b"m1")
    store.commit(row(1))
    relay = make(store, broker, clock)
    async with running(relay):
        await until(lambda: b"m1" in broker.begun, "the first flight", every=0)
        store.commit(row(2, shard=1))
        relay.wake()
        await until(lambda: not store.rows[1], "the other shard's mark", every=0, seconds=2)
        assert broker.log == [b"m2"]
        gate.set()
        await until(lambda: not store.rows[0], "the first shard's mark", every=0)
    assert broker.opened == 2


@pytest.mark.usefixtures("patient")
async def test_a_shard_in_the_air_is_not_read(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """Rows that come to a shard meanwhile are sent after it has landed, at once and in order, though nobody wakes."""
    gate = broker.hold(b"m1")
    store.commit(row(1))
    relay = make(store, broker, clock)
    async with running(relay):
        await until(lambda: b"m1" in broker.begun, "the first flight", every=0)
        for number in (2, 3):
            store.commit(row(number))
            relay.wake()
            await turns()
        assert store.read == [[0, 1], [1], [1]]
        gate.set()
        await until(lambda: not store.rows[0], "the marks", every=0, seconds=2)
    assert broker.log == [b"m1", b"m2", b"m3"]


async def test_a_wake_during_a_look_is_not_lost(
    store: MemoryOutbox, broker: Broker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are committed just after the look that was to find them are found by another at once."""
    monkeypatch.setattr(relay_room, "IDLE_SECONDS", 60.0)
    relay, look = make(store, broker, clock), store.unpublished

    async def late(shards: Sequence[int], limit: int) -> list[OutboxRow]:
        found = await look(shards, limit)
        if len(store.read) == 1:
            store.commit(row(1))
            relay.wake()
        return found

    store.unpublished = late  # type: ignore[method-assign, assignment]
    async with running(relay):
        await until(lambda: broker.log == [b"m1"], "the message", every=0, seconds=2)


async def test_a_flight_that_fails_leaves_the_others_alone(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """Of two in the air one fails: its rows stay and its producer ends; the other stores and marks with its own."""
    first, second = broker.hold(b"m1"), broker.hold(b"m2")
    relay = make(store, broker, clock)
    store.commit(row(1))
    failing = asyncio.create_task(relay.round())
    await until(lambda: b"m1" in broker.begun, "the first flight", every=0)
    store.commit(row(2, shard=1))
    fine = asyncio.create_task(relay.round())
    await until(lambda: b"m2" in broker.begun, "the second flight", every=0)
    broker.faults = [TransientError("gone")]
    first.set()
    with pytest.raises(TransientError):
        await failing
    assert (len(store.rows[0]), len(store.rows[1])) == (1, 1)
    second.set()
    assert await fine == 1
    assert (len(store.rows[0]), len(store.rows[1])) == (1, 0)
    assert await relay.round() == 1
    assert broker.log == [b"m2", b"m1"]


async def test_a_failure_throws_resting_producers_away(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """After a failure no producer is used that was open then: the broker may have forgotten them all."""
    gates = [broker.hold(b"m1"), broker.hold(b"m2")]
    relay = make(store, broker, clock)
    store.commit(row(1))
    rounds = [asyncio.create_task(relay.round())]
    await until(lambda: b"m1" in broker.begun, "the first flight", every=0)
    store.commit(row(2, shard=1))
    rounds.append(asyncio.create_task(relay.round()))
    await until(lambda: b"m2" in broker.begun, "the second flight", every=0)
    for gate in gates:
        gate.set()
    assert await asyncio.gather(*rounds) == [1, 1]
    store.commit(row(3))
    broker.faults = [TransientError("gone")]
    with pytest.raises(TransientError):
        await relay.round()
    assert broker.opened == 2
    assert await relay.round() == 1
    assert broker.opened == 3


async def test_a_failure_is_not_tried_again_at_once(
    store: MemoryOutbox, broker: Broker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a flight that failed, nothing takes off before a while has passed, whoever wakes the relay."""
    monkeypatch.setattr(relay_room, "BACKOFF", (60.0, 60.0))
    broker.faults = [TransientError("gone")] * 9
    store.commit(row(1))
    relay = make(store, broker, clock)
    async with running(relay):
        await until(lambda: b"m1" in broker.begun, "the flight", every=0)
        for number in range(2, 12):
            store.commit(row(number, shard=1))
            relay.wake()
            await turns()
        assert broker.begun.count(b"m1") == 1
        assert broker.opened <= 2


async def test_poison_in_one_shard_does_not_touch_another(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """A culprit is searched for and set aside while another shard's messages are on their way, which go out once."""
    gate = broker.hold(b"m4")
    relay = make(store, broker, clock)
    store.commit(row(4, shard=1))
    flying = asyncio.create_task(relay.round())
    await until(lambda: b"m4" in broker.begun, "the flight", every=0)
    broker.poison = {b"m2"}
    store.commit(row(1), row(2), row(3))
    while await relay.round():
        pass
    assert store.parked == {b"m2": "too large"}
    assert broker.log == [b"m1", b"m3"]
    gate.set()
    assert await flying == 1
    assert broker.log == [b"m1", b"m3", b"m4"]


async def test_another_lease_that_is_lost_does_not_condemn(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """A search that ends early, as one of its shards was lost, sets nothing aside: nothing was refused often enough."""
    broker.poison = {b"m2"}
    store.commit(row(1), row(2), row(3, shard=1))

    def steal() -> None:
        if broker.begun and broker.begun[-1] == b"m2":
            store.leases[lease_name(1)] = (uuid4(), "two", clock.now + 10)
            clock.now += LEASE_SECONDS / 3

    relay = make(store, broker, clock)
    broker.during, broker.turns = steal, [0, 0, 0, 3, 3]
    await relay.round()
    assert 1 not in relay.held
    assert store.parked == {}
    while store.rows[0]:
        await relay.round()
    assert set(store.parked) == {b"m2"}


async def test_a_lease_lost_in_the_air(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """What flew under a lost lease is not marked, and its shard is neither asked for nor read before it has landed."""
    gate = broker.hold(b"m1")
    relay = make(store, broker, clock)
    store.commit(row(1))
    flying = asyncio.create_task(relay.round())
    await until(lambda: b"m1" in broker.begun, "the flight", every=0)
    store.leases[lease_name(0)] = (uuid4(), "two", clock.now + 2)
    clock.now += LEASE_SECONDS
    store.commit(row(2, shard=1))
    assert await relay.round() == 1
    assert store.read[-1] == [1]
    gate.set()
    assert await flying == 0
    assert [one.id for one in store.rows[0]] == [1]
    assert await relay.round() == 1
    assert broker.log == [b"m2", b"m1", b"m1"]


async def test_stopping_sends_what_came_while_others_flew(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """Asked to stop, the relay waits for what is in the air, marks it, and sends what waits by then."""
    gate = broker.hold(b"m1")
    store.commit(row(1))
    relay = make(store, broker, clock)
    async with running(relay) as stop:
        await until(lambda: b"m1" in broker.begun, "the flight", every=0)
        store.commit(row(2), row(3, shard=1))
        stop.set()
        await until(lambda: broker.log == [b"m3"], "the other shard's last row", every=0)
        gate.set()
    assert broker.log == [b"m3", b"m1", b"m2"]
    assert store.rows == {0: [], 1: []}
    assert store.leases == {}


async def test_stopping_does_not_wait_for_flights_that_hang(
    store: MemoryOutbox, broker: Broker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two flights that never end are given up: nothing is marked, and the leases are given back."""
    monkeypatch.setattr(relay_room, "FINISH_SECONDS", 0.05)
    broker.hold(b"m1", b"m2")
    store.commit(row(1))
    relay = make(store, broker, clock)
    async with running(relay):
        await until(lambda: b"m1" in broker.begun, "the first flight", every=0)
        store.commit(row(2, shard=1))
        relay.wake()
        await until(lambda: b"m2" in broker.begun, "the second flight", every=0)
    assert [one.id for shard in (0, 1) for one in store.rows[shard]] == [1, 2]
    assert (store.leases, relay.held, broker.log) == ({}, {}, [])
    assert broker.closed == broker.opened == 2


async def test_lost_marks_repeat_the_same_messages(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """Marks that a crash of the database takes back mean that the same messages are sent again, in the same order."""
    store.commit(row(1, "a", "b"), row(2, "c"))
    before = copy.deepcopy(store.rows)
    relay = make(store, broker, clock)
    assert await relay.round() == 3
    store.rows = before
    store.commit(row(3, "d"))
    assert await relay.round() == 4
    assert broker.log == [b"a", b"b", b"c", b"a", b"b", b"c", b"d"]


@pytest.mark.usefixtures("patient")
async def test_much_work_is_done_together(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """Where there is much to send, shards that took off one by one fly together again: a read and a mark for all."""
    relay = make(store, broker, clock, shards=4)
    gates = [broker.hold(b"%d" % shard) for shard in range(4)]
    numbers = iter(range(10_000))
    async with running(relay):
        for shard in range(4):
            store.commit(row(next(numbers), str(shard), *"abcdefgh", shard=shard))
            relay.wake()
            await until(lambda shard=shard: b"%d" % shard in broker.begun, f"flight {shard}", every=0)
        store.asked.clear()
        for gate in gates:
            gate.set()
            for shard in range(4):
                store.commit(row(next(numbers), *"abcdefghij", shard=shard))
            relay.wake()
            await turns()
        for _ in range(20):
            broker.turns = [9]
            for shard in range(4):
                store.commit(row(next(numbers), *"abcdefghij", shard=shard))
            relay.wake()
            await turns()
        sent = sum(len(text) == 1 and text.isalpha() for text in broker.log)
    assert sent == 4 * 8 + 4 * 40 + 20 * 40
    landings = store.asked.count("mark_published")
    assert landings == 4 + 1 + 20
    assert store.asked.count("unpublished") <= 2 * 21 + 2


@given(
    sizes=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    took=st.lists(st.integers(0, 12), max_size=30),
    faults=st.lists(st.sampled_from(["send", "mark", "steal", "freeze", "poison", "fine", "fine"]), max_size=12),
)
@settings(deadline=None)
def test_whatever_flies_together_each_shard_is_in_order(sizes: list[int], took: list[int], faults: list[str]) -> None:
    """Two relays, flights of any length that overlap and fail, rows that keep coming: first copies are in order."""

    async def play() -> None:
        clock = Clock()
        store, broker = MemoryOutbox(clock), Broker(turns=list(took), store_before_failing=1)
        relays = [make(store, broker, clock, owner=str(number), shards=3) for number in range(2)]
        numbers, rounds, poison = iter(range(100)), set[asyncio.Task[int]](), set[bytes]()
        for turn, fault in enumerate([*faults, *["fine"] * len(sizes)]):
            clock.now += LEASE_SECONDS + 1 if fault == "freeze" else 1
            broker.faults = [TransientError("send")] if fault == "send" else []
            store.failing = {"mark_published"} if fault == "mark" else set()
            if fault == "steal":
                store.leases.clear()
            for shard in range(sizes[turn % len(sizes)]):
                number = next(numbers)
                store.commit(row(number, f"{shard}:{number}", shard=shard))
                if fault == "poison":
                    poison.add(f"{shard}:{number}".encode())
                    broker.poison = poison
            rounds.add(asyncio.create_task(relays[turn % 2].round()))
            await turns(took[turn % len(took)] if took else 1)
        broker.faults, store.failing = [], set()
        await asyncio.wait(rounds)
        assert all(one.exception() is None or isinstance(one.exception(), TransientError) for one in rounds)
        clock.now += LEASE_SECONDS + 1
        while any(store.rows.values()):
            with suppress(TransientError):
                await relays[0].round()
        first = list(dict.fromkeys(broker.log))
        assert set(store.parked) == poison
        for shard in range(3):
            sent = [int(text[2:]) for text in first if text.startswith(b"%d:" % shard)]
            assert sent == sorted(sent)
        assert {int(text[2:]) for text in [*first, *poison]} == set(range(next(numbers)))

    asyncio.run(play())
