"""One member of the consumer group: an owner per assigned partition, one poll loop that feeds them, one brake."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from time import monotonic

import structlog

from worker.errors import TransientError
from worker.pipeline.batch import Applier
from worker.pipeline.brake import Brake
from worker.pipeline.facts import BatchFacts
from worker.pipeline.pace import Hooks, Pace
from worker.pipeline.partition import PartitionOwner
from worker.pipeline.protocols import Store, Stream
from worker.pipeline.turns import Turns

log = structlog.get_logger(__name__)

#: How long a revocation waits for the running transaction (reliability 1.3), seconds.
REVOKE_SECONDS = 5.0
#: Partitions with few records go at once while fewer batches than this run; else they gather, and go together.
EAGER = 1
#: How often the broker is told how far the group is, seconds.
HINT_SECONDS = 5.0


class Member:
    """Feeds partition owners from the stream until it is stopped or something fatal happens.

    Once its brake has tripped every partition that it has, or is given, stands still. It stays in the group, so that
    they do not wander to a neighbour, who would drain them too, until a person ends it.
    """

    def __init__(
        self,
        *,
        name: str,
        store: Store,
        applier: Applier,
        pace: Pace,
        brake: Brake,
        hooks: Hooks,
        parallel: int,
    ) -> None:
        self.name = name
        self.store = store
        self.applier = applier
        self.pace = pace
        self.brake = brake
        self.owners: dict[tuple[str, int], PartitionOwner] = {}
        self._hooks = replace(hooks, applied=self._applied)
        self._told = hooks.applied
        self._slots: Turns[PartitionOwner] = Turns(parallel, eager=EAGER)
        self._enough = 2 * parallel * pace.max_events
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._stream: Stream | None = None
        self._stop = asyncio.Event()
        self._fatal: BaseException | None = None

    # ---- what the stream calls --------------------------------------------------------------------------------------

    def assigned(self, generations: Mapping[tuple[str, int], int]) -> None:
        """Start an owner for each partition; what was owned before under an older generation ends first."""
        if self._stream is None or self._stop.is_set():
            return
        for partition, generation in generations.items():
            previous = self._tasks.pop(partition, None)
            if previous is not None:
                self.owners[partition].stop()
            owner = PartitionOwner(
                partition,
                generation=generation,
                name=self.name,
                store=self.store,
                stream=self._stream,
                applier=self.applier,
                slots=self._slots,
                pace=self.pace,
                hooks=self._hooks,
            )
            self.owners[partition] = owner
            task = asyncio.create_task(self._run_owner(owner, previous), name=f"{partition[0]}-{partition[1]}")
            self._tasks[partition] = task
        log.info("partitions_assigned", partitions=len(generations), generation=max(generations.values(), default=-1))

    async def revoked(self, partitions: Collection[tuple[str, int]]) -> None:
        """End the owners of these partitions: the running transactions may finish, within a deadline."""
        ending = [self._tasks.pop(partition) for partition in partitions if partition in self._tasks]
        owners = [self.owners.pop(partition) for partition in partitions if partition in self.owners]
        for owner in owners:
            owner.stop()
        if ending:
            _, late = await asyncio.wait(ending, timeout=REVOKE_SECONDS)
            for task in late:
                task.cancel()
        log.info("partitions_revoked", partitions=len(owners))

    # ---- the loop ---------------------------------------------------------------------------------------------------

    async def run(self, stream: Stream) -> None:
        """Poll until `stop`; raises what is fatal (a fault of ours), after which the worker must end."""
        hinted = monotonic()
        while not self._stop.is_set():
            if self._fatal is not None:
                raise self._fatal
            self._stand_still()
            try:
                fetched = await stream.poll(self._ready(), max_records=self.pace.max_events, timeout_ms=200)
            except TransientError as error:
                self._hooks.retried("poll")
                log.warning("poll_failed", reason=error.message)
                for owner in self.owners.values():
                    owner.seek_again()
                continue
            for partition, records in fetched.items():
                owner_of = self.owners.get(partition)
                if owner_of is not None:
                    owner_of.accept(records)
            if monotonic() - hinted > HINT_SECONDS:
                hinted = monotonic()
                await stream.commit_hint(self.offsets())

    def _ready(self) -> list[tuple[str, int]]:
        """Partitions to fetch for: all that have room; those without any record, once many wait in the others.

        A batch that runs and one that waits, for each that may run at a time, keep all of them busy, however many
        partitions there are.
        """
        if self.brake.tripped is not None:
            return []
        wanting = [partition for partition, owner in self.owners.items() if owner.wants_more()]
        if sum(owner.waiting for owner in self.owners.values()) < self._enough:
            return wanting
        return [partition for partition in wanting if not self.owners[partition].waiting]

    def use_stream(self, stream: Stream) -> None:
        """The stream whose assignments this member serves; set before it is started."""
        self._stream = stream

    def offsets(self) -> dict[tuple[str, int], int]:
        """The next offset to commit of every partition that is claimed, or was until its owner ended."""
        return {
            partition: owner.next_offset
            for partition, owner in self.owners.items()
            if owner.claim is not None or owner.released
        }

    def halted(self) -> dict[tuple[str, int], str]:
        """Partitions that must not go on, and why."""
        return {partition: owner.halted for partition, owner in self.owners.items() if owner.halted is not None}

    def stop(self) -> None:
        """End the loop after the poll in flight."""
        self._stop.set()

    async def finish(self, seconds: float) -> None:
        """Let running transactions end within `seconds`, cancel the rest, and release what is still owned."""
        self._stop.set()
        for owner in self.owners.values():
            owner.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=2.0)

    async def _run_owner(self, owner: PartitionOwner, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous], timeout=REVOKE_SECONDS)
        try:
            await owner.run()
            await owner.release()
        except TransientError as error:
            log.info("release_failed", reason=error.message)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # a fault of ours must end the worker, not leave one silent task behind
            log.exception("partition_failed", topic=owner.partition[0], partition=owner.partition[1])
            self._fatal = error

    def _applied(self, facts: BatchFacts) -> None:
        self._told(facts)
        tripped = self.brake.observe(monotonic(), records=facts.records, dead=facts.dead_letters)
        if tripped is not None:
            log.error("brake_tripped", reason=tripped.message, help=tripped.help)
            self._stand_still()

    def _stand_still(self) -> None:
        """Where the brake has tripped, let every partition stand still: also those that were claimed since."""
        if self.brake.tripped is not None:
            for owner in self.owners.values():
                if owner.halted is None:
                    owner.halt(self.brake.tripped)


def batch_line(facts: BatchFacts) -> Mapping[str, object]:
    """The fields of the one canonical log line of a batch."""
    return {
        "topic": facts.topic,
        "partition": facts.partition,
        "partitions": len(facts.passed),
        "next_offset": facts.next_offset,
        "records": facts.records,
        "applied": sum(count for (_, outcome), count in facts.types.items() if outcome == "applied"),
        "duplicates": facts.duplicates,
        "tombstones": facts.tombstones,
        "dead_letters": facts.dead_letters.total(),
        "users": facts.users,
        "late_users": facts.late_users,
        "queued_users": facts.queued_users,
        "awards": facts.awards.total(),
        "decode_ms": round(facts.decode_seconds * 1000, 2),
        "transaction_ms": round(facts.transaction_seconds * 1000, 2),
    }
