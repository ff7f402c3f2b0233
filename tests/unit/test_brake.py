"""The brake trips where too many records of a window are dead letters; then its member stands still, and stays."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rig.waiting import until
from tests.unit.test_partition import PARTITION, FakeApplier, FakeStore, FakeStream, record
from worker.config import DeadLetterLimit
from worker.errors import TransientError
from worker.events import Record
from worker.exchange import Claim
from worker.pipeline.brake import Brake
from worker.pipeline.facts import BatchFacts
from worker.pipeline.group import Member
from worker.pipeline.pace import Hooks, Pace

LIMIT = DeadLetterLimit(share=0.5, seconds=60.0, least=10)
BAD = "unknown_event_type"


def test_a_share_that_is_only_reached_trips_nothing() -> None:
    """Half of the records may be dead letters where the limit is 50 %; one more may not."""
    brake = Brake(LIMIT)
    assert brake.observe(0.0, records=10, dead={BAD: 5}) is None
    tripped = brake.observe(1.0, records=1, dead={BAD: 1})
    assert tripped is brake.tripped is not None


def test_few_records_trip_nothing() -> None:
    """The share counts from the limit's least number of records on, however bad they are."""
    brake = Brake(LIMIT)
    assert brake.observe(0.0, records=9, dead={BAD: 9}) is None
    assert brake.observe(0.0, records=1, dead={}) is not None


def test_what_has_left_the_window_counts_no_more() -> None:
    """Records, dead letters and their reasons count for as long as the window is, and not a moment longer."""
    brake = Brake(LIMIT)
    assert brake.observe(0.0, records=9, dead={"not_json": 9}) is None
    assert brake.observe(60.0, records=10, dead={BAD: 0}) is None  # 9 of 19
    assert brake.observe(60.1, records=9, dead={BAD: 9}) is None  # without the first 9 of 19, with them 18 of 28
    tripped = brake.observe(120.05, records=1, dead={BAD: 1})  # the good ones have left: 10 of 10
    assert tripped is not None
    assert tripped.message.startswith("10 of the last 10 records, within 60 s, became dead letters, most often for")
    assert f"for {BAD} (10): more than 50%" in tripped.message


def test_it_says_how_many_why_and_what_to_do() -> None:
    """The sentence has the figures and the most common reason, the help has the way on."""
    brake = Brake(DeadLetterLimit(share=0.5, seconds=60.0))
    tripped = brake.observe(0.0, records=1500, dead={BAD: 900, "not_json": 100})
    assert tripped is not None
    assert tripped.message == (
        "1,000 of the last 1,500 records, within 60 s, became dead letters, most often for unknown_event_type (900):"
        " more than 50%, so no more are taken."
    )
    assert "`badges dlq list`" in str(tripped.help)
    assert "BADGES_DEAD_LETTER_LIMIT" in str(tripped.help)
    assert brake.observe(1000.0, records=5000, dead={}) is None, "it is said once"
    assert brake.tripped is tripped, "and stays so"


def test_off_is_off() -> None:
    """Without a limit nothing trips."""
    assert Brake(None).observe(0.0, records=10_000, dead={BAD: 10_000}) is None


class Polled(FakeStream):
    """A log that a member polls."""

    async def poll(
        self, ready: Collection[tuple[str, int]], *, max_records: int, timeout_ms: int
    ) -> Mapping[tuple[str, int], Sequence[Record]]:
        """What there is of the partitions that were asked for."""
        await asyncio.sleep(0)
        return {partition: self.read() for partition in ready if partition == PARTITION and self.seeks}

    async def commit_hint(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Nobody is told."""


@dataclass
class Refusing(FakeApplier):
    """Every record becomes a dead letter."""

    async def apply(self, claim: Claim, records: Sequence[Record], **more: Any) -> BatchFacts:
        facts = await super().apply(claim, records, **more)
        facts.dead_letters[BAD] = facts.records
        return facts


def member(store: FakeStore, applier: FakeApplier, stream: Polled, brake: Brake) -> Member:
    async def moved(_: int) -> None:
        raise AssertionError

    made = Member(
        name="test",
        store=store,  # type: ignore[arg-type]
        applier=applier,  # type: ignore[arg-type]
        pace=Pace(max_events=4, max_seconds=0.0),
        brake=brake,
        hooks=Hooks(applied=lambda _: None, fenced=lambda: None, retried=lambda _: None, catalog_moved=moved),
        parallel=1,
    )
    made.use_stream(stream)  # type: ignore[arg-type]
    return made


def ten_records(monkeypatch: pytest.MonkeyPatch) -> tuple[Polled, FakeStore]:
    """A log of ten records, and a store; a batch that failed is tried again at once."""
    monkeypatch.setattr("worker.pipeline.partition.BACKOFF", (0.001, 0.001))
    return Polled({offset: record(offset) for offset in range(10)}), FakeStore()


def polling(braked: Member, stream: Polled, generation: int) -> asyncio.Task[None]:
    """A member that was given the partition, at its work."""
    braked.assigned({PARTITION: generation})
    return asyncio.create_task(braked.run(stream))  # type: ignore[arg-type]


async def test_a_member_whose_brake_trips_stands_still_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on polling, takes nothing more of any partition, also of those it is given then; a new one goes on."""
    stream, store = ten_records(monkeypatch)
    applier = Refusing(store)
    braked = member(store, applier, stream, Brake(DeadLetterLimit(share=0.5, seconds=60.0, least=4)))
    task = polling(braked, stream, 1)
    await until(braked.halted, "standing still", seconds=5)
    assert braked.brake.tripped is not None
    assert braked.halted() == {PARTITION: braked.brake.tripped.message}
    braked.assigned({("events", 1): 2})
    await until(lambda: len(braked.halted()) == 2, "standing still there too", seconds=5)
    assert not task.done(), "it stays in the group"
    assert (applier.applied, store.next_offset, braked.offsets()) == ([0, 1, 2, 3], 4, {})
    await braked.finish(5.0)
    await task
    again = member(store, applier, stream, Brake(None))
    task = polling(again, stream, 3)
    await until(lambda: store.next_offset == 10, "going on", seconds=5)
    assert applier.applied == list(range(10))
    await again.finish(5.0)
    await task


async def test_a_claim_in_doubt_lets_no_partition_past_the_brake(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that loses its claim as the brake trips, and so would begin anew, stands still as well."""
    stream, store = ten_records(monkeypatch)
    applier = FakeApplier(store)
    one = member(store, applier, stream, Brake(DeadLetterLimit(share=0.5, seconds=60.0, least=1)))
    apply = applier.apply

    async def trips(claim: Claim, records: Sequence[Record], **more: Any) -> BatchFacts:
        one._applied(BatchFacts("events", 7, 1, records=9, dead_letters=Counter({BAD: 9})))
        raise TransientError("the connection was lost")

    applier.apply = trips  # type: ignore[method-assign]
    task = polling(one, stream, 1)
    await until(lambda: one.brake.tripped, "tripping", seconds=5)
    applier.apply = apply  # type: ignore[method-assign]
    await until(one.halted, "standing still", seconds=5)
    assert (applier.applied, store.claims) == ([], 2)
    await one.finish(5.0)
    await task
