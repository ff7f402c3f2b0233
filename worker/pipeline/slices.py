"""One slice of a job over users (backfill, recompute, sweep), in one transaction, whoever drives the job.

Theory of operation. Users are looked at first without being locked: nearly all of them need nothing, and live batches
that meet them do not wait. What is read so may be torn by a batch that commits meanwhile; so whoever seems to need
something is locked, looked at again, and only then put right. How far the job is, and all it has found, is written in
the same transaction: a crash costs one slice and repeats nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from worker.exchange import Standing, UserJob
from worker.pipeline.ahead import Ask, Looks
from worker.pipeline.asking import Asking
from worker.pipeline.batch import CatalogMoved
from worker.pipeline.found import SliceFacts, added
from worker.pipeline.glance import Earned, as_earned
from worker.pipeline.protocols import Judge
from worker.pipeline.recount import AWARD_NEVER_GIVEN, Finding, Recount
from worker.pipeline.repair_protocols import RepairStore, RepairTransaction
from worker.pipeline.scope import Scope, scope_of_job
from worker.pipeline.settle import grant, is_told, origin_of
from worker.pipeline.users import QUEUED, TURN_EVENTS
from worker.rules.plan import Plan
from worker.rules.state import Change, UserState, Withdrawal

#: Users looked at in a slice, which ends once it has read so many logged events, or once so many users need something:
#: these are locked to its end, and live batches that meet them wait.
SLICE_USERS: Final = 1_000
SLICE_EVENTS: Final = 16_000
SLICE_LOCKS: Final = 100
#: A backfill, which reads nothing else of users, takes so many times as many where there is no live work: what a slice
#: costs beside its users and events is the same for few of them.
WIDE: Final = 3
#: The same beside live work, which waits for the processor while a slice has it.
LIVE_SLICE_USERS: Final = 100
LIVE_SLICE_EVENTS: Final = 1_000
#: A slice is of so many times the users of the one before, at most: who fails is soon found among few.
_GROWTH: Final = 10
#: A driver is a job's until it was not heard of for so long, seconds.
LEASE_SECONDS: Final = 30.0


@dataclass(slots=True)
class Slices:
    """Does the slices of a job, one after the other; `plan` gives the plan in use, `driver` names who does them."""

    store: RepairStore
    plan: Callable[[], Plan]
    driver: str
    topic: str
    judge: Judge | None = None
    limit: int = LIVE_SLICE_USERS
    most_events: int = LIVE_SLICE_EVENTS
    ahead: bool = False
    culprit: str | None = None
    #: Users who failed again and again: passed over.
    left_out: set[str] = field(default_factory=set)
    _scope: tuple[Plan, int, frozenset[str], Scope] | None = None
    _asking: Asking | None = None
    _looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        self._looks = Looks(self.store)

    def size(self, *, beside_live: bool) -> None:
        """How much the next slices are of; beside live work nobody is looked at early, which would be two at work."""
        self.limit = min(LIVE_SLICE_USERS if beside_live else SLICE_USERS, _GROWTH * self.limit)
        self.most_events = LIVE_SLICE_EVENTS if beside_live else SLICE_EVENTS
        self.ahead = not beside_live

    async def arrive(self) -> None:
        """Wait for what is done early for the next slice."""
        await self._looks.arrive()

    async def leave(self) -> None:
        """Nothing of a job is at work any more."""
        await self._looks.leave()

    async def slice(self, job_id: int) -> SliceFacts | None:
        """The next users of a job; None where it has ended, or is somebody else's.

        1 the head must be the plan's version, and stays it; take the job
        2 look at the next users: fold each one's log again, hold it against what is stored
        3 lock those who need something and look again; restore, grant, write their states, with nobody's home
        4 move the job past these users

        Raises CatalogMoved, TransientError, PoisonBatch.
        """
        plan = self.plan()
        if plan.conditions is not None:
            await self._ask_again(plan, job_id)
        await self._looks.arrive()
        async with self.store.transaction() as transaction:
            head = await transaction.catalog_version()
            if head != plan.version:
                raise CatalogMoved(head)
            job = await transaction.take_user_job(job_id, self.driver, seconds=LEASE_SECONDS)
            if job is None:
                return None
            facts = SliceFacts(job)
            scope = await self._scope_of(transaction, plan, job)
            if job.kind == "backfill":
                page, last = await self._glance(transaction, plan, scope, job, facts)
            else:
                page, chosen = await self._page(transaction, scope, job)
                last = await self._work(transaction, plan, scope, job, chosen, facts) if chosen else None
            await self._move(transaction, job, page, last, facts)
        self.culprit = None
        return facts

    async def _ask_again(self, plan: Plan, job_id: int) -> None:
        """Ask conditions about the events of the next users again, where the job asks for that."""
        async with self.store.transaction() as transaction:
            job = await transaction.take_user_job(job_id, self.driver, seconds=LEASE_SECONDS)
            if job is None or not job.parameters.get("conditions"):
                return
            _, users = await self._page(transaction, await self._scope_of(transaction, plan, job), job)
        if self._asking is None:
            self._asking = Asking(self.store)
        await self._asking.ask(plan, job_id, users, self.judge)

    async def _scope_of(self, transaction: RepairTransaction, plan: Plan, job: UserJob) -> Scope:
        floors = frozenset(await transaction.floors())
        known = self._scope
        if known is None or known[0] is not plan or known[1:3] != (job.id, floors):
            self._scope = known = (plan, job.id, floors, scope_of_job(plan, job.kind, job.parameters, floors))
        return known[3]

    async def _glance(
        self, transaction: RepairTransaction, plan: Plan, scope: Scope, job: UserJob, facts: SliceFacts
    ) -> tuple[Sequence[str], str | None]:
        """The next users of a backfill, and the last one looked at, where the slice is full before the end of them.

        Where there are more of them, these are looked at while those are put right.
        """
        self.culprit = None
        times = WIDE if self.ahead and self.limit == SLICE_USERS else 1
        ask = Ask(
            *(plan, job.after, scope.badges, frozenset(self.left_out)),
            *(times * self.limit, self.most_events, times * SLICE_LOCKS),
        )
        look = await self._looks.look(transaction, ask, only=self._blame)
        if self.ahead and look.more and not job.parameters.get("conditions"):
            self._looks.begin(replace(ask, after=look.after))
        seen = look.seen
        facts.events += seen.events
        facts.waiting += seen.waiting
        await self._settle(transaction, plan, scope, job, seen.suspects, facts, {} if scope.sealed else seen.earned)
        return look.users, look.last

    def _blame(self, user_id: str) -> None:
        self.culprit = user_id

    async def _page(
        self, transaction: RepairTransaction, scope: Scope, job: UserJob
    ) -> tuple[Sequence[str], Sequence[str]]:
        """The next users, and those of them who may be concerned."""
        user = job.parameters.get("user")
        if user is not None:
            page: Sequence[str] = [] if job.after >= user else [user]
        else:
            page = await transaction.users_page(job.after, self.limit)
        if not page:
            return page, page
        chosen = page
        if scope.types is not None:
            named = scope.badges if scope.badges is not None and "trigger" not in job.parameters else ()
            found = set(await transaction.with_events(page, scope.types, named))
            chosen = [user_id for user_id in page if user_id in found]
        return page, [user_id for user_id in chosen if user_id not in self.left_out]

    # ---- users ------------------------------------------------------------------------------------------------------

    async def _work(
        self,
        transaction: RepairTransaction,
        plan: Plan,
        scope: Scope,
        job: UserJob,
        users: Sequence[str],
        facts: SliceFacts,
    ) -> str | None:
        """Look at users and put right what is to be; the last one looked at, where the slice is full before the end."""
        states = await transaction.look_at(users)
        found, full = await self._examine(transaction, plan, scope, users, states, facts)
        suspects = [finding.user_id for finding in found if finding.needs_work]
        if len(suspects) > SLICE_LOCKS:
            del suspects[SLICE_LOCKS:]
            full = suspects[-1]
            found = [finding for finding in found if finding.user_id <= full]
        for finding in found:
            facts.events += finding.events
            if finding.kinds and not finding.needs_work:
                facts.kinds.update(finding.kinds)
        await self._settle(transaction, plan, scope, job, suspects, facts)
        return full

    async def _settle(
        self,
        transaction: RepairTransaction,
        plan: Plan,
        scope: Scope,
        job: UserJob,
        suspects: Sequence[str],
        facts: SliceFacts,
        earned: Mapping[str, Earned] = MappingProxyType({}),
    ) -> None:
        """Lock those who seem to need something, look again at each as a whole, and put right what is so.

        Where nothing has changed since, what was `earned` stands.
        """
        if not suspects:
            return
        states = await transaction.lock(suspects, version=plan.basis)
        found = await self._standing_still(transaction, plan, scope, states, earned)
        ready = {finding.user_id for finding in found}
        again = [user_id for user_id in suspects if user_id not in ready]
        if again:
            looked_at, _ = await self._examine(transaction, plan, scope, again, states, None)
            for finding in looked_at:
                if not await self._was_cut(transaction, plan, states, finding, facts):
                    found.append(finding)
        found.sort(key=lambda finding: finding.user_id)
        for finding in found:
            facts.kinds.update(finding.kinds)
        self.culprit = suspects[0] if len(suspects) == 1 else None
        await self._put_right(transaction, plan, job, states, [one for one in found if one.needs_work], facts)

    async def _standing_still(
        self,
        transaction: RepairTransaction,
        plan: Plan,
        scope: Scope,
        states: Mapping[str, UserState],
        earned: Mapping[str, Earned],
    ) -> list[Finding]:
        """Of locked users those who are as they were when they were looked at, with what they have earned."""
        users = [user_id for user_id in earned if states[user_id].built_version == plan.basis]
        narrow = self._looks.narrow
        if not users or narrow is None:
            return []
        standings = await transaction.standing_of(users)
        counts = await transaction.count_logged(users, narrow.types)
        found = []
        for user_id in users:
            if as_earned(earned[user_id], counts.get(user_id, 0), standings[user_id], narrow.keys):
                changes: list[Change] = [one for one in earned[user_id].awards if scope.about(one.badge_key)]
                kinds = Counter({AWARD_NEVER_GIVEN: len(changes)} if changes else ())
                found.append(Finding(user_id, whole=False, behind=False, changes=changes, kinds=kinds))
        return found

    async def _was_cut(
        self,
        transaction: RepairTransaction,
        plan: Plan,
        states: Mapping[str, UserState],
        finding: Finding,
        facts: SliceFacts,
    ) -> bool:
        """Whether a whole memory would lack what retention removed; then the queue folds the user, from the seal."""
        if not finding.whole or await transaction.sealed(finding.user_id) is None:
            return False
        state = states[finding.user_id]
        state.built_version = QUEUED
        await transaction.save([state])
        await transaction.queue([finding.user_id], plan.basis)
        facts.waiting += 1
        return True

    async def _examine(
        self,
        transaction: RepairTransaction,
        plan: Plan,
        scope: Scope,
        users: Sequence[str],
        states: Mapping[str, UserState],
        facts: SliceFacts | None,
    ) -> tuple[list[Finding], str | None]:
        """Fold the users' logs again, in order, until the slice is full where `facts` are given; whom that ended at."""
        waits = {user_id for user_id, state in states.items() if state.built_version == QUEUED}
        users = [user_id for user_id in users if user_id not in waits]
        if facts is not None:
            facts.waiting += len(waits)
        if not users:
            return [], None
        memory = await transaction.memory_of(users) if scope.folds is not None else {}
        standings = await transaction.standing_of(users)
        found: list[Finding] = []
        events = turn = 0
        following = iter(users)
        current: Recount | None = None
        at = ""

        def begin() -> Recount | None:
            nonlocal at
            at = next(following, "")
            self.culprit = at or None
            standing = standings.get(at, Standing())
            return Recount(plan, scope, at, states.get(at), memory.get(at, {}), standing) if at else None

        current = begin()
        async with aclosing(transaction.logs_of(users)) as logs:
            async for page in logs:
                for event in page:
                    while current is not None and event.user_id != at:
                        found.append(current.end())
                        if facts is not None and events >= self.most_events:
                            return found, found[-1].user_id
                        current = begin()
                    assert current is not None  # noqa: S101 (events are those of the users, in their order)
                    current.take(event)
                    events, turn = events + 1, turn + 1
                    if turn >= TURN_EVENTS:
                        turn = 0
                        await asyncio.sleep(0)
        while current is not None:
            found.append(current.end())
            current = begin()
        return found, None

    async def _put_right(
        self,
        transaction: RepairTransaction,
        plan: Plan,
        job: UserJob,
        rows: Mapping[str, UserState],
        found: Sequence[Finding],
        facts: SliceFacts,
    ) -> None:
        """Restore and grant awards, and write the states of all these users: whoever had them in memory reads again.

        `rows` are the states as they were when the users were locked.
        """
        restored = [(one.user_id, key) for one in found for key in one.restore]
        if restored:
            standings = await transaction.standing_of(sorted({user_id for user_id, _ in restored}))
            await transaction.restore([(user_id, standings[user_id].numbers[key]) for user_id, key in restored])
            facts.restored.update(key[0] for _, key in restored)
        states = {one.user_id: one.state or rows[one.user_id] for one in found}
        await transaction.read(states, sorted((user_id, "") for user_id in states))
        granted: list[tuple[Change, str]] = []
        quiet: list[tuple[Change, str]] = []
        for finding in found:
            # of events that no live batch has judged yet, live
            fresh = await transaction.arrived_since(finding.user_id, plan.basis) if finding.behind else frozenset()
            for change in finding.changes:
                origin = origin_of(change, None, fresh=fresh, behind=True)
                (granted if is_told(change, origin, fresh) else quiet).append((change, origin))
        for part, notify in ((granted, None), (quiet, job.parameters.get("notify") is True)):
            if part:
                await grant(transaction, plan, states, part, topic=self.topic, notify=notify)
        for change, origin in (*granted, *quiet):
            counts = facts.revoked if isinstance(change, Withdrawal) else facts.awards
            counts[change.badge_key, origin] += 1
        await transaction.save(list(states.values()))

    # ---- the job ----------------------------------------------------------------------------------------------------

    async def _move(
        self, transaction: RepairTransaction, job: UserJob, page: Sequence[str], last: str | None, facts: SliceFacts
    ) -> None:
        """Write down how far the job is; a sweep ends with its share, or with the last user."""
        done = [user_id for user_id in page if last is None or user_id <= last]
        facts.users = len(done)
        facts.changes = changes = added(job.changes, facts, self.left_out.intersection(done))
        figures: dict[str, Any] = {
            "users": facts.users,
            "events": facts.events,
            "awards": facts.awards.total() + facts.restored.total(),
            "changes": changes,
        }
        after = done[-1] if done else None
        share = job.parameters.get("share")
        if after is None:
            facts.done = True
            if job.kind == "sweep":
                await transaction.end_sweep(job, after="", **figures)
            else:
                await transaction.move_user_job(job, after=None, **figures)
        elif share is not None and job.users_done + facts.users >= share:
            facts.done = True
            await transaction.end_sweep(job, after=after, **figures)
        else:
            await transaction.move_user_job(job, after=after, **figures)
