"""The broker a test session uses: the one it is told, else a container, else a JVM of its own, else librdkafka's mock.

Load it with `pytest_plugins = ["tests.rig.kafka"]` in the root conftest. Fixtures: `kafka` (whatever there is),
`real_kafka` (skips on the mock), `own_broker` (a broker of the test's own, to be killed), `fresh_topic`.
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.rig import kafka_broker
from tests.rig.kafka_broker import KafkaBroker
from tests.rig.kafka_programs import VERSION, BrokerFailed, available
from tests.rig.required import missing, required
from tests.rig.waiting import came, until

IMAGE = f"apache/kafka:{VERSION}"


@dataclass(frozen=True)
class KafkaService:
    """A broker to test against. `kind`: given, container, local (a JVM of the session) or mock (librdkafka's)."""

    bootstrap_servers: str
    kind: str
    sentence: str
    held: Any = field(default=None, repr=False)

    @property
    def real(self) -> bool:
        """Whether this is Apache Kafka, about which claims of delivery may be made."""
        return self.kind != "mock"

    async def create_topic(self, name: str, partitions: int = 1) -> int:
        """Make a topic and return how many partitions it has: the mock makes every topic with 4, whatever is asked."""
        if not self.real:
            return await self._touch(name)
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            answer = await admin.create_topics([NewTopic(name, partitions, 1)])
            code, message = answer.topic_errors[0][1], answer.topic_errors[0][2]
            if code not in (0, 36):
                raise BrokerFailed(f"topic {name} could not be made: {code} {message}")
        finally:
            await admin.close()
        await self._touch(name)
        return partitions

    async def _touch(self, name: str) -> int:
        """Ask for the topic's partitions until there are some."""
        from aiokafka.client import AIOKafkaClient

        client = AIOKafkaClient(bootstrap_servers=self.bootstrap_servers)
        await client.bootstrap()
        try:

            async def partitions() -> int:
                client.add_topic(name)
                await client.force_metadata_update()
                return len(client.cluster.partitions_for_topic(name) or ())

            return int(await until(partitions, f"topic {name} coming up", seconds=20, every=0.02))
        finally:
            await client.close()


def find_kafka() -> KafkaService:
    """The first that is there: `BADGES_TEST_KAFKA`, a container engine, Java (with Maven or cached jars), the mock."""
    if given := os.environ.get("BADGES_TEST_KAFKA"):
        return _given(given)
    if engine_answers():
        return _container()
    why = "no Java with Maven here"
    if available():
        try:
            broker = KafkaBroker()
            broker.start()
        except BrokerFailed as error:
            why = str(error)
        else:
            sentence = f"kafka: Apache Kafka {VERSION} in a JVM of this session, {broker.bootstrap_servers}"
            return KafkaService(broker.bootstrap_servers, "local", sentence, broker)
    if required("kafka"):
        pytest.fail(f"BADGES_TEST_REQUIRE asks for kafka: no BADGES_TEST_KAFKA, no container engine, {why}")
    return _mock(why)


def _given(address: str) -> KafkaService:
    host, _, port = address.partition(",")[0].rpartition(":")
    if not kafka_broker.answers(host or "127.0.0.1", int(port)):
        pytest.fail(f"BADGES_TEST_KAFKA={address} does not answer: start that broker or unset the variable")
    return KafkaService(address, "given", f"kafka: the broker at {address} (BADGES_TEST_KAFKA)")


def engine_answers() -> bool:
    """Whether a container engine is reachable."""
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()):
        return False
    try:
        import docker

        client = docker.from_env(timeout=5)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception:
        return False


def _container() -> KafkaService:
    from testcontainers.core.container import DockerContainer

    port = kafka_broker.free_port()
    container = DockerContainer(IMAGE).with_bind_ports(port, port)
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }.items():
        container.with_env(name, value)
    container.start()
    if not came(lambda: kafka_broker.answers("127.0.0.1", port), seconds=90):
        container.stop()
        pytest.fail(f"{IMAGE} did not answer within 90 s")
    return KafkaService(f"127.0.0.1:{port}", "container", f"kafka: {IMAGE} in a container", container)


def _mock(why: str) -> KafkaService:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": "x", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = producer.list_topics(timeout=10).brokers.values()
    address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    _let_the_mock_sync()
    sentence = f"kafka: librdkafka's mock cluster ({why}); what needs a real broker is skipped"
    return KafkaService(address, "mock", sentence, producer)


def _let_the_mock_sync() -> None:
    """The mock refuses a follower's SyncGroup that comes after the leader's: make leaders wait a moment."""
    from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance

    original = CoordinatorGroupRebalance._on_join_leader

    async def patient(self: Any, response: Any) -> Any:
        await asyncio.sleep(0.2)
        return await original(self, response)

    CoordinatorGroupRebalance._on_join_leader = patient


def _release(service: KafkaService) -> None:
    if service.kind == "local":
        service.held.close()
    elif service.kind == "container":
        service.held.stop()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[KafkaService]:
    """The session's broker, real where one can be had; says in one sentence which it took."""
    service = find_kafka()
    try:
        if required("kafka") and not service.real:
            pytest.fail("BADGES_TEST_REQUIRE asks for kafka, and there is only the mock")
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\n{service.sentence}")
        yield service
    finally:
        _release(service)


@pytest.fixture
def real_kafka(kafka: KafkaService) -> KafkaService:
    """The session's broker if it is a real one; else the test is skipped (`kafka` has failed where it is required)."""
    if not kafka.real:
        missing("kafka", "this test needs a real one")
    return kafka


@pytest.fixture
def own_broker() -> Iterator[KafkaBroker]:
    """A broker that belongs to this test alone, which may kill it; skipped without Java unless kafka is required."""
    if not available():
        missing("kafka", "a broker that can be killed needs Java and Maven")
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture
def fresh_topic(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names that no other test uses: `fresh_topic("events")` gives `events.<test>.<random>`."""
    test = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name)[:60].strip("-")
    return lambda name: f"{name}.{test}.{uuid.uuid4().hex[:8]}"
