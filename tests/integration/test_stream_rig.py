"""The rig's broker keeps ports and data over a kill -9."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import KafkaBroker


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values of partition 0."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        values: list[bytes] = []
        while len(values) < count:
            found = await consumer.getmany(timeout_ms=1000)
            values += [record.value for records in found.values() for record in records]
        return values
    finally:
        await consumer.stop()


async def write(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Append to partition 0."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def test_what_is_written_is_read(kafka: KafkaService, fresh_topic: Callable[[str], str]) -> None:
    """Whatever broker the session found takes records and gives them back."""
    topic = fresh_topic("events")
    assert await kafka.create_topic(topic, 4) == 4
    await write(kafka.bootstrap_servers, topic, [b"a", b"b"])
    assert await read(kafka.bootstrap_servers, topic, 2) == [b"a", b"b"]


async def test_a_killed_broker_comes_back_with_its_data(own_broker: KafkaBroker) -> None:
    """After kill -9 the broker answers on the same port, and acknowledged records are there."""
    service = KafkaService(own_broker.bootstrap_servers, "local", "", own_broker)
    await service.create_topic("events", 1)
    await write(service.bootstrap_servers, "events", [b"a", b"b", b"c"])
    pid = own_broker.pid
    own_broker.restart()
    assert own_broker.pid != pid
    assert await read(service.bootstrap_servers, "events", 3) == [b"a", b"b", b"c"]
