"""The relay going round: what is sent and marked in which order, and what each failure costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig.waiting import until
from tests.unit.outbox_rig import Broker, BrokerPublisher, Clock, MemoryOutbox, broker, clock, make, row, store
from worker.errors import OperatorError, PoisonBatch, TransientError
from worker.exchange import Message
from worker.outbox import LEASE_SECONDS, Relay, RelayHooks, lease_name
from worker.outbox import relay as relay_room
from worker.outbox.leases import TRUST_MARGIN_SECONDS

__all__ = ["broker", "clock", "store"]


async def test_rows_are_sent_in_order_and_marked(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """A round asks the database twice and sends all shards' rows, oldest first, each row's messages in turn."""
    published: list[tuple[str, int]] = []
    store.rows = {0: [row(1, "a", "b"), row(2, "c")], 1: [row(3, "d", shard=1)]}
    relay = make(
        store, broker, clock, hooks=RelayHooks(published=lambda topic, count: published.append((topic, count)))
    )
    assert await relay.round() == 4
    assert broker.log == [b"a", b"b", b"c", b"d"]
    assert store.rows == {0: [], 1: []}
    assert published == [("awards", 4)]
    assert store.asked.count("unpublished") == store.asked.count("mark_published") == 1
    assert broker.opened == 1


async def test_a_failure_opens_a_new_producer_and_sends_the_same_rows(
    store: MemoryOutbox, broker: Broker, clock: Clock
) -> None:
    """After a failed send nothing is marked, the producer is never used again, and the rows are read and sent anew."""
    store.rows = {0: [row(1), row(2), row(3)]}
    broker.faults = [TransientError("gone")]
    broker.store_before_failing = 2
    relay = make(store, broker, clock)
    with pytest.raises(TransientError):
        await relay.round()
    assert len(store.rows[0]) == 3
    assert await relay.round() == 3
    assert broker.log == [b"m1", b"m2", b"m1", b"m2", b"m3"]
    assert broker.opened == 2


async def test_an_unmarked_row_is_sent_again(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """A database that fails between sending and marking costs a repeat, never a loss."""
    store.rows = {0: [row(1)]}
    store.failing = {"mark_published"}
    relay = make(store, broker, clock)
    with pytest.raises(TransientError):
        await relay.round()
    store.failing = set()
    assert await relay.round() == 1
    assert broker.log == [b"m1", b"m1"]


async def test_a_shard_of_another_is_left_alone_until_its_lease_ends(
    store: MemoryOutbox, broker: Broker, clock: Clock
) -> None:
    """Two relays never send from one shard at a time, and the second takes over once the first fell silent."""
    store.rows = {0: [row(1)], 1: [row(2, shard=1)]}
    first, second = make(store, broker, clock), make(store, broker, clock, owner="two")
    assert await first.round() == 2
    store.rows = {0: [row(3)], 1: []}
    assert await second.round() == 0
    clock.now += LEASE_SECONDS + 0.1
    assert await second.round() == 1
    assert broker.log == [b"m1", b"m2", b"m3"]


async def test_a_frozen_relay_stops_trusting_its_lease(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """A relay that was frozen past its lease asks for it again before it reads anything."""
    relay, other = make(store, broker, clock), make(store, broker, clock, owner="two")
    await relay.round()
    clock.now += LEASE_SECONDS + 0.1
    await other.round()
    store.rows = {0: [row(1)], 1: [row(2, shard=1)]}
    assert await relay.round() == 0
    assert broker.log == []


async def test_trust_counts_from_before_the_request(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """An answer that came late shortens the trust by the time it took."""
    original = store.acquire_lease

    async def slow(name: str, owner: str, ttl_seconds: float) -> UUID | None:
        token = await original(name, owner, ttl_seconds)
        clock.now += 5
        return token

    store.acquire_lease = slow  # type: ignore[method-assign]
    relay = make(store, broker, clock)
    await relay.round()
    assert relay.held[0].trusted_until == 100.0 + LEASE_SECONDS - TRUST_MARGIN_SECONDS


async def test_a_lease_is_renewed_while_it_is_used(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """A relay that goes round keeps its shards for as long as it likes, whoever asks for them."""
    relay = make(store, broker, clock)
    await relay.round()
    for _ in range(10):
        clock.now += 0.8 * LEASE_SECONDS
        assert await store.acquire_lease(lease_name(0), "two", LEASE_SECONDS) is None
        await relay.round()


async def test_a_lease_lost_before_marking_marks_nothing(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """Rows that were sent by a relay whose lease was taken meanwhile stay waiting for the new holder."""
    store.rows = {0: [row(1)]}
    relay = make(store, broker, clock)

    def steal() -> None:
        store.leases[lease_name(0)] = (uuid4(), "two", clock.now + 10)

    broker.during = steal
    assert await relay.round() == 0
    assert [item.id for item in store.rows[0]] == [1]
    assert 0 not in relay.held


async def test_a_lost_lease_does_not_make_the_relay_turn_in_circles(
    store: MemoryOutbox, broker: Broker, clock: Clock
) -> None:
    """While messages are on their way after the lease was lost, the relay waits for them, and for nothing else."""
    store.rows = {0: [row(1)]}
    looks = 0
    stored = asyncio.Event()

    class Slow(BrokerPublisher):
        async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
            store.leases.clear()
            clock.now += LEASE_SECONDS
            await stored.wait()

    def look() -> float:
        nonlocal looks
        looks += 1
        clock.now += LEASE_SECONDS * bool("renew_lease" in store.asked)
        return clock.now

    async def open_slow() -> BrokerPublisher:
        return Slow(broker)

    relay = Relay(store=store, open_publisher=open_slow, owner="one", clock=look, shards=2)
    running = asyncio.create_task(relay.round())
    await until(lambda: bool(looks) and 0 not in relay.held, "the lease is lost")
    looks = 0
    for _ in range(100):
        await asyncio.sleep(0)
    assert looks < 10
    stored.set()
    await running


async def test_a_row_that_is_refused_alone_is_set_aside(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """A poison row is tried by fresh producers alone, then parked with the reason; its neighbours are published."""
    parked: list[int] = []
    store.rows = {0: [row(1), row(2), row(3)]}
    broker.poison = {b"m2"}
    relay = make(store, broker, clock, hooks=RelayHooks(parked=parked.append))
    while await relay.round():
        pass
    assert store.parked == {b"m2": "too large"}
    assert broker.log == [b"m1", b"m3"]
    assert parked == [1]
    assert broker.opened == 1 + 1 + 3 + 1


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    poison=st.sets(st.integers(0, 24), max_size=4),
)
@settings(deadline=None)
def test_only_what_is_refused_is_set_aside(sizes: list[int], poison: set[int]) -> None:
    """Whatever messages of whatever rows are poison, those alone are parked; the rest go out once each, in order."""

    async def play() -> None:
        clock, counts = Clock(), Counter[str]()
        store, broker = MemoryOutbox(clock), Broker(poison={b"%d" % number for number in poison})
        numbers = iter(range(100))
        store.rows = {0: [row(index, *(str(next(numbers)) for _ in range(size))) for index, size in enumerate(sizes)]}
        hooks = RelayHooks(
            published=lambda topic, count: counts.update({topic: count}),
            parked=lambda count: counts.update(parked=count),
        )
        relay = make(store, broker, clock, hooks=hooks)
        while await relay.round():
            pass
        sent = [b"%d" % number for number in range(sum(sizes)) if number not in poison]
        bad = {b"%d" % number for number in range(sum(sizes)) if number in poison}
        assert broker.log == sent
        assert set(store.parked) == bad
        assert store.rows == {0: []}
        assert (counts["awards"], counts["parked"]) == (len(sent), len(bad))

    asyncio.run(play())


async def test_a_lease_lost_while_looking_for_the_culprit_parks_nothing(
    store: MemoryOutbox, broker: Broker, clock: Clock
) -> None:
    """A relay whose shard was taken while it searched neither marks nor parks; the new holder does."""
    store.rows = {0: [row(1, "a", "b")]}
    broker.poison = {b"b"}
    relay = make(store, broker, clock)
    broker.during = lambda: store.leases.update({lease_name(0): (uuid4(), "two", clock.now + 10)})
    assert await relay.round() == 0
    assert store.parked == {}
    assert [item.id for item in store.rows[0]] == [1]


async def test_it_looks_often_while_rows_come(
    store: MemoryOutbox, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that another worker commits go out soon, though nobody wakes this relay, once some have come lately."""
    monkeypatch.setattr(relay_room, "IDLE_SECONDS", 60.0)
    loop = asyncio.get_running_loop()
    store.clock, store.rows = loop.time, {0: [row(1)]}
    relay = Relay(store=store, open_publisher=broker.open, owner="one", shards=2, clock=loop.time)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    async with asyncio.timeout(10):
        await until(lambda: store.asked.count("unpublished") == 2, "a look at an empty outbox", every=0)
        store.rows = {0: [row(2)]}
        await until(lambda: len(broker.log) == 2, "the second message", every=0)
        stop.set()
        await running


async def test_an_outage_parks_nothing(store: MemoryOutbox, broker: Broker, clock: Clock) -> None:
    """However often a broker fails, no row is set aside for it."""
    store.rows = {0: [row(1)]}
    broker.faults = [TransientError("down")] * 20
    relay = make(store, broker, clock)
    for _ in range(20):
        with pytest.raises(TransientError):
            await relay.round()
    assert await relay.round() == 1
    assert store.parked == {}


async def test_an_outage_while_looking_for_the_culprit_parks_nothing(
    store: MemoryOutbox, broker: Broker, clock: Clock
) -> None:
    """Failures of the broker do not count towards setting a row aside, even once a row was refused."""
    store.rows = {0: [row(1), row(2)]}
    broker.faults = [PoisonBatch("odd"), PoisonBatch("odd"), TransientError("down"), TransientError("down")]
    relay = make(store, broker, clock)
    for _ in range(2):
        with pytest.raises(TransientError):
            await relay.round()
    assert await relay.round() == 2
    assert store.parked == {}


async def test_it_runs_until_stopped_and_gives_its_leases_back(store: MemoryOutbox, broker: Broker) -> None:
    """`run` publishes what comes, wakes at once after a commit, and leaves no lease and no open producer behind."""
    loop = asyncio.get_running_loop()
    store.clock = loop.time
    relay = Relay(store=store, open_publisher=broker.open, owner="one", shards=2)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    async with asyncio.timeout(5):
        await until(lambda: relay.held, "a lease", every=0)
        started = loop.time()
        store.rows = {0: [row(1)]}
        relay.wake()
        await until(lambda: broker.log, "a message", every=0)
        assert loop.time() - started < relay_room.IDLE_SECONDS
        stop.set()
        await running
    assert store.leases == {}
    assert relay.held == {}


async def test_it_survives_a_broker_and_a_database_that_come_late(
    store: MemoryOutbox, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a producer that cannot be opened nor a failing query ends the relay; it publishes once they are back."""
    monkeypatch.setattr(relay_room, "BACKOFF", (0.001, 0.002))
    failures = [OperatorError("Kafka refused the connection."), TransientError("later")]

    async def open_late() -> BrokerPublisher:
        if failures:
            raise failures.pop()
        return await broker.open()

    store.clock = asyncio.get_running_loop().time
    store.failing, store.rows = {"unpublished"}, {0: [row(1)]}
    relay = Relay(store=store, open_publisher=open_late, owner="one", shards=1)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    async with asyncio.timeout(5):
        await until(lambda: store.asked.count("unpublished") >= 3, "three tries")
        store.failing = set()
        await until(lambda: broker.log, "a message")
        stop.set()
        await running
    assert broker.log == [b"m1"]


async def test_stopping_does_not_wait_for_a_broker_that_hangs(
    store: MemoryOutbox, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send that never ends is left behind within the time for farewells, and the leases are given back."""
    monkeypatch.setattr(relay_room, "FINISH_SECONDS", 0.05)

    class Hanging(BrokerPublisher):
        async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
            await asyncio.Event().wait()

    async def open_hanging() -> BrokerPublisher:
        return Hanging(broker)

    store.clock, store.rows = asyncio.get_running_loop().time, {0: [row(1)]}
    relay = Relay(store=store, open_publisher=open_hanging, owner="one", shards=1)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    async with asyncio.timeout(5):
        await until(lambda: relay.held, "a lease")
        stop.set()
        await running
    assert store.leases == {}
    assert [item.id for item in store.rows[0]] == [1]


@given(
    faults=st.lists(st.sampled_from(["send", "mark", "steal", "freeze", "fine"]), max_size=12),
    stored=st.integers(0, 4),
    count=st.integers(1, 6),
)
@settings(deadline=None)
def test_whatever_fails_first_copies_are_in_order_and_none_is_missing(
    faults: list[str], stored: int, count: int
) -> None:
    """Two relays with failing sends, failing marks, stolen leases and freezes lose nothing and keep the order."""

    async def play() -> None:
        clock = Clock()
        store, broker = MemoryOutbox(clock), Broker(store_before_failing=stored)
        store.rows = {0: [row(number) for number in range(count)]}
        relays = [make(store, broker, clock, owner=str(number)) for number in range(2)]
        for turn, fault in enumerate([*faults, "freeze", "fine"]):
            clock.now += LEASE_SECONDS + 1 if fault == "freeze" else 1
            broker.faults = [TransientError("send")] if fault == "send" else []
            store.failing = {"mark_published"} if fault == "mark" else set()
            if fault == "steal":
                store.leases.clear()
            with suppress(TransientError):
                await relays[turn % 2].round()
        broker.faults, store.failing = [], set()
        clock.now += LEASE_SECONDS + 1
        while store.rows[0]:
            await relays[0].round()
        assert list(dict.fromkeys(broker.log)) == [f"m{number}".encode() for number in range(count)]

    asyncio.run(play())
