"""A Kafka broker within this process, for the demonstration: librdkafka's mock cluster on loopback TCP, in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import OperatorError

_DEADLINE_S = 10.0


@contextmanager
def mock_kafka(brokers: int = 1) -> Iterator[str]:
    """Brokers for as long as the context is open; yields their addresses (`127.0.0.1:40123`), one after the other.

    What is kept is gone with the context. Topics come into being when they are first asked for, with 4 partitions;
    transactions, quotas and access rules do not exist. Raises OperatorError where no broker comes up in 10 s, and
    ModuleNotFoundError without the extra `demo`.
    """
    from confluent_kafka import KafkaException, Producer

    owner = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": brokers, "log_level": 0})
    until = time.monotonic() + _DEADLINE_S
    addresses: list[str] = []
    while len(addresses) < brokers:
        if time.monotonic() > until:
            message = "The demonstration's Kafka did not start within 10 s."
            raise OperatorError(message, help="check that programs may listen on 127.0.0.1")
        try:
            known = owner.list_topics(timeout=1.0).brokers.values()
        except KafkaException:
            continue
        addresses = [f"{broker.host}:{broker.port}" for broker in known]
    try:
        yield ",".join(addresses)
    finally:
        # The cluster lives as long as the client that started it.
        owner.flush(0)
        del owner
