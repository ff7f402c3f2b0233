"""The scheduler: the jobs of the catalog that rules, run on time by any number of replicas, or once by name."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic, time

import structlog

from worker.app.catalog import working_plan
from worker.app.retention import Cuts
from worker.app.schedule_gauges import Gauges
from worker.app.sending import Sender
from worker.app.services import check_surroundings, open_store, until_schema
from worker.app.user_jobs import Sweeps
from worker.app.vitals import Pulse, vitals
from worker.config import Settings
from worker.errors import OperatorError, TransientError
from worker.events import format_instant
from worker.jobs.base import REST_SECONDS, Job
from worker.jobs.runner import Runner, Told
from worker.jobs.table import NAMES, Parts, jobs_of
from worker.metrics import Metrics
from worker.rules.plan import Plan
from worker.store.pool import SCHEMA
from worker.store.postgres import PostgresStore
from worker.stream import open_publisher

log = structlog.get_logger(__name__)

#: How often a replica looks for what is due, seconds.
LOOK_SECONDS = 5.0
#: How often gauges are read from the database, seconds.
GAUGE_SECONDS = 60.0
#: Running jobs may end within this once the scheduler must stop, seconds; what is cut off is taken again.
FINISH_SECONDS = 5.0
#: A database that did not answer for so long makes a replica unready, seconds.
AWAY_SECONDS = 60.0
#: What is written of runs is kept so long, microseconds.
KEPT_US = 90 * 86_400_000_000


def now_us() -> int:
    """The wall clock, microseconds since 1970."""
    return int(time() * 1_000_000)


class Scheduler:
    """One replica: it looks for due jobs, runs what it gets, and serves health and metrics.

    `run` returns after `stop` was called and everything ended. Any number may run; `schema` is where the tables are.
    """

    def __init__(self, settings: Settings, *, metrics: Metrics | None = None, schema: str = SCHEMA) -> None:
        self.settings = settings
        self.schema = schema
        self.metrics = metrics or Metrics()
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.health_port = 0
        self._stop = asyncio.Event()
        self._unready: str | None = "starting"
        self._looked = monotonic()
        self._pulse = Pulse()
        self._gauged = -GAUGE_SECONDS
        self._rest: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Ask for the end; safe to call from a signal handler."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Health answers from the first moment on."""
        check_surroundings(self.settings)
        where = self.settings.metrics_host, self.settings.metrics_port
        with vitals(*where, registry=self.metrics.registry, pulse=self._pulse, ready=self.ready) as self.health_port:
            async with self._opened() as (store, sender):
                await self._until_stopped(store, sender)
            log.info("scheduler_stopped")

    @asynccontextmanager
    async def _opened(self, *, waits: bool = True) -> AsyncIterator[tuple[PostgresStore, Sender]]:
        async with open_store(
            self.settings, name=f"badges schedule {self.owner}", connections=len(NAMES) + 4, schema=self.schema
        ) as store:
            await (until_schema(store) if waits else until_schema(store, seconds=0))
            sender = Sender(
                partial(open_publisher, self.settings), self.settings.control_topic, self.settings.schedule_rate
            )
            try:
                yield store, sender
            finally:
                await sender.close()

    async def _until_stopped(self, store: PostgresStore, sender: Sender) -> None:
        catalog = Head(store)
        runner = Runner(store, self.owner, self.tell)
        gauges = Gauges(self.metrics)
        pruned = -KEPT_US
        while not self._stop.is_set():
            self._pulse.beat()
            try:
                plan = await catalog.plan()
                jobs = jobs_of(self.parts(store, sender, plan))
                await self._look(runner, jobs)
                if monotonic() >= self._gauged + GAUGE_SECONDS:
                    self._gauged = monotonic()
                    await gauges.read(store, plan, jobs, now_us())
                if now_us() > pruned + KEPT_US // 90:
                    pruned = now_us()
                    only_newest = [job.name for job in jobs if job.only_newest]
                    await store.prune_job_runs(pruned - KEPT_US, only_newest=only_newest)
                self._looked, self._unready = monotonic(), None
            except OperatorError as error:
                self._unready = error.message
            except TransientError as error:
                log.info("schedule_waits", reason=error.message)
                if monotonic() - self._looked > AWAY_SECONDS:
                    self._unready = f"the database does not answer: {error.message}"
            await self._pause()
        self._unready = "stopping"
        if self._running:
            await asyncio.wait(self._running.values(), timeout=FINISH_SECONDS)
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def parts(self, store: PostgresStore, sender: Sender, plan: Plan) -> Parts:
        """What jobs are made of here."""
        sweeps = Sweeps(store, self.settings, plan, self.metrics)
        return Parts(store, sender.send, plan, sweeps, Cuts(store, plan))

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _look(self, runner: Runner, jobs: Sequence[Job]) -> None:
        """Begin what is due, each job beside the others; one that runs here already goes on."""
        self._running = {name: task for name, task in self._running.items() if not task.done()}
        rested = [job for job in jobs if self._may_run(job.name)]
        found = await runner.due(rested, now_us()) if rested else {}
        for job in rested:
            if job.name in found:
                self._running[job.name] = asyncio.create_task(self._take(runner, job), name=job.name)

    def _may_run(self, name: str) -> bool:
        return name not in self._running and monotonic() >= self._rest.get(name, 0.0)

    async def _take(self, runner: Runner, job: Job) -> None:
        try:
            told = await runner.take(job, now_us())
        except TransientError as error:
            log.info("job_waits", job=job.name, reason=error.message)
            told = None
        if not told or told[-1].outcome != "done":
            self._rest[job.name] = monotonic() + (LOOK_SECONDS if told is None else REST_SECONDS)
        if told:
            self._gauged = -GAUGE_SECONDS

    # ---- what is seen ---------------------------------------------------------------------------------------------

    def tell(self, told: Told) -> None:
        """Log and count one run; what it did is read from the database, by every replica."""
        log.info("job_ran", **job_line(told))
        self.metrics.job_runs.labels(told.job, told.outcome).inc()

    def ready(self) -> str | None:
        """Why this replica is not ready; None where it is."""
        return self._unready or self._pulse.fault()


class Head:
    """The plan of the catalog that rules, compiled anew only where another version rules by now."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._plan: Plan | None = None

    async def plan(self) -> Plan:
        """The plan. Raises OperatorError where there is no catalog yet."""
        head = await self._store.catalog_head()
        if head is None:
            raise OperatorError("The database holds no catalog.", help="run `badges catalog apply FILE`")
        if self._plan is None or self._plan.version != head.version:
            self._plan = await working_plan(self._store)
        assert self._plan is not None  # noqa: S101 (a head never goes away)
        return self._plan


def job_line(told: Told) -> dict[str, object]:
    """One run's summary: what was done, for whom, how long it took; how many other ticks failed and stay due."""
    note = told.note or told.figures.note
    return {
        "job": told.job,
        "tick": format_instant(told.tick_us),
        "outcome": told.outcome,
        "users": told.figures.users,
        "events": told.figures.events,
        "awards": told.figures.awards,
        "counts": told.figures.counts,
        "seconds": round(told.seconds, 3),
        **({"note": note} if note else {}),
        **({"failed_ticks": told.failed} if told.failed else {}),
    }


async def run_once(settings: Settings, name: str, at_us: int | None = None, *, schema: str = SCHEMA) -> Sequence[Told]:
    """Run what is due of one job at an instant (now, if none is given), or its newest tick once more; what was run.

    Raises OperatorError for an instant to come, and where the job is being run elsewhere.
    """
    now = now_us()
    if at_us is not None and at_us > now:
        raise OperatorError(
            f"{format_instant(at_us)} has not come yet.",
            help="give a time that has passed; simulate --jobs looks ahead",
        )
    check_surroundings(settings)
    scheduler = Scheduler(settings, schema=schema)
    async with scheduler._opened(waits=False) as (store, sender):  # noqa: SLF001 (of this module)
        parts = scheduler.parts(store, sender, await Head(store).plan())
        job = next(job for job in jobs_of(parts) if job.name == name)
        told = await Runner(store, scheduler.owner, scheduler.tell).take(
            job, now if at_us is None else at_us, forced=True
        )
    if told is None:
        raise OperatorError(
            f"The job {name} is being run by another process.", help="let it end; it does what is due as well"
        )
    return told
