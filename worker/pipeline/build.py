"""Folds users again beside the live batches: those of older versions of the catalog, then those who were queued.

Theory of operation. A version that asks for memories or tests its predecessor had not is built user by user: one
ordered pass over the user's log, under the user's lock, gives memory and awards. Live batches do the same for users
they meet; this does it for those who do not come. How far it is stands in the database, with the slice it belongs to:
any worker may take the next slice, one at a time, and a crash costs one slice. Once nobody is behind, the queue's turn
comes: users with late events and long logs, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import structlog

from worker.errors import BadgesError, OperatorError, PoisonBatch, TransientError
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.driving import Waiting
from worker.pipeline.facts import BuildFacts
from worker.pipeline.protocols import Transaction
from worker.pipeline.settle import grant, is_told, origin_of
from worker.pipeline.users import REQUESTED, fold_again
from worker.rules.plan import Plan
from worker.rules.state import Change, UserState

log = structlog.get_logger(__name__)

#: Users looked at and locked at a time; a slice ends once it has read so many logged events. Live batches that meet
#: these users wait for the slice, so it is short.
SLICE_USERS: Final = 50
SLICE_EVENTS: Final = 2_000
#: How long to wait where there is nothing to build; after a failure; and before the users who were left out are tried
#: again. How often one user may fail before the build goes on without.
IDLE_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0
AGAIN_SECONDS: Final = 60.0
PATIENCE: Final = 3


@dataclass(slots=True)
class Build:
    """The task of one worker that builds; `built` is told each slice's facts, `moved` that the catalog has.

    `jobs` are the jobs over users that wait, done beside.
    """

    applier: Applier
    built: Callable[[BuildFacts], None]
    moved: Callable[[int], Awaitable[None]]
    jobs: Waiting | None = None
    clock: Callable[[], float] = monotonic
    _done: int | None = None
    _culprit: str | None = None
    _failures: dict[str, int] = field(default_factory=dict)
    _limit: int = SLICE_USERS

    async def run(self) -> None:
        """Build, and do the jobs over users that wait, until cancelled."""
        tasks = [self._build()] if self.jobs is None else [self._build(), self.jobs.run()]
        await asyncio.gather(*tasks)

    async def _build(self) -> None:
        """Build until cancelled; at most half of the time, so that live batches have the other half.

        Whatever happens here, it waits and tries again: the worker's events do not depend on it.
        """
        while True:
            began = self.clock()
            try:
                pause = await self._turn()
            except (TransientError, PoisonBatch, OperatorError) as error:
                self._note(error)
                pause = RETRY_SECONDS
            await asyncio.sleep(self.clock() - began if pause is None else pause)

    async def _turn(self) -> float | None:
        """One slice; how long to rest after it, seconds (None: as long as it took)."""
        try:
            facts = await self.slice()
        except CatalogMoved as moved:
            await self.moved(moved.head)
            self._failures.clear()
            return IDLE_SECONDS
        self._culprit, self._limit = None, SLICE_USERS
        if facts is None:
            return IDLE_SECONDS
        self.built(facts)
        if facts.again:
            self._failures.clear()
            return AGAIN_SECONDS
        return None

    async def slice(self) -> BuildFacts | None:
        """Build the next users, in one transaction; None where there is nothing to do, or another worker does it.

        Where all are built, the next one of the queue is folded again; else:

        1 the head must be the plan's version, and stays it; take the build, which is free or another's
        2 lock the next users behind, in sorted order
        3 fold each one's log again; what was earned before is granted quietly, at its own instant
        4 write the states, with nobody's home; move the build past these users, or back to its beginning where all were
          looked at and some are behind still

        Raises CatalogMoved, TransientError, PoisonBatch.
        """
        plan, facts = self.applier.plan, None
        async with self.applier.store.transaction() as transaction:
            head = await transaction.catalog_version()
            if head != plan.version:
                raise CatalogMoved(head)
            if self._done != plan.basis:
                facts = await self._slice(transaction, plan)
            else:
                facts = await self._next_queued(transaction, plan)
        if facts is not None and facts.done:
            self._done = plan.basis
            log.info("catalog_built", version=plan.basis)
        return facts

    async def _slice(self, transaction: Transaction, plan: Plan) -> BuildFacts | None:
        page = await transaction.behind(plan.basis, limit=min(self._limit, SLICE_USERS))
        if page is None:
            return None
        if page.done:
            self._done = plan.basis
            return None
        facts = BuildFacts(plan.version, done=page.last is None and not page.again, again=page.again)
        last = "" if page.again else page.last
        users = [user_id for user_id in page.behind if self._failures.get(user_id, 0) < PATIENCE]
        states = await transaction.lock(users, version=plan.basis) if users else {}
        states = {user_id: state for user_id, state in states.items() if state.built_version != plan.basis}
        if states:
            await transaction.read(states, [(user_id, "") for user_id in sorted(states)])
            last = await self._fold(transaction, plan, states, facts) or last
        await transaction.move_build(plan.basis, after=last, users=facts.users, awards=facts.awards.total())
        return facts

    async def _next_queued(self, transaction: Transaction, plan: Plan) -> BuildFacts | None:
        """Fold the next user of the queue again; what late events have earned is granted as it would have been then."""
        waiting = await transaction.queued(SLICE_USERS)
        if not waiting:
            return None
        chosen = next((one for one in waiting if self._failures.get(one[0], 0) < PATIENCE), None)
        if chosen is None:
            return BuildFacts(plan.version, again=True)
        user_id, version = chosen
        facts = BuildFacts(plan.version)
        self._culprit = user_id
        state = (await transaction.lock([user_id], version=plan.basis)).get(user_id)
        asked = version == REQUESTED  # who is folded again because a person asked stands at the catalog, mostly
        if state is not None and state.built_version is not None:  # also of old: a request may have come since
            await transaction.read({user_id: state}, [(user_id, "")])
            rebuilt, awards, facts.events = await fold_again(transaction, plan, state)
            behind = asked or version != plan.basis
            since = behind and awards and not asked
            fresh = await transaction.arrived_since(user_id, plan.basis) if since else frozenset()
            granted: list[tuple[Change, str]] = []
            quiet: list[tuple[Change, str]] = []
            for award in awards:
                origin = origin_of(award, state.newest, fresh=fresh, behind=behind)
                (granted if not behind or is_told(award, origin, fresh) else quiet).append((award, origin))
            await self._grant(transaction, plan, {user_id: rebuilt}, granted, quiet, facts)
        await transaction.unqueue([user_id])
        return facts

    async def _grant(
        self,
        transaction: Transaction,
        plan: Plan,
        rebuilt: dict[str, UserState],
        granted: Sequence[tuple[Change, str]],
        quiet: Sequence[tuple[Change, str]],
        facts: BuildFacts,
    ) -> None:
        facts.users = len(rebuilt)
        topic = self.applier.limits.award_topic
        for part, notify in ((granted, None), (quiet, False)):
            if part:
                await grant(transaction, plan, rebuilt, part, topic=topic, notify=notify)
        for change, origin in (*granted, *quiet):
            facts.changed(change, origin)
        await transaction.save(list(rebuilt.values()))

    async def _fold(
        self, transaction: Transaction, plan: Plan, states: dict[str, UserState], facts: BuildFacts
    ) -> str | None:
        """Fold users in order until the slice is full; the last one, where some are left for the next slice."""
        rebuilt: dict[str, UserState] = {}
        granted: list[tuple[Change, str]] = []
        quiet: list[tuple[Change, str]] = []
        stopped = None
        for user_id in sorted(states):
            if facts.events >= SLICE_EVENTS:
                stopped = next(reversed(rebuilt))
                break
            self._culprit = user_id
            rebuilt[user_id], awards, count = await fold_again(transaction, plan, states[user_id])
            facts.events += count
            fresh = await transaction.arrived_since(user_id, plan.basis) if awards else frozenset()
            for award in awards:
                origin = origin_of(award, None, fresh=fresh, behind=True)
                (granted if is_told(award, origin, fresh) else quiet).append((award, origin))
        self._culprit = next(iter(rebuilt)) if len(rebuilt) == 1 else None
        await self._grant(transaction, plan, rebuilt, granted, quiet, facts)
        facts.done &= stopped is None
        return stopped

    def _note(self, error: BadgesError) -> None:
        """Who keeps failing is left out of this round, so that the others are built; the round is then made again."""
        log.warning("build_waits", reason=error.message, seconds=RETRY_SECONDS)
        culprit, self._culprit = self._culprit, None
        if culprit is None and isinstance(error, PoisonBatch):
            self._limit = 1  # one of the slice's users has what the database refuses: one at a time shows who
        if culprit is not None:
            self._failures[culprit] = self._failures.get(culprit, 0) + 1
            if self._failures[culprit] == PATIENCE:
                log.error("user_left_out", reason=error.message, seconds=AGAIN_SECONDS)
