"""The gauges of a scheduler, read from the database: jobs, holders, how unusual a day is, how long types are silent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from worker.app.coverage import SILENT, counted_coverage
from worker.app.user_jobs import repaired
from worker.exchange import Ran
from worker.jobs.base import Job, due_since
from worker.jobs.runner import written
from worker.jobs.spikes import change_ratio
from worker.metrics import OTHER, Metrics
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore

_DAY: Final = 86_400_000_000


class Gauges:
    """What every replica shows alike: nothing of it is what this process did."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._silent: set[str] = set()

    async def read(self, store: PostgresStore, plan: Plan, jobs: Sequence[Job], at_us: int) -> None:
        """Read and show all. Raises TransientError."""
        await self._read_jobs(store, jobs, at_us)
        metrics = self._metrics
        metrics.catalog_version.set(plan.version)
        for badge, holders in (await store.holder_counts()).items():
            if (label := metrics.badge(badge)) != OTHER:
                metrics.holders.labels(label).set(holders)
        for badge, share in (await store.badge_shares()).items():
            if (label := metrics.badge(badge)) != OTHER and share.part is not None:
                metrics.holders_share.labels(label).set(share.part)
        usual, awards = await store.badge_baselines(), await store.awards_since(at_us - _DAY)
        for badge in sorted(usual.keys() | awards.keys()):
            if (label := metrics.badge(badge)) != OTHER:
                ratio = change_ratio(awards.get(badge, 0), usual.get(badge))
                metrics.holders_change_ratio.labels(label).set(ratio)
        active = await store.active_users()
        if active is not None:
            metrics.active_users.set(active[1])
        for sweep in await store.user_jobs(kind="sweep", state="done", limit=1):
            metrics.sweep_differences.set(repaired(sweep.changes))
        await self._read_silence(store, plan)

    async def _read_jobs(self, store: PostgresStore, jobs: Sequence[Job], at_us: int) -> None:
        """How long each job has been due, and what its newest run did that ended well, whoever made it."""
        metrics, names = self._metrics, [job.name for job in jobs]
        ran = await written(store, jobs)
        for job in jobs:
            since = due_since(job, ran.get(job.name, Ran()), at_us)
            metrics.job_overdue_seconds.labels(job.name).set(0 if since is None else (at_us - since) / 1_000_000)
        for run in await store.last_successes(names):
            if run.finished_us is not None:
                metrics.job_last_success_timestamp.labels(run.job).set(run.finished_us / 1_000_000)
            for gauge, name in (
                (metrics.job_seconds, "seconds"),
                (metrics.job_users, "users"),
                (metrics.job_events, "events"),
                (metrics.job_awards, "awards"),
                (metrics.job_counts, "counts"),
            ):
                if (figure := run.figures.get(name, 0)) is not None:
                    gauge.labels(run.job).set(figure)

    async def _read_silence(self, store: PostgresStore, plan: Plan) -> None:
        """Which types are silent, as coverage says it: from the last event up to where arrivals are counted."""
        metrics, upto = self._metrics, await store.arrivals_counted()
        shown = set()
        for one in [] if upto is None else await counted_coverage(store, plan.catalog, upto):
            label = metrics.event_type(one.type)
            if label == OTHER or not one.badges:
                continue
            shown.add(label)
            metrics.trigger_silent.labels(label).set(one.state in SILENT)
            if upto is not None and one.last_us is not None and one.usual is not None:
                metrics.trigger_silent_seconds.labels(label).set(max(0, upto - one.last_us) / 1_000_000)
                metrics.trigger_usual_per_day.labels(label).set(one.usual)
            else:
                self._forget_last(label)
        for gone in self._silent - shown:
            metrics.forget(metrics.trigger_silent, gone)
            self._forget_last(gone)
        self._silent = shown

    def _forget_last(self, label: str) -> None:
        self._metrics.forget(self._metrics.trigger_silent_seconds, label)
        self._metrics.forget(self._metrics.trigger_usual_per_day, label)
