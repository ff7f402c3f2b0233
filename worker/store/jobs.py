"""The runs of scheduled jobs in PostgreSQL, and the users they go through."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from worker.events import json_text
from worker.exchange import FailedTick, Ran
from worker.store.blobs import storable
from worker.store.session import Database

_LAST_US: Final = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run as lists show it; `figures` are users, events, awards, counts and seconds, what is zero left out."""

    job: str
    tick_us: int
    outcome: str
    owner: str
    attempts: int
    figures: Mapping[str, Any]
    note: str
    started_us: int
    finished_us: int | None


class JobTables(Database):
    """See `jobs.runner.JobStore` for what the methods on runs promise."""

    async def last_runs(self, jobs: Sequence[str], *, only_newest: Collection[str] = ()) -> dict[str, Ran]:
        """What is written of these jobs; of those `only_newest` nothing that a later tick has overtaken."""
        return {
            job: Ran(newest, done, tuple(unfinished), tuple(map(FailedTick, failed, failures, ago)))
            for job, newest, done, unfinished, failed, failures, ago in await self.rows(
                "last_runs", list(jobs), [job in only_newest for job in jobs]
            )
        }

    async def begin_run(self, job: str, tick_us: int, token: UUID, owner: str, *, again: bool) -> str | None:
        """Write that a tick runs; what an earlier run noted, None where it may not."""
        found = await self.rows("begin_run", job, tick_us, token, owner, again)
        return str(found[0]["progress"]) if found else None

    async def mark_run(self, job: str, tick_us: int, token: UUID, progress: str) -> bool:
        """Note how far the run is; False where it is not ours any more."""
        return await self.execute("mark_run", job, tick_us, token, progress) == 1

    async def end_run(
        self, job: str, tick_us: int, token: UUID, outcome: str, figures: Mapping[str, Any], note: str
    ) -> bool:
        """Write what came of the run; False where it is not ours any more."""
        told = json_text.dumps(dict(figures))
        return await self.execute("end_run", job, tick_us, token, outcome, told, storable(note)) == 1

    async def skip_run(self, job: str, tick_us: int, token: UUID, note: str) -> None:
        """Write that a tick was left out."""
        await self.execute("skip_run", job, tick_us, token, note)

    async def job_runs(self, *, job: str | None = None, before_us: int = _LAST_US, limit: int = 50) -> list[JobRun]:
        """Runs, newest tick first; `before_us` is the tick of the last one of the page before."""
        if job is None:
            return [_run(row) for row in await self.rows("job_runs", before_us, limit)]
        return [_run(row) for row in await self.rows("job_runs_of", job, before_us, limit)]

    async def newest_runs(self) -> list[JobRun]:
        """The newest run of each job, the newest first."""
        return [_run(row) for row in await self.rows("newest_runs")]

    async def last_successes(self, jobs: Sequence[str]) -> list[JobRun]:
        """Of each of these jobs the run of the newest tick that is done; a job without one is left out."""
        return [_run(row) for row in await self.rows("last_successes", list(jobs))]

    async def prune_job_runs(self, before_us: int, *, only_newest: Collection[str] = (), limit: int = 10_000) -> int:
        """Remove what is written of ticks before an instant that are not due any more; returns how many.

        Each job keeps its newest, and of those `only_newest` what a later tick has overtaken goes, too.
        """
        return await self.execute("prune_job_runs", before_us, limit, list(only_newest))

    async def next_users(self, after: str, limit: int) -> list[str]:
        """The next users after one, by id."""
        return [row["user_id"] for row in await self.rows("next_users", after, limit)]


def _run(row: Any) -> JobRun:
    return JobRun(**{**row, "figures": json_text.loads(row["figures"])})
