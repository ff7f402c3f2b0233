"""The durable floor: what reading, decoding and storing events costs with nothing else done to them (costs.md).

aiokafka, msgspec, events sorted by key, one binary COPY per transaction of 2,000 into the project's own `events` table
with its indexes, every column that the worker fills, the next batch decoded while PostgreSQL works.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.config import Settings
from worker.store.pool import server_settings
from worker.stream.connection import client_options, start_client, stop_quietly

#: Events in one transaction.
TRANSACTION_EVENTS: Final = 2_000
_COLUMNS: Final = ("user_id", "source", "id", "type", "occurred_at", "payload")


class _Event(msgspec.Struct):
    id: str
    type: str
    user_id: str
    occurred_at: datetime
    payload: msgspec.Raw
    source: str = ""


Row = tuple[str, str, str, str, datetime, str]
_decode: Final = msgspec.json.Decoder(_Event).decode


def rows_of(values: list[bytes]) -> list[Row]:
    """The rows of a batch, sorted by key."""
    rows = []
    for value in values:
        e = _decode(value)
        rows.append((e.user_id, e.source, e.id, e.type, e.occurred_at, bytes(e.payload).decode()))
    rows.sort(key=lambda row: row[:3])
    return rows


class Floor:
    """One run of the floor, connected and ready; `run` stores the first `total` records of its topic."""

    def __init__(self, consumer: AIOKafkaConsumer, connection: Any) -> None:
        self._consumer = consumer
        self._connection = connection

    async def run(self, total: int) -> None:
        """Return when all are committed."""
        storing: asyncio.Task[Any] | None = None
        values: list[bytes] = []
        left = total
        while left:
            values += await self._fetch(TRANSACTION_EVENTS - len(values))
            if len(values) < min(TRANSACTION_EVENTS, left):
                continue
            rows, left, values = rows_of(values), left - len(values), []
            if storing is not None:
                await storing
            storing = asyncio.create_task(self._store(rows))
            await asyncio.sleep(0)  # the rows go out before the next batch is decoded
        if storing is not None:
            await storing

    async def _fetch(self, most: int) -> list[bytes]:
        found = await self._consumer.getmany(timeout_ms=1000, max_records=most)
        return [record.value for records in found.values() for record in records]

    async def _store(self, rows: list[Row]) -> None:
        await self._connection.copy_records_to_table("events", records=rows, columns=_COLUMNS)


@asynccontextmanager
async def opened(settings: Settings, *, schema: str, topic: str, partitions: int) -> AsyncIterator[Floor]:
    """A floor that is connected on both sides and stands at the beginning of the topic."""
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    await start_client(consumer, settings)
    connection = await asyncpg.connect(settings.dsn, server_settings=server_settings("badges bench floor", schema))
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        await consumer.seek_to_beginning()
        yield Floor(consumer, connection)
    finally:
        await connection.close(timeout=5.0)
        await stop_quietly(consumer)
