"""One batch of one partition, from bytes to granted awards, in one transaction: the only code that changes a user.

Step 1 (decode) is pure and is done before the transaction; steps 2 to 6 are one PostgreSQL transaction, the only commit
point. What comes back are facts; the caller logs and counts them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from time import monotonic

from worker.errors import BadgesError, OperatorError
from worker.events import Event, Record, Rejected, decode, json_text
from worker.exchange import Claim, DeadLetter, Step
from worker.pipeline.breaker import Breakers, rules_of
from worker.pipeline.by_hand import CARRIED_OUT, refusal
from worker.pipeline.cache import CACHE_BYTES, Cache
from worker.pipeline.facts import BatchFacts, Limits
from worker.pipeline.messages import dead_letter_message
from worker.pipeline.protocols import Judge, Store, Transaction
from worker.pipeline.users import TURN_EVENTS, Advance
from worker.rules.catalog.definitions import Condition
from worker.rules.plan import Plan

#: How much of a dead letter is kept; the rest is read again by its coordinates (decisions 29).
RAW_LIMIT = 64 * 1024
#: How much of its headers is kept, with their names; of more, none are.
HEADERS_LIMIT = 16 * 1024
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


@dataclass(slots=True)
class Decoded:
    """A batch after step 1: distinct events sorted by (user, source, id), where each came from, what is no event.

    `rivals` have the identity of one of the events and other content: only the log can say which of them was first.
    """

    events: list[Event]
    sources: list[Record]
    letters: list[DeadLetter]
    rivals: list[tuple[Event, Record]] = field(default_factory=list)


def record_sha(record: Record) -> bytes:
    """Identifies a record whatever its offset: sha256 of timestamp, key and value (reliability 1.3)."""
    digest = hashlib.sha256(record.timestamp_ms.to_bytes(8, "big", signed=True))
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else len(part).to_bytes(8, "big"))
        digest.update(part or b"")
    return digest.digest()


def dead_letter(record: Record, rejected: Rejected, *, incarnation: int) -> DeadLetter:
    """The dead letter of a record that is no event."""
    raw = record.value or b""
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        incarnation=incarnation,
        reason=rejected.code,
        detail=rejected.message,
        path=rejected.path,
        user_id=rejected.user_id,
        key=record.key,
        raw=raw[:RAW_LIMIT],
        sha256=hashlib.sha256(raw).digest(),
        length=len(raw),
        timestamp_ms=record.timestamp_ms,
        headers=_kept(record.headers),
    )


def _kept(headers: Sequence[tuple[str, bytes | None]]) -> tuple[tuple[str, bytes | None], ...] | None:
    """The headers of a record, if they are not too many to be kept."""
    size = sum(len(name) + len(value or b"") for name, value in headers)
    return tuple((name, value) for name, value in headers) if size <= HEADERS_LIMIT else None


def removed(record: Record, rejected: Rejected, *, incarnation: int) -> DeadLetter:
    """The dead letter of an event that must not come back: of an erased user's it says nothing about the person."""
    letter = dead_letter(record, rejected, incarnation=incarnation)
    return replace(letter, user_id=None, key=None, raw=b"", headers=()) if letter.reason == "erased" else letter


def same_content(one: Event, other: Event) -> bool:
    """Two events with one identity say the same (decisions 1); `cron.*` always do (decisions 2)."""
    if one.type == other.type and one.type.startswith("cron."):
        return True
    return (
        one.type == other.type and one.occurred_us == other.occurred_us and json_text.equal(one.payload, other.payload)
    )


def conflict(event: Event) -> Rejected:
    """The rejection of an event whose identity is taken by other content."""
    return Rejected(
        code="id_conflict",
        message=f'Another event of this user has the id "{event.id}" with other content. Give each event its own id.',
        path="/id",
        user_id=event.user_id,
    )


def _distinct(read: list[tuple[Event, Record]], letters: list[DeadLetter], facts: BatchFacts) -> Decoded:
    """Sort by identity, for the log, the locks and the folds at once; of equal identities the first read stands."""
    read.sort(key=_identity)
    decoded = Decoded([], [], letters)
    last: Event | None = None
    for event, record in read:
        if last is None or event.id != last.id or event.user_id != last.user_id or event.source != last.source:
            last = event
            decoded.events.append(event)
            decoded.sources.append(record)
        elif same_content(last, event):
            facts.duplicate(event.type)
        else:
            decoded.rivals.append((event, record))
    return decoded


def _identity(pair: tuple[Event, Record]) -> str:
    """Orders as (user, source, id) does, by code point: no text holds a NUL, and it is below every other character."""
    event = pair[0]
    return f"{event.user_id}\0{event.source}\0{event.id}"


def removal(code: str, event: Event) -> Rejected:
    """The rejection of an event that must not come back."""
    messages = {
        "erased": "The user was erased after this event occurred.",
        "too_old": f"Events of {event.type} this old were removed by retention.",
    }
    return Rejected(code=code, message=messages[code], path="/occurred_at", user_id=event.user_id)


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
        judge: Judge | None = None,
    ) -> None:
        self.store = store
        self.limits = limits
        self.cache = cache if cache is not None else Cache(CACHE_BYTES)
        self.clock = clock
        self.judge = judge
        self.use(plan)

    def use(self, plan: Plan) -> None:
        """Evaluate with this plan from the next batch on."""
        self.plan = plan
        self.breakers = Breakers(rules_of(plan.catalog), self.clock)

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
        """Apply records (in offset order, not empty) and move the partition past them; returns what happened.

        1 decode; what is no event becomes a dead letter; ask conditions about the rest. Then, in one transaction:
        2 fence: token and offset must match; the catalog's head must be the plan's version
        3 remember the events; duplicates vanish; conflicts, and what was erased or is too old, become dead letters
        4 lock the users in sorted order, take their state from memory or read it
        5 apply, event by event; a user with an event older than the newest applied one is folded again from the log
        6 grant; write the states that are due; put awards and dead letters into the outbox

        `refused` are records (by offset) that the database itself could not take. With `settle` the records stand in no
        partition's line: nothing is fenced or moved, and `settle` takes what is no event. Raises Fenced,
        TransientError, PoisonBatch or CatalogMoved; then nothing has happened, or (TransientError) nobody knows.
        """
        plan, breakers, started = self.plan, self.breakers, self.clock()
        last = records[-1]
        facts = BatchFacts(last.topic, last.partition, last.offset + 1, records=len(records))
        facts.oldest_record_ms = min(record.timestamp_ms for record in records)
        decoded = await self._decode(claim, records, plan, refused or {}, facts)
        if plan.conditions is not None:
            await self._ask(plan.conditions, decoded)
        facts.decode_seconds = self.clock() - started
        step = Step(from_offset, last.offset + 1, last.offset, record_sha(last))
        advance: Advance | None = None
        async with self.store.transaction() as transaction:
            if settle is None:
                await transaction.fence(claim, step)
            head = await transaction.catalog_version()
            if head != plan.version:
                raise CatalogMoved(head)
            await self._screen(transaction, claim, decoded)
            new = await self._remember(transaction, claim, decoded, facts)
            if new:
                past = self.limits.past  # what is read again is not counted
                breaker = None if past else await breakers.begin(transaction, decoded.events, decoded.sources)
                advance = Advance(
                    transaction,
                    plan,
                    limits=self.limits,
                    facts=facts,
                    control=last.topic == self.limits.control_topic and any(event.type in CARRIED_OUT for event in new),
                    breaker=breaker,
                )
                await advance.run(new, self.cache, claim.token)
            if settle is not None:
                await settle(transaction, decoded.letters, facts)
            buried = await self._bury(transaction, decoded.letters) if decoded.letters and settle is None else ()
        if advance is not None:
            self.cache.put(advance.states.values(), claim.token)
        facts.transaction_seconds = self.clock() - started - facts.decode_seconds
        for letter in buried:
            facts.dead_letters[letter.reason] += 1
        return facts

    async def _decode(
        self,
        claim: Claim,
        records: Sequence[Record],
        plan: Plan,
        refused: Mapping[int, Rejected],
        facts: BatchFacts,
    ) -> Decoded:
        read: list[tuple[Event, Record]] = []
        letters: list[DeadLetter] = []
        control = claim.topic == self.limits.control_topic
        dictionary, incarnation, max_future_us = plan.catalog.dictionary, claim.incarnation, self.limits.max_future_us
        for start in range(0, len(records), TURN_EVENTS):
            if start:
                await asyncio.sleep(0)
            for record in records[start : start + TURN_EVENTS]:
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
        return _distinct(read, letters, facts)

    async def _ask(self, conditions: Mapping[str, Sequence[Condition]], decoded: Decoded) -> None:
        """Give the events what the conditions in JavaScript say of them (decisions 34)."""
        if self.judge is None:
            raise OperatorError(
                "The catalog asks conditions in JavaScript, and BADGES_JS is off.",
                help="set BADGES_JS=on, or apply a catalog whose badges ask none",
            )
        decoded.events = await self.judge(conditions, decoded.events)
        rivals = await self.judge(conditions, [event for event, _ in decoded.rivals]) if decoded.rivals else []
        decoded.rivals = [(event, record) for event, (_, record) in zip(rivals, decoded.rivals, strict=True)]

    async def _screen(self, transaction: Transaction, claim: Claim, decoded: Decoded) -> None:
        """Take out what must not come back (decisions 27, 28)."""
        events = [*decoded.events, *(event for event, _ in decoded.rivals)]
        refused = await transaction.screen(events) if events else {}
        if not refused:
            return
        pairs = [*zip(decoded.events, decoded.sources, strict=True), *decoded.rivals]
        for index, code in refused.items():
            event, record = pairs[index]
            decoded.letters.append(removed(record, removal(code, event), incarnation=claim.incarnation))
        first = len(decoded.events)
        kept = [pair for index, pair in enumerate(pairs[:first]) if index not in refused]
        decoded.events, decoded.sources = [event for event, _ in kept], [record for _, record in kept]
        decoded.rivals = [pair for index, pair in enumerate(pairs[first:], first) if index not in refused]

    async def _remember(
        self, transaction: Transaction, claim: Claim, decoded: Decoded, facts: BatchFacts
    ) -> list[Event]:
        """Log the events; returns the new ones, sorted by user."""
        new = await self._log(transaction, claim, decoded.events, decoded.sources, decoded, facts)
        # What shares its identity with an event of the batch is compared with what is logged by now.
        rivals = decoded.rivals
        while rivals:
            asked = {_identity(rival): rival for rival in reversed(rivals)}
            chosen = [asked[identity] for identity in sorted(asked)]
            rivals = [rival for rival in rivals if asked[_identity(rival)] is not rival]
            events, sources = [event for event, _ in chosen], [record for _, record in chosen]
            new = [*new, *await self._log(transaction, claim, events, sources, decoded, facts)]
        if decoded.rivals:
            new.sort(key=lambda event: (event.user_id, event.source, event.id))
        for event_type, count in Counter(map(_type_of, new)).items():
            facts.types[event_type, "applied"] += count
        return new

    async def _log(
        self,
        transaction: Transaction,
        claim: Claim,
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
            letter = dead_letter(sources[index], conflict(events[index]), incarnation=claim.incarnation)
            decoded.letters.append(letter)
        known = {*remembered.new, *remembered.conflicts}
        for index, event in enumerate(events):
            if index not in known:
                facts.duplicate(event.type)
        return [events[index] for index in remembered.new]

    async def _bury(self, transaction: Transaction, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Store and publish dead letters; returns those that were not there yet: a replay meets its records again."""
        if self.limits.past:
            letters = [letter for letter in letters if letter.reason not in REMOVALS]
        letters.sort(key=lambda letter: letter.offset)
        new = [letters[index] for index in await transaction.bury(letters)]
        if new:
            await transaction.publish(
                self.limits.dead_letter_topic,
                [(f"{letter.topic}-{letter.partition}", dead_letter_message(letter)) for letter in new],
            )
        return new
