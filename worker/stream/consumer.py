"""One member of the consumer group, kept alive through everything a broker and its client may do.

Theory of operation. Membership is a hint: every assigned partition is paused before any of its records can leave the
client, and only its owner, once it holds the claim, seeks and resumes it. There is one outstanding `getmany`, which is
never cancelled (a cancelled one switches the client's own idle check off for good); `poll` waits for it a while and
comes back for it. Whatever goes wrong in it may have dropped records of partitions that had nothing to do with it, so
every failure is told as TransientError, upon which all positions must be sought again. A client object that cannot
recover is replaced by a new one (`Watch` says when). Pitfalls by number: reliability 4.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from itertools import starmap
from operator import attrgetter
from time import monotonic, time
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from msgspec.structs import replace

from worker.config import Settings, Topics
from worker.errors import BadgesError, OperatorError, TransientError
from worker.events import Record
from worker.stream import internals
from worker.stream.connection import client_options, start_client, stop_quietly, translate
from worker.stream.topics import check_topics, subscription_pattern
from worker.stream.watch import Watch, heals_by_itself

log = structlog.get_logger(__name__)

Partition = tuple[str, int]

#: Waits after a failed poll, seconds: some failures come back at once, for ever (4.1 row 18).
FAILURE_SECONDS = 0.5
BOUNDS_SECONDS = 10.0
HINT_SECONDS = 5.0
REVOKE_SECONDS = 5.0
#: Asking for what does not exist counts as polling and takes nothing from partitions that have no room.
_NOTHING = TopicPartition("", -1)
_NOTHING_MS = 50


class Listener(NamedTuple):
    """Whom to tell of assignments (with the group's generation, after pausing) and of revocations."""

    assigned: Callable[[Mapping[Partition, int]], None]
    revoked: Callable[[Collection[Partition]], Awaitable[None]]


def consumer_options(settings: Settings) -> dict[str, Any]:
    """The options of reliability 1.2; each differs from a default that loses or repeats something."""
    session = settings.session_timeout_ms
    return {
        **client_options(settings),
        "group_id": settings.group_id,
        "group_instance_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "partition_assignment_strategy": [RoundRobinPartitionAssignor],
        "key_deserializer": None,
        "value_deserializer": None,
        "check_crcs": True,
        "session_timeout_ms": session,
        "heartbeat_interval_ms": min(1_000, session // 6),
        "rebalance_timeout_ms": session,
        "max_poll_interval_ms": 120_000,
        "max_poll_records": 2_000,
        "max_partition_fetch_bytes": 1 << 20,
        "fetch_max_bytes": 8 << 20,
        "fetch_max_wait_ms": 250,
    }


class Consumer:
    """A group member. `on_assigned` gets {(topic, partition): generation}; `on_revoked` is awaited for at most 5 s.

    `topics` are names, or `Topics` with a pattern; a pattern never matches the project's own topics (decisions 26).
    """

    def __init__(
        self,
        *,
        settings: Settings,
        topics: Sequence[str] | Topics,
        on_assigned: Callable[[Mapping[Partition, int]], None],
        on_revoked: Callable[[Collection[Partition]], Awaitable[None]],
        watch: Watch | None = None,
    ) -> None:
        self._settings = settings
        self._topics = topics if isinstance(topics, Topics) else Topics(names=tuple(topics))
        self._listener = Listener(on_assigned, on_revoked)
        self._watch = watch or Watch()
        self._client: AIOKafkaConsumer | None = None
        self._poll: asyncio.Task[dict[TopicPartition, list[ConsumerRecord]]] | None = None
        self._rebuild: asyncio.Task[None] | None = None
        self._hint: asyncio.Task[None] | None = None
        self._hint_failed = False
        self._stopped = False
        self._polled_at = monotonic()

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Check that the topics are there, connect, ask to join; OperatorError, within about 20 s, where that fails."""
        await check_topics(self._settings, self._topics.names)
        await self._open()

    async def stop(self) -> None:
        """Leave the group and disconnect, within about 6 s whatever the broker does. Cancelling it is safe."""
        self._stopped = True
        await _end(self._rebuild)
        client, self._client = self._client, None
        if client is not None:
            await stop_quietly(client)
        await _end(self._hint)
        # only now: cancelled before, it would leave the client's idle check off, and `stop` does not end it (row 10)
        await _end(self._poll)

    async def _open(self) -> None:
        client = AIOKafkaConsumer(**consumer_options(self._settings))
        # Subscribing after the start keeps the wait for the group out of it: joining may take longer than connecting.
        await start_client(client, self._settings)
        if self._stopped:
            await stop_quietly(client)
            return
        self._client = client
        self._watch.opened(monotonic())
        listener = _PauseFirst(self, client)
        if self._topics.pattern is None:
            client.subscribe(topics=list(self._topics.names), listener=listener)
        else:
            client.subscribe(pattern=subscription_pattern(self._settings, self._topics), listener=listener)

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def poll(
        self, ready: Collection[Partition], *, max_records: int, timeout_ms: int
    ) -> dict[Partition, list[Record]]:
        """The next records of the partitions in `ready`, {} where there are none within the time.

        Also what an earlier call had asked for may come. TransientError: records may have been dropped, seek every
        partition to its own next offset. OperatorError: a new client did not help either.
        """
        client = self._client
        if self._stopped:
            return {}
        if client is None or self._rebuild is not None:
            return await self._await_rebuild(timeout_ms)
        if self._poll is None:
            self._poll = asyncio.create_task(self._ask(client, ready, max_records, timeout_ms))
        polled = self._poll
        await asyncio.wait({polled}, timeout=timeout_ms / 1000 + 0.05)
        if not polled.done():
            await self._look_after(client, ready)
            return {}
        self._poll = None
        try:
            found: dict[TopicPartition, list[ConsumerRecord]] = polled.result()
        except BaseException as error:  # noqa: BLE001 (whatever aiokafka raises, its CancelledError too, is translated)
            await self._fail(error)
            return {}
        self._polled_at = monotonic()
        if found:
            self._watch.progressed(self._polled_at)
        else:
            await self._look_after(client, ready)
        return {(tp.topic, tp.partition): read_records(items) for tp, items in found.items()}

    @staticmethod
    async def _ask(
        client: AIOKafkaConsumer, ready: Collection[Partition], max_records: int, timeout_ms: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        assigned = client.assignment()
        wanted = [tp for tp in _tps(ready) if tp in assigned]
        if not wanted:
            wanted, timeout_ms = [_NOTHING], min(timeout_ms, _NOTHING_MS)
        found: dict[TopicPartition, list[ConsumerRecord]] = await client.getmany(
            *wanted, timeout_ms=timeout_ms, max_records=max_records
        )
        return found

    async def _fail(self, error: BaseException) -> None:
        """Turn a failed poll into a TransientError, after a pause, or into a new client where the old one is lost."""
        if self._stopped:
            return
        self._watch.failed(monotonic())
        told = translate(error)
        await asyncio.sleep(FAILURE_SECONDS)
        if not heals_by_itself(error):
            self._replace(told.message)
        raise TransientError(told.message, help=told.help) from error

    async def _look_after(self, client: AIOKafkaConsumer, ready: Collection[Partition]) -> None:
        positions = {tp: internals.position(client, tp) for tp in _tps(ready)}
        reason = await self._watch.verdict(client, positions, at=monotonic())
        if reason is not None:
            self._replace(reason)

    # ---- replacing the client ---------------------------------------------------------------------------------------

    def _replace(self, reason: str) -> None:
        """Begin to replace the client object; OperatorError where that was done in vain before."""
        if self._rebuild is None and not self._stopped:
            self._watch.replaced(reason)
            log.warning("consumer_replaced", reason=reason, times=self._watch.replacements)
            self._rebuild = asyncio.create_task(self._renew())

    async def _await_rebuild(self, timeout_ms: int) -> dict[Partition, list[Record]]:
        if self._rebuild is None:
            raise OperatorError("The consumer is not started.", help="call start first")
        await asyncio.wait({self._rebuild}, timeout=timeout_ms / 1000)
        if self._rebuild.done():
            renewing, self._rebuild = self._rebuild, None
            renewing.result()
        return {}

    async def _renew(self) -> None:
        """Leave with the old client, join with a new one; a broker that is away is waited for."""
        old, self._client = self._client, None
        if old is not None:
            owned = [(tp.topic, tp.partition) for tp in old.assignment()]
            await _within(self._listener.revoked(owned), REVOKE_SECONDS)
            await stop_quietly(old)
        polling, self._poll = self._poll, None
        await _end(polling)
        while not self._stopped:
            try:
                await self._open()
            except BadgesError as error:
                log.warning("consumer_waits_for_kafka", reason=error.message)
                await asyncio.sleep(1.0)
            else:
                return

    # ---- one partition ----------------------------------------------------------------------------------------------

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`; nothing happens where the partition is not assigned (any more)."""
        if (tp := self._assigned(partition)) is not None and self._client is not None:
            self._client.seek(tp, offset)

    def pause(self, partition: Partition) -> None:
        """Fetch nothing of it, and forget what was fetched ahead."""
        if (tp := self._assigned(partition)) is not None and self._client is not None:
            self._client.pause(tp)

    def resume(self, partition: Partition) -> None:
        """Fetch it again."""
        if (tp := self._assigned(partition)) is not None and self._client is not None:
            self._client.resume(tp)

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Its beginning and end offsets as the broker has them now (the end before open transactions)."""
        client, tp = self._client, TopicPartition(*partition)
        if client is None:
            raise TransientError("The connection to Kafka is being renewed.")
        try:
            async with asyncio.timeout(BOUNDS_SECONDS):
                beginnings = await client.beginning_offsets([tp])
                ends = await client.end_offsets([tp])
        except TimeoutError:
            raise TransientError(f"Kafka did not name the offsets of {partition[0]}-{partition[1]} in time.") from None
        except (KafkaError, OSError) as error:
            raise TransientError(translate(error).message) from error
        return beginnings[tp], ends[tp]

    def position(self, partition: Partition) -> int | None:
        """The next offset the client will hand out, past markers too; None where it is not known."""
        tp = self._assigned(partition)
        return internals.position(self._client, tp) if tp is not None and self._client is not None else None

    def highwater(self, partition: Partition) -> int | None:
        """The end of the partition as of the last fetch; None where nothing was fetched."""
        tp = self._assigned(partition)
        return internals.highwater(self._client, tp) if tp is not None and self._client is not None else None

    def _assigned(self, partition: Partition) -> TopicPartition | None:
        tp = TopicPartition(*partition)
        return tp if self._client is not None and tp in self._client.assignment() else None

    # ---- the group --------------------------------------------------------------------------------------------------

    async def commit_hint(self, offsets: Mapping[Partition, int], *, wait_seconds: float = 0.0) -> None:
        """Tell the broker how far the group is, for lag tools only: in the background, 5 s long, errors ignored.

        With `wait_seconds` it is waited for so long, as at a stop.
        """
        client = self._client
        if client is None or (self._hint is not None and not self._hint.done()):
            return
        assigned = client.assignment()
        known = {TopicPartition(*key): offset for key, offset in offsets.items() if TopicPartition(*key) in assigned}
        if not known:
            return
        self._hint = asyncio.create_task(self._commit(client, known))
        if wait_seconds:
            await asyncio.wait({self._hint}, timeout=wait_seconds)

    async def _commit(self, client: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            async with asyncio.timeout(HINT_SECONDS):
                await client.commit(offsets)
        except (KafkaError, IllegalStateError, TimeoutError, OSError, AssertionError) as error:
            if not self._hint_failed:
                log.info("hint_not_committed", reason=f"{type(error).__name__}: {error}")
            self._hint_failed = True
        else:
            self._hint_failed = False

    def assignment(self) -> frozenset[Partition]:
        """The partitions the group gave to this member; not a lock."""
        return frozenset((tp.topic, tp.partition) for tp in self._client.assignment()) if self._client else frozenset()

    def poll_age(self) -> float:
        """Seconds since a poll last came back well, for the watchdog; a long rebalance or outage counts too."""
        return monotonic() - self._polled_at

    def healthy(self, *, seconds: float = 60.0) -> bool:
        """Whether it polls, and belongs to the group or has not been out of it for long."""
        return not self._stopped and self.poll_age() < seconds and self._watch.joined_within(seconds, at=monotonic())

    def _was_assigned(self, client: AIOKafkaConsumer, assigned: Iterable[TopicPartition]) -> None:
        """1 pause, before anything else runs; 2 tell the owners, with the generation their claims must show."""
        client.pause(*assigned)
        self._watch.assigned(monotonic())
        if client is self._client:
            number = internals.generation(client)
            self._listener.assigned({(tp.topic, tp.partition): number for tp in assigned})

    async def _was_revoked(self, client: AIOKafkaConsumer, revoked: Iterable[TopicPartition]) -> None:
        self._watch.revoked(monotonic())
        if client is self._client:
            await _within(self._listener.revoked([(tp.topic, tp.partition) for tp in revoked]), REVOKE_SECONDS)


class _PauseFirst(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands assignments of one client object to the consumer; a replaced client's no longer count."""

    def __init__(self, consumer: Consumer, client: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._client = client

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Synchronous: no record can be handed out between the assignment and the pause."""
        self._consumer._was_assigned(self._client, assigned)  # noqa: SLF001 (its other half)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Waits for the owners, but never for long: nothing depends on it."""
        await self._consumer._was_revoked(self._client, revoked)  # noqa: SLF001 (its other half)


def _tps(partitions: Collection[Partition]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, number in partitions]


_timestamp = attrgetter("timestamp_ms")
_fields = attrgetter("topic", "partition", "offset", "timestamp", "key", "value", "headers")


def read_records(items: Sequence[ConsumerRecord]) -> list[Record]:
    """What aiokafka hands out, as records; those without a timestamp get the time of now beside it."""
    found = list(starmap(Record, map(_fields, items)))
    if min(map(_timestamp, found), default=0) >= 0:
        return found
    now_ms = int(time() * 1000)
    return [record if record.timestamp_ms >= 0 else replace(record, received_ms=now_ms) for record in found]


async def _within(work: Awaitable[None], seconds: float) -> None:
    """Wait for it so long; what it raises or misses is logged, since nothing may depend on it."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        log.warning("revocation_late", seconds=seconds)
    except BadgesError as error:
        log.warning("revocation_failed", reason=error.message)


async def _end(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and wait a second for it to be gone."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait({task}, timeout=1.0)
    if task.done() and not task.cancelled():
        task.exception()
