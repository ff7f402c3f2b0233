"""Sends streams: all at once in whole batches, or at a pace as applications would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic, time
from typing import Any
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from worker.bench.streams import Record
from worker.config import Settings
from worker.errors import TransientError
from worker.stream.connection import client_options, start_client, stop_quietly, translate

#: Filled batches that may wait for the broker at a time.
_IN_FLIGHT = 16
_SEND_SECONDS = 120.0


def partition_of(key: bytes, partitions: int) -> int:
    """Where a key goes: any rule will do, as long as a user stays on one partition."""
    return crc32(key) % partitions


def counts(records: Sequence[Record], partitions: int) -> list[int]:
    """How many of these records each partition gets: on a fresh topic, where each ends."""
    found = [0] * partitions
    for key, _ in records:
        found[partition_of(key, partitions)] += 1
    return found


@asynccontextmanager
async def producer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer; what aiokafka raises inside is translated."""
    given = {**client_options(settings), "enable_idempotence": True, "acks": "all", "max_batch_size": 256 * 1024}
    client = AIOKafkaProducer(**{**given, **options})
    await start_client(client, settings)
    try:
        yield client
    except TimeoutError:
        raise TransientError(f"Kafka at {settings.kafka_bootstrap_servers} did not take events in time.") from None
    except KafkaError as error:
        raise translate(error) from None
    finally:
        await stop_quietly(client)


async def fill(settings: Settings, topic: str, records: Sequence[Record], partitions: int) -> None:
    """Put all records on the topic, in order within each partition, as fast as it goes."""
    async with producer(settings) as client, asyncio.timeout(_SEND_SECONDS + len(records) / 2000):
        building = [client.create_batch() for _ in range(partitions)]
        waiting: set[asyncio.Future[Any]] = set()

        async def send(number: int) -> None:
            building[number].close()
            waiting.add(await client.send_batch(building[number], topic, partition=number))
            building[number] = client.create_batch()
            if len(waiting) >= _IN_FLIGHT:
                done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                waiting.clear()
                waiting.update(rest)
                for future in done:
                    future.result()

        for key, value in records:
            number = partition_of(key, partitions)
            if building[number].append(key=key, value=value, timestamp=None) is None:
                await send(number)
                building[number].append(key=key, value=value, timestamp=None)
        for number in range(partitions):
            if building[number].record_count():
                await send(number)
        for future in list(waiting):
            await future


async def pace(
    settings: Settings,
    topic: str,
    records: Sequence[Record],
    *,
    partitions: int,
    per_second: int,
    sent: Callable[[int, int], Awaitable[None] | None] = lambda _index, _ms: None,
    until: Callable[[], bool] = lambda: False,
) -> int:
    """Send at an even pace, each record stamped with the moment it is handed over; returns how many were sent.

    `sent` hears of each record's place and timestamp in milliseconds; `until` ends the sending early.
    """
    futures: list[asyncio.Future[Any]] = []
    async with producer(settings, linger_ms=0) as client:
        begun = monotonic()
        for index, (key, value) in enumerate(records):
            ahead = begun + index / per_second - monotonic()
            if ahead > 0.002:
                await asyncio.sleep(ahead)
            if until():
                break
            stamp = int(time() * 1000)
            number = partition_of(key, partitions)
            futures.append(await client.send(topic, value, key=key, partition=number, timestamp_ms=stamp))
            sent(index, stamp)
        async with asyncio.timeout(_SEND_SECONDS):
            await asyncio.gather(*futures)
    return len(futures)
