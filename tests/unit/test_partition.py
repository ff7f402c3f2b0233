"""The owner of a partition checks offsets, claims again after doubt, and isolates what the database refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs

from worker.errors import Fenced, PoisonBatch, TransientError
from worker.events import Record, Rejected
from worker.exchange import Claim
from worker.pipeline.batch import CatalogMoved
from worker.pipeline.brake import Brake
from worker.pipeline.decoding import record_sha
from worker.pipeline.facts import BatchFacts
from worker.pipeline.group import Member
from worker.pipeline.pace import Hooks, Pace
from worker.pipeline.partition import PartitionOwner
from worker.pipeline.turns import Turns

PARTITION = ("events", 0)


def record(offset: int, value: bytes | None = None) -> Record:
    return Record("events", 0, offset, 1_000 + offset, b"u1", value or str(offset).encode())


@dataclass
class FakeStream:
    """A log of records; `beginning` and `end` as the broker would say."""

    records: dict[int, Record]
    beginning: int = 0
    end: int | None = None
    seeks: list[int] = field(default_factory=list)
    resumed: bool = False

    def seek(self, _partition: tuple[str, int], offset: int) -> None:
        self.seeks.append(offset)

    def pause(self, _partition: tuple[str, int]) -> None:
        self.resumed = False

    def resume(self, _partition: tuple[str, int]) -> None:
        self.resumed = True

    async def bounds(self, _partition: tuple[str, int]) -> tuple[int, int]:
        return self.beginning, self.end if self.end is not None else max(self.records, default=-1) + 1

    def read(self) -> list[Record]:
        """What a fetch from the last sought offset gives."""
        return [self.records[offset] for offset in sorted(self.records) if offset >= self.seeks[-1]]


@dataclass
class FakeStore:
    """Remembers claims and gaps; the next claim returns where `next_offset` stands."""

    next_offset: int = 0
    last: Record | None = None
    claims: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    released: int = 0
    refuse: int = 0

    async def claim(self, topic: str, partition: int, **_: Any) -> Claim | None:
        self.claims += 1
        if self.refuse:
            self.refuse -= 1
            return None
        last = self.last
        return Claim(
            topic,
            partition,
            uuid4(),
            self.claims,
            1,
            self.next_offset,
            last.offset if last else None,
            record_sha(last) if last else None,
            0,
        )

    async def release(self, _claim: Claim) -> None:
        self.released += 1

    async def record_gap(self, _topic: str, _partition: int, from_offset: int, to_offset: int, _cause: str) -> None:
        self.gaps.append((from_offset, to_offset))


@dataclass
class FakeApplier:
    """Applies by remembering offsets; raises what `faults` holds, in order, before anything is applied."""

    store: FakeStore
    applied: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)
    poison: set[int] = field(default_factory=set)
    mingles: bool = True
    most: int = 1_000

    def forget(self, claim: Claim) -> None:
        assert claim.token

    async def apply(
        self,
        _claim: Claim,
        records: Sequence[Record],
        *,
        from_offset: int,
        refused: Mapping[int, Rejected] | None = None,
    ) -> BatchFacts:
        assert from_offset == self.store.next_offset
        if self.faults:
            raise self.faults.pop(0)
        records = records[: self.most]
        if not refused and any(item.offset in self.poison for item in records):
            raise PoisonBatch("22P05")
        self.applied += [item.offset for item in records]
        self.refused += list(refused or ())
        self.store.next_offset = records[-1].offset + 1
        self.store.last = records[-1]
        passed = [(0, records[-1].offset + 1)]
        return BatchFacts("events", 0, records[-1].offset + 1, passed, records=len(records))


@dataclass
class Rig:
    stream: FakeStream
    store: FakeStore
    applier: FakeApplier
    owner: PartitionOwner
    fenced: list[int]
    moved: list[int]

    def sizes(self) -> list[int]:
        """The sizes of the batches that are applied from now on."""
        found: list[int] = []
        apply = self.applier.apply

        async def measured(claim: Claim, records: Sequence[Record], **more: Any) -> BatchFacts:
            found.append(len(records))
            return await apply(claim, records, **more)

        self.applier.apply = measured  # type: ignore[method-assign]
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Feed what a fetch would give until the condition holds."""
        async with asyncio.timeout(5):
            while not condition():
                if self.owner.wants_more() and self.stream.resumed and self.stream.seeks:
                    self.owner.accept(self.stream.read())
                await asyncio.sleep(0)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("worker.pipeline.partition.BACKOFF", (0.001, 0.001))
    stream = FakeStream({offset: record(offset) for offset in range(10)})
    store = FakeStore()
    applier = FakeApplier(store)
    fenced: list[int] = []
    moved: list[int] = []

    async def catalog_moved(head: int) -> None:
        moved.append(head)

    hooks = Hooks(
        applied=lambda _: None,
        fenced=lambda: fenced.append(1),
        retried=lambda _: None,
        catalog_moved=catalog_moved,
    )
    owner = PartitionOwner(
        PARTITION,
        generation=1,
        name="test",
        store=store,  # type: ignore[arg-type]
        stream=stream,  # type: ignore[arg-type]
        applier=applier,  # type: ignore[arg-type]
        slots=Turns(1),
        pace=Pace(max_events=4, max_seconds=0.0),
        hooks=hooks,
    )
    task: asyncio.Task[None] = asyncio.create_task(owner.run())
    yield Rig(stream, store, applier, owner, fenced, moved)
    owner.stop()
    async with asyncio.timeout(5):
        await task


async def test_every_record_is_applied_once_in_order(rig: Rig) -> None:
    """All records of the log are applied, in order, none twice, however often a fetch repeats them."""
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.applier.applied == list(range(10))


async def test_a_batch_that_was_cut_goes_on_behind_the_cut(rig: Rig) -> None:
    """Where only the first records of a batch were applied the next one begins behind them; the claim stays."""
    sizes, rig.applier.most = rig.sizes(), 1
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.applier.applied == list(range(10))
    assert sizes == [4, 2, 2, 2, 2, 2, 2, 2, 2, 1]
    assert rig.store.claims == 1
    assert rig.owner.waiting == 0
    assert rig.owner._queued_bytes == 0


async def test_the_record_after_the_last_applied_one_is_next(rig: Rig) -> None:
    """A claim goes on after the last applied record, which is read again only to be recognised."""
    await rig.until(lambda: rig.store.next_offset == 10)
    rig.applier.faults.append(Fenced("gone"))
    rig.stream.records |= {10: record(10), 11: record(11)}
    await rig.until(lambda: rig.store.next_offset == 12)
    assert rig.applier.applied == list(range(12))
    assert rig.fenced == [1]
    assert rig.stream.seeks[-1] == 9


async def test_another_record_at_the_last_offset_halts_the_partition(rig: Rig) -> None:
    """A topic that was created again is noticed by its last applied record, and nothing of it is applied."""
    await rig.until(lambda: rig.store.next_offset == 10)
    rig.stream.records = {offset: record(offset, b"other") for offset in range(20)}
    rig.applier.faults.append(TransientError("connection lost"))
    rig.stream.records[10] = record(10, b"other")
    await rig.until(lambda: rig.owner.halted is not None)
    assert rig.owner.halted is not None
    assert "created again" in rig.owner.halted
    assert rig.applier.applied == list(range(10))


async def test_a_log_that_ends_before_the_next_offset_halts_the_partition(rig: Rig) -> None:
    """A topic cut below the offset that this group goes on from is not read from the start in silence."""
    await rig.until(lambda: rig.store.next_offset == 10)
    rig.stream.end = 5
    rig.applier.faults.append(TransientError("connection lost"))
    rig.stream.records[10] = record(10)
    await rig.until(lambda: rig.owner.halted is not None)
    assert "ends at offset 5" in str(rig.owner.halted)


async def test_a_hole_is_read_again_once_then_recorded(rig: Rig) -> None:
    """Missing offsets are fetched again; a hole that stays is written down and passed."""
    del rig.stream.records[3], rig.stream.records[4]
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.applier.applied == [0, 1, 2, 5, 6, 7, 8, 9]
    assert rig.store.gaps == [(3, 5)]
    assert rig.stream.seeks.count(3) == 1


async def test_records_read_behind_a_hole_before_it_is_settled_are_not_lost(rig: Rig) -> None:
    """However far a client reads on while a hole is looked into, only the hole itself is passed."""
    rig.stream.records = {offset: record(offset) for offset in range(3)}
    bounds = rig.stream.bounds

    async def slow_bounds(partition: tuple[str, int]) -> tuple[int, int]:
        rig.owner.accept([record(8), record(9)])
        return await bounds(partition)

    await rig.until(lambda: rig.store.next_offset == 3)
    rig.stream.bounds = slow_bounds  # type: ignore[method-assign]
    rig.stream.records |= {offset: record(offset) for offset in range(5, 10)}
    rig.owner.accept([record(5), record(6), record(7)])
    rig.owner.accept([record(5), record(6), record(7)])
    rig.owner.accept([record(8), record(9)])
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.applier.applied == [0, 1, 2, 5, 6, 7, 8, 9]
    assert rig.store.gaps == [(3, 5)]


async def test_giant_records_do_not_pile_up(rig: Rig) -> None:
    """Records are asked for while fewer bytes wait than may, however few records that are, and again once they went."""
    await rig.until(lambda: rig.store.next_offset == 10)
    rig.owner.pace = replace(rig.owner.pace, queue_bytes=1000)
    rig.stream.records[10] = record(10, b"x" * 1000)
    rig.owner.accept([rig.stream.records[10]])
    assert not rig.owner.wants_more()
    await rig.until(lambda: rig.store.next_offset == 11)
    assert rig.owner.wants_more()


async def test_expired_records_halt_the_partition(rig: Rig) -> None:
    """Records that expired unread are a loss an operator must accept; they are never skipped in silence."""
    for offset in range(2, 6):
        del rig.stream.records[offset]
    rig.stream.beginning = 6
    await rig.until(lambda: rig.owner.halted is not None)
    assert rig.applier.applied == [0, 1]
    assert "expired unread" in str(rig.owner.halted)


async def test_doubt_is_settled_by_a_new_claim(rig: Rig) -> None:
    """After a lost connection the partition is claimed again and goes on where the database says."""
    rig.applier.faults.append(TransientError("outcome unknown"))
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.store.claims == 2
    assert rig.applier.applied == list(range(10))


async def test_an_owner_that_was_stopped_leaves_the_stream_to_its_successor(rig: Rig) -> None:
    """A transaction that fails after the partition went to a new owner does not pause what that one resumed."""
    await rig.until(lambda: rig.store.next_offset == 10)

    async def fails_late(*_: Any, **__: Any) -> BatchFacts:
        rig.owner.stop()
        raise TransientError("connection lost")

    rig.applier.apply = fails_late  # type: ignore[method-assign]
    rig.stream.records[10] = record(10)
    await rig.until(lambda: rig.owner.claim is None)
    assert rig.stream.resumed


async def test_a_refused_claim_is_tried_again(rig: Rig) -> None:
    """While a newer generation holds the partition nothing is read; the claim is tried until it succeeds."""
    rig.store.refuse = 3
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.applier.applied == list(range(10))


async def test_a_record_the_database_refuses_is_isolated(rig: Rig) -> None:
    """A batch the database cannot store is cut in half until the one record stands alone as a dead letter."""
    rig.applier.poison = {5}
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.applier.applied == list(range(10))
    assert rig.applier.refused == [5]


async def test_a_batch_that_took_too_long_comes_again_smaller(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that the server ended for its time, however that was told, is tried again with fewer records."""
    monkeypatch.setattr("worker.pipeline.partition.LONG_SECONDS", 0.0)
    sizes: list[int] = []
    apply = rig.applier.apply

    async def measured(claim: Claim, records: Sequence[Record], **more: Any) -> BatchFacts:
        sizes.append(len(records))
        if len(records) > 2:
            raise TransientError("the connection was lost")
        return await apply(claim, records, **more)

    rig.applier.apply = measured  # type: ignore[method-assign]
    await rig.until(lambda: rig.store.next_offset == 10)
    assert sizes[:2] == [4, 2]
    assert rig.applier.applied == list(range(10))


async def test_a_moved_catalog_redoes_the_batch(rig: Rig) -> None:
    """A batch that meets a newer catalog is done again, with no new claim, after the plan was swapped."""
    rig.applier.faults.append(CatalogMoved(2))
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.moved == [2]
    assert rig.store.claims == 1


async def test_a_skipping_client_is_made_to_read_again(rig: Rig) -> None:
    """Records that a client skipped once are read, not lost."""
    await rig.until(rig.owner.wants_more)
    rig.owner.accept([record(6), record(7)])
    await rig.until(lambda: rig.store.next_offset == 10)
    assert rig.applier.applied == list(range(10))
    assert rig.store.gaps == []


async def test_a_member_that_ended_knows_how_far_it_came(rig: Rig) -> None:
    """The offsets that lag tools are told at a stop are those of the last transactions, also once all is released."""
    await rig.until(lambda: rig.store.next_offset == 10)
    rig.owner.stop()
    member = Member(
        name="test",
        store=rig.store,  # type: ignore[arg-type]
        applier=rig.applier,  # type: ignore[arg-type]
        pace=rig.owner.pace,
        brake=Brake(None),
        hooks=rig.owner.hooks,
        parallel=1,
    )
    member.use_stream(rig.stream)  # type: ignore[arg-type]
    member.assigned({PARTITION: 2})
    rig.owner = member.owners[PARTITION]
    rig.stream.records[10] = record(10)
    await rig.until(lambda: rig.store.next_offset == 11)
    await member.finish(5.0)
    assert rig.store.released == 1
    assert member.offsets() == {PARTITION: 11}


async def test_many_partitions_do_not_pile_records_up(rig: Rig) -> None:
    """Once two batches wait for each that may run, only partitions without any record are fetched for."""
    member = Member(
        name="test",
        store=rig.store,  # type: ignore[arg-type]
        applier=rig.applier,  # type: ignore[arg-type]
        pace=Pace(max_events=4),
        brake=Brake(None),
        hooks=rig.owner.hooks,
        parallel=1,
    )
    fetched: list[list[tuple[str, int]]] = []

    async def poll(ready: list[tuple[str, int]], **_: Any) -> dict[tuple[str, int], list[Record]]:
        fetched.append(ready)
        if len(fetched) == 3:
            member.stop()
        return {partition: [record(0)] * 4 for partition in ready[:2]}

    class Waits:
        """An owner whose batches never run."""

        def __init__(self) -> None:
            self.waiting = 0

        def wants_more(self) -> bool:
            return True

        def accept(self, records: Sequence[Record]) -> None:
            self.waiting += len(records)

    names = [("events", number) for number in range(3)]
    member.owners = {name: Waits() for name in names}  # type: ignore[misc]
    await member.run(SimpleNamespace(poll=poll))  # type: ignore[arg-type]
    assert fetched == [names, names[2:], []]


async def test_a_lone_record_waits_for_nobody(rig: Rig) -> None:
    """While no other batch runs, what has come is applied at once, however long batches may wait to fill."""
    rig.owner.pace = replace(rig.owner.pace, max_seconds=60.0)
    rig.stream.records = {0: record(0)}
    await rig.until(lambda: rig.store.next_offset == 1)
    rig.stream.records[1] = record(1)
    await rig.until(lambda: rig.store.next_offset == 2)


async def test_records_gather_while_another_batch_runs(rig: Rig) -> None:
    """A batch that is not full waits for the one that runs to end, and then takes all that has come."""
    rig.owner.pace, rig.owner.slots = replace(rig.owner.pace, max_seconds=60.0), Turns(2, eager=1)
    sizes = rig.sizes()
    async with rig.owner.slots:
        for offset in range(3):
            rig.stream.records = {at: record(at) for at in range(offset + 1)}
            await rig.until(lambda wanted=offset + 1: rig.owner.read_offset == wanted)  # type: ignore[misc]
        assert rig.applier.applied == []
    await rig.until(lambda: rig.store.next_offset == 3)
    assert sizes == [3]


async def test_a_full_batch_waits_for_no_turn(rig: Rig) -> None:
    """A batch that became full while it waited goes at once, beside the one that runs."""
    rig.owner.pace, rig.owner.slots = replace(rig.owner.pace, max_seconds=60.0), Turns(2, eager=1)
    sizes = rig.sizes()
    async with rig.owner.slots:
        rig.stream.records = {at: record(at) for at in range(3)}
        await rig.until(lambda: rig.owner.read_offset == 3)
        rig.stream.records = {at: record(at) for at in range(5)}
        await rig.until(lambda: rig.store.next_offset == 4)
    assert sizes[0] == 4


async def test_no_batch_waits_longer_than_it_may(rig: Rig) -> None:
    """Once its time is over a batch runs beside the others, full or not."""
    rig.owner.pace, rig.owner.slots = replace(rig.owner.pace, max_seconds=0.01), Turns(2, eager=1)
    async with rig.owner.slots:
        rig.stream.records = {0: record(0)}
        await rig.until(lambda: rig.store.next_offset == 1)


async def test_a_batch_takes_what_came_while_it_waited_for_a_slot(rig: Rig) -> None:
    """Records that come after a batch was due, but before it could begin, are part of it."""
    rig.owner.slots = Turns(1)
    sizes = rig.sizes()
    async with rig.owner.slots:
        for offset in range(3):
            rig.stream.records = {at: record(at) for at in range(offset + 1)}
            await rig.until(lambda wanted=offset + 1: rig.owner.read_offset == wanted)  # type: ignore[misc]
            await asyncio.sleep(0)
    await rig.until(lambda: rig.store.next_offset == 3)
    assert sizes == [3]


async def test_records_gather_once_two_batches_run() -> None:
    """Beside one batch another begins at once, so that the processor has work while the disk has; a third waits."""
    turns = Turns(4, eager=2)
    async with turns:
        assert turns.line_up("one").done()
        async with turns:
            third = turns.line_up("one")
            assert not third.done()
    assert third.done()


async def test_a_turn_is_free_while_there_is_room() -> None:
    """Where nothing else is said, records gather only while as many batches run as may."""
    turns = Turns(2)
    async with turns:
        assert turns.line_up("one").done()
        async with turns:
            assert not turns.line_up("one").done()


async def test_turns_that_were_given_up_are_forgotten() -> None:
    """Who no longer waits for a turn takes no room in the line, however busy it is."""
    turns = Turns(2, eager=1)
    async with turns:
        for _ in range(100):
            turns.line_up("one").cancel()
        assert len(turns._line) <= 1


async def test_turns_go_by_arrival() -> None:
    """One at a time of those in the line gets its turn, the first that still waits; no more run than may."""
    turns, order = Turns(2, eager=1), list[str]()
    async with turns:
        first, second, third = (turns.line_up("one") for _ in range(3))
        first.cancel()
        async with turns:
            assert not second.done()
        assert not second.done()
    assert second.done()
    assert not third.done()

    async def take(name: str) -> None:
        async with turns:
            order.append(name)

    async with turns, turns:
        waiting = asyncio.create_task(take("late"))
        await asyncio.sleep(0)
        assert order == []
    await waiting
    assert order == ["late"]
    assert not third.done()  # the second has its turn, and no batch yet
    turns.redeem(second)
    turns.redeem(second)
    assert third.done()


def test_the_sha_of_a_record_names_its_content() -> None:
    """Timestamp, key and value decide a record's sha; its offset does not."""
    one = record(1, b"x")
    assert record_sha(one) == record_sha(structs.replace(one, offset=9))
    for other in (
        structs.replace(one, timestamp_ms=0),
        structs.replace(one, key=None),
        structs.replace(one, key=b""),
        structs.replace(one, value=b"y"),
    ):
        assert record_sha(one) != record_sha(other)
