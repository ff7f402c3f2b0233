"""The awards of a run, as the tables and the topic have them, held against brute force."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from worker.bench.brute import Award
from worker.bench.ground import Ground
from worker.bench.streams import PARTITIONS, Stream
from worker.config import Settings
from worker.errors import OperatorError, TransientError
from worker.events import parse_instant
from worker.store.pool import quote
from worker.stream.connection import client_options, start_client, stop_quietly, translate

#: Reading what was published takes no longer than this, seconds.
_READ_SECONDS: Final = 120.0

#: (the broker's timestamp in milliseconds, the message's body).
Published = tuple[int, dict[str, Any]]


class AwardTopic:
    """The one topic on which every worker of a bench publishes; runs are told apart by where it ended before them."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self.name = name

    async def ends(self) -> dict[int, int]:
        """Where the topic ends now, by partition."""
        async with self._reader() as consumer:
            return await self._ends(consumer)

    async def since(self, before: Mapping[int, int]) -> list[Published]:
        """Every message on the topic since then."""
        found: list[Published] = []
        async with self._reader() as consumer:
            ends = await self._ends(consumer)
            parts = [TopicPartition(self.name, number) for number in ends if ends[number] > before[number]]
            consumer.assign(parts)
            for part in parts:
                consumer.seek(part, before[part.partition])
            left = sum(ends[part.partition] - before[part.partition] for part in parts)
            while left > 0:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    left -= len(records)
                    found += [(record.timestamp, json.loads(record.value)) for record in records]
        return found

    async def _ends(self, consumer: AIOKafkaConsumer) -> dict[int, int]:
        ends = await consumer.end_offsets([TopicPartition(self.name, number) for number in range(PARTITIONS)])
        return {at.partition: offset for at, offset in ends.items()}

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **client_options(self._settings), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await start_client(consumer, self._settings)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                yield consumer
        except TimeoutError:
            raise TransientError(f"Kafka did not hand out the awards within {_READ_SECONDS:.0f} s.") from None
        except KafkaError as error:
            raise translate(error) from None
        finally:
            await stop_quietly(consumer)


async def check(ground: Ground, stream: Stream, schema: str, published: list[Published]) -> int:
    """Hold what is stored and what was published against brute force; how many awards there are.

    Raises OperatorError where either differs, by as little as one instant or one message id too many.
    """
    instant = "(extract(epoch FROM awarded_at) * 1000000)::bigint"
    rows = await ground.ask(
        f"SELECT user_id, badge_key, context, {instant} FROM {quote(schema)}.user_badges"  # noqa: S608 (our own name)
    )
    sent = {
        body["id"]: (body["user_id"], body["badge_key"], body["context"], parse_instant(body["awarded_at"]))
        for _, body in published
    }
    differ(stream, "stored", {(row[0], row[1], row[2], int(row[3])) for row in rows})
    differ(stream, "published", set(sent.values()))
    if len(sent) != len(stream.expected):
        raise OperatorError(f"{len(sent):,} messages, told by their ids, speak of {len(stream.expected):,} awards.")
    return len(sent)


def differ(stream: Stream, what: str, found: set[Award]) -> None:
    """Raise OperatorError where these are not the awards that brute force gives, with one example."""
    missing, surplus = stream.expected - found, found - stream.expected
    if missing or surplus:
        example = sorted(missing or surplus)[0]
        raise OperatorError(
            f"The awards of {stream.name} are wrong: of the {len(stream.expected):,} of brute force {len(missing):,} "
            f"are not {what}, and {len(surplus):,} are {what} that it does not find; one is {example}.",
            help="no figure of this run counts; please report this with the line above",
        )
