"""Reads partitions that the caller chose, outside of any consumer group: for replays, which move nobody's offsets.

The client's pitfalls are those of the group's member (reliability 4.1): every wait has a deadline, the one outstanding
`getmany` is never cancelled, and whatever goes wrong in it may have dropped records of other partitions, so every
failure is told as TransientError, upon which all positions must be sought again. A client that is lost is replaced.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndTimestamp

from worker.config import Settings, Topics
from worker.errors import BadgesError, TransientError
from worker.events import Record
from worker.stream import internals
from worker.stream.connection import admin_client, client_options, start_client, stop_quietly, translate
from worker.stream.consumer import Partition, read_records
from worker.stream.topics import check_topics, subscription_pattern, topics_there
from worker.stream.watch import heals_by_itself

log = structlog.get_logger(__name__)

#: How long one question about offsets may take, seconds.
ASK_SECONDS = 20.0
#: Wait after a failed poll, seconds: some failures come back at once, for ever (4.1 row 18).
FAILURE_SECONDS = 0.5
_NOTHING = TopicPartition("", -1)
_NOTHING_MS = 50
#: How long is waited for a first record before it is looked how far the client read without finding one.
_FIRST_MS = 100


def reader_options(settings: Settings) -> dict[str, Any]:
    """The options of a reader: no group, no offsets kept at the broker, committed records only."""
    return {
        **client_options(settings),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "key_deserializer": None,
        "value_deserializer": None,
        "check_crcs": True,
        "max_poll_records": 2_000,
        "max_partition_fetch_bytes": 1 << 20,
        "fetch_max_bytes": 8 << 20,
        "fetch_max_wait_ms": 250,
    }


async def partitions_of(settings: Settings, topics: Topics) -> list[Partition]:
    """Every partition of these topics as they are now; OperatorError names topics that are missing.

    A pattern is matched against all topics but the project's own; it may match none.
    """
    facts = await check_topics(settings, topics.names)
    if topics.pattern is not None:
        wanted = re.compile(subscription_pattern(settings, topics))
        async with admin_client(settings) as admin:
            facts |= {name: one for name, one in (await topics_there(admin)).items() if wanted.match(name)}
    return [(name, number) for name in sorted(facts) for number in range(facts[name].partitions)]


class Reader:
    """Reads the partitions given, from where each is sought; all begin paused. Use as `async with`."""

    def __init__(self, settings: Settings, partitions: Collection[Partition]) -> None:
        self._settings = settings
        self._partitions = [TopicPartition(*partition) for partition in partitions]
        self._flowing: set[TopicPartition] = set()
        self._positions: dict[TopicPartition, int | None] = {}
        self._client: AIOKafkaConsumer | None = None
        self._poll: asyncio.Task[dict[TopicPartition, list[ConsumerRecord]]] | None = None

    async def __aenter__(self) -> Self:
        """Connect; OperatorError, within about 20 s, where that fails. The topics must exist."""
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _open(self) -> None:
        client = AIOKafkaConsumer(**reader_options(self._settings))
        await start_client(client, self._settings)
        client.assign(self._partitions)
        client.pause(*(tp for tp in self._partitions if tp not in self._flowing))
        self._client = client

    async def _close(self) -> None:
        client, self._client = self._client, None
        self._positions.clear()
        if client is not None:
            await stop_quietly(client)
        polling, self._poll = self._poll, None
        if polling is not None:
            # only now: cancelled before, it would leave the client's own tasks behind (row 10)
            polling.cancel()
            await asyncio.wait({polling}, timeout=1.0)
            if polling.done() and not polling.cancelled():
                polling.exception()

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def poll(
        self, ready: Collection[Partition], *, max_records: int, timeout_ms: int
    ) -> dict[Partition, list[Record]]:
        """The next records of the partitions in `ready`, {} where there are none within the time.

        Also what an earlier call had asked for may come. TransientError: seek every partition to its next offset.
        """
        if self._client is None:
            await self._renew()
        client = self._client
        assert client is not None  # noqa: S101 (made just before)
        if self._poll is None:
            self._positions = {tp: internals.position(client, tp) for tp in self._partitions}
            wanted = [TopicPartition(*partition) for partition in ready]
            if not wanted:
                wanted, timeout_ms = [_NOTHING], min(timeout_ms, _NOTHING_MS)
            asked = client.getmany(*wanted, timeout_ms=timeout_ms, max_records=max_records)
            self._poll = asyncio.ensure_future(asked)
        polled = self._poll
        await asyncio.wait({polled}, timeout=timeout_ms / 1000 + 0.05)
        if not polled.done():
            return {}
        self._poll = None
        try:
            found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = polled.result()
        except BaseException as error:  # whatever aiokafka raises, its CancelledError too
            raise await self._failed(error) from error
        return {(tp.topic, tp.partition): read_records(items) for tp, items in found.items()}

    async def _failed(self, error: BaseException) -> TransientError:
        told = translate(error)
        await asyncio.sleep(FAILURE_SECONDS)
        if not heals_by_itself(error):
            log.warning("reader_replaced", reason=told.message)
            await self._close()
        return TransientError(told.message, help=told.help)

    async def _renew(self) -> None:
        try:
            await self._open()
        except BadgesError as error:
            raise TransientError(error.message, help=error.help) from error
        raise TransientError("The connection to Kafka was renewed.")

    async def record_at(self, partition: Partition, offset: int) -> Record | None:
        """The record at an offset, None where the partition no longer holds it. Raises TransientError."""
        beginning, end = await self.bounds(partition)
        if not beginning <= offset < end:
            return None
        found = await self.first_records({partition: (offset, offset + 1)})
        return found.get(partition)

    async def first_records(self, ranges: Mapping[Partition, tuple[int, int]]) -> dict[Partition, Record]:
        """Of each partition the first record from one offset on and before another, which must be its end at most.

        Left out is a partition that holds none there: markers of transactions, records of aborted ones and those that
        compaction took have offsets too. Raises TransientError.
        """
        found: dict[Partition, Record] = {}
        waiting = dict(ranges)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                while self._poll is not None:  # what was asked for before is of other offsets
                    await self.poll((), max_records=1, timeout_ms=_NOTHING_MS)
                for partition, (offset, _) in ranges.items():
                    self.seek(partition, offset)
                    self.resume(partition)
                while waiting:
                    polled = await self.poll(list(waiting), max_records=1, timeout_ms=_FIRST_MS)
                    for partition, records in polled.items():
                        bounds = waiting.pop(partition, None)
                        if bounds is not None and bounds[0] <= records[0].offset < bounds[1]:
                            found[partition] = records[0]
                    for partition, (_, end) in list(waiting.items()):
                        if (self.position(partition) or 0) >= end:
                            del waiting[partition]
        except TimeoutError:
            raise TransientError(f"Kafka did not hand out a record in {ASK_SECONDS:g} s.") from None
        finally:
            for partition in ranges:
                self.pause(partition)
        return found

    # ---- one partition ----------------------------------------------------------------------------------------------

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`."""
        self._positions.pop(TopicPartition(*partition), None)
        if self._client is not None:
            self._client.seek(TopicPartition(*partition), offset)

    def pause(self, partition: Partition) -> None:
        """Fetch nothing of it, and forget what was fetched ahead."""
        tp = TopicPartition(*partition)
        self._flowing.discard(tp)
        if self._client is not None:
            self._client.pause(tp)

    def resume(self, partition: Partition) -> None:
        """Fetch it (again)."""
        tp = TopicPartition(*partition)
        self._flowing.add(tp)
        if self._client is not None:
            self._client.resume(tp)

    def position(self, partition: Partition) -> int | None:
        """The next offset to be handed out, past transaction markers too; None where it is not known.

        It is that of the beginning of the last poll: the client's own runs ahead of what its caller was given, and
        stays ahead where a failure dropped that.
        """
        return self._positions.get(TopicPartition(*partition))

    async def commit_hint(self, offsets: Mapping[Partition, int]) -> None:
        """Nothing: without a group there is nobody to tell."""

    # ---- offsets ----------------------------------------------------------------------------------------------------

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Its beginning and end offsets as the broker has them now (the end before open transactions)."""
        return (await self.all_bounds([partition]))[partition]

    async def all_bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """The beginning and end offsets of partitions as the broker has them now."""
        tps = [TopicPartition(*partition) for partition in partitions]
        client = self._connected()
        async with _answering("the offsets"):
            beginnings, ends = await client.beginning_offsets(tps), await client.end_offsets(tps)
        return {(tp.topic, tp.partition): (beginnings[tp], ends[tp]) for tp in tps}

    async def offsets_at(self, partitions: Collection[Partition], at_us: int) -> dict[Partition, int | None]:
        """Of each partition the first offset whose record is stamped at or after an instant (microseconds).

        None where all records are older: what comes next lies at the partition's end.
        """
        # stamps are whole milliseconds: the first at or after the instant
        at_ms = max(0, -(-at_us // 1000))
        client = self._connected()
        async with _answering("the offsets of an instant"):
            found: Mapping[TopicPartition, OffsetAndTimestamp | None] = await client.offsets_for_times(
                {TopicPartition(*partition): at_ms for partition in partitions}
            )
        return {(tp.topic, tp.partition): None if one is None else one.offset for tp, one in found.items()}

    def _connected(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise TransientError("The connection to Kafka is being renewed.")
        return self._client


@asynccontextmanager
async def _answering(what: str) -> AsyncIterator[None]:
    """A deadline around a question, whose failures are TransientErrors."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            yield
    except TimeoutError:
        raise TransientError(f"Kafka did not name {what} in {ASK_SECONDS:g} s.") from None
    except (KafkaError, OSError) as error:
        raise TransientError(translate(error).message) from error
