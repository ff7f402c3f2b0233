"""Brings users forward: from new events to changed memory and granted awards, inside a batch's transaction.

Theory of operation. A user's state is a pure function of the user's log, so it need not be written with every event.
What is in memory counts where the user's row still names this claim as home; else the row is read, which is a
checkpoint, and the log after it is folded. A state is written once enough events were applied since (`CHECKPOINT`),
when the user changes home, and when it was folded again from the whole log. So the events, awards and the offset of a
batch are in its transaction, and only what can be had from them again lags behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Final
from uuid import UUID

from worker.events import Event, json_text
from worker.exchange import Grant
from worker.pipeline.cache import Cache
from worker.pipeline.facts import BatchFacts, Limits
from worker.pipeline.messages import award_id, award_message
from worker.pipeline.protocols import Transaction
from worker.rules import evaluate
from worker.rules.plan import Plan
from worker.rules.state import Award, OrderKey, UserState

#: Other partitions' transactions get the event loop after so many events: else each of their round trips would wait for
#: a whole batch (costs.md).
TURN_EVENTS: Final = 250
#: A state is written when so many events were applied since: as many are read again, at most, after a crash.
CHECKPOINT: Final = 16
#: A batch folds users who are behind the catalog again until it has read so many logged events; those who are left
#: keep their memory as it is, their events being logged, and the build of the catalog brings them forward.
REBUILD_EVENTS: Final = 20_000
#: Stands for the version a user is built for while the user waits in the queue: no version has this number.
QUEUED: Final = -1

_order_of = attrgetter("order")


class Advance:
    """Takes the new events of one batch to their users; `states` are to be kept once the batch is committed."""

    def __init__(self, transaction: Transaction, plan: Plan, *, limits: Limits, facts: BatchFacts) -> None:
        self.transaction = transaction
        self.plan = plan
        self.limits = limits
        self.facts = facts
        self.states: dict[str, UserState] = {}
        self._granted: list[tuple[Award, str]] = []
        self._due: set[str] = set()
        self._reread = 0

    async def run(self, new: Sequence[Event], cache: Cache, token: UUID) -> None:
        """Apply events (sorted by user; all in the log by now).

        1 lock the users in sorted order; what is in memory and still at home is taken from there, the rest is read
        2 apply, event by event; users with a late event, or behind the catalog, are folded again from the log
        3 grant, and put the awards into the outbox
        4 write the states that are due
        """
        by_user = _by_user(new)
        await self._gather(by_user, cache.take(by_user, token))
        self.facts.users = len(by_user)
        turn, basis = 0, self.plan.basis
        for user_id, events in by_user.items():
            turn += len(events)
            if turn >= TURN_EVENTS:
                turn = 0
                await asyncio.sleep(0)
            state = self.states[user_id]
            built, newest = state.built_version, state.newest
            if built is not None and built != basis:
                await self._catch_up(state, events)
            elif newest is not None and events[0].occurred_us <= newest[0] and events[0].order <= newest:
                await self._go_back(state, events)
            else:
                self._apply(state, events)
        for state in self.states.values():
            self.facts.evaluations += state.evaluations
            state.evaluations = 0
        if self._granted:
            await self._grant()
        await self._save()

    # ---- what is known of the users ---------------------------------------------------------------------------------

    async def _gather(self, by_user: Mapping[str, Sequence[Event]], known: dict[str, UserState]) -> None:
        """The states of all users as they were before the batch: from memory, or from the row and the log after it."""
        read = await self.transaction.lock(by_user, version=self.plan.basis, known=known.keys())
        self.states = states = {**known, **read}
        cold = [state for state in read.values() if state.built_version is not None]
        self._due.update(state.user_id for state in cold)
        # Users behind the catalog are folded again from the whole log, or left to the build.
        current = [state for state in cold if state.built_version == self.plan.basis]
        tails = await self.transaction.tails(current) if current else {}
        for user_id, tail in tails.items():
            fresh = {(event.source, event.id) for event in by_user[user_id]}
            tails[user_id] = [event for event in tail if (event.source, event.id) not in fresh]
        wants = {(state.user_id, "") for state in cold}
        if self.plan.contexts:
            wants.update(self._scopes_not_loaded(by_user, tails))
        if wants:
            await self.transaction.read(states, sorted(wants))
        for user_id, tail in tails.items():
            for event in tail:
                evaluate.fold(self.plan, states[user_id], event)

    def _scopes_not_loaded(
        self, by_user: Mapping[str, Sequence[Event]], tails: Mapping[str, Sequence[Event]]
    ) -> Iterator[tuple[str, str]]:
        """(user, scope) of what the events may touch and the states do not have."""
        scopes = self.plan.scopes
        for user_id, events in by_user.items():
            loaded = self.states[user_id].scopes
            for event in (*events, *tails.get(user_id, ())) if user_id in tails else events:
                for scope in scopes(event):
                    if scope not in loaded:
                        yield user_id, scope

    # ---- events to awards -------------------------------------------------------------------------------------------

    def _apply(self, state: UserState, events: Sequence[Event]) -> None:
        plan = self.plan
        state.built_version = plan.basis
        state.unsaved += len(events)
        if state.unsaved >= CHECKPOINT:
            self._due.add(state.user_id)
        for event in events:
            for award in evaluate.apply(plan, state, event):
                self._take(award, "cron" if award.trigger_type.startswith("cron.") else "live")

    def _take(self, award: Award, origin: str) -> None:
        self._granted.append((award, "backfill" if self.limits.past and origin in ("live", "late") else origin))
        if award.badge_key in self.plan.marked:
            # the mark is made by the grant, not by an event: folding the log again would not bring it back
            self._due.add(award.user_id)

    async def _catch_up(self, state: UserState, events: Sequence[Event]) -> None:
        """A user behind the catalog, or queued: folded again, unless that takes long or this batch has read enough."""
        if self._reread < REBUILD_EVENTS and not await self._is_long(state.user_id):
            await self._rebuild(state, events, behind=state.built_version != QUEUED)
        else:
            del self.states[state.user_id]
            self._due.discard(state.user_id)

    async def _go_back(self, state: UserState, events: Sequence[Event]) -> None:
        """A user with a late event: folded again, or, where that takes long, queued to be (decisions 19).

        Who is queued keeps the memory of before the batch, which says what was the newest event then; nothing is
        applied for the user until the queue comes to it, all events being in the log.
        """
        self.facts.late_users += 1
        if not await self._is_long(state.user_id):
            await self._rebuild(state, events, behind=False)
            return
        self.facts.queued_users += 1
        state.built_version = QUEUED
        self._due.add(state.user_id)
        await self.transaction.queue([state.user_id], self.plan.basis)

    async def _is_long(self, user_id: str) -> bool:
        """Whether a user's log is too long to be read again while a partition waits."""
        return await self.transaction.log_exceeds(user_id, self.limits.late_events_inline)

    async def _rebuild(self, state: UserState, events: Sequence[Event], *, behind: bool) -> None:
        """Fold a locked user's whole log again, in order; what is held stays held (decisions 19, 20, 24)."""
        self.states[state.user_id], awards, count = await fold_again(self.transaction, self.plan, state)
        fresh = {(event.source, event.id) for event in events}
        if behind and awards:
            fresh |= await self.transaction.arrived_since(state.user_id, self.plan.basis)
        self._reread += count
        self._due.add(state.user_id)
        for award in awards:
            self._take(award, origin_of(award, state.newest, fresh=fresh, behind=behind))

    # ---- what is written --------------------------------------------------------------------------------------------

    async def _grant(self) -> None:
        notify = False if self.limits.past else None
        await grant(
            self.transaction, self.plan, self.states, self._granted, topic=self.limits.award_topic, notify=notify
        )
        for award, origin in self._granted:
            self.facts.awards[award.badge_key, origin] += 1

    async def _save(self) -> None:
        due = [self.states[user_id] for user_id in sorted(self._due)]
        if due:
            await self.transaction.save(due)
            for state in due:
                state.dirty = frozenset()
                state.unsaved = 0


def _by_user(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Events that are sorted by user, as lists in order."""
    by_user: dict[str, list[Event]] = {}
    last = None
    own: list[Event] = []
    for event in events:
        if event.user_id == last:
            own.append(event)
        else:
            last = event.user_id
            by_user[last] = own = [event]
    for own in by_user.values():
        if len(own) > 1:
            own.sort(key=_order_of)
    return by_user


async def fold_again(transaction: Transaction, plan: Plan, state: UserState) -> tuple[UserState, list[Award], int]:
    """The memory and the new awards of a locked user's whole log, and how many events that has.

    What is held stays held and is not given again.
    """
    held = await transaction.held_by(state.user_id)
    given = {key: at for key, (at, _) in held.items()}
    earned = {key: event_id for key, (_, event_id) in held.items()}
    rebuilt, asking = evaluate.begin_again(plan, state.user_id, given, earned)
    rebuilt.award_sequence, rebuilt.built_version = state.award_sequence, plan.basis
    awards: list[Award] = []
    count = 0
    async for event in transaction.log_of(state.user_id):
        count += 1
        if plan.zones is not None:
            # Where another zone leaves nothing to remember, what was remembered is still written there.
            for scope in plan.scopes(event):
                if rebuilt.scopes.setdefault(scope, {}) == {}:
                    rebuilt.touch(scope)
        awards += evaluate.apply(plan, rebuilt, event, also=asking.at(event))
    return rebuilt, awards, count


async def grant(
    transaction: Transaction,
    plan: Plan,
    states: Mapping[str, UserState],
    granted: Sequence[tuple[Award, str]],
    *,
    topic: str,
    notify: bool | None = None,
) -> None:
    """Store awards, each with its origin, and put their messages into the outbox; draws each user's sequence.

    `notify` says whether users are to be told, where that is not for the origin to say.
    """
    earlier = await transaction.grant_counts([(award.user_id, award.badge_key, award.context) for award, _ in granted])
    grants: list[Grant] = []
    for (award, origin), count in zip(granted, earlier, strict=True):
        state = states[award.user_id]
        state.award_sequence += 1
        grants.append(
            make_grant(award, plan, origin=origin, sequence=state.award_sequence, earlier_grants=count, notify=notify)
        )
    await transaction.grant(grants, topic=topic)


def origin_of(award: Award, newest: OrderKey | None, *, fresh: AbstractSet[tuple[str, str]], behind: bool) -> str:
    """Where an award of a user who was folded again came from, the first that fits (decisions 16).

    `newest` is the user's newest event before the batch, as far as it is known, `fresh` the (source, id) of the events
    that came with the batch or since the catalog changed, `behind` whether the user was folded again because it did.
    """
    if award.trigger_type.startswith("cron."):
        return "cron"
    if behind and (award.trigger_source, award.trigger_id) not in fresh:
        return "backfill"
    if newest is None or (award.awarded_us, award.trigger_source, award.trigger_id) > newest:
        return "live"
    return "late"


def make_grant(
    award: Award, plan: Plan, *, origin: str, sequence: int, earlier_grants: int, notify: bool | None = None
) -> Grant:
    """The row and the message of one award."""
    metadata_json = json_text.dumps(award.metadata)
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
        metadata_json=metadata_json,
        message=award_message(
            award,
            plan.badges[award.badge_key],
            metadata_json=metadata_json,
            message_id=message_id,
            origin=origin,
            notify=origin != "backfill" if notify is None else notify,
            sequence=sequence,
            catalog_version=plan.version,
        ),
    )
