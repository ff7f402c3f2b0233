"""Reads parts of topics again, outside the group: what is logged changes nothing, what is missing is applied quietly.

Theory of operation. A replay owns its partitions as a group member does (`partition.PartitionOwner`: claim, fence,
every offset checked, halved where the database refuses), but under the rows of a group of its own, so that live
partitions are not moved; its stream hands out nothing at or beyond the end of each range. What was read is committed
with its position: a replay that was interrupted goes on from there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Protocol

from worker.errors import OperatorError, TransientError
from worker.events import Record
from worker.pipeline.batch import Applier
from worker.pipeline.brake import Brake
from worker.pipeline.facts import BatchFacts
from worker.pipeline.group import Member
from worker.pipeline.pace import Hooks, Pace
from worker.pipeline.protocols import Stream

Partition = tuple[str, int]

#: How often it is looked whether partitions are done, and how long a replay may stand still, seconds.
TICK_SECONDS: Final = 0.05
STALL_SECONDS: Final = 60.0
FINISH_SECONDS: Final = 8.0
#: Transactions at a time: the live worker keeps its share of the database.
PARALLEL: Final = 2
AGAIN: Final = "run the same command again: what was read is committed, and it goes on from there"


class PositionedStream(Stream, Protocol):
    """A stream that also says how far it has read, past records that nobody is shown."""

    def position(self, partition: Partition) -> int | None:
        """The next offset that will be handed out; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets of one partition to read again, `start` to `end` without the end."""

    topic: str
    partition: int
    start: int
    end: int

    @property
    def place(self) -> Partition:
        """The partition."""
        return self.topic, self.partition

    @property
    def length(self) -> int:
        """How many offsets it spans."""
        return max(0, self.end - self.start)

    def as_json(self) -> dict[str, str | int]:
        """As it is told and written down."""
        return {"topic": self.topic, "partition": self.partition, "from": self.start, "until": self.end}


@dataclass(slots=True)
class ReplayFacts:
    """What a replay has done so far: `offsets` of `total` were passed, `read` records among them.

    Of the records `known` were logged already, `added` are new events, `letters` new dead letters; `removed` must not
    come back, by code (`too_old`, `erased`), `tombstones` are empty, `known_letters` are dead letters that were there.
    """

    total: int = 0
    offsets: int = 0
    resumed: int = 0
    read: int = 0
    known: int = 0
    added: int = 0
    tombstones: int = 0
    letters: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    awards: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def known_letters(self) -> int:
        """What is left of the records."""
        told = self.known + self.added + self.tombstones + self.letters.total() + self.removed.total()
        return max(0, self.read - told)


class Replay:
    """One run over some ranges; `positions` say where each is, which is its start unless it was begun before.

    `rate` bounds the records read in a second; `told` is called with the facts now and then; `moved` is awaited when
    the catalog's head has moved.
    """

    def __init__(
        self,
        *,
        name: str,
        applier: Applier,
        stream: PositionedStream,
        ranges: Sequence[Range],
        positions: Mapping[Partition, int],
        pace: Pace,
        brake: Brake,
        told: Callable[[ReplayFacts], None],
        moved: Callable[[int], Awaitable[None]],
        rate: float | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.facts = ReplayFacts(total=sum(one.length for one in ranges))
        self._ends = {one.place: one.end for one in ranges}
        self._stream = _Bounded(stream, self._ends, rate=rate, clock=clock)
        self._applier = applier
        self._told = told
        self._clock = clock
        self._positions = {one.place: positions.get(one.place, one.start) for one in ranges}
        self._passed = {one.place: 0 for one in ranges}
        self._starts = {one.place: one.start for one in ranges}
        self._taken_over = False
        for place, offset in self._positions.items():
            self._pass(place, offset)
        self.facts.resumed = self.facts.offsets
        hooks = Hooks(applied=self._applied, fenced=self._fenced, retried=lambda _: None, catalog_moved=moved)
        self._member = Member(
            name=name, store=applier.store, applier=applier, pace=pace, brake=brake, hooks=hooks, parallel=PARALLEL
        )

    async def run(self) -> ReplayFacts:
        """Read to the end of every range; returns once all of it is committed.

        Raises OperatorError where it cannot go on: a service stays away, records expired meanwhile, another process
        took the same replay over. What was read until then is committed.
        """
        member = self._member
        member.use_stream(self._stream)
        waiting = {place for place, offset in self._positions.items() if offset < self._ends[place]}
        member.assigned(dict.fromkeys(waiting, 0))
        polling = asyncio.create_task(member.run(self._stream), name="replay")
        moved_at, before = self._clock(), self.facts.offsets
        try:
            while waiting:
                await asyncio.wait({polling}, timeout=TICK_SECONDS)
                self._look_for_trouble(polling)
                done = [place for place in waiting if self._is_done(place)]
                await member.revoked(done)
                for place in done:
                    waiting.discard(place)
                    self._pass(place, self._ends[place])
                self._told(self.facts)
                if self.facts.offsets != before:
                    moved_at, before = self._clock(), self.facts.offsets
                elif self._clock() - moved_at > STALL_SECONDS:
                    raise await self._stalled(next(iter(waiting)))
        finally:
            await member.finish(FINISH_SECONDS)
            await asyncio.wait({polling}, timeout=2.0)
            polling.cancel()
            await asyncio.wait({polling}, timeout=1.0)
        return self.facts

    def _look_for_trouble(self, polling: asyncio.Task[None]) -> None:
        if polling.done():
            polling.result()
        if (tripped := self._member.brake.tripped) is not None:
            remedy = f"see `badges dlq list`, mend what is broken or set BADGES_DEAD_LETTER_LIMIT, then {AGAIN}"
            raise OperatorError(tripped.message, help=remedy)
        for reason in self._member.halted().values():
            raise OperatorError(f"The replay stopped: {reason}", help="start it again from an offset that is there")
        if self._taken_over:
            raise OperatorError("Another process runs the same replay; this one stopped.", help="let that one finish")

    def _is_done(self, place: Partition) -> bool:
        owner = self._member.owners.get(place)
        if owner is None or owner.claim is None:
            return False
        if owner.next_offset >= self._ends[place]:
            return True
        # What is left may be nothing but transaction markers and what compaction took: no record will come of it.
        position = self._stream.position(place)
        return owner.idle() and position is not None and position >= self._ends[place]

    async def _stalled(self, place: Partition) -> OperatorError:
        """Why nothing has moved for long, as far as the services say."""
        reason = "neither service says why."
        try:
            await self._stream.bounds(place)
            async with self._applier.store.transaction() as transaction:
                await transaction.catalog_version()
        except TransientError as error:
            reason = error.message
        return OperatorError(f"The replay has not moved for {STALL_SECONDS:g} s: {reason}", help=AGAIN)

    def _applied(self, facts: BatchFacts) -> None:
        for partition, next_offset in facts.passed:
            self._pass((facts.topic, partition), next_offset)
        self.facts.read += facts.records
        self.facts.known += facts.duplicates
        self.facts.added += sum(count for (_, outcome), count in facts.types.items() if outcome == "applied")
        self.facts.tombstones += facts.tombstones
        self.facts.letters.update(facts.dead_letters)
        self.facts.removed.update(facts.removed)
        self.facts.awards.update(facts.awards)

    def _pass(self, place: Partition, offset: int) -> None:
        passed = max(0, min(offset, self._ends[place]) - self._starts[place])
        self.facts.offsets += passed - self._passed[place]
        self._passed[place] = passed

    def _fenced(self) -> None:
        self._taken_over = True


class _Bounded:
    """A stream that hands out nothing at or beyond the ends, and not more than `rate` records in a second."""

    def __init__(
        self,
        stream: PositionedStream,
        ends: Mapping[Partition, int],
        *,
        rate: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._ends = ends
        self._rate = rate
        self._clock = clock
        self._spent = 0
        self._since: float | None = None

    async def poll(
        self, ready: Collection[Partition], *, max_records: int, timeout_ms: int
    ) -> dict[Partition, list[Record]]:
        """The next records within the ranges and the rate."""
        allowed = self._allowed(max_records)
        wanted = ready if allowed else ()
        found = await self._stream.poll(wanted, max_records=max(1, allowed), timeout_ms=timeout_ms)
        within = {
            place: [record for record in records if record.offset < self._ends[place]]
            for place, records in found.items()
        }
        self._spent += sum(map(len, within.values()))
        return within

    def _allowed(self, most: int) -> int:
        if self._rate is None:
            return most
        now = self._clock()
        if self._since is None:
            self._since = now
        # a second's worth may come at once, and what was not used before does not add up
        budget = (now - self._since) * self._rate + max(1.0, self._rate) - self._spent
        if budget > max(1.0, self._rate):
            self._since, self._spent, budget = now, 0, max(1.0, self._rate)
        return max(0, min(most, int(budget)))

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`."""
        self._stream.seek(partition, offset)

    def pause(self, partition: Partition) -> None:
        """Read nothing of the partition until it is resumed."""
        self._stream.pause(partition)

    def resume(self, partition: Partition) -> None:
        """Read the partition again."""
        self._stream.resume(partition)

    def position(self, partition: Partition) -> int | None:
        """How far the stream is."""
        return self._stream.position(partition)

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Beginning and end offsets as the broker has them now."""
        return await self._stream.bounds(partition)

    async def commit_hint(self, offsets: Mapping[Partition, int]) -> None:
        """Nobody is told: a replay belongs to no group."""
