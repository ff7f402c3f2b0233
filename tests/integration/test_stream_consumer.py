"""The consumer against a broker: nothing leaks before it is claimed, nothing is lost, failures have words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer

from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import KafkaBroker, free_port
from tests.rig.kafka_programs import available
from tests.rig.required import missing
from worker.config import Settings, Topics, load_settings
from worker.errors import OperatorError, TransientError
from worker.events import Record
from worker.exchange import Message
from worker.stream import Consumer, check_topics, open_publisher
from worker.stream.consumer import consumer_options

Partition = tuple[str, int]


def settings_for(bootstrap: str, **more: object) -> Settings:
    """Settings for this broker, with the shortest session it takes (the mock wants it shorter)."""
    return load_settings(kafka_bootstrap_servers=bootstrap, **{"session_timeout_ms": 6_000, **more})


class Reader:
    """A consumer and what it was given; `claim` lets assigned partitions flow, from offset 0 or where it was."""

    def __init__(self, settings: Settings, topics: Collection[str] | Topics) -> None:
        self.assigned: dict[Partition, int] = {}
        self.next: dict[Partition, int] = {}
        self.records: list[Record] = []
        self.revocations = 0
        named = topics if isinstance(topics, Topics) else tuple(topics)
        self.consumer = Consumer(settings=settings, topics=named, on_assigned=self._assigned, on_revoked=self._revoked)

    def _assigned(self, generations: Mapping[Partition, int]) -> None:
        self.assigned = dict(generations)

    async def _revoked(self, partitions: Collection[Partition]) -> None:
        self.revocations += 1
        self.assigned = {}

    def claim(self) -> None:
        for partition in self.assigned:
            self.consumer.seek(partition, self.next.get(partition, 0))
            self.consumer.resume(partition)

    async def read(self, done: Callable[[], bool], *, seconds: float = 30.0, timeout_ms: int = 200) -> None:
        """Poll until `done()`; every record must be the next of its partition."""
        async with asyncio.timeout(seconds):
            while not done():
                try:
                    found = await self.consumer.poll(list(self.assigned), max_records=500, timeout_ms=timeout_ms)
                except TransientError:
                    self.claim()
                    continue
                for partition, records in found.items():
                    for record in records:
                        assert record.offset == self.next.get(partition, 0), "a record was skipped or repeated"
                        self.next[partition] = record.offset + 1
                        self.records.append(record)


@asynccontextmanager
async def reading(settings: Settings, topics: Collection[str] | Topics) -> AsyncIterator[Reader]:
    """A started reader, stopped at the end."""
    reader = Reader(settings, topics)
    try:
        await reader.consumer.start()
        yield reader
    finally:
        await reader.consumer.stop()


async def write(settings: Settings, topic: str, numbers: range) -> None:
    """Publish a record for each number, keyed by it."""
    publisher = await open_publisher(settings)
    try:
        await publisher.publish([(topic, Message(b"u%d" % number, b"%d" % number)) for number in numbers])
    finally:
        await publisher.close()


@pytest.fixture
def settings(kafka: KafkaService) -> Settings:
    """Settings for the session's broker."""
    return settings_for(kafka.bootstrap_servers, session_timeout_ms=6_000 if kafka.real else 3_000)


async def test_nothing_leaks_before_it_is_claimed(
    kafka: KafkaService, settings: Settings, fresh_topic: Callable[[str], str]
) -> None:
    """Assigned partitions are paused: whatever is polled, no record comes until the owner resumes; then all do."""
    topic = fresh_topic("events")
    await kafka.create_topic(topic, 4)
    await write(settings, topic, range(2000))
    async with reading(settings.model_copy(update={"group_id": topic}), [topic]) as reader:
        await reader.read(lambda: len(reader.assigned) == 4)
        polls = iter(range(10))
        await reader.read(lambda: next(polls, None) is None, timeout_ms=100)
        assert reader.records == []
        assert {reader.consumer.position(partition) for partition in reader.assigned} <= {None, 0}
        reader.claim()
        await reader.read(lambda: len(reader.records) == 2000)
        assert sorted(int(record.value or b"") for record in reader.records) == list(range(2000))
        assert set(reader.assigned.values()) == {next(iter(reader.assigned.values()))}
        assert min(reader.assigned.values()) > 0


async def test_only_partitions_with_room_give_records(
    kafka: KafkaService, settings: Settings, fresh_topic: Callable[[str], str]
) -> None:
    """A partition that is not asked for keeps its records until it is; the others go on."""
    topic = fresh_topic("events")
    await kafka.create_topic(topic, 4)
    await write(settings, topic, range(400))
    async with reading(settings.model_copy(update={"group_id": topic}), [topic]) as reader:
        await reader.read(lambda: len(reader.assigned) == 4)
        reader.claim()
        full = (topic, 0)
        ends = {partition: (await reader.consumer.bounds(partition))[1] for partition in reader.assigned}
        assert sum(ends.values()) == 400
        del reader.assigned[full]
        await reader.read(lambda: len(reader.records) == 400 - ends[full])
        assert all(record.partition != 0 for record in reader.records)
        reader.assigned[full] = 1
        await reader.read(lambda: len(reader.records) == 400)


async def test_seek_and_positions(kafka: KafkaService, settings: Settings, fresh_topic: Callable[[str], str]) -> None:
    """Seeking moves one partition; bounds, position and high-water mark say where it is."""
    topic = fresh_topic("events")
    await kafka.create_topic(topic, 4)
    await write(settings, topic, range(100))
    async with reading(settings.model_copy(update={"group_id": topic}), [topic]) as reader:
        await reader.read(lambda: len(reader.assigned) == 4)
        partition = (topic, 1)
        beginning, end = await reader.consumer.bounds(partition)
        assert beginning == 0
        assert end > 3
        reader.claim()
        await reader.read(lambda: len(reader.records) == 100)
        assert reader.consumer.position(partition) == reader.consumer.highwater(partition) == end
        await reader.consumer.commit_hint({partition: end}, wait_seconds=5)
        reader.records.clear()
        reader.next[partition] = end - 3
        reader.consumer.seek(partition, end - 3)
        await reader.read(lambda: len(reader.records) == 3)
        assert [record.offset for record in reader.records] == [end - 3, end - 2, end - 1]
        assert reader.consumer.healthy()


async def test_what_is_not_assigned_is_ignored(
    kafka: KafkaService, settings: Settings, fresh_topic: Callable[[str], str]
) -> None:
    """Seeking, pausing or resuming a partition that moved away meanwhile does nothing and fails nothing."""
    topic = fresh_topic("events")
    await kafka.create_topic(topic, 1)
    async with reading(settings.model_copy(update={"group_id": topic}), [topic]) as reader:
        for foreign in ((topic, 77), ("elsewhere", 0)):
            reader.consumer.seek(foreign, 5)
            reader.consumer.pause(foreign)
            reader.consumer.resume(foreign)
            await reader.consumer.commit_hint({foreign: 5})
            assert reader.consumer.position(foreign) is None
            assert reader.consumer.highwater(foreign) is None


async def test_two_members_share_the_partitions(
    kafka: KafkaService, settings: Settings, fresh_topic: Callable[[str], str]
) -> None:
    """A second member takes half, under a higher generation; when it leaves, the first has all again."""
    topic = fresh_topic("events")
    count = await kafka.create_topic(topic, 4)
    grouped = settings.model_copy(update={"group_id": topic})
    async with reading(grouped, [topic]) as first:
        await first.read(lambda: len(first.assigned) == count)
        earlier = max(first.assigned.values())
        async with reading(grouped, [topic]) as second:

            def shared() -> bool:
                return len(first.assigned) == len(second.assigned) == count // 2

            async with asyncio.TaskGroup() as both:
                both.create_task(first.read(shared))
                both.create_task(second.read(shared))
            assert set(first.assigned) | set(second.assigned) == {(topic, number) for number in range(count)}
            assert min(second.assigned.values()) > earlier
        await first.read(lambda: len(first.assigned) == count)
        assert first.revocations >= 2


async def test_a_replaced_client_goes_on_where_its_owners_say(
    kafka: KafkaService, settings: Settings, fresh_topic: Callable[[str], str]
) -> None:
    """When the client object is replaced, partitions are revoked, assigned anew, and no record is lost."""
    topic = fresh_topic("events")
    count = await kafka.create_topic(topic, 4)
    await write(settings, topic, range(100))
    async with reading(settings.model_copy(update={"group_id": topic}), [topic]) as reader:
        await reader.read(lambda: len(reader.assigned) == count)
        reader.claim()
        await reader.read(lambda: len(reader.records) == 100)
        revocations = reader.revocations
        reader.consumer._replace("a test asked for it")
        await reader.read(lambda: reader.revocations > revocations)
        await reader.read(lambda: len(reader.assigned) == count)
        reader.claim()
        await write(settings, topic, range(100, 200))
        await reader.read(lambda: len(reader.records) == 200)
        assert sorted(int(record.value or b"") for record in reader.records) == list(range(200))


async def test_a_pattern_never_matches_own_topics(
    real_kafka: KafkaService, settings: Settings, fresh_topic: Callable[[str], str]
) -> None:
    """A subscription by pattern leaves out awards, dead letters and control, unless control is named."""
    prefix = fresh_topic("all")
    names = {key: f"{prefix}.{key}" for key in ("events", "more", "awards", "dead", "control")}
    for name in names.values():
        await real_kafka.create_topic(name, 1)
    own = settings.model_copy(
        update={
            "group_id": prefix,
            "award_topic": names["awards"],
            "dead_letter_topic": names["dead"],
            "control_topic": names["control"],
        }
    )
    topics = Topics(names=(names["control"],), pattern="^" + prefix.replace(".", r"\."))
    async with reading(own, topics) as reader:
        await reader.read(lambda: len(reader.assigned) >= 3)
        assert {topic for topic, _ in reader.assigned} == {names["events"], names["more"], names["control"]}


async def test_a_missing_topic_has_a_sentence(real_kafka: KafkaService, settings: Settings) -> None:
    """Starting on a topic that is not there names it and the command that creates it, and creates nothing."""
    reader = Reader(settings, ["no.such.topic"])
    with pytest.raises(OperatorError, match=r'has no topic "no\.such\.topic"') as caught:
        await reader.consumer.start()
    assert caught.value.help == "create it: `badges topics create`"
    with pytest.raises(OperatorError):
        await check_topics(settings, ["no.such.topic"])


async def test_an_unreachable_broker_has_a_sentence() -> None:
    """Starting without a broker names its address and the setting."""
    address = f"127.0.0.1:{free_port()}"
    reader = Reader(settings_for(address), ["badges.events"])
    with pytest.raises(OperatorError, match=f"Kafka at {address} refused the connection") as caught:
        await reader.consumer.start()
    assert "BADGES_KAFKA_BOOTSTRAP_SERVERS" in (caught.value.help or "")


async def test_the_defaults_that_lose_data_are_all_overridden() -> None:
    """The client object holds the settings of the design: one assignor, no auto-commit, earliest, committed reads."""
    client = AIOKafkaConsumer(**consumer_options(load_settings(session_timeout_ms=10_000)))
    try:
        fields = vars(client)
        assert [assignor.name for assignor in fields["_partition_assignment_strategy"]] == ["roundrobin"]
        expected = {
            "_enable_auto_commit": False,
            "_auto_offset_reset": "earliest",
            "_isolation_level": "read_committed",
            "_check_crcs": True,
            "_group_instance_id": None,
            "_key_deserializer": None,
            "_value_deserializer": None,
            "_session_timeout_ms": 10_000,
            "_heartbeat_interval_ms": 1_000,
            "_rebalance_timeout_ms": 10_000,
            "_max_poll_interval_ms": 120_000,
            "_max_poll_records": 2_000,
            "_max_partition_fetch_bytes": 1 << 20,
            "_fetch_max_bytes": 8 << 20,
            "_fetch_max_wait_ms": 250,
            "_request_timeout_ms": 15_000,
        }
        assert {name: fields[name] for name in expected} == expected
        assert client._client._metadata_max_age_ms == 60_000
    finally:
        await client.stop()


async def test_a_broker_killed_while_reading_loses_nothing(own_broker: KafkaBroker) -> None:
    """kill -9 and restart of the broker between and during reads: every acknowledged record comes once, in order."""
    settings = settings_for(own_broker.bootstrap_servers)
    await KafkaService(own_broker.bootstrap_servers, "local", "", own_broker).create_topic("events", 4)
    await write(settings, "events", range(20_000))
    async with reading(settings, ["events"]) as reader:
        await reader.read(lambda: len(reader.assigned) == 4)
        reader.claim()
        await reader.read(lambda: len(reader.records) > 1_000)
        own_broker.kill()
        own_broker.spawn()
        ready = asyncio.create_task(asyncio.to_thread(own_broker.wait_until_ready))
        await reader.read(ready.done, seconds=60)
        await ready
        await write(settings, "events", range(20_000, 25_000))
        await reader.read(lambda: len(reader.records) == 25_000, seconds=60)
        assert len({record.value for record in reader.records}) == 25_000


async def test_stopping_does_not_wait_for_a_dead_broker(own_broker: KafkaBroker) -> None:
    """With the broker killed, a stop ends within its deadlines, whether or not a poll is out."""
    settings = settings_for(own_broker.bootstrap_servers)
    await KafkaService(own_broker.bootstrap_servers, "local", "", own_broker).create_topic("events", 4)
    reader = Reader(settings, ["events"])
    await reader.consumer.start()
    await reader.read(lambda: len(reader.assigned) == 4)
    own_broker.kill()
    polls = iter(range(3))
    await reader.read(lambda: next(polls, None) is None)
    began = time.monotonic()
    await reader.consumer.stop()
    assert time.monotonic() - began < 10
    assert await reader.consumer.poll([], max_records=1, timeout_ms=10) == {}


async def test_a_wrong_password_has_a_sentence(free_sasl_broker: tuple[KafkaBroker, int]) -> None:
    """Wrong credentials are told as such, although the client reports them as a broker that cannot be reached."""
    _, port = free_sasl_broker
    given = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_sasl_username": "worker",
    }
    wrong = settings_for(f"127.0.0.1:{port}", kafka_sasl_password="nope", **given)
    with pytest.raises(OperatorError, match="refused the credentials") as caught:
        await check_topics(wrong, [])
    assert "nope" not in f"{caught.value.message} {caught.value.help}"
    right = settings_for(f"127.0.0.1:{port}", kafka_sasl_password="secret", **given)
    assert await check_topics(right, []) == {}


@pytest.fixture
def free_sasl_broker() -> AsyncIterator[tuple[KafkaBroker, int]]:
    """A broker with a second listener that asks for a password."""
    if not available():
        missing("kafka", "a broker with a listener of its own needs Java and Maven")
    port = free_port()
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    broker = KafkaBroker(
        settings={
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f'{module} required user_worker="secret";',
        }
    )
    broker.add_listener("SASL", "SASL_PLAINTEXT", port)
    with broker:
        yield broker, port
