"""Runs jobs: each tick once, under a lease that the database gives, in order; what was killed is taken again.

Theory of operation. There is no leader. Who finds a job due takes the job's lease; under it, what is written of its
runs is read again, each due tick gets its row (the key of the table is job and tick), is run, and is written as done.
A replica that dies leaves a lease that runs out and a row that is not done: the next one runs that tick again, which
changes nothing that was done already. A replica that slept past its lease writes nothing: rows are moved by the token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from worker.errors import BadgesError, TransientError
from worker.exchange import Ran
from worker.jobs.base import Due, Figures, Job, LeaseLost, Run, due, newest

log = structlog.get_logger(__name__)

#: How long a job's lease lasts, seconds; it is renewed at a third of that.
LEASE_SECONDS: Final = 30.0


#: After so many failures of a job at one go it is hardly a tick that is wrong: the others are tried later.
MOST_FAILURES: Final = 3


class JobStore(Protocol):
    """What running jobs asks of the database."""

    async def acquire_lease(self, name: str, owner: str, ttl_seconds: float) -> UUID | None:
        """Take or keep a lease that is free, expired or ours; None where another holds it."""

    async def renew_lease(self, name: str, token: UUID, ttl_seconds: float) -> bool:
        """Keep the lease alive; False where it was lost."""

    async def resign_lease(self, name: str, token: UUID) -> None:
        """Give the lease back, if it is still ours."""

    async def last_runs(self, jobs: Sequence[str], *, only_newest: Collection[str] = ()) -> Mapping[str, Ran]:
        """What is written of these jobs; of those `only_newest` nothing that a later tick has overtaken."""

    async def begin_run(self, job: str, tick_us: int, token: UUID, owner: str, *, again: bool) -> str | None:
        """Write that a tick runs, if the job's lease is ours; what an earlier run noted, None where it may not run.

        A tick that is done runs only `again`.
        """

    async def mark_run(self, job: str, tick_us: int, token: UUID, progress: str) -> bool:
        """Note how far the run is; False where it is not ours any more."""

    async def end_run(
        self, job: str, tick_us: int, token: UUID, outcome: str, figures: Mapping[str, Any], note: str
    ) -> bool:
        """Write what came of the run; False where it is not ours any more."""

    async def skip_run(self, job: str, tick_us: int, token: UUID, note: str) -> None:
        """Write that a tick was left out."""


@dataclass(frozen=True, slots=True)
class Told:
    """One run that ended. `outcome`: done, waiting (a service was away: it is tried again) or failed.

    `failed` are other ticks of the job that failed and stay due, where each counts.
    """

    job: str
    tick_us: int
    outcome: str
    figures: Figures
    seconds: float
    note: str = ""
    failed: int = 0


def lease_name(job: str) -> str:
    """The name of a job's lease."""
    return f"job:{job}"


async def written(store: JobStore, jobs: Sequence[Job]) -> Mapping[str, Ran]:
    """What is written of some jobs' runs, as far as it says what is due."""
    return await store.last_runs([job.name for job in jobs], only_newest=[job.name for job in jobs if job.only_newest])


class Runner:
    """Runs the ticks of jobs that are due. `owner` must be this runner's alone; `tell` hears of every run's end."""

    def __init__(
        self,
        store: JobStore,
        owner: str,
        tell: Callable[[Told], None],
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._owner = owner
        self._tell = tell
        self._lease_seconds = lease_seconds
        self._clock = clock

    async def due(self, jobs: Sequence[Job], at_us: int) -> dict[str, Due]:
        """What is due of these jobs, as far as is written now."""
        return due(jobs, await written(self._store, jobs), at_us)

    async def take(self, job: Job, at_us: int, *, forced: bool = False) -> list[Told] | None:
        """Run the ticks of a job that are due, up to the first that a service keeps from being done.

        What fails stays due, and holds no other tick; after a few failures the rest is left for later.
        `forced`: ticks that failed do not rest, and where none is due the newest is run once more. None where another
        runner has the job in hand. Raises TransientError where the database does not answer.
        """
        token = await self._store.acquire_lease(lease_name(job.name), self._owner, self._lease_seconds)
        if token is None:
            return None
        try:
            return await self._held(job, token, at_us, forced=forced)
        finally:
            with suppress(BadgesError):
                await self._store.resign_lease(lease_name(job.name), token)

    async def _held(self, job: Job, token: UUID, at_us: int, *, forced: bool) -> list[Told]:
        ran = (await written(self._store, [job])).get(job.name, Ran())
        found = due([job], {job.name: ran}, at_us, rested=forced).get(job.name, Due())
        if found.skipped_us is not None:
            log.warning("job_ticks_skipped", job=job.name, first=found.skipped_us)
            await self._store.skip_run(job.name, found.skipped_us, token, "missed; left out, with those after it")
        ticks = found.ticks
        if forced and not ticks:
            ticks = tuple(newest(list(job.timing.between(at_us - max(job.first_us, job.catch_up_us), at_us))))
        told: list[Told] = []
        failed = set() if job.only_newest else {one.tick_us for one in ran.failed}
        done = [] if ran.done_us is None else [ran.done_us]
        for tick_us in ticks:
            previous = max((earlier for earlier in done if earlier < tick_us), default=None)
            one = await self._one(job, tick_us, previous, token, forced=forced)
            if one is None:
                break
            failed.discard(tick_us)
            told.append(replace(one, failed=len(failed)))
            self._tell(told[-1])
            if one.outcome == "done":
                done.append(tick_us)
            elif one.outcome == "failed" and not job.only_newest:
                failed.add(tick_us)
            if one.outcome == "waiting" or [each.outcome for each in told].count("failed") == MOST_FAILURES:
                break
        return told

    async def _one(self, job: Job, tick_us: int, previous_us: int | None, token: UUID, *, forced: bool) -> Told | None:
        """One tick: 1 its row; 2 the work, under the lease; 3 what came of it. None where the lease was lost."""
        progress = await self._store.begin_run(job.name, tick_us, token, self._owner, again=forced)
        if progress is None:
            return None

        async def mark(text: str) -> None:
            if not await self._store.mark_run(job.name, tick_us, token, text):
                raise LeaseLost

        started = self._clock()
        outcome, figures, note = "done", Figures(), ""
        try:
            work = job.run(Run(tick_us, previous_us, forced, progress, mark))
            figures = await self._under_lease(job.name, token, work)
        except LeaseLost:
            log.warning("job_lease_lost", job=job.name, tick=tick_us)
            return None
        except TransientError as error:
            outcome, note = "waiting", error.message
        except BadgesError as error:
            outcome, note = "failed", error.message
        except Exception as error:
            log.exception("job_failed", job=job.name, tick=tick_us)
            outcome, note = "failed", f"{type(error).__name__}: {error}"[:500]
        seconds = self._clock() - started
        written = {**figures.as_json(), "seconds": round(seconds, 3)}
        if not await self._store.end_run(job.name, tick_us, token, outcome, written, note):
            log.warning("job_lease_lost", job=job.name, tick=tick_us)
            return None
        return Told(job.name, tick_us, outcome, figures, seconds, note)

    async def _under_lease(self, job: str, token: UUID, work: Coroutine[Any, Any, Figures]) -> Figures:
        """The work's figures; LeaseLost, and the work cancelled, once the lease cannot be kept."""
        working, keeping = asyncio.create_task(work), asyncio.create_task(self._keep(job, token))
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise LeaseLost
        finally:
            await _cancelled(working, keeping)

    async def _keep(self, job: str, token: UUID) -> None:
        """Renew the lease until that fails: it is refused, or no answer came for as long as it lasts."""
        renewed = self._clock()
        while self._clock() - renewed < self._lease_seconds:
            await asyncio.sleep(self._lease_seconds / 3)
            asked = self._clock()
            try:
                async with asyncio.timeout(self._lease_seconds / 3):
                    if not await self._store.renew_lease(lease_name(job), token, self._lease_seconds):
                        return
            except (TransientError, TimeoutError):
                continue
            renewed = asked


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """End tasks and wait until they have; what they raise is theirs or was taken already."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
