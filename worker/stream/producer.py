"""Publishing: only started producers, idempotent, acknowledged by all in-sync replicas, thrown away after any failure.

An idempotent producer whose future once failed is dead for that partition for good, and one whose broker is away hangs
without limit (reliability 4.1 rows 22, 23, 30): so every send waits under a deadline, and whatever does not end well
ends the producer too. The caller opens a new one and sends again what is not known to be stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from random import choice
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidMessageError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
)
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from worker.config import Settings
from worker.errors import BadgesError, PoisonBatch, TransientError
from worker.exchange import Message
from worker.stream.connection import STOP_SECONDS, client_options, start_client, stop_quietly, translate

log = structlog.get_logger(__name__)

#: The largest request, in bytes. Topics take 1,048,588 by default: the client refuses first, which burns nothing.
MAX_REQUEST_SIZE = 1_000_000
#: How long the broker may take for all messages of one call, seconds.
PUBLISH_SECONDS = 30.0


def producer_options(settings: Settings) -> dict[str, Any]:
    """The options of reliability 1.2. `timestamp_ms` is never given: the broker's clock stamps (4.1 row 23)."""
    return {
        **client_options(settings),
        "enable_idempotence": True,
        "acks": "all",
        "compression_type": "zstd",
        "linger_ms": 0,  # whole batches are handed over: nothing is gained by waiting
        "max_batch_size": 128 * 1024,
        "max_request_size": MAX_REQUEST_SIZE,
        "key_serializer": None,
        "value_serializer": None,
    }


#: What the broker or the client says where a message itself is at fault; codes unknown to aiokafka are UnknownError.
_REFUSALS = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidMessageError,
    InvalidTimestampError,
    UnknownError,
)


class Publisher:
    """One started producer. After an exception out of `publish` it is closed: open another."""

    def __init__(self, producer: AIOKafkaProducer, *, timeout_seconds: float = PUBLISH_SECONDS) -> None:
        self._producer = producer
        self._timeout = timeout_seconds
        self._closed = False

    async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
        """Send all (topic, message) pairs in order and wait, under a deadline, until every one is stored.

        Raises TransientError where one failed or is undecided, PoisonBatch where one was refused for what it is: some
        may be stored, none is certain, and this publisher is closed.
        """
        if self._closed:
            raise TransientError("The producer is closed after a failure.")
        sent: list[asyncio.Future[Any]] = []
        try:
            _check_sizes(messages)
            async with asyncio.timeout(self._timeout):
                await self._send(messages, sent)
                if sent:
                    await asyncio.wait(sent, return_when=asyncio.FIRST_EXCEPTION)
            for future in sent:
                if future.done():
                    future.result()
        except BaseException as error:
            for future in sent:
                future.add_done_callback(_look)
            await self.close()
            if isinstance(error, (KafkaError, OSError, TimeoutError)):
                raise _told(error, len(messages), self._timeout) from error
            raise

    async def close(self) -> None:
        """Send what is buffered and disconnect, within 5 s whatever the broker does."""
        if self._closed:
            return
        self._closed = True
        if not await stop_quietly(self._producer, seconds=STOP_SECONDS):
            log.warning("producer_left_behind", seconds=STOP_SECONDS)

    async def _send(self, messages: Sequence[tuple[str, Message]], sent: list[asyncio.Future[Any]]) -> None:
        """Hand over batches, one future each in `sent`: a future per message costs more than all the rest."""
        partitions: dict[str, list[int]] = {}
        batches: dict[tuple[str, int], BatchBuilder] = {}
        for topic, message in messages:
            numbers = partitions.get(topic)
            if numbers is None:
                numbers = partitions[topic] = sorted(await self._producer.partitions_for(topic))
            place = topic, _partition(message.key, numbers)
            batch = batches.get(place)
            if batch is None or not _add(batch, message):
                if batch is not None:
                    await self._hand_over(place, batch, sent)
                batch = batches[place] = self._producer.create_batch()
                _add(batch, message)
        for place, batch in batches.items():
            await self._hand_over(place, batch, sent)

    async def _hand_over(self, place: tuple[str, int], batch: BatchBuilder, sent: list[asyncio.Future[Any]]) -> None:
        batch.close()
        sent.append(await self._producer.send_batch(batch, place[0], partition=place[1]))


def _add(batch: BatchBuilder, message: Message) -> bool:
    """False where the batch is full; a message larger than a batch is one alone."""
    return batch.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers)) is not None


_hash_of = lru_cache(maxsize=16_384)(murmur2)


def _partition(key: bytes | None, numbers: Sequence[int]) -> int:
    """Where Kafka's own clients put a key, so that other producers of the topic agree; any partition without one."""
    return choice(numbers) if key is None else numbers[(_hash_of(key) & 0x7FFFFFFF) % len(numbers)]  # noqa: S311


def _check_sizes(messages: Sequence[tuple[str, Message]]) -> None:
    for _, message in messages:
        size = DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, message.value, list(message.headers))
        if size > MAX_REQUEST_SIZE:
            raise MessageSizeTooLargeError(f"the message has {size:,} bytes, {MAX_REQUEST_SIZE:,} are allowed")


def _told(error: Exception, count: int, seconds: float) -> BadgesError:
    if isinstance(error, _REFUSALS):
        return PoisonBatch(f"Kafka refused a message: {type(error).__name__}: {error}"[:500])
    if isinstance(error, TimeoutError):
        return TransientError(f"Kafka did not store {count} messages in {seconds:g} s.")
    return TransientError(translate(error).message)


def _look(future: asyncio.Future[Any]) -> None:
    """Look at a future's failure, so that it is not reported as never retrieved."""
    if not future.cancelled():
        future.exception()


async def open_publisher(settings: Settings, *, timeout_seconds: float = PUBLISH_SECONDS) -> Publisher:
    """A publisher whose producer is started. Raises OperatorError where Kafka cannot be reached."""
    producer = AIOKafkaProducer(**producer_options(settings))
    await start_client(producer, settings)
    return Publisher(producer, timeout_seconds=timeout_seconds)
