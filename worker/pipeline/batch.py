"""One batch of one partition, from bytes to granted awards, in one transaction: the only code that changes a user.

Step 1 (decode) is pure and is done before the transaction; steps 2 to 6 are one PostgreSQL transaction, the only commit
point. What comes back are facts; the caller logs and counts them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from worker.errors import BadgesError
from worker.events import Event, Record, Rejected, decode, json_text
from worker.exchange import Claim, DeadLetter, Grant, Message, Step
from worker.pipeline.messages import award_id, award_message, dead_letter_message
from worker.pipeline.protocols import Store, Transaction
from worker.rules import evaluate
from worker.rules.plan import Plan
from worker.rules.state import Award, OrderKey, UserState

#: How much of a dead letter is kept; the rest is read again by its coordinates (decisions 29).
RAW_LIMIT = 64 * 1024
#: Other partitions' transactions get the event loop after so many events: else each of their round trips would wait for
#: a whole batch (costs.md).
TURN_EVENTS = 250


class CatalogMoved(BadgesError):
    """The head of the catalog is not the version this worker has compiled; the batch left no effect."""

    def __init__(self, head: int) -> None:
        self.head = head
        super().__init__(f"the catalog is at version {head}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch takes from the settings."""

    award_topic: str
    dead_letter_topic: str
    control_topic: str
    max_future_us: int


@dataclass(slots=True)
class BatchFacts:
    """What one batch did, for its log line and for the metrics. Times are seconds."""

    topic: str
    partition: int
    next_offset: int
    records: int = 0
    tombstones: int = 0
    duplicates: int = 0
    late_users: int = 0
    users: int = 0
    evaluations: int = 0
    types: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    awards: Counter[tuple[str, str]] = field(default_factory=Counter)
    oldest_record_ms: int = 0
    decode_seconds: float = 0.0
    transaction_seconds: float = 0.0


@dataclass(slots=True)
class Decoded:
    """A batch after step 1: distinct events sorted by (user, source, id), where each came from, what is no event."""

    events: list[Event]
    sources: list[Record]
    letters: list[DeadLetter]


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
    )


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


def without_effect(event: Event) -> Rejected:
    """The rejection of a control event that this version cannot carry out: kept, rather than logged in vain."""
    return Rejected(
        code="unknown_event_type",
        message=f"This version does not act on {event.type}; the record is kept here for one that does.",
        path="/type",
        user_id=event.user_id,
    )


def removal(code: str, event: Event) -> Rejected:
    """The rejection of an event that must not come back."""
    messages = {
        "erased": "The user was erased after this event occurred.",
        "too_old": f"Events of {event.type} this old were removed by retention.",
    }
    return Rejected(code=code, message=messages[code], path="/occurred_at", user_id=event.user_id)


class Applier:
    """Applies batches with one plan; the plan is swapped whole, between batches, by `use`."""

    def __init__(self, store: Store, plan: Plan, limits: Limits, *, clock: Callable[[], float] = monotonic) -> None:
        self.store = store
        self.plan = plan
        self.limits = limits
        self.clock = clock

    def use(self, plan: Plan) -> None:
        """Evaluate with this plan from the next batch on."""
        self.plan = plan

    async def apply(
        self,
        claim: Claim,
        records: Sequence[Record],
        *,
        from_offset: int,
        refused: Mapping[int, Rejected] | None = None,
    ) -> BatchFacts:
        """Apply records (in offset order, not empty) and move the partition past them; returns what happened.

        1 decode; what is no event becomes a dead letter. Then, in one transaction:
        2 fence: token and offset must match; the catalog's head must be the plan's version
        3 remember the events; duplicates vanish; conflicts, and what was erased or is too old, become dead letters
        4 lock the users in sorted order and load their state
        5 apply, event by event; a user with an event older than the newest applied one is folded again from the log
        6 save what changed; grant; put awards and dead letters into the outbox

        `refused` are records (by offset) that the database itself could not take. Raises Fenced, TransientError,
        PoisonBatch or CatalogMoved; then nothing has happened, or (TransientError) nobody knows: claim again.
        """
        plan, started = self.plan, self.clock()
        last = records[-1]
        facts = BatchFacts(last.topic, last.partition, last.offset + 1, records=len(records))
        facts.oldest_record_ms = min(record.timestamp_ms for record in records)
        decoded = await self._decode(claim, records, plan, refused or {}, facts)
        facts.decode_seconds = self.clock() - started
        step = Step(from_offset, last.offset + 1, last.offset, record_sha(last))
        async with self.store.transaction() as transaction:
            await transaction.fence(claim, step)
            head = await transaction.catalog_version()
            if head != plan.version:
                raise CatalogMoved(head)
            await self._screen(transaction, claim, decoded)
            new = await self._remember(transaction, claim, decoded, facts)
            if new:
                await self._advance(transaction, plan, new, facts)
            if decoded.letters:
                await self._bury(transaction, decoded.letters)
        facts.transaction_seconds = self.clock() - started - facts.decode_seconds
        for letter in decoded.letters:
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
        seen: dict[tuple[str, str, str], tuple[Event, Record]] = {}
        letters: list[DeadLetter] = []
        control = claim.topic == self.limits.control_topic
        for number, record in enumerate(records, 1):
            if number % TURN_EVENTS == 0:
                await asyncio.sleep(0)
            outcome = refused.get(record.offset) or decode(
                record,
                plan.catalog.dictionary,
                incarnation=claim.incarnation,
                max_future_us=self.limits.max_future_us,
                control=control,
            )
            if control and isinstance(outcome, Event) and not outcome.type.startswith("cron."):
                outcome = without_effect(outcome)
            if isinstance(outcome, Event):
                identity = (outcome.user_id, outcome.source, outcome.id)
                first = seen.setdefault(identity, (outcome, record))
                if first[1] is record:
                    continue
                if same_content(first[0], outcome):
                    facts.duplicates += 1
                    facts.types[outcome.type, "duplicate"] += 1
                    continue
                outcome = conflict(outcome)
            if outcome is None:
                facts.tombstones += 1
            else:
                letters.append(dead_letter(record, outcome, incarnation=claim.incarnation))
        ordered = [seen[identity] for identity in sorted(seen)]
        return Decoded([event for event, _ in ordered], [record for _, record in ordered], letters)

    async def _screen(self, transaction: Transaction, claim: Claim, decoded: Decoded) -> None:
        """Take out what must not come back (decisions 27, 28)."""
        refused = await transaction.screen(decoded.events) if decoded.events else {}
        for index, code in refused.items():
            rejected = removal(code, decoded.events[index])
            decoded.letters.append(dead_letter(decoded.sources[index], rejected, incarnation=claim.incarnation))
        if refused:
            kept = [index for index in range(len(decoded.events)) if index not in refused]
            decoded.events = [decoded.events[index] for index in kept]
            decoded.sources = [decoded.sources[index] for index in kept]

    async def _remember(
        self, transaction: Transaction, claim: Claim, decoded: Decoded, facts: BatchFacts
    ) -> list[Event]:
        if not decoded.events:
            return []
        remembered = await transaction.remember(decoded.events)
        for index in remembered.conflicts:
            record, event = decoded.sources[index], decoded.events[index]
            decoded.letters.append(dead_letter(record, conflict(event), incarnation=claim.incarnation))
        new = [decoded.events[index] for index in remembered.new]
        for event in new:
            facts.types[event.type, "applied"] += 1
        kept = {*remembered.new, *remembered.conflicts}
        for index, event in enumerate(decoded.events):
            if index not in kept:
                facts.duplicates += 1
                facts.types[event.type, "duplicate"] += 1
        return new

    async def _advance(self, transaction: Transaction, plan: Plan, new: Sequence[Event], facts: BatchFacts) -> None:
        by_user: dict[str, list[Event]] = {}
        for event in new:
            by_user.setdefault(event.user_id, []).append(event)
        wants: dict[str, set[str]] = {}
        for user_id, events in by_user.items():
            events.sort(key=lambda event: event.order)
            wants[user_id] = {scope for event in events for scope in plan.scopes(event)}
        states = await transaction.load(wants)
        facts.users = len(states)
        granted: list[tuple[Award, str]] = []
        turn = 0
        for user_id, events in by_user.items():
            turn += len(events)
            if turn >= TURN_EVENTS:
                turn = 0
                await asyncio.sleep(0)
            state = states[user_id]
            newest = state.newest
            behind = state.built_version not in (None, plan.version)
            if behind or (newest is not None and events[0].order <= newest):
                facts.late_users += not behind
                states[user_id], awards = await self._rebuild(transaction, plan, state)
            else:
                awards = [award for event in events for award in evaluate.apply(plan, state, event)]
                state.built_version = plan.version
            fresh = {(event.source, event.id) for event in events}
            granted += [(award, origin(award, newest, fresh=fresh, behind=behind)) for award in awards]
        if granted:
            await self._grant(transaction, plan, states, granted, facts)
        await transaction.save(list(states.values()))

    async def _rebuild(self, transaction: Transaction, plan: Plan, state: UserState) -> tuple[UserState, list[Award]]:
        """Fold a locked user's whole log again, in order; what is held stays held (decisions 19, 20, 24)."""
        held = await transaction.held_by(state.user_id)
        rebuilt, asking = evaluate.begin_again(plan, state.user_id, held)
        rebuilt.award_sequence, rebuilt.built_version = state.award_sequence, plan.version
        awards: list[Award] = []
        async for event in transaction.log_of(state.user_id):
            awards += evaluate.apply(plan, rebuilt, event, also=asking.at(event))
        return rebuilt, awards

    async def _grant(
        self,
        transaction: Transaction,
        plan: Plan,
        states: Mapping[str, UserState],
        granted: Sequence[tuple[Award, str]],
        facts: BatchFacts,
    ) -> None:
        earlier = await transaction.grant_counts(
            [(award.user_id, award.badge_key, award.context) for award, _ in granted]
        )
        grants: list[Grant] = []
        for (award, source), count in zip(granted, earlier, strict=True):
            state = states[award.user_id]
            state.award_sequence += 1
            grants.append(make_grant(award, plan, origin=source, sequence=state.award_sequence, earlier_grants=count))
            facts.awards[award.badge_key, source] += 1
        await transaction.grant(grants)
        await transaction.publish(
            self.limits.award_topic,
            [(grant.user_id, Message(key=grant.user_id.encode(), value=grant.message)) for grant in grants],
        )

    async def _bury(self, transaction: Transaction, letters: list[DeadLetter]) -> None:
        letters.sort(key=lambda letter: letter.offset)
        await transaction.bury(letters)
        await transaction.publish(
            self.limits.dead_letter_topic,
            [(f"{letter.topic}-{letter.partition}", dead_letter_message(letter)) for letter in letters],
        )


def origin(award: Award, newest: OrderKey | None, *, fresh: set[tuple[str, str]], behind: bool) -> str:
    """Where an award came from, the first that fits (decisions 16).

    `newest` is the user's newest event before the batch, `fresh` the (source, id) of the batch's own events, `behind`
    whether the user was folded again because the catalog changed.
    """
    if award.trigger_type.startswith("cron."):
        return "cron"
    if behind and (award.trigger_source, award.trigger_id) not in fresh:
        return "backfill"
    if newest is None or (award.awarded_us, award.trigger_source, award.trigger_id) > newest:
        return "live"
    return "late"


def make_grant(award: Award, plan: Plan, *, origin: str, sequence: int, earlier_grants: int) -> Grant:
    """The row and the message of one award."""
    message_id = award_id(award.user_id, award.badge_key, award.context, earlier_grants=earlier_grants)
    return Grant(
        user_id=award.user_id,
        badge_key=award.badge_key,
        context=award.context,
        awarded_us=award.awarded_us,
        source="auto",
        origin=origin,
        award_id=message_id,
        sequence=sequence,
        catalog_version=plan.version,
        trigger_id=award.trigger_id,
        trigger_type=award.trigger_type,
        metadata_json=json_text.dumps(award.metadata),
        message=award_message(
            award,
            plan.badges[award.badge_key],
            message_id=message_id,
            origin=origin,
            notify=origin != "backfill",
            sequence=sequence,
            catalog_version=plan.version,
        ),
    )
