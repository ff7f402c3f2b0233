"""Drives jobs over users, slice by slice: as fast as asked, slower while live work goes on, not at all while it lags.

Whoever drives a job keeps it by being heard of; when a driver dies, the next one goes on where the last slice ended.
Commands drive the job they were asked for, in the foreground; a worker takes what waits, one job at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

import structlog

from worker.errors import BadgesError, OperatorError, PoisonBatch, TransientError
from worker.exchange import LiveFigures
from worker.pipeline.batch import CatalogMoved
from worker.pipeline.found import SliceFacts
from worker.pipeline.repair_protocols import RepairStore
from worker.pipeline.slices import LEASE_SECONDS, Slices

log = structlog.get_logger(__name__)

#: Events of the log read a second where nothing else is said.
DEFAULT_RATE: Final = 20_000
#: Live work goes on where a batch was applied within so many seconds: a slice then rests so many times as long as it
#: took, so that live batches have most of the time.
LIVE_SECONDS: Final = 5.0
LIVE_REST: Final = 3.0
#: Live work lags where a record waits to be applied, a message for the relay, or a transaction runs, for longer than
#: this, seconds; how long is then waited before it is asked again. Where no batch was applied for so long, records and
#: messages wait for no live worker.
LAG_SECONDS: Final = 1.0
LAG_WAIT: Final = 0.5
GONE_SECONDS: Final = 10.0
#: How often it is asked how live work is, at most, seconds.
LOOK_SECONDS: Final = 0.25
#: How long to wait after a failure, and where there is nothing to do; how often a user may fail before being left out.
RETRY_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 1.0
PATIENCE: Final = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a job goes: events of the log read a second (None: as fast as they can be).

    `live_rest` is how many times as long as a slice took is rested after it while live work goes on.
    """

    rate: int | None = DEFAULT_RATE
    live_rest: float = LIVE_REST

    def rest(self, spent: float, events: int, live: LiveFigures) -> float:
        """How long to rest after a slice that took `spent` seconds for so many events."""
        by_rate = 0.0 if self.rate is None else events / self.rate - spent
        by_live = self.live_rest * spent if goes_on(live) else 0.0
        return max(0.0, by_rate, by_live)


def lag_of(live: LiveFigures) -> float:
    """How far live work lags, seconds; 0 where there is none, or none to speak of."""
    lag = live.running if is_gone(live) else max(live.outbox, live.running, live.behind)
    return lag if lag > LAG_SECONDS else 0.0


def goes_on(live: LiveFigures) -> bool:
    """Whether live batches are applied these seconds."""
    return live.idle is not None and live.idle < LIVE_SECONDS


def is_gone(live: LiveFigures) -> bool:
    """Whether there is no live work that could lag."""
    return live.idle is None or live.idle > GONE_SECONDS


@dataclass(slots=True)
class Driver:
    """Does a job's slices, one after the other. `told` hears of each, with the lag that slows it, and of waits.

    `moved` is called where the catalog's head has moved: from then on the plan must be the new one. `behind` says, at
    once, for how many seconds records of the topics have waited to be applied.
    """

    store: RepairStore
    slices: Slices
    moved: Callable[[int], Awaitable[None]]
    told: Callable[[SliceFacts | None, float], None]
    pace: Pace = field(default_factory=Pace)
    clock: Callable[[], float] = monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    behind: Callable[[], float] = lambda: 0.0
    _failures: dict[str, int] = field(default_factory=dict)
    _live: tuple[float, LiveFigures] | None = None

    async def finish(self, job_id: int) -> None:
        """Do slices of a job until it has ended, or is somebody else's. Raises OperatorError where it cannot go on."""
        try:
            while await self.step(job_id):
                pass
        finally:
            await self.slices.leave()

    async def step(self, job_id: int) -> bool:
        """One slice, and the rest after it; False where there is none left for this driver.

        What a service cannot do now is tried again; a user who fails again and again is left out.
        """
        began = self.clock()
        try:
            facts = await self.slices.slice(job_id)
        except CatalogMoved as moved:
            await self.moved(moved.head)
            return True
        except OperatorError as error:
            await self.store.fail_user_job(job_id, note=error.message)
            raise
        except (TransientError, PoisonBatch) as error:
            self._note(error)
            await self.sleep(RETRY_SECONDS)
            return True
        if facts is None:
            return False
        self.told(facts, 0.0)
        if facts.done:
            self.slices.size(beside_live=True)  # of the next job: it is not known yet what goes on then
            return False
        # else what this driver has begun would count as a transaction that live work waits for
        await self.slices.arrive()
        live = await self._figures()
        self.slices.size(beside_live=goes_on(live))
        await self._rest(job_id, self.pace.rest(self.clock() - began, facts.events, live))
        return await self._wait_for_live(job_id, live)

    async def _rest(self, job_id: int, seconds: float) -> None:
        while seconds > 0:
            part = min(seconds, LEASE_SECONDS / 3)
            await self.sleep(part)
            seconds -= part
            if seconds > 0:
                await self.store.keep_user_job(job_id, self.slices.driver, seconds=LEASE_SECONDS)

    async def _wait_for_live(self, job_id: int, live: LiveFigures) -> bool:
        """Wait while live work lags; False where the job is this driver's no more."""
        while (lag := lag_of(live)) > 0:
            self.told(None, lag)
            await self.sleep(LAG_WAIT)
            if not await self.store.keep_user_job(job_id, self.slices.driver, seconds=LEASE_SECONDS):
                return False
            self._live = None
            live = await self._figures()
        return True

    async def _figures(self) -> LiveFigures:
        now = self.clock()
        if self._live is None or now - self._live[0] > LOOK_SECONDS:
            live = await self.store.live_figures()
            self._live = (now, live if is_gone(live) else replace(live, behind=self.behind()))
        return self._live[1]

    def _note(self, error: BadgesError) -> None:
        """Whoever keeps failing is left out, so that the others are done."""
        log.warning("job_waits", reason=error.message, seconds=RETRY_SECONDS)
        culprit, self.slices.culprit = self.slices.culprit, None
        if culprit is None or isinstance(error, PoisonBatch):
            self.slices.limit = 1  # one of the slice's users has what the database refuses: one at a time shows who
        if culprit is not None:
            self._failures[culprit] = self._failures.get(culprit, 0) + 1
            if self._failures[culprit] >= PATIENCE:
                self.slices.left_out.add(culprit)
                log.error("user_left_out", reason=error.message)


@dataclass(slots=True)
class Waiting:
    """The task of one worker that takes the jobs that wait, and those whose driver is gone."""

    driver: Driver

    async def run(self) -> None:
        """Until cancelled; whatever happens here, it waits and tries again: live events do not depend on it."""
        try:
            await self._take_turns()
        finally:
            await self.driver.slices.leave()

    async def _take_turns(self) -> None:
        while True:
            try:
                found = await self.driver.store.next_user_job(self.driver.slices.driver)
                if found is None:
                    await self.driver.sleep(IDLE_SECONDS)
                elif not await self.driver.step(found):
                    await self.driver.sleep(IDLE_SECONDS / 10)
            except (TransientError, PoisonBatch, OperatorError) as error:
                log.warning("jobs_wait", reason=error.message, seconds=RETRY_SECONDS)
                await self.driver.sleep(RETRY_SECONDS)
