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

from worker.events import Event
from worker.pipeline.breaker import Breaker
from worker.pipeline.cache import Cache, Home, Kept, opened
from worker.pipeline.facts import BatchFacts, Limits
from worker.pipeline.protocols import Transaction
from worker.pipeline.sealed import sight_of
from worker.pipeline.settle import grant, is_told, origin_of
from worker.rules import evaluate
from worker.rules.changes import BY_HAND, Hold, Refold, live, scopes_by_hand
from worker.rules.plan import Plan
from worker.rules.state import Change, UserState

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
#: Stands in the queue for the version of a user who is to be folded again because a person asked for it.
REQUESTED: Final = 0

_order_of = attrgetter("order")


class Advance:
    """Takes the new events of one batch to their users; committed, it is to `keep` them in the cache, else to `forget`.

    `home` is the token of the claim, or each user's. `control`: they are from the control topic. `breaker` says which
    awards are held back (None: no badge has one).
    """

    def __init__(
        self,
        transaction: Transaction,
        plan: Plan,
        *,
        limits: Limits,
        facts: BatchFacts,
        cache: Cache,
        home: Home,
        control: bool = False,
        breaker: Breaker | None = None,
    ) -> None:
        self.transaction = transaction
        self.plan = plan
        self._basis = plan.basis
        self.limits = limits
        self.facts = facts
        self.states: dict[str, UserState] = {}
        self._cache = cache
        self._home: Home = home
        self._at_home: dict[str, Kept] = {}
        self._closed: dict[str, Kept] = {}
        self._grown_bytes = 0
        self._moves = 0
        self._control = control
        self._breaker = breaker
        self._plain = not (control or breaker is not None or plan.falling)
        self._asked_anywhere = plan.falling & plan.marked if plan.falling else plan.falling
        self._granted: list[tuple[Change, str]] = []
        self._quiet: list[tuple[Change, str]] = []
        self._due: set[str] = set()
        self._reread = 0

    async def run(self, new: Sequence[Event]) -> None:
        """Apply events (sorted by user; all in the log by now).

        1 lock the users in sorted order; what is in memory and still at home is taken from there, the rest is read
        2 apply, event by event; users with a late event, or behind the catalog, are folded again from the log
        3 grant, and put the awards into the outbox
        4 write the states that are due
        """
        by_user = _by_user(new)
        await self._gather(by_user)
        if self._asked_anywhere or self._control:
            await self._read_contexts(by_user)
        self.facts.users = len(by_user)
        turn, basis, states, at_home = 0, self._basis, self.states, self._at_home
        for user_id, events in by_user.items():
            turn += len(events)
            if turn >= TURN_EVENTS:
                turn = 0
                await asyncio.sleep(0)
            state = states.get(user_id) or opened(user_id, at_home[user_id])
            built, newest = state.built_version, state.newest
            if built is not None and built != basis:
                states[user_id] = state
                await self._catch_up(state, events)
            elif newest is not None and events[0].occurred_us <= newest[0] and events[0].order <= newest:
                states[user_id] = state
                await self._go_back(state, events)
            elif self._apply(state, events):
                states[user_id] = state
        for state in self.states.values():
            self.facts.evaluations += state.evaluations
            state.evaluations = 0
        if self._granted or self._quiet:
            await self._grant()
        if self._breaker is not None:
            await self._breaker.write(self.transaction)
        await self._save()
        if self._control:
            await self._queue_requested(new)

    # ---- what is known of the users ---------------------------------------------------------------------------------

    def keep(self) -> None:
        """Put all users as they are after the batch, which is committed, into the cache."""
        for state in self.states.values():
            self._close(state)
        # To who was left out nothing was applied, though the events are in the log.
        self._cache.forget(self._at_home.keys() - self._closed.keys())
        self._cache.put(self._closed, self._at_home, self._grown_bytes, moves=self._moves)

    def forget(self) -> None:
        """Let the cache forget all users: the batch failed, and nobody knows how they are."""
        self._cache.forget(self._at_home)

    def _state(self, user_id: str) -> UserState:
        """The state of a user of the batch; whoever is at home is opened when asked for."""
        state = self.states.get(user_id)
        if state is None:
            state = self.states[user_id] = opened(user_id, self._at_home[user_id])
        return state

    async def _gather(self, by_user: Mapping[str, Sequence[Event]]) -> None:
        """All users as they were before the batch: from memory, or from the row and the log after it."""
        self._moves = self._cache.moves
        self._at_home = known = self._cache.find(by_user, self._home)
        homes = None if isinstance(self._home, UUID) else self._home
        read = await self.transaction.lock(by_user, version=self._basis, known=known.keys(), homes=homes)
        self.states = states = read
        cold = [state for state in read.values() if state.built_version is not None]
        self._due.update(state.user_id for state in cold)
        # Users behind the catalog are folded again from the whole log, or left to the build.
        current = [state for state in cold if state.built_version == self.plan.basis]
        tails = await self.transaction.tails(current) if current else {}
        for user_id, tail in tails.items():
            fresh = {(event.source, event.id) for event in by_user[user_id]}
            tails[user_id] = [event for event in tail if (event.source, event.id) not in fresh]
        wants = {(state.user_id, "") for state in cold}
        if self.plan.contexts or self._control:
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
        scopes = self._scopes_of if self._control else self.plan.scopes
        for user_id, events in by_user.items():
            loaded = self._state(user_id).scopes
            for event in (*events, *tails.get(user_id, ())) if user_id in tails else events:
                for scope in scopes(event):
                    if scope not in loaded:
                        yield user_id, scope

    async def _read_contexts(self, by_user: Mapping[str, Sequence[Event]]) -> None:
        """Read all awards of badges that others ask for in any context, of users who may lose one of them."""
        plan = self.plan
        for user_id, events in by_user.items():
            lost = plan.marked.intersection(_reached(plan, {key for one in events for key in self._may_lose(one)}))
            state = self._state(user_id)
            if lost and state.built_version is not None:
                known = await self.transaction.holdings_of(user_id)
                state.held.update((key, at) for key, (at, _) in known.held.items() if key[0] in lost)

    def _may_lose(self, event: Event) -> Iterator[str]:
        """The badges asked for in any context that an event may take."""
        if event.type in BY_HAND:
            yield event.payload["badge_key"]
        for number in self.plan.falling_at(event.type) if self._asked_anywhere else ():
            yield self.plan.goals[number].badge.key

    def _scopes_of(self, event: Event) -> tuple[str, ...]:
        found = self.plan.scopes(event)
        return (*found, *scopes_by_hand(self.plan, event)) if event.type in BY_HAND else found

    # ---- events to awards -------------------------------------------------------------------------------------------

    def _apply(self, state: UserState, events: Sequence[Event]) -> bool:
        """Whether the state is still needed: what has to be written of it, or granted by it."""
        plan, given = self.plan, len(self._granted)
        state.built_version = self._basis
        state.unsaved += len(events)
        if state.unsaved >= CHECKPOINT:
            self._due.add(state.user_id)
        if self._plain:
            for event in events:
                for award in evaluate.apply(plan, state, event):
                    self._take(award, "cron" if award.trigger_type.startswith("cron.") else "live")
            if len(self._granted) > given or state.user_id in self._due:
                return True
            # While the state is at hand this costs less than after all.
            self.facts.evaluations += state.evaluations
            self._close(state)
            self.states.pop(state.user_id, None)
            return False
        hold = None if self._breaker is None else self._breaker.holds
        for event in events:
            for change in live(plan, state, event, hold=hold):
                self._take(change, origin_of(change, None, fresh=frozenset(), behind=False))
        return True

    def _close(self, state: UserState) -> None:
        """Make of a state what is kept of it."""
        user_id, home = state.user_id, self._home
        token = home if isinstance(home, UUID) else home[user_id]
        before = self._at_home.get(user_id)
        self._closed[user_id] = kept = self._cache.closed(state, token, before)
        self._grown_bytes += kept[2] if before is None else kept[2] - before[2]

    def _take(self, change: Change, origin: str) -> None:
        self._granted.append((change, "backfill" if self.limits.past and origin in ("live", "late") else origin))
        if change.badge_key in self.plan.marked:
            # the mark is made by the change, not by an event: folding the log again would not bring it back
            self._due.add(change.user_id)

    async def _catch_up(self, state: UserState, events: Sequence[Event]) -> None:
        """A user behind the catalog, or queued: folded again, unless that takes long or this batch has read enough."""
        if self._reread < REBUILD_EVENTS and not await self._is_long(state.user_id):
            await self._rebuild(state, events, behind=state.built_version != QUEUED)
        else:
            del self.states[state.user_id]
            self._due.discard(state.user_id)
            if self._control:
                # whoever comes to the user first may only look at what events have earned
                await self.transaction.queue([state.user_id], REQUESTED)

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
        fresh = {(event.source, event.id) for event in events}
        self.states[state.user_id], changes, count = await fold_again(
            self.transaction, self.plan, state, hold=self._hold_of(fresh, behind=behind)
        )
        if behind and changes:
            fresh |= await self.transaction.arrived_since(state.user_id, self.plan.basis)
        self._reread += count
        self._due.add(state.user_id)
        for change in changes:
            origin = origin_of(change, state.newest, fresh=fresh, behind=behind)
            self._take(change, origin)
            if behind and not is_told(change, origin, fresh):
                self._quiet.append(self._granted.pop())

    def _hold_of(self, fresh: AbstractSet[tuple[str, str]], *, behind: bool) -> Hold | None:
        """What a breaker says of awards of a user who is folded again: nothing of those that are backfill."""
        breaker = self._breaker
        if breaker is None:
            return None
        return lambda key, event: (not behind or (event.source, event.id) in fresh) and breaker.holds(key, event)

    # ---- what is written --------------------------------------------------------------------------------------------

    async def _grant(self) -> None:
        notify = False if self.limits.past else None
        for part, said in ((self._granted, notify), (self._quiet, False)):
            if part:
                await grant(self.transaction, self.plan, self.states, part, topic=self.limits.award_topic, notify=said)
        for change, origin in (*self._granted, *self._quiet):
            self.facts.changed(change, origin)

    async def _queue_requested(self, new: Sequence[Event]) -> None:
        """Note the users whom somebody asked to fold again."""
        users = {event.user_id for event in new if event.type == "recompute.requested"}
        if users:
            self.facts.requested = len(users)
            await self.transaction.queue(users, REQUESTED)

    async def _save(self) -> None:
        due = [self.states[user_id] for user_id in sorted(self._due)]
        if due:
            await self.transaction.save(due)
            for state in due:
                state.dirty = frozenset()
                state.unsaved = 0


def _reached(plan: Plan, keys: set[str]) -> set[str]:
    """Badges and all those that may be lost with them, because they ask for one of them."""
    waiting, found = list(keys), set(keys)
    while waiting:
        for number in plan.asked.get(waiting.pop(), ()):
            key = plan.goals[number].badge.key
            if key in plan.falling and key not in found:
                found.add(key)
                waiting.append(key)
    return found


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


async def fold_again(
    transaction: Transaction, plan: Plan, state: UserState, *, hold: Hold | None = None
) -> tuple[UserState, list[Change], int]:
    """The memory of a locked user's whole log, what that changes of the user's awards, and how many events it has.

    What is held stays held and is not given again, but for what falls by itself or was revoked by hand.
    """
    sight = await sight_of(transaction, plan, state.user_id)
    kept = frozenset() if sight is None else sight.badges
    refold = Refold(plan, state.user_id, await transaction.holdings_of(state.user_id), hold=hold, kept=kept)
    rebuilt = refold.state
    rebuilt.award_sequence, rebuilt.built_version = state.award_sequence, plan.basis
    count = 0
    async for event in transaction.log_of(state.user_id):
        count += 1
        if sight is not None:
            sight.before(rebuilt, event)
        if plan.zones is not None:
            # Where another zone leaves nothing to remember, what was remembered is still written there.
            for scope in plan.scopes(event):
                if rebuilt.scopes.setdefault(scope, {}) == {}:
                    rebuilt.touch(scope)
        refold.take(event)
    if sight is not None:
        sight.end(rebuilt)
    return rebuilt, refold.changes(), count
