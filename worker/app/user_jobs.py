"""Jobs over users as people ask for them: checked against the catalog that rules, previewed, driven to their end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import structlog

from worker.app.catalog import working_plan
from worker.app.comparing import Progress, play
from worker.app.conditions import FaultLog, refuse_unasked
from worker.app.live_lag import LiveLag
from worker.conditions import Door
from worker.config import Settings
from worker.errors import OperatorError
from worker.exchange import AuditLine, UserJob
from worker.jobs.sweep import Swept
from worker.metrics import Metrics
from worker.pipeline.driving import Driver, Pace
from worker.pipeline.found import SliceFacts
from worker.pipeline.protocols import Judge
from worker.pipeline.recount import AWARD_NOT_IN_LOG, KINDS
from worker.pipeline.scope import scope_of_job
from worker.pipeline.slices import LEASE_SECONDS, Slices
from worker.rules.catalog.nearest import nearest
from worker.rules.plan import EVALUATED, Plan
from worker.rules.preview import Preview
from worker.store.population import PopulationTable
from worker.store.postgres import PostgresStore

log = structlog.get_logger(__name__)

#: How often a job that somebody else drives is looked at, seconds.
WATCH_SECONDS: Final = 1.0

Told = Callable[[UserJob, float], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that was asked for, found sound: its kind, what its row says, how many users it will look at."""

    plan: Plan
    kind: str
    parameters: Mapping[str, Any]
    users: int

    @property
    def keys(self) -> list[str]:
        """The badges that it may give."""
        scope = scope_of_job(self.plan, self.kind, self.parameters)
        return [goal.badge.key for goal in self.plan.goals if scope.about(goal.badge.key)]


async def ask(
    store: PostgresStore,
    kind: str,
    *,
    badges: Sequence[str] = (),
    user: str | None = None,
    trigger: str | None = None,
    notify: bool = False,
    conditions: bool = False,
) -> Asked:
    """Check what is asked for. Raises OperatorError for a badge, a type or a user that nobody knows."""
    plan = await working_plan(store)
    if plan is None:
        raise OperatorError("The database holds no catalog.", help="run `badges catalog apply FILE`")
    parameters: dict[str, Any] = {}
    if badges:
        parameters["badges"] = sorted({_badge(plan, key) for key in badges})
    if trigger is not None:
        parameters["trigger"] = _trigger(plan, trigger)
    if user is not None:
        if not await store.knows_user(user):
            raise OperatorError(f"No event of {user} was ever logged; nothing was changed.", help="ids are exact")
        parameters["user"] = user
    if notify:
        parameters["notify"] = True
    if conditions:
        if plan.conditions is None:
            raise OperatorError(
                "No badge of the catalog asks a condition in JavaScript.", help="leave --conditions out"
            )
        parameters["conditions"] = True
    total = 1 if user is not None else await PopulationTable(store.pool).count()
    return Asked(plan, kind, parameters, total)


def _badge(plan: Plan, key: str) -> str:
    badge = plan.badges.get(key)
    if badge is None:
        near = nearest(key, plan.badges)
        remedy = f"did you mean {near}?" if near else "see `badges catalog show`"
        raise OperatorError(f"The catalog has no badge {key}; nothing was changed.", help=remedy)
    if badge.status not in EVALUATED:
        raise OperatorError(
            f"{key} is {badge.status}: nobody is given it; nothing was changed.",
            help="a badge is given while its status is active or hidden",
        )
    return key


def _trigger(plan: Plan, name: str) -> str:
    dictionary = plan.catalog.dictionary
    kind = dictionary.resolve(name)
    if kind is None:
        near = dictionary.nearest(name)
        remedy = f"did you mean {near}?" if near else "see the catalog's events"
        raise OperatorError(f"The catalog has no event type {name}; nothing was changed.", help=remedy)
    return kind.name


async def preview_of(
    store: PostgresStore, asked: Asked, *, samples: int | None = 10, progress: Progress | None = None
) -> tuple[Preview, int]:
    """What users would gain, and how many users there are; nothing is written. Of what is sealed nobody gains any."""
    _, sealed = await sealed_by_retention(store, asked)
    keys = [key for key in asked.keys if key not in sealed]
    return await play(
        store, asked.plan.catalog, keys, samples=samples, progress=progress, user=asked.parameters.get("user")
    )


async def sealed_by_retention(store: PostgresStore, asked: Asked) -> tuple[dict[str, int], list[str]]:
    """Types of which retention removed events that matter here, up to when; the badges that are left as they are."""
    async with store.transaction() as transaction:
        floors = await transaction.floors()
    scope = scope_of_job(asked.plan, asked.kind, asked.parameters, frozenset(floors))
    concerned = sorted(key for key in scope.sealed if scope.about(key))
    return (floors if concerned else {}), concerned


def driver_name() -> str:
    """Names this process as the driver of jobs."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"


def driver_of(
    store: PostgresStore,
    plan: Callable[[], Plan],
    settings: Settings,
    *,
    moved: Callable[[int], Any],
    told: Callable[[SliceFacts | None, float], None],
    judge: Judge | None,
    pace: Pace | None = None,
    behind: Callable[[], float] = lambda: 0.0,
) -> Driver:
    """What drives jobs in this process; `behind` is `LiveLag.seconds` where there is a broker to ask."""
    slices = Slices(store, plan, driver_name(), settings.award_topic, judge)
    return Driver(store, slices, moved, told, pace or Pace(), behind=behind)


class Foreground:
    """Does jobs here, to their end; `told` hears how far they are and of the lag that slows them."""

    def __init__(self, store: PostgresStore, settings: Settings, asked: Asked, *, rate: int | None, told: Told) -> None:
        self.store = store
        self.settings = settings
        self.asked = asked
        self.plan = asked.plan
        self._told = told
        self._last: UserJob | None = None
        self._door = Door(tell=FaultLog()) if settings.js == "on" and asked.parameters.get("conditions") else None
        judge = None if self._door is None else self._door.judge
        self._lag = LiveLag(store, settings)
        self._driver = driver_of(
            store,
            lambda: self.plan,
            settings,
            moved=self._moved,
            told=self._heard,
            judge=judge,
            pace=Pace(rate),
            behind=self._lag.seconds,
        )

    async def run(self, *, requested_by: str) -> UserJob:
        """Do the job; one that asks the same and was left unfinished is gone on with, or watched if somebody drives it.

        When this is cancelled so is the job: what is done stays done. Raises OperatorError where it cannot go on.
        """
        number = 0
        driver = self._driver.slices.driver
        try:
            number = await found_or_made(self.store, self.asked, requested_by=requested_by, driver=driver)
            while (job := await _job(self.store, number)).state in ("waiting", "running"):
                self._last = job
                self._told(job, 0.0)
                await self._driver.finish(number)
                if (await _job(self.store, number)).state in ("waiting", "running"):
                    await asyncio.sleep(WATCH_SECONDS)
        except asyncio.CancelledError:
            if number and await self.store.keep_user_job(number, driver, seconds=LEASE_SECONDS):
                await self.store.cancel_user_job(number, note="interrupted")
            raise
        finally:
            await self._lag.close()
            if self._door is not None:
                await self._door.close()
        return job

    async def _moved(self, _head: int) -> None:
        """The catalog's head has moved: go on with the new plan, if it may be used here."""
        plan = await working_plan(self.store)
        if plan is None or plan.version == self.plan.version:
            await asyncio.sleep(WATCH_SECONDS)
            return
        refuse_unasked(plan.catalog, self.settings)
        self.plan = plan

    def _heard(self, facts: SliceFacts | None, lag: float) -> None:
        if facts is not None:
            self._last = after_slice(facts)
        if self._last is not None:
            self._told(self._last, lag)


async def found_or_made(
    store: PostgresStore, asked: Asked, *, requested_by: str, driver: str | None = None, note: str = ""
) -> int:
    """The number of the unfinished job that is asked for, else of a new one, which leaves a line with `note`.

    Without a driver it waits for a worker.
    """
    found = await store.unfinished_user_job(asked.kind, asked.parameters)
    if found is not None:
        return found[0]
    return await store.create_user_job(
        asked.kind,
        asked.parameters,
        users=asked.users,
        requested_by=requested_by,
        driver=driver,
        line=partial(started, asked, requested_by, note=note),
    )


def started(asked: Asked, actor: str, number: int, *, note: str = "") -> AuditLine:
    """What the log of changes says of a job that begins."""
    return AuditLine(actor, f"{asked.kind}.started", f"job {number}", after=dict(asked.parameters), note=note)


async def _job(store: PostgresStore, number: int) -> UserJob:
    job = await store.user_job(number)
    if job is None:
        raise OperatorError(f"The job {number} was removed meanwhile.")
    return job


def after_slice(facts: SliceFacts) -> UserJob:
    """The job as it stands after a slice."""
    job = facts.job
    users = job.users_done + facts.users
    return replace(
        job,
        users_done=users,
        users_total=max(users, job.users_total),
        events=job.events + facts.events,
        awards=job.awards + facts.awards.total() + facts.restored.total(),
        changes=facts.changes,
    )


# ---- in services


def told_by(metrics: Metrics, wake: Callable[[], None] = lambda: None) -> Callable[[SliceFacts | None, float], None]:
    """Counts and logs slices; `wake` is called where one has left messages to publish."""

    def told(facts: SliceFacts | None, lag: float) -> None:
        if facts is None:
            log.debug("job_slowed", lag=round(lag, 1))
            return
        job = facts.job
        metrics.users_recounted.labels(job.kind).inc(facts.users)
        for kind, count in facts.kinds.items():
            metrics.differences.labels(kind).inc(count)
        for (badge, origin), count in facts.awards.items():
            metrics.awards.labels(metrics.badge(badge), origin).inc(count)
        for (badge, origin), count in facts.revoked.items():
            metrics.revocations.labels(metrics.badge(badge), origin).inc(count)
        log.info("users_recounted", job=job.id, kind=job.kind, users=facts.users, events=facts.events, done=facts.done)
        if facts.awards or facts.revoked:
            wake()

    return told


def repaired(changes: Mapping[str, Any]) -> int:
    """How many differences a job found that it put right: each stands for something that went wrong before."""
    return sum(int(changes.get(kind, 0)) for kind in KINDS if kind != AWARD_NOT_IN_LOG)


class Sweeps:
    """Sweeps users here (`worker.jobs.sweep.Sweeping`), each share one of so many days'."""

    def __init__(self, store: PostgresStore, settings: Settings, plan: Plan, metrics: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._plan = plan
        self._lag = LiveLag(store, settings)
        self._driver = driver_of(
            store,
            lambda: self._plan,
            settings,
            moved=self._moved,
            told=told_by(metrics),
            judge=None,
            behind=self._lag.seconds,
        )

    async def begin(self, *, everybody: bool) -> int:
        """A sweep, unless one that looks at as many was left unfinished; its number.

        A share goes on after the last user of the one before.
        """
        users = await PopulationTable(self._store.pool).count()
        parameters, after = {}, ""
        if not everybody:
            users = max(1, -(-users // self._settings.sweep_days))
            parameters, after = {"share": users}, await self._store.last_sweep()
        found = await self._store.unfinished_user_job("sweep", parameters)
        if found is not None:
            return found[0]
        return await self._store.create_user_job("sweep", parameters, users=users, requested_by="schedule", after=after)

    async def go_on(self, number: int) -> Swept:
        """Do a sweep to its end, from where it is, unless a worker does it meanwhile: that is waited for."""
        try:
            while (job := await _job(self._store, number)).state in ("waiting", "running"):
                await self._driver.finish(number)
                if (await _job(self._store, number)).state in ("waiting", "running"):
                    await asyncio.sleep(WATCH_SECONDS)
        finally:
            await self._lag.close()
        if job.state == "failed":
            raise OperatorError(f"The sweep {number} failed: {job.note}")
        kinds = {kind: int(job.changes[kind]) for kind in KINDS if job.changes.get(kind)}
        return Swept(job.users_done, job.events, job.awards, kinds)

    async def _moved(self, _head: int) -> None:
        plan = await working_plan(self._store)
        if plan is None or plan.version == self._plan.version:
            await asyncio.sleep(WATCH_SECONDS)
        else:
            self._plan = plan
