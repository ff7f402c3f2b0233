"""Driving jobs over users: how fast, what makes it wait, whom it leaves out, what goes on after a kill anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.rig.faults import killed_at
from tests.unit.test_slices import COMMUNITY, Rig
from worker.errors import OperatorError, PoisonBatch, TransientError
from worker.exchange import LiveFigures, UserJob
from worker.pipeline import driving, slices
from worker.pipeline.driving import Driver, Pace, Waiting, lag_of
from worker.pipeline.found import SliceFacts


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
async def rig() -> Rig:
    made = await Rig().start()
    await made.put(*COMMUNITY)
    return made


def driver_of(
    rig: Rig, *, pace: Pace | None = None, name: str = "test"
) -> tuple[Driver, Clock, list[tuple[Any, float]]]:
    """A driver on a clock of the test's own, and what it tells."""
    clock, told = Clock(), []

    async def moved(head: int) -> None:
        raise AssertionError(f"the catalog moved to {head}")

    def tell(facts: SliceFacts | None, lag: float) -> None:
        told.append((facts, lag))

    driver = Driver(rig.store, rig.slices(name), moved, tell, pace or Pace(None), clock, clock.sleep)
    return driver, clock, told


async def job_of(rig: Rig, number: int) -> UserJob:
    """The job as it stands."""
    job = await rig.store.user_job(number)
    assert job is not None
    return job


def test_a_pace_is_a_rate_and_leaves_live_work_most_of_the_time() -> None:
    """A slice rests until its events are within the rate; where batches are applied, three times as long as it took."""
    idle, live = LiveFigures(None, 0.0, 0.0), LiveFigures(0.5, 0.0, 0.0)
    assert Pace(1_000).rest(0.5, 2_000, idle) == 1.5
    assert Pace(1_000).rest(0.5, 100, idle) == 0.0
    assert Pace(None).rest(0.5, 2_000, idle) == 0.0
    assert Pace(None).rest(0.5, 2_000, live) == 1.5
    assert Pace(1_000).rest(0.5, 5_000, live) == 4.5


def test_lag_is_what_live_work_waits_for() -> None:
    """Old messages and records count while batches are applied, long transactions always, and none below a second."""
    assert lag_of(LiveFigures(1.0, 3.0, 0.0)) == 3.0
    assert lag_of(LiveFigures(1.0, 0.9, 0.9)) == 0.0
    assert lag_of(LiveFigures(None, 3.0, 0.0)) == 0.0
    assert lag_of(LiveFigures(99.0, 3.0, 2.0)) == 2.0
    assert lag_of(LiveFigures(1.0, 0.0, 0.0, 4.0)) == 4.0
    assert lag_of(LiveFigures(99.0, 0.0, 0.0, 4.0)) == 0.0


async def test_a_job_waits_while_live_work_lags(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read while messages are late; once they are not the job goes on, unless it was cancelled meanwhile."""
    monkeypatch.setattr(slices, "SLICE_USERS", 1)
    monkeypatch.setattr(slices, "LIVE_SLICE_USERS", 1)
    monkeypatch.setattr(driving, "LOOK_SECONDS", -1.0)
    lags = iter([5.0, 4.0, 0.0, 6.0, 6.0])
    driver, _, told = driver_of(rig)
    number = await rig.store.create_user_job("sweep", {})

    async def figures() -> LiveFigures:
        lag = next(lags)
        if lag == 6.0:
            await rig.store.cancel_user_job(number)
        return LiveFigures(1.0, lag, 0.0)

    monkeypatch.setattr(rig.store, "live_figures", figures)
    driver.slices.limit = 1
    await driver.finish(number)
    assert [lag for facts, lag in told if facts is None] == [5.0, 4.0, 6.0]
    job = await job_of(rig, number)
    assert (job.state, job.users_done) == ("cancelled", 2)


async def test_a_job_waits_while_records_of_the_topics_do(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little the database tells, nothing is read while live work is behind the topics; where there is no live
    work nobody asks how far it is.
    """
    monkeypatch.setattr(slices, "SLICE_USERS", 1)
    monkeypatch.setattr(slices, "LIVE_SLICE_USERS", 1)
    monkeypatch.setattr(driving, "LOOK_SECONDS", -1.0)
    idle, waits = [1.0], iter([3.0, 2.0, 0.5, 0.0, 7.0, 0.0])
    driver, _, told = driver_of(rig)
    driver.behind = lambda: next(waits)

    async def figures() -> LiveFigures:
        return LiveFigures(idle[0], 0.0, 0.0)

    monkeypatch.setattr(rig.store, "live_figures", figures)
    driver.slices.limit = 1
    await driver.finish(await rig.store.create_user_job("sweep", {}))
    assert [lag for facts, lag in told if facts is None] == [3.0, 2.0, 7.0]
    idle[0], driver.behind = 99.0, lambda: pytest.fail("there is nobody to yield to")
    await driver.finish(await rig.store.create_user_job("sweep", {}))


@pytest.mark.parametrize(("idle", "users"), [(1.0, 1), (99.0, 2), (None, 2)])
async def test_slices_are_small_beside_live_work(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, idle: float | None, users: int
) -> None:
    """While live batches are applied few users are looked at together, else many; the first slice does not know yet."""
    monkeypatch.setattr(slices, "SLICE_USERS", 2)
    monkeypatch.setattr(slices, "LIVE_SLICE_USERS", 1)
    driver, _, told = driver_of(rig)
    driver.slices.size(beside_live=True)

    async def figures() -> LiveFigures:
        return LiveFigures(idle, 0.0, 0.0)

    monkeypatch.setattr(rig.store, "live_figures", figures)
    await driver.finish(await rig.store.create_user_job("sweep", {}))
    sizes = [facts.users for facts, _ in told if facts is not None]
    assert sizes[:2] == [1, users]


async def test_who_cannot_be_read_is_left_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose award the database refuses is tried a few times, found alone, passed over; the others are done."""
    del rig.held("ann")["commentator_4", ""]
    del rig.held("bob")["editor", ""]
    original = rig.store.transaction

    @asynccontextmanager
    async def failing() -> AsyncIterator[Any]:
        async with original() as transaction:
            restore = transaction.restore

            async def refused(awards: Any) -> None:
                if any(user_id == "ann" for user_id, _ in awards):
                    raise PoisonBatch("the database refused a value")
                await restore(awards)

            monkeypatch.setattr(transaction, "restore", refused)
            yield transaction

    monkeypatch.setattr(rig.store, "transaction", failing)
    driver, _, _ = driver_of(rig)
    number = await rig.store.create_user_job("sweep", {})
    await driver.finish(number)
    job = await job_of(rig, number)
    assert (job.state, job.changes) == ("done", {"award_missing": 1, "badges": {"editor": 1}, "left_out": 1})
    assert ("editor", "") in rig.held("bob")


async def test_a_job_that_cannot_go_on_fails_with_a_reason(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only an operator can mend ends the job, and its row says what it was."""
    driver, _, _ = driver_of(rig)
    number = await rig.store.create_user_job("sweep", {})

    async def refused(_: int) -> None:
        raise OperatorError("Conditions cannot be asked here.")

    monkeypatch.setattr(type(driver.slices), "slice", lambda _self, job: refused(job))
    with pytest.raises(OperatorError):
        await driver.finish(number)
    job = await job_of(rig, number)
    assert (job.state, job.note) == ("failed", "Conditions cannot be asked here.")


METHODS = [
    "catalog_version",
    "take_user_job",
    "floors",
    "users_page",
    "look_at",
    "memory_of",
    "standing_of",
    "lock",
    "restore",
    "read",
    "save",
    "move_user_job",
]


@pytest.mark.parametrize("method", METHODS)
async def test_a_job_killed_at_any_statement_goes_on(rig: Rig, method: str) -> None:
    """Whoever drives it next does what is left: nothing is done by halves, nothing is counted twice."""
    del rig.held("ann")["commentator_4", ""]
    del rig.held("bob")["editor", ""]
    del rig.tables.users["cid"]
    number = await rig.store.create_user_job("sweep", {})
    with killed_at(rig.store, method, (1, 3, 6, 10, 15)):
        for turn in range(20):
            rig.tables.user_jobs[number].leased_until = None
            slices = rig.slices(f"driver {turn}")
            slices.limit = 1
            try:
                while (facts := await slices.slice(number)) is not None and not facts.done:
                    pass
                break
            except TransientError:
                continue
    job = await job_of(rig, number)
    assert (job.state, job.users_done, job.awards) == ("done", 3, 2)
    assert {name: count for name, count in job.changes.items() if name != "badges"} == {
        "award_missing": 2,
        "fold_missing": 1,
    }
    assert (await rig.run()).changes == {}


async def test_a_worker_takes_the_jobs_that_wait(rig: Rig) -> None:
    """One job after the other, and those whose driver is gone; then it rests until there is another."""
    _, second = [await rig.store.create_user_job(kind, {}) for kind in ("sweep", "recompute")]
    rig.tables.user_jobs[second].driver = "dead"
    driver, clock, _ = driver_of(rig)

    class Rested(Exception):
        """Nothing was left to do."""

    async def sleep(seconds: float) -> None:
        if seconds == 1.0:
            raise Rested
        await clock.sleep(seconds)

    driver.sleep = sleep
    with pytest.raises(Rested):
        await Waiting(driver).run()
    assert [job.state for job in await rig.store.user_jobs()] == ["done", "done"]
