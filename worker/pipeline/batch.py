"""One batch, from bytes to granted awards, in one transaction: the only code that changes a user.

Step 1 (decode) is pure and is done before the transaction; steps 2 to 6 are one PostgreSQL transaction, the only commit
point. What comes back are facts; the caller logs and counts them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from time import monotonic, time
from uuid import UUID

from worker.errors import BadgesError, OperatorError
from worker.events import Event, Record, Rejected, decode
from worker.exchange import Claim, DeadLetter
from worker.pipeline.breaker import Breakers, rules_of
from worker.pipeline.by_hand import CARRIED_OUT, refusal
from worker.pipeline.cache import CACHE_BYTES, Cache, Home
from worker.pipeline.decoding import (
    Decoded,
    Judged,
    Part,
    conflict,
    dead_letter,
    distinct,
    identity,
    removal,
    removed,
    unjudged,
)
from worker.pipeline.facts import BatchFacts, Limits
from worker.pipeline.messages import dead_letter_message
from worker.pipeline.protocols import Judge, Store, Transaction
from worker.pipeline.users import TURN_EVENTS, Advance
from worker.rules.catalog.definitions import Condition
from worker.rules.plan import Plan

#: Why an event must not come back.
REMOVALS = frozenset({"erased", "too_old"})

#: Takes what is no event of records that stand in no partition's line, in the transaction that applies the rest.
Settle = Callable[[Transaction, Sequence[DeadLetter], BatchFacts], Awaitable[None]]

_type_of = attrgetter("type")


class CatalogMoved(BadgesError):
    """The head of the catalog is not the version this worker has compiled; the batch left no effect."""

    def __init__(self, head: int) -> None:
        self.head = head
        super().__init__(f"the catalog is at version {head}")


class Entangled(BadgesError):
    """Partitions of one batch share a user, so they cannot be applied together; the batch left no effect."""


class Applier:
    """Applies batches with one plan; the plan is swapped whole, between batches, by `use`."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        limits: Limits,
        *,
        cache: Cache | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        judge: Judge | None = None,
    ) -> None:
        self.store = store
        self.limits = limits
        self.cache = cache if cache is not None else Cache(CACHE_BYTES)
        self.clock = clock
        self.wall = wall
        self.judge = judge
        self.use(plan)

    def use(self, plan: Plan) -> None:
        """Evaluate with this plan from the next batch on."""
        self.plan = plan
        self.breakers = Breakers(rules_of(plan.catalog), self.clock, self.wall)

    def forget(self, claim: Claim) -> None:
        """Let go of what was kept in memory for a claim that has ended."""
        self.cache.drop(claim.token)

    async def apply(
        self,
        claim: Claim,
        records: Sequence[Record],
        *,
        from_offset: int,
        refused: Mapping[int, Rejected] | None = None,
        settle: Settle | None = None,
    ) -> BatchFacts:
        """Apply the next records of one partition, see `apply_together`; returns what happened.

        `refused` are records (by offset) that the database itself could not take. With `settle` the records stand in no
        partition's line: nothing is fenced or moved, and `settle` takes what is no event.
        """
        return await self.apply_together([Part(claim, records, from_offset)], refused=refused, settle=settle)

    @property
    def mingles(self) -> bool:
        """Whether partitions may be applied together: a breaker counts along the time of one partition."""
        return not self.breakers.any

    async def apply_together(
        self, parts: Sequence[Part], *, refused: Mapping[int, Rejected] | None = None, settle: Settle | None = None
    ) -> BatchFacts:
        """Apply records of some partitions of one topic and move the partitions past them; returns what happened.

        Where conditions take too long only the first records are: `BatchFacts.of` says which.
        1 decode; what is no event becomes a dead letter; ask conditions about the rest. Then, in one transaction:
        2 fence: tokens and offsets must match; the catalog's head must be the plan's version
        3 remember the events; duplicates vanish; conflicts, and what was erased or is too old, become dead letters
        4 lock the users in sorted order, take their state from memory or read it
        5 apply, event by event; a user with an event older than the newest applied one is folded again from the log
        6 grant; write the states that are due; put awards and dead letters into the outbox

        Raises Fenced, TransientError, PoisonBatch, CatalogMoved or Entangled; then nothing has happened, or
        (TransientError) nobody knows.
        """
        plan, breakers, started = self.plan, self.breakers, self.clock()
        decoded, facts = await self._decode(parts, plan, refused or {})
        home: Home = parts[0].claim.token if len(parts) == 1 else _homes(parts, decoded)
        if plan.conditions is not None:
            judged = await self._ask(plan.conditions, parts, decoded, whole=settle is not None)
            if judged.left is not None:
                parts = judged.of(parts)
                decoded, facts = await self._decode(parts, plan, refused or {})
            judged.into(decoded)
        facts.decode_seconds = self.clock() - started
        advance: Advance | None = None
        try:
            async with self.store.transaction() as transaction:
                await _fence(transaction, () if settle is not None else parts, plan)
                await self._screen(transaction, decoded, facts)
                new = await self._remember(transaction, decoded, facts)
                if new:
                    past = self.limits.past  # what is read again is not counted
                    breaker = None if past else await breakers.begin(transaction, decoded.events, decoded.sources)
                    by_hand = any(event.type in CARRIED_OUT for event in new)
                    advance = Advance(
                        transaction,
                        plan,
                        limits=self.limits,
                        facts=facts,
                        cache=self.cache,
                        home=home,
                        control=by_hand and facts.topic == self.limits.control_topic,
                        breaker=breaker,
                    )
                    await advance.run(new)
                if settle is not None:
                    await settle(transaction, decoded.letters, facts)
                buried = await self._bury(transaction, decoded.letters) if decoded.letters and settle is None else ()
        except BaseException:
            if advance is not None:
                advance.forget()
            raise
        if advance is not None:
            advance.keep()
        facts.transaction_seconds = self.clock() - started - facts.decode_seconds
        for letter in buried:
            facts.dead_letters[letter.reason] += 1
        return facts

    async def _decode(
        self,
        parts: Sequence[Part],
        plan: Plan,
        refused: Mapping[int, Rejected],
    ) -> tuple[Decoded, BatchFacts]:
        last, passed = parts[0].records[-1], [(part.claim.partition, part.records[-1].offset + 1) for part in parts]
        facts = BatchFacts(
            last.topic, last.partition, last.offset + 1, passed, sum(len(part.records) for part in parts)
        )
        facts.oldest_record_ms = min(record.timestamp_ms for part in parts for record in part.records)
        read: list[tuple[Event, Record]] = []
        letters: list[DeadLetter] = []
        control = facts.topic == self.limits.control_topic
        dictionary, max_future_us = plan.catalog.dictionary, self.limits.max_future_us
        for claim, records in _in_turns(parts):
            if read:
                await asyncio.sleep(0)
            incarnation = claim.incarnation
            for record in records:
                outcome = (refused and refused.get(record.offset)) or decode(
                    record, dictionary, incarnation=incarnation, max_future_us=max_future_us, control=control
                )
                if control and isinstance(outcome, Event) and not outcome.type.startswith("cron."):
                    outcome = refusal(outcome, plan) or outcome
                if isinstance(outcome, Event):
                    read.append((outcome, record))
                elif outcome is None:
                    facts.tombstones += 1
                else:
                    letters.append(dead_letter(record, outcome, incarnation=incarnation))
        incarnations = {part.claim.partition: part.claim.incarnation for part in parts}
        return distinct(read, letters, incarnations, facts), facts

    async def _ask(
        self, conditions: Mapping[str, Sequence[Condition]], parts: Sequence[Part], decoded: Decoded, *, whole: bool
    ) -> Judged:
        """Ask conditions in JavaScript about the events, as they came (decisions 34).

        Where they take too long the rest waits for the next batch, unless the batch must stay `whole`.
        """
        if self.judge is None:
            raise OperatorError(
                "The catalog asks conditions in JavaScript, and BADGES_JS is off.",
                help="set BADGES_JS=on, or apply a catalog whose badges ask none",
            )
        pairs = decoded.as_they_came(parts)
        events, records = [event for event, _ in pairs], [record for _, record in pairs]
        found = await self.judge(conditions, events)
        while (at := unjudged(found)) is not None:
            if not whole:
                return Judged(found[:at], records[:at], records[at])
            found = [*found[:at], *await self.judge(conditions, found[at:])]
        return Judged(found, records)

    async def _screen(self, transaction: Transaction, decoded: Decoded, facts: BatchFacts) -> None:
        """Take out what must not come back (decisions 27, 28)."""
        events = [*decoded.events, *(event for event, _ in decoded.rivals)]
        refused = await transaction.screen(events) if events else {}
        if not refused:
            return
        facts.removed.update(refused.values())
        pairs = [*zip(decoded.events, decoded.sources, strict=True), *decoded.rivals]
        for index, code in refused.items():
            event, record = pairs[index]
            incarnation = decoded.incarnations[record.partition]
            decoded.letters.append(removed(record, removal(code, event), incarnation=incarnation))
        first = len(decoded.events)
        kept = [pair for index, pair in enumerate(pairs[:first]) if index not in refused]
        decoded.events, decoded.sources = [event for event, _ in kept], [record for _, record in kept]
        decoded.rivals = [pair for index, pair in enumerate(pairs[first:], first) if index not in refused]

    async def _remember(self, transaction: Transaction, decoded: Decoded, facts: BatchFacts) -> list[Event]:
        """Log the events; returns the new ones, sorted by user."""
        new = await self._log(transaction, decoded.events, decoded.sources, decoded, facts)
        # What shares its identity with an event of the batch is compared with what is logged by now.
        rivals = decoded.rivals
        while rivals:
            asked = {identity(rival): rival for rival in reversed(rivals)}
            chosen = [asked[identity] for identity in sorted(asked)]
            rivals = [rival for rival in rivals if asked[identity(rival)] is not rival]
            events, sources = [event for event, _ in chosen], [record for _, record in chosen]
            new = [*new, *await self._log(transaction, events, sources, decoded, facts)]
        if decoded.rivals:
            new.sort(key=lambda event: (event.user_id, event.source, event.id))
        for event_type, count in Counter(map(_type_of, new)).items():
            facts.types[event_type, "applied"] += count
        return new

    async def _log(
        self,
        transaction: Transaction,
        events: list[Event],
        sources: Sequence[Record],
        decoded: Decoded,
        facts: BatchFacts,
    ) -> list[Event]:
        if not events:
            return []
        remembered = await transaction.remember(events)
        if len(remembered.new) == len(events):
            return events
        for index in remembered.conflicts:
            incarnation = decoded.incarnations[sources[index].partition]
            decoded.letters.append(dead_letter(sources[index], conflict(events[index]), incarnation=incarnation))
        known = {*remembered.new, *remembered.conflicts}
        for index, event in enumerate(events):
            if index not in known:
                facts.duplicate(event.type)
        return [events[index] for index in remembered.new]

    async def _bury(self, transaction: Transaction, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Store and publish dead letters; returns those that were not there yet: a replay meets its records again."""
        if self.limits.past:
            letters = [letter for letter in letters if letter.reason not in REMOVALS]
        letters.sort(key=lambda letter: (letter.partition, letter.offset))
        new = [letters[index] for index in await transaction.bury(letters)]
        if new:
            await transaction.publish(
                self.limits.dead_letter_topic,
                [(f"{letter.topic}-{letter.partition}", dead_letter_message(letter)) for letter in new],
            )
        return new


async def _fence(transaction: Transaction, parts: Sequence[Part], plan: Plan) -> None:
    """Move the partitions, and hold the catalog at the version of the plan."""
    if len(parts) == 1:
        await transaction.fence(parts[0].claim, parts[0].step)
    elif parts:
        await transaction.fence_together([(part.claim, part.step) for part in parts])
    head = await transaction.catalog_version()
    if head != plan.version:
        raise CatalogMoved(head)


def _in_turns(parts: Sequence[Part]) -> Iterator[tuple[Claim, Sequence[Record]]]:
    """The records in pieces, after each of which others get the event loop."""
    for part in parts:
        for start in range(0, len(part.records), TURN_EVENTS):
            yield part.claim, part.records[start : start + TURN_EVENTS]


def _homes(parts: Sequence[Part], decoded: Decoded) -> dict[str, UUID]:
    """The token of each user's claim; raises Entangled where a user's events came by two partitions."""
    tokens = {part.claim.partition: part.claim.token for part in parts}
    homes: dict[str, UUID] = {}
    pairs = [*zip(decoded.events, decoded.sources, strict=True), *decoded.rivals]
    for event, record in pairs:
        token = tokens[record.partition]
        if homes.setdefault(event.user_id, token) != token:
            raise Entangled(f"partitions of {record.topic} share a user")
    return homes
