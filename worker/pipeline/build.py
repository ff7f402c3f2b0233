"""Brings the users of older versions to the catalog that rules, a slice at a time, while live batches go on.

Theory of operation. A version that asks for memories or tests its predecessor had not is built user by user: one
ordered pass over the user's log, under the user's lock, gives memory and awards. Live batches do the same for users
they meet; this does it for those who do not come. How far it is stands in the database, with the slice it belongs to:
any worker may take the next slice, one at a time, and a crash costs one slice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import structlog

from worker.errors import TransientError
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.facts import BuildFacts
from worker.pipeline.protocols import Transaction
from worker.pipeline.users import fold_again, grant, origin_of
from worker.rules.plan import Plan
from worker.rules.state import Award, UserState

log = structlog.get_logger(__name__)

#: Users looked at and locked at a time; a slice ends once it has read so many logged events. Live batches that meet
#: these users wait for the slice, so it is short.
SLICE_USERS: Final = 50
SLICE_EVENTS: Final = 2_000
#: How long to wait where there is nothing to build; after a failure; and how often one user may fail before the build
#: goes on without.
IDLE_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0
PATIENCE: Final = 3


@dataclass(slots=True)
class Build:
    """The task of one worker that builds; `built` is told each slice's facts, `moved` that the catalog has."""

    applier: Applier
    built: Callable[[BuildFacts], None]
    moved: Callable[[int], Awaitable[None]]
    clock: Callable[[], float] = monotonic
    _done: int | None = None
    _failed: int = 0
    _culprit: str | None = None
    _skipped: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Build until cancelled; at most half of the time, so that live batches have the other half."""
        while True:
            began = self.clock()
            try:
                facts = await self.slice()
            except CatalogMoved as moved:
                await self.moved(moved.head)
                continue
            except TransientError as error:
                self._note(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._failed = 0
            if facts is None:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            self.built(facts)
            await asyncio.sleep(self.clock() - began)

    async def slice(self) -> BuildFacts | None:
        """Build the next users, in one transaction; None where there is nothing to do, or another worker does it.

        1 the head must be the plan's version, and stays it; take the build, which is free or another's
        2 lock the next users behind, in sorted order
        3 fold each one's log again; what was earned before is granted quietly, at its own instant
        4 write the states, with nobody's home; move the build past these users

        Raises CatalogMoved, TransientError.
        """
        plan, facts = self.applier.plan, None
        async with self.applier.store.transaction() as transaction:
            head = await transaction.catalog_version()
            if head != plan.version:
                raise CatalogMoved(head)
            if self._done != plan.basis:
                facts = await self._slice(transaction, plan)
        if facts is not None and facts.done:
            self._done = plan.basis
            log.info("catalog_built", version=plan.basis)
        return facts

    async def _slice(self, transaction: Transaction, plan: Plan) -> BuildFacts | None:
        page = await transaction.behind(plan.basis, limit=SLICE_USERS)
        if page is None:
            return None
        behind, last = page
        facts = BuildFacts(plan.version, done=last is None)
        users = [user_id for user_id in behind if user_id not in self._skipped]
        states = await transaction.lock(users, version=plan.basis) if users else {}
        states = {user_id: state for user_id, state in states.items() if state.built_version != plan.basis}
        if states:
            await transaction.read(states, [(user_id, "") for user_id in sorted(states)])
            last = await self._fold(transaction, plan, states, facts) or last
        if last is not None or facts.done:
            await transaction.move_build(plan.basis, after=last, users=facts.users, awards=facts.awards.total())
        return facts

    async def _fold(
        self, transaction: Transaction, plan: Plan, states: dict[str, UserState], facts: BuildFacts
    ) -> str | None:
        """Fold users in order until the slice is full; the last one, where some are left for the next slice."""
        rebuilt: dict[str, UserState] = {}
        granted: list[tuple[Award, str]] = []
        stopped = None
        for user_id in sorted(states):
            if facts.events >= SLICE_EVENTS:
                stopped = next(reversed(rebuilt))
                break
            self._culprit = user_id
            rebuilt[user_id], awards, count = await fold_again(transaction, plan, states[user_id])
            facts.events += count
            granted += [(award, origin_of(award, None, fresh=frozenset(), behind=True)) for award in awards]
        facts.users = len(rebuilt)
        if granted:
            await grant(transaction, plan, rebuilt, granted, topic=self.applier.limits.award_topic)
            facts.awards.update((award.badge_key, origin) for award, origin in granted)
        await transaction.save(list(rebuilt.values()))
        facts.done &= stopped is None
        return stopped

    def _note(self, error: TransientError) -> None:
        """Wait and try again; a user who keeps failing is left to the live batches, so that the others are built."""
        self._failed += 1
        log.warning("build_waits", reason=error.message, seconds=RETRY_SECONDS)
        if self._failed >= PATIENCE and self._culprit is not None:
            log.error("user_not_built", help="their next event builds them, or `badges recompute`")
            self._skipped.add(self._culprit)
            self._culprit, self._failed = None, 0
