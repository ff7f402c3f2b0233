"""Looks at the next users of a backfill, and already at those after them while a slice puts right what was found.

Theory of operation. A look locks nobody and writes nothing, and of whoever seems to need something the slice makes sure
under the user's lock. So a look may be made early, in a transaction of its own, by the plan that is the head's then:
while the database settles one slice, the events of the next one are read and judged. A look that does not fit any more
is thrown away. One that failed is, too: the slice looks itself, and fails as it would have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.pipeline.glance import Glimpse, Narrow, glance, narrow_of
from worker.pipeline.repair_protocols import RepairStore, RepairTransaction
from worker.rules.plan import Plan


@dataclass(frozen=True, slots=True)
class Ask:
    """What to look at: users after one, but for those left out, and which of some badges (None: all) they may have.

    Not more than so many `users`; it is enough once so many `events` were read, or so many `suspects` found.
    """

    plan: Plan
    after: str
    badges: frozenset[str] | None
    left_out: frozenset[str]
    users: int
    events: int
    suspects: int

    def is_answered_by(self, other: Ask) -> bool:
        """Whether a look that was made for another may be taken for this: it may be at less, not at more."""
        same = (other.after, other.badges, other.left_out) == (self.after, self.badges, self.left_out)
        less = other.users <= self.users and other.events <= self.events and other.suspects <= self.suspects
        return same and less and other.plan is self.plan


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen: `users` are the next ones, `last` is the last one looked at where that was not to their end."""

    users: Sequence[str]
    seen: Glimpse
    last: str | None
    more: bool

    @property
    def after(self) -> str:
        """After whom to go on."""
        return self.users[-1] if self.last is None else self.last


class Looks:
    """The looks of one driver, one after the other; at most one is under way before it is asked for."""

    def __init__(self, store: RepairStore) -> None:
        self._store = store
        self._narrow: tuple[Plan, frozenset[str] | None, Narrow] | None = None
        self._early: tuple[Ask, asyncio.Task[Look | None]] | None = None

    @property
    def narrow(self) -> Narrow | None:
        """The plan that was looked with last."""
        return None if self._narrow is None else self._narrow[2]

    async def arrive(self) -> None:
        """Wait for the look that is under way. Who has a connection open does not wait for one who may need another."""
        if self._early is not None:
            await asyncio.wait({self._early[1]})

    async def look(self, transaction: RepairTransaction, ask: Ask, *, only: Callable[[str], None]) -> Look:
        """Look, or take what was seen early; `only` hears of the one user looked at, where there is no other."""
        early, self._early = self._early, None
        if early is not None:
            seen = _result(early[1])
            if seen is not None and ask.is_answered_by(early[0]):
                return seen
        return await self._look(transaction, ask, only)

    def begin(self, ask: Ask) -> None:
        """Look early, beside what the caller does."""
        self._early = (ask, asyncio.create_task(self._look_early(ask), name="look ahead"))

    async def leave(self) -> None:
        """Look no further."""
        early, self._early = self._early, None
        if early is not None:
            early[1].cancel()
            await asyncio.wait({early[1]})
            _result(early[1])

    async def _look_early(self, ask: Ask) -> Look | None:
        async with self._store.transaction() as transaction:
            if await transaction.catalog_version() != ask.plan.version:
                return None
            return await self._look(transaction, ask, lambda _: None)

    async def _look(self, transaction: RepairTransaction, ask: Ask, only: Callable[[str], None]) -> Look:
        """Whom only the log knows has nothing to be given by a backfill: that is for a sweep to put right."""
        plan = ask.plan
        if self._narrow is None or self._narrow[0] is not plan or self._narrow[1] != ask.badges:
            self._narrow = (plan, ask.badges, await asyncio.to_thread(narrow_of, plan, ask.badges))
        narrow = self._narrow[2]
        page = await transaction.users_built(ask.after, ask.users)
        users = [user_id for user_id, _ in page]
        looked_at = [pair for pair in page if pair[0] not in ask.left_out]
        if not looked_at:
            return Look(users, Glimpse(0, "", []), None, more=len(page) == ask.users)
        if len(looked_at) == 1:
            only(looked_at[0][0])
        seen = await glance(transaction, narrow, looked_at, basis=plan.basis, events=ask.events, most=ask.suspects)
        last = seen.last if seen.users < len(looked_at) else None
        return Look(users, seen, last, more=last is not None or len(page) == ask.users)


def _result(task: asyncio.Task[Look | None]) -> Look | None:
    """What a task that has ended brought; None where it failed."""
    return None if task.cancelled() or task.exception() is not None else task.result()
