"""The relay between a store and a real broker that is killed under it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from tests.integration.test_stream_producer import stored
from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import KafkaBroker
from tests.rig.waiting import until
from worker.config import Settings, load_settings
from worker.exchange import Message
from worker.outbox import Relay
from worker.store.memory import MemoryStore
from worker.stream import Publisher, create_topics, open_publisher

USERS = 20


async def commit(store: MemoryStore, topic: str, numbers: range) -> None:
    """One transaction that puts a message for each number into the outbox."""
    async with store.transaction() as transaction:
        await transaction.publish(
            topic, [(f"u{number % USERS}", Message(b"u%d" % (number % USERS), b"%d" % number)) for number in numbers]
        )


def opener(settings: Settings, opened: list[Publisher], *, seconds: float = 2.0) -> Callable[[], object]:
    """Opens publishers with a short deadline and remembers them."""

    async def open_one() -> Publisher:
        opened.append(await open_publisher(settings, timeout_seconds=seconds))
        return opened[-1]

    return open_one


def first_copies(found: list[tuple[bytes | None, bytes | None]]) -> dict[bytes, list[int]]:
    """Each user's messages in the order in which they first came."""
    seen: defaultdict[bytes, dict[int, None]] = defaultdict(dict)
    for key, value in found:
        seen[key or b""].setdefault(int(value or b""))
    return {user: list(numbers) for user, numbers in seen.items()}


async def emptied(store: MemoryStore, relay: Relay, *, seconds: float = 60.0) -> None:
    """Return once nothing waits in the outbox."""

    async def empty() -> bool:
        relay.wake()
        return not (await store.outbox_figures())[0]

    await until(empty, "emptying the outbox", seconds=seconds, every=0.01)


async def test_what_is_committed_is_published_in_order(kafka: KafkaService, fresh_topic: Callable[[str], str]) -> None:
    """Two relays on one outbox publish every message once, in each user's order, while nothing fails."""
    topic = fresh_topic("awards")
    await kafka.create_topic(topic, 4)
    settings, store = load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers), MemoryStore()
    stop, opened = asyncio.Event(), list[Publisher]()
    relays = [Relay(store=store, open_publisher=opener(settings, opened), owner=name) for name in "ab"]  # type: ignore[arg-type]
    running = [asyncio.create_task(relay.run(stop)) for relay in relays]
    for start in range(0, 1000, 50):
        await commit(store, topic, range(start, start + 50))
        relays[0].wake()
    await emptied(store, relays[1])
    stop.set()
    await asyncio.gather(*running)
    found = await stored(kafka.bootstrap_servers, topic)
    assert len(found) == 1000
    assert first_copies(found) == {b"u%d" % user: list(range(user, 1000, USERS)) for user in range(USERS)}


async def test_a_killed_broker_costs_repeats_only(own_broker: KafkaBroker) -> None:
    """A kill -9 of the broker while rows go out loses nothing; first copies are in order, repeats are known ids."""
    settings, store = load_settings(kafka_bootstrap_servers=own_broker.bootstrap_servers), MemoryStore()
    await create_topics(settings, partitions=4)
    stop, opened = asyncio.Event(), list[Publisher]()
    relay = Relay(store=store, open_publisher=opener(settings, opened), owner="a")  # type: ignore[arg-type]
    running = asyncio.create_task(relay.run(stop))
    for start in range(0, 2000, 20):
        await commit(store, "badges.awards", range(start, start + 20))
        relay.wake()
        if start == 400:
            await until(lambda: opened, "the first publisher")
            own_broker.kill()
        if start == 1000:
            await until(lambda: any(one._closed for one in opened), "the poisoned publisher's end", seconds=20)
            own_broker.spawn()
        await asyncio.sleep(0)
    await asyncio.to_thread(own_broker.wait_until_ready)
    await emptied(store, relay)
    stop.set()
    await running
    assert len(opened) > 1
    assert all(publisher._closed for publisher in opened)
    found = await stored(own_broker.bootstrap_servers, "badges.awards")
    assert first_copies(found) == {b"u%d" % user: list(range(user, 2000, USERS)) for user in range(USERS)}
