"""Publishing to a broker: all or an error, in order, and never with a producer that has failed once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import KafkaBroker
from worker.config import load_settings
from worker.errors import OperatorError, PoisonBatch, TransientError
from worker.exchange import Message
from worker.stream import check_topics, create_topics, open_publisher
from worker.stream.producer import _partition, producer_options
from worker.stream.topics import PARTITIONS, needed_topics, subscription_pattern, topic_config


async def stored(bootstrap: str, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Everything in the topic, partition by partition, up to the ends seen at the start."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(topic)
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found = []
        async with asyncio.timeout(30):
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    for records in (await consumer.getmany(partition, timeout_ms=500)).values():
                        found += [(record.key, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


async def test_messages_are_stored_in_order_of_their_user(
    kafka: KafkaService, fresh_topic: Callable[[str], str]
) -> None:
    """When publish returns, every message is stored, each user's in the order given."""
    topic = fresh_topic("awards")
    await kafka.create_topic(topic, 4)
    publisher = await open_publisher(load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers))
    try:
        await publisher.publish(
            [(topic, Message(b"u%d" % (number % 7), b"%d" % number, (("n", b"1"),))) for number in range(500)]
        )
    finally:
        await publisher.close()
    found = await stored(kafka.bootstrap_servers, topic)
    for user in range(7):
        assert [int(value or b"") for key, value in found if key == b"u%d" % user] == list(range(user, 500, 7))


async def test_more_than_a_batch_is_stored_in_order(kafka: KafkaService, fresh_topic: Callable[[str], str]) -> None:
    """Messages that fill several requests, some larger than a batch and one without a key, all come, in order."""
    topic = fresh_topic("awards")
    await kafka.create_topic(topic, 4)
    publisher = await open_publisher(load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers))
    noise = random.Random(1).randbytes(300_000)
    try:
        await publisher.publish(
            [
                (
                    topic,
                    Message(b"u%d" % (number % 3), b"%d " % number + noise[: 300_000 if number % 40 == 7 else 3_000]),
                )
                for number in range(200)
            ]
            + [(topic, Message(None, b"keyless"))]
        )
    finally:
        await publisher.close()
    found = await stored(kafka.bootstrap_servers, topic)
    assert len(found) == 201
    for user in range(3):
        numbers = [int((value or b"").split()[0]) for key, value in found if key == b"u%d" % user]
        assert numbers == list(range(user, 200, 3))


@given(key=st.binary(max_size=40), count=st.integers(1, 20))
def test_keys_go_where_other_clients_put_them(key: bytes, count: int) -> None:
    """A key's partition is the one that the Kafka client itself would choose."""
    numbers = list(range(count))
    assert _partition(key, numbers) == DefaultPartitioner()(key, numbers, numbers)


async def test_the_producer_is_durable_by_its_fields() -> None:
    """The producer object is idempotent, waits for all replicas, compresses, and stamps nothing itself."""
    options = producer_options(load_settings())
    producer = AIOKafkaProducer(**options)
    try:
        assert producer._sender._acks == -1
        assert producer._sender._txn_manager is not None
        assert producer._request_timeout_ms == 15_000
        assert producer._message_accumulator._linger_time == 0
        assert "timestamp_ms" not in options
    finally:
        await producer.stop()


async def test_a_message_too_large_is_poison(kafka: KafkaService, fresh_topic: Callable[[str], str]) -> None:
    """A message above the request's limit is refused by the client as poison, and that publisher is done."""
    topic = fresh_topic("awards")
    await kafka.create_topic(topic, 1)
    publisher = await open_publisher(load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers))
    with pytest.raises(PoisonBatch, match="MessageSizeTooLargeError"):
        await publisher.publish([(topic, Message(b"u", b"fine")), (topic, Message(b"u", b"x" * 2_000_000))])
    with pytest.raises(TransientError, match="closed after a failure"):
        await publisher.publish([(topic, Message(b"u", b"fine"))])


async def test_a_refusal_by_the_broker_is_poison_and_ends_the_producer(
    real_kafka: KafkaService, fresh_topic: Callable[[str], str]
) -> None:
    """What the broker refuses for its size is poison; the publisher is done, and a fresh one goes on."""
    topic = fresh_topic("awards")
    admin = AIOKafkaAdminClient(bootstrap_servers=real_kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    await admin.close()
    settings = load_settings(kafka_bootstrap_servers=real_kafka.bootstrap_servers)
    await check_topics(settings, [topic])
    publisher = await open_publisher(settings)
    noise = random.Random(1).randbytes(9_000)
    with pytest.raises(PoisonBatch):
        await publisher.publish([(topic, Message(b"u", noise))])
    with pytest.raises(TransientError):
        await publisher.publish([(topic, Message(b"u", b"fine"))])
    fresh = await open_publisher(settings)
    await fresh.publish([(topic, Message(b"u", b"fine"))])
    await fresh.close()
    assert await stored(real_kafka.bootstrap_servers, topic) == [(b"u", b"fine")]


async def test_a_broker_that_is_away_fails_within_the_deadline(own_broker: KafkaBroker) -> None:
    """With the broker killed, publish gives up in its time, closing does not hang, and a new publisher works later."""
    settings = load_settings(kafka_bootstrap_servers=own_broker.bootstrap_servers)
    await create_topics(settings, partitions=2)
    publisher = await open_publisher(settings, timeout_seconds=1.0)
    await publisher.publish([("badges.awards", Message(b"u", b"1"))])
    own_broker.kill()
    began = time.monotonic()
    with pytest.raises(TransientError, match="did not store 1 messages in 1 s"):
        await publisher.publish([("badges.awards", Message(b"u", b"2"))])
    await publisher.close()
    assert time.monotonic() - began < 12
    assert len(asyncio.all_tasks()) == 1, "the abandoned producer left tasks behind"
    with pytest.raises(OperatorError, match="refused the connection"):
        await open_publisher(settings)
    own_broker.spawn()
    await asyncio.to_thread(own_broker.wait_until_ready)
    fresh = await open_publisher(settings)
    await fresh.publish([("badges.awards", Message(b"u", b"2"))])
    await fresh.close()
    found = [value for _, value in await stored(own_broker.bootstrap_servers, "badges.awards")]
    assert found in ([b"1", b"2"], [b"1", b"2", b"2"])


async def test_topics_are_created_once(own_broker: KafkaBroker) -> None:
    """Creating makes what is missing, with 12 partitions, and leaves what is there, however often it is called."""
    settings = load_settings(kafka_bootstrap_servers=own_broker.bootstrap_servers, event_topics="a,b")
    with pytest.raises(OperatorError, match=r'no topic "a", "b", "badges\.awards"'):
        await check_topics(settings, needed_topics(settings))
    await KafkaService(own_broker.bootstrap_servers, "local", "", own_broker).create_topic("b", 3)
    made = {item.facts.name: (item.new, item.facts.partitions) for item in await create_topics(settings)}
    assert made["a"] == (True, PARTITIONS)
    assert made["b"] == (False, 3)
    again = await create_topics(settings, partitions=5)
    assert [(item.new, item.facts.partitions) for item in again] == [(False, count) for _, count in made.values()]
    facts = await check_topics(settings, needed_topics(settings))
    assert facts["a"].replicas == 1
    assert facts["a"].led


async def test_the_mock_makes_topics_when_they_are_asked_for(kafka: KafkaService) -> None:
    """Where topics cannot be created but come by themselves, creating and checking succeed all the same."""
    settings = load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers)
    await create_topics(settings, partitions=4)
    facts = await check_topics(settings, needed_topics(settings))
    assert {item.partitions for item in facts.values()} == {4}


def test_three_brokers_keep_two_copies() -> None:
    """With three replicas, two must have a message before it counts; topics delete by age, never compact."""
    assert topic_config(3) == {"cleanup.policy": "delete", "min.insync.replicas": "2"}
    assert topic_config(1) == {"cleanup.policy": "delete"}


def test_the_pattern_keeps_its_meaning() -> None:
    """The subscription's pattern matches as the operator wrote it, but for own topics."""
    import re

    settings = load_settings(event_topics=r"^badges\.(events|awards)|^shop$")
    pattern = re.compile(subscription_pattern(settings, settings.event_topics))
    matched = [
        name
        for name in ("badges.events", "badges.events.eu", "badges.awards", "badges.control", "shop", "shops", "x.shop")
        if pattern.match(name)
    ]
    assert matched == ["badges.events", "badges.events.eu", "shop"]
