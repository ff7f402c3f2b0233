"""The owner of one partition: claims it, checks every offset, applies batches, and claims again after doubt.

Theory of operation. `read_offset` is the next offset to take in, `next_offset` the next one to commit; what lies
between waits in the queue. Group membership is a hint: only the claim's token decides, in the database. After anything
doubtful (fenced, connection lost, outcome of COMMIT unknown) nothing is guessed: the partition is claimed again and
read from the offset that the claim returns. A client that skips or repeats records is noticed by offset and made to
read again. Whoever begins a small batch takes others along that wait with small ones: one transaction for all costs
little more than one for each. Where that fails without effect, each tries again alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import attrgetter
from random import random
from time import monotonic

import structlog

from worker.errors import Fenced, OperatorError, PoisonBatch, TimedOut, TransientError
from worker.events import Record, Rejected
from worker.exchange import Claim
from worker.pipeline import misplaced
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.decoding import Part, bytes_of, record_sha
from worker.pipeline.facts import BatchFacts
from worker.pipeline.pace import Hooks, Pace
from worker.pipeline.protocols import Store, Stream
from worker.pipeline.together import apply_together, company_of
from worker.pipeline.turns import Turns

log = structlog.get_logger(__name__)

#: Waits between tries, seconds: doubled from the first to the last.
BACKOFF = (0.1, 5.0)
#: A try that failed after so many seconds may have been ended for its time: the server then just closes the connection.
LONG_SECONDS = 4.0

_offset = attrgetter("offset")


class PartitionOwner:
    """Owns one partition from assignment to revocation; `run` ends when `stop` is called or the partition is halted."""

    def __init__(
        self,
        partition: tuple[str, int],
        *,
        generation: int,
        name: str,
        store: Store,
        stream: Stream,
        applier: Applier,
        slots: Turns[PartitionOwner],
        pace: Pace,
        hooks: Hooks,
    ) -> None:
        self.partition = partition
        self.generation = generation
        self.name = name
        self.store = store
        self.stream = stream
        self.applier = applier
        self.slots = slots
        self.pace = pace
        self.hooks = hooks
        self.claim: Claim | None = None
        self.released = False
        self.next_offset = 0
        self.read_offset = 0
        self.progressed_at = monotonic()
        self.halted: str | None = None
        self._queue: list[Record] = []
        self._queued_bytes = 0
        self._expected_sha: bytes | None = None
        self._failure: OperatorError | None = None
        self._hole: int | None = None
        self._hole_at: int | None = None
        self._limit = pace.max_events
        self._first_at = self._taken_at = 0.0
        self._turn: asyncio.Future[None] | None = None
        self._ride: asyncio.Future[None] | None = None
        self.alone = False
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._log = log.bind(topic=partition[0], partition=partition[1])

    # ---- what the poll loop calls -----------------------------------------------------------------------------------

    def wants_more(self) -> bool:
        """Whether records may be fetched now: it is claimed, not halted, at no hole, and its queue has room."""
        free = self.claim is not None and self.halted is None and self._hole is None
        room = len(self._queue) < self.pace.queue_records and self._queued_bytes < self.pace.queue_bytes
        return free and room

    @property
    def waiting(self) -> int:
        """How many records are here that are not committed yet."""
        return len(self._queue)

    @property
    def due(self) -> int:
        """How many records the next batch has."""
        return min(len(self._queue), self._limit)

    def idle(self) -> bool:
        """Whether all that came was applied, and nothing is still to be checked."""
        return self.claim is not None and not self._queue and self._hole is None and self._expected_sha is None

    def accept(self, records: Sequence[Record]) -> None:
        """Take in fetched records, checking every offset; what is out of place is not taken and read again."""
        if self.claim is None or self._hole is not None:
            return  # what lies behind a hole is read again once that is settled
        if self._expected_sha is None and self._continues(records):
            self._take_in(records)
            return
        for record in records:
            if self._expected_sha is not None:
                if not self._is_last_record(record):
                    return
                continue
            if record.offset < self.read_offset:
                continue
            if record.offset > self.read_offset and not self._may_jump(record.offset):
                return
            self._take_in((record,))

    def _continues(self, records: Sequence[Record]) -> bool:
        """Whether every offset is the one after its predecessor's: nothing skipped, nothing twice."""
        return list(map(_offset, records)) == list(range(self.read_offset, self.read_offset + len(records)))

    def _take_in(self, records: Sequence[Record]) -> None:
        if not records:
            return
        if not self._queue:
            self._first_at = monotonic()
        self._queue += records
        self._queued_bytes += bytes_of(records)
        self.read_offset = records[-1].offset + 1
        self._arrived.set()
        if len(self._queue) >= self._limit:
            self._hurry()

    def seek_again(self) -> None:
        """Read on from where this owner is; called when the client may have lost its place."""
        if self.claim is None:
            return
        unchecked = self._expected_sha is not None and self.claim.last_offset is not None
        self.stream.seek(self.partition, self.claim.last_offset or 0 if unchecked else self.read_offset)

    def stop(self) -> None:
        """Finish the running transaction and end; synchronous, so that a revocation takes effect at once."""
        self._stopping.set()
        self._arrived.set()
        self._hurry()

    def halt(self, error: OperatorError) -> None:
        """Begin no further batch, and stand still once the one that runs has ended: a person must act."""
        self._failure = error
        self._arrived.set()

    # ---- the task ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claim, apply, and claim again after doubt, until stopped. A partition that must not go on is halted."""
        wait = BACKOFF[0]
        while not self._stopping.is_set():
            try:
                await self._own()
                if self._stopping.is_set():
                    return  # the claim is kept, to be released
                wait = BACKOFF[0]
            except Fenced:
                self.hooks.fenced()
                self._log.warning("batch_fenced", next_offset=self.next_offset)
            except TransientError as error:
                self.hooks.retried("partition")
                self._log.warning("partition_waits", reason=error.message, seconds=round(wait, 2))
                if isinstance(error, TimedOut):
                    self._limit = max(1, self._limit // 2)
            except OperatorError as error:
                self.halted = error.message
                self._log.error("partition_halted", reason=error.message, help=error.help)
                self._drop()
                return
            self._drop()
            await self._pause(wait * (0.5 + random()))  # noqa: S311 (spreads retries, no secret)
            wait = min(BACKOFF[1], wait * 2)

    async def release(self) -> None:
        """Give the partition back cleanly; harmless where it is another's already."""
        claim, self.claim = self.claim, None
        if claim is not None:
            self.applier.forget(claim)
            self.released = True
            await self.store.release(claim)

    async def _own(self) -> None:
        self.claim = await self._take()
        if self.claim is None:
            self._log.info("claim_refused", generation=self.generation)
            return
        self._log.info("partition_claimed", epoch=self.claim.epoch, next_offset=self.claim.next_offset)
        self.stream.resume(self.partition)
        while not self._stopping.is_set():
            try:
                if await self._batch_is_due():
                    await self._apply()
            finally:
                self.slots.redeem(self._turn)

    async def _take(self) -> Claim | None:
        beginning, end = await self.stream.bounds(self.partition)
        start = beginning if self.pace.start == "beginning" else end
        claim = await self.store.claim(*self.partition, generation=self.generation, owner=self.name, start_offset=start)
        if claim is None:
            return None
        if end < claim.next_offset:
            _, end = await self.stream.bounds(self.partition)
        if end < claim.next_offset:
            raise misplaced.cut(self.partition, end=end, next_offset=claim.next_offset)
        self._clear()
        self._arrived.clear()
        self._hole = self._hole_at = None
        self.next_offset = self.read_offset = claim.next_offset
        checkable = claim.last_offset is not None and claim.last_offset >= beginning
        self._expected_sha = claim.last_sha if checkable else None
        self.claim = claim
        self.seek_again()
        return claim

    def _is_last_record(self, record: Record) -> bool:
        """Check the first record after a claim against the last one applied; only that very one lets the rest in."""
        claim = self.claim
        if claim is None or claim.last_offset is None:
            self._expected_sha = None
            return True
        if record.offset > claim.last_offset:
            # compaction or expiry took it: the offsets themselves are checked from here on
            self._expected_sha = None
            self.stream.seek(self.partition, self.read_offset)
            return False
        if record.offset == claim.last_offset and record_sha(record) == self._expected_sha:
            self._expected_sha = None
            return True
        if record.offset < claim.last_offset:
            return True
        self.halt(misplaced.replaced(self.partition, record.offset))
        return False

    def _may_jump(self, offset: int) -> bool:
        """A hole before `offset`: read again once; if it is still there, the next step looks into it."""
        if self._hole_at == self.read_offset:
            self._hole = offset
            self._arrived.set()
            return False
        self._hole_at = self.read_offset
        self.stream.seek(self.partition, self.read_offset)
        return False

    async def _settle_hole(self) -> None:
        hole = self._hole
        if hole is None:
            return
        beginning, _ = await self.stream.bounds(self.partition)
        if beginning > self.read_offset:
            raise misplaced.expired(self.partition, beginning=beginning, read_offset=self.read_offset)
        await self.store.record_gap(*self.partition, self.read_offset, hole, "no record (markers, aborts, compaction)")
        self._log.info("gap_accepted", from_offset=self.read_offset, to_offset=hole)
        self.read_offset = hole
        self._hole = self._hole_at = None
        self.stream.seek(self.partition, hole)

    async def _batch_is_due(self) -> bool:
        if not self._queue:
            self._arrived.clear()
            if self._hole is None and not self._stopping.is_set() and self._failure is None:
                await self._arrived.wait()
        if self._failure is not None:
            raise self._failure
        if self._hole is not None and not self._queue:
            await self._settle_hole()
            return False
        if self._stopping.is_set() or not self._queue:
            return False
        if len(self._queue) < self._limit:
            await self._gather(self._first_at + self.pace.max_seconds - monotonic())
        return True

    async def _gather(self, seconds: float) -> None:
        """Let records gather while other batches run, until it is this partition's turn or the batch is full."""
        if seconds <= 0:
            return
        self._turn = self.slots.line_up(self)
        try:
            await asyncio.wait({self._turn}, timeout=seconds)
        finally:
            self._turn.cancel()

    def _hurry(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def _apply(self) -> None:
        ride, self._ride = self._ride, None
        if ride is not None:
            await ride  # another's batch takes these records along
            return
        async with self.slots:
            self.slots.redeem(self._turn)
            if self._stopping.is_set() or self._failure is not None or self.claim is None:
                return
            company = company_of(self, self.slots.waiting())
            if company:
                await apply_together(self, company)
                return
            part = self.begin()
            try:
                facts = await self.applier.apply(part.claim, part.records, from_offset=part.from_offset)
            except TransientError:
                if monotonic() - self._taken_at > LONG_SECONDS:
                    self._limit = max(1, len(part.records) // 2)
                raise
            except CatalogMoved as moved:
                await self.hooks.catalog_moved(moved.head)
                return
            except PoisonBatch as poison:
                if len(part.records) > 1:
                    self._limit = max(1, len(part.records) // 2)
                    return
                facts = await self._refuse(part.records[0], poison)
        self.done(part, facts)
        self.hooks.applied(facts)

    def begin(self) -> Part:
        """The next batch of this partition, as it is now: more may have come while all slots were taken."""
        assert self.claim is not None  # noqa: S101 (who begins has looked)
        self._taken_at, self.alone = monotonic(), False
        return Part(self.claim, self._queue[: self._limit], self.next_offset)

    def done(self, part: Part, facts: BatchFacts) -> None:
        """What a batch passed of these is committed."""
        records = facts.of(part.records)
        if len(records) < len(part.records):
            self._log.info("batch_cut", records=len(records), of=len(part.records), reason="conditions take long")
            self._limit = max(1, len(records))
        if not records:
            return
        del self._queue[: len(records)]
        self._queued_bytes -= bytes_of(records)
        self._first_at = self._taken_at  # what is left came later, or had to wait then
        self.next_offset = records[-1].offset + 1
        self.progressed_at = monotonic()
        self._limit = min(self.pace.max_events, self._limit * 2)

    def may_come_along(self, topic: str) -> bool:
        """Whether another's batch of this topic may take these records along."""
        free = self.claim is not None and not self._stopping.is_set() and self._failure is None and not self.alone
        return free and bool(self._queue) and self.partition[0] == topic

    def take_along(self) -> asyncio.Future[None]:
        """End this owner's wait for its turn: what it waits for now is the outcome of another's batch."""
        self._ride = asyncio.get_running_loop().create_future()
        self._ride.add_done_callback(_look)
        self._hurry()
        return self._ride

    async def _refuse(self, record: Record, poison: PoisonBatch) -> BatchFacts:
        assert self.claim is not None  # noqa: S101 (held by _apply)
        rejected = Rejected("invalid_field", f"The database could not store it: {poison.message}")
        return await self.applier.apply(
            self.claim, [record], from_offset=self.next_offset, refused={record.offset: rejected}
        )

    def _drop(self) -> None:
        if self.claim is not None:
            self.applier.forget(self.claim)
        self.claim = self._failure = None
        self._clear()
        if not self._stopping.is_set():
            # once stopped, the partition may be a new owner's already, which has resumed it
            self.stream.pause(self.partition)

    def _clear(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._stopping.wait(), seconds)
            except TimeoutError:
                return


def _look(ride: asyncio.Future[None]) -> None:
    """Look at the failure of a ride whose passenger was cancelled."""
    if not ride.cancelled():
        ride.exception()
