"""Owners of partitions that go together: who comes along, and what each makes of the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from worker.errors import Fenced, PoisonBatch, TransientError
from worker.events import Record
from worker.exchange import Claim
from worker.pipeline.batch import CatalogMoved, Entangled
from worker.pipeline.decoding import Part
from worker.pipeline.facts import BatchFacts
from worker.pipeline.pace import Hooks, Pace
from worker.pipeline.partition import PartitionOwner
from worker.pipeline.together import TOGETHER
from worker.pipeline.turns import Turns

Place = tuple[str, int]


@dataclass
class Log:
    """Store, stream and applier in one: claims go on where what was applied ends."""

    next_offsets: dict[Place, int] = field(default_factory=dict)
    claims: list[Place] = field(default_factory=list)
    batches: list[list[tuple[int, int]]] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    fenced: int = 0
    moved: list[int] = field(default_factory=list)
    mingles: bool = True
    held: asyncio.Event | None = None
    stamped: bool = False

    async def claim(self, topic: str, partition: int, **_: Any) -> Claim:
        self.claims.append((topic, partition))
        at = self.next_offsets.setdefault((topic, partition), 0)
        return Claim(topic, partition, uuid4(), len(self.claims), 1, at, None, None, 0)

    async def release(self, _claim: Claim) -> None: ...

    async def bounds(self, _partition: Place) -> tuple[int, int]:
        return 0, 1_000

    def seek(self, _partition: Place, _offset: int) -> None: ...

    pause = resume = forget = lambda self, *_: None

    async def apply(self, claim: Claim, records: Sequence[Record], *, from_offset: int) -> BatchFacts:
        return await self.apply_together([Part(claim, records, from_offset)])

    async def apply_together(self, parts: Sequence[Part]) -> BatchFacts:
        if self.held is not None:
            await self.held.wait()
        if self.faults:
            raise self.faults.pop(0)
        for part in parts:
            place = part.claim.topic, part.claim.partition
            assert self.next_offsets[place] == part.from_offset
            self.next_offsets[place] = part.records[-1].offset + 1
        self.batches.append([(part.claim.partition, len(part.records)) for part in parts])
        return BatchFacts("t", 0, 0)


@dataclass
class Rig:
    log: Log
    owners: list[PartitionOwner]
    tasks: list[asyncio.Task[None]]
    slots: Turns[PartitionOwner]

    def put(self, *counts: int) -> None:
        """Let so many records come for each partition."""
        for owner, count in zip(self.owners, counts, strict=False):
            topic, partition = owner.partition
            begin = owner.read_offset
            owner.accept([Record(topic, partition, begin + at, 0, b"k", b"{}") for at in range(count)])

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (what happens elsewhere in the loop)
                await asyncio.sleep(0)

    async def lined_up(self, *counts: int) -> AsyncExitStack:
        """Records come for each while a batch runs; leaving the stack ends that batch."""
        running = AsyncExitStack()
        await running.enter_async_context(self.slots)
        self.put(*counts)
        await self.until(lambda: len(list(self.slots.waiting())) == sum(map(bool, counts)))
        return running

    def applied(self, *offsets: int) -> bool:
        return [owner.next_offset for owner in self.owners][: len(offsets)] == list(offsets)


@asynccontextmanager
async def rig(*topics: str, most: int = 5000) -> AsyncIterator[Rig]:
    log, slots = Log(), Turns[PartitionOwner](4, eager=1)

    async def catalog_moved(head: int) -> None:
        log.moved.append(head)

    def fenced() -> None:
        log.fenced += 1

    hooks = Hooks(applied=lambda _: None, fenced=fenced, retried=lambda _: None, catalog_moved=catalog_moved)
    owners = [
        PartitionOwner(
            (topic, number),
            generation=1,
            name="test",
            store=log,  # type: ignore[arg-type]
            stream=log,  # type: ignore[arg-type]
            applier=log,  # type: ignore[arg-type]
            slots=slots,
            pace=Pace(max_events=most, max_seconds=60.0),
            hooks=hooks,
        )
        for number, topic in enumerate(topics)
    ]
    tasks: list[asyncio.Task[None]] = [asyncio.create_task(owner.run()) for owner in owners]
    found = Rig(log, owners, tasks, slots)
    await found.until(lambda: all(owner.claim is not None for owner in owners))
    yield found
    for owner in owners:
        owner.stop()
    await asyncio.wait(tasks, timeout=5)
    assert all(task.done() for task in tasks)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.pipeline.partition.BACKOFF", (0.001, 0.001))


async def test_who_waits_in_the_line_comes_along() -> None:
    """Partitions with few records that waited for the same batch are applied in one transaction."""
    async with rig("t", "t", "t", "t") as found:
        async with await found.lined_up(2, 3, 0, 1):
            assert found.log.batches == []
        await found.until(lambda: found.applied(2, 3, 0, 1))
        assert found.log.batches == [[(0, 2), (1, 3), (3, 1)]]


async def test_what_is_large_or_of_another_topic_stays_behind() -> None:
    """A batch of several partitions stays small, and is of one topic; who stays behind goes next."""
    async with rig("t", "u", "t", "t") as found:
        async with await found.lined_up(1, 1, TOGETHER - 2, 2):
            pass
        await found.until(lambda: found.applied(1, 1, TOGETHER - 2, 2))
        assert sorted(map(sorted, found.log.batches)) == [[(0, 1), (2, TOGETHER - 2)], [(1, 1)], [(3, 2)]]


async def test_partitions_go_alone_where_breakers_count() -> None:
    """Where awards are counted along a partition's time, no two partitions are applied together."""
    async with rig("t", "t") as found:
        found.log.mingles = False
        async with await found.lined_up(1, 1):
            pass
        await found.until(lambda: found.applied(1, 1))
        assert found.log.batches == [[(0, 1)], [(1, 1)]]


@pytest.mark.parametrize("fault", [Fenced("moved"), PoisonBatch("22P05"), Entangled("share a user")])
async def test_without_effect_each_tries_again_alone(fault: Exception) -> None:
    """A batch that failed for what may be one partition's fault is taken apart: nobody claims again for it."""
    async with rig("t", "t", "t") as found:
        found.log.faults.append(fault)
        async with await found.lined_up(1, 2, 1):
            pass
        await found.until(lambda: found.applied(1, 2, 1))
        assert sorted(found.log.batches) == [[(0, 1)], [(1, 2)], [(2, 1)]]
        assert (len(found.log.claims), found.log.fenced) == (3, 0)
        async with await found.lined_up(1, 1, 1):
            pass
        await found.until(lambda: found.applied(2, 3, 2))
        assert found.log.batches[-1] == [(0, 1), (1, 1), (2, 1)]


async def test_in_doubt_every_owner_claims_again() -> None:
    """A batch whose outcome nobody knows ends the claim of each partition in it, and of no other."""
    async with rig("t", "t", "t") as found:
        found.log.faults.append(TransientError("outcome unknown"))
        async with await found.lined_up(1, 1):
            pass
        await found.until(lambda: len(found.log.claims) == 5)
        assert sorted(found.log.claims[3:]) == [("t", 0), ("t", 1)]
        await found.until(lambda: all(owner.claim is not None for owner in found.owners))
        found.put(1, 1, 1)
        await found.until(lambda: found.applied(1, 1, 1))


async def test_a_new_catalog_is_loaded_once_for_all() -> None:
    """Where the catalog has moved it is said once, and all go on with the new one."""
    async with rig("t", "t") as found:
        found.log.faults.append(CatalogMoved(7))
        async with await found.lined_up(1, 1):
            pass
        await found.until(lambda: found.applied(1, 1))
        assert (found.log.moved, len(found.log.claims)) == ([7], 2)


async def test_a_passenger_that_is_stopped_ends_with_the_batch() -> None:
    """A partition that is revoked while another's batch has its records ends when that batch does."""
    async with rig("t", "t") as found:
        found.log.held = asyncio.Event()
        async with await found.lined_up(1, 1):
            pass
        await found.until(lambda: found.slots._running == 1)
        found.owners[1].stop()
        await asyncio.sleep(0)
        assert not found.tasks[1].done()
        found.log.held.set()
        await found.until(found.tasks[1].done)
        assert found.applied(1, 1)


@pytest.mark.parametrize("who", [0, 1], ids=["driver", "passenger"])
async def test_one_that_is_cancelled_leaves_the_others_in_order(who: int) -> None:
    """The passenger of a batch that was cancelled claims again; a passenger that is cancelled changes nothing."""
    async with rig("t", "t") as found:
        found.log.held = asyncio.Event()
        async with await found.lined_up(1, 1):
            pass
        await found.until(lambda: found.slots._running == 1)
        found.tasks[who].cancel()
        await found.until(found.tasks[who].done)
        found.log.held.set()
        other = found.owners[1 - who]
        if who == 0:
            await found.until(lambda: len(found.log.claims) == 3 and other.claim is not None)
            other.accept([Record("t", 1, 0, 0, b"k", b"{}")])
        await found.until(lambda: other.next_offset == 1)
        assert found.log.claims[2:] == ([("t", 1)] if who == 0 else [])
