"""The scheduler on a real database and broker: ticks run once by several replicas, what it sends, how it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from tests.rig.kafka import KafkaService
from tests.rig.postgres import execute
from tests.rig.waiting import until
from worker import cli
from worker.app import Worker, apply_catalog, open_store, schedule
from worker.app.schedule import Scheduler, now_us, run_once
from worker.config import Settings, load_settings
from worker.errors import OperatorError
from worker.events import format_instant
from worker.jobs.base import DAY, HOUR, MINUTE, Every, Figures, Run
from worker.jobs.runner import Runner, Told, lease_name
from worker.store.postgres import PostgresStore
from worker.stream.connection import stop_quietly

CATALOG = """
version: 1
events:
  user.registered: {description: A user joined.}
schedules:
  - {event: cron.hourly, cron: "0 * * * *"}
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def settings(
    kafka: KafkaService, postgres_dsn: str, fresh_topic: Callable[[str], str], tmp_path: Path
) -> Settings:
    """Services with a catalog in force and three users."""
    control = fresh_topic("control")
    await kafka.create_topic(control, 1)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    made = load_settings(
        database_url=postgres_dsn,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        control_topic=control,
        metrics_port=0,
        allow_insecure="fsync",
    )
    async with open_store(made, name="test") as store:
        await apply_catalog(store, tmp_path / "catalog.yaml", applied_by="test")
    await execute(postgres_dsn, "INSERT INTO badges.users (user_id) VALUES ('u1'), ('u2'), ('ü3')")
    return made


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[PostgresStore]:
    async with open_store(settings, name="test", connections=6) as opened:
        yield opened


async def control_events(settings: Settings, count: int) -> list[dict[str, Any]]:
    """The first so many events of the control topic."""
    consumer = AIOKafkaConsumer(
        settings.control_topic,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                record = await consumer.getone()
                found.append(json.loads(record.value))
                assert record.key.decode() == found[-1]["user_id"]
        return found
    finally:
        await stop_quietly(consumer)


class Counting:
    """A job of a minute that counts its runs in the database, and dies now and then."""

    name = "counting"
    catch_up_us = HOUR
    first_us = HOUR
    only_newest = False
    timing = Every(MINUTE)

    def __init__(self, ran: Counter[int], dies: Callable[[], bool]) -> None:
        self._ran = ran
        self._dies = dies

    async def run(self, run: Run) -> Figures:
        await run.mark(str(run.tick_us))
        if self._dies():
            raise asyncio.CancelledError
        self._ran[run.tick_us] += 1
        return Figures(users=1)


async def test_three_replicas_run_each_tick_once(store: PostgresStore) -> None:
    """Whoever of three replicas comes first runs a tick; one that dies in the middle is made good by the next."""
    ran: Counter[int] = Counter()
    deaths = iter([False, True, False, False, True] + [False] * 1000)
    start = (now_us() // DAY) * DAY
    told: list[Told] = []

    async def replica(owner: str, minute: int) -> None:
        runner = Runner(store, owner, told.append)
        try:
            await runner.take(Counting(ran, lambda: next(deaths)), start + minute * MINUTE)
        except asyncio.CancelledError:
            return

    for minute in range(0, 60, 5):
        await asyncio.gather(*(replica(f"replica {number} of {minute}", minute) for number in range(3)))
    await replica("the last", 60)
    # it begins with the newest tick; the one that died before it was done is done by the next
    assert sorted(ran) == [start + minute * MINUTE for minute in range(61)]
    assert set(ran.values()) == {1}
    rows = await store.job_runs(job="counting", limit=100)
    assert {row.outcome for row in rows} == {"done"}
    assert max(row.attempts for row in rows) == 2
    assert [row.figures["users"] for row in rows] == [1] * 61


class Failing(Counting):
    """The same, but for one tick, with which something is wrong."""

    def __init__(self, wrong_us: int, *, only_newest: bool = False) -> None:
        super().__init__(Counter(), lambda: False)
        self.name = f"failing {only_newest}"
        self.only_newest = only_newest
        self._wrong_us = wrong_us

    async def run(self, run: Run) -> Figures:
        if run.tick_us == self._wrong_us:
            raise OperatorError("Something is wrong with this tick.")
        return await super().run(run)


async def test_replicas_share_how_long_a_failed_tick_rests(store: PostgresStore) -> None:
    """Whichever of two replicas failed, and whichever holds the lease, the tick rests, longer after each failure."""
    tick_us = now_us() // MINUTE * MINUTE
    told: list[Told] = []
    job, one, other = Failing(tick_us), Runner(store, "one", told.append), Runner(store, "other", told.append)

    async def due_after(seconds: int) -> list[bool]:
        await store.pool.execute(
            "UPDATE job_runs SET finished_at = clock_timestamp() - make_interval(secs => $1)", seconds
        )
        return [bool(await runner.due([job], tick_us)) for runner in (one, other)]

    await one.take(job, tick_us)
    assert await due_after(28) == [False, False]
    assert await due_after(30) == [True, True]
    token = await store.acquire_lease(lease_name(job.name), "one", 60)
    assert token is not None
    assert await other.take(job, tick_us) is None
    await store.resign_lease(lease_name(job.name), token)
    await other.take(job, tick_us)
    assert await due_after(58) == [False, False]
    assert await due_after(60) == [True, True]
    assert [told_of.outcome for told_of in told] == ["failed"] * 2


@pytest.mark.parametrize("only_newest", [False, True], ids=["each counts", "the newest counts"])
async def test_what_is_overtaken_has_an_end(store: PostgresStore, only_newest: bool) -> None:
    """Of a job of which only the newest counts, a failed tick before one that is done is neither read nor kept."""
    tick_us = now_us() // MINUTE * MINUTE - MINUTE
    job = Failing(tick_us, only_newest=only_newest)
    runner = Runner(store, "one", lambda _: None)
    for minute in (0, 1):
        await runner.take(job, tick_us + minute * MINUTE)
    names = [job.name] if only_newest else []
    found = (await store.last_runs([job.name], only_newest=names))[job.name]
    assert (found.newest_us, found.done_us, found.unfinished) == (tick_us + MINUTE, tick_us + MINUTE, ())
    assert [one.tick_us for one in found.failed] == ([] if only_newest else [tick_us])
    assert await store.prune_job_runs(tick_us + HOUR, only_newest=names) == (1 if only_newest else 0)
    assert len(await store.job_runs(job=job.name)) == (1 if only_newest else 2)


async def test_a_lease_that_ran_out_frees_the_tick(store: PostgresStore) -> None:
    """A replica that sleeps past its lease loses job and row: the next one runs the tick, the first writes nothing."""
    entered, leave = asyncio.Event(), asyncio.Event()
    ran: Counter[int] = Counter()

    class Sleeping(Counting):
        async def run(self, run: Run) -> Figures:
            entered.set()
            await leave.wait()
            return await super().run(run)

    at_us = now_us()
    sleeping = asyncio.create_task(Runner(store, "sleeper", print).take(Sleeping(ran, lambda: False), at_us))
    await entered.wait()
    async with store.work() as session:
        await session.connection.execute("UPDATE leases SET expires_at = now() - interval '1 day'")
    told: list[Told] = []
    await Runner(store, "next", told.append).take(Counting(ran, lambda: False), at_us)
    leave.set()
    assert await sleeping == []
    assert [one.outcome for one in told] == ["done"]
    assert list(ran.values()) == [1]


async def test_once_sends_the_schedule_and_repeats_change_nothing(settings: Settings, store: PostgresStore) -> None:
    """A schedule's newest tick goes to every user; asked again, the same events go out, under the same ids."""
    tick = now_us() // HOUR * HOUR
    for _ in range(2):
        (told,) = await run_once(settings, "schedules")
        assert (told.tick_us, told.figures.users, told.figures.events) == (tick, 3, 3)
    found = await control_events(settings, 6)
    assert found[:3] == found[3:]
    assert [(one["user_id"], one["type"], one["occurred_at"]) for one in found[:3]] == [
        (user_id, "cron.hourly", format_instant(tick)) for user_id in ("u1", "u2", "ü3")
    ]
    (row,) = await store.job_runs()
    assert await store.last_successes(["holders", "schedules"]) == [row]
    assert (row.outcome, row.attempts, row.figures["events"]) == ("done", 2, 3)


async def test_refusals(settings: Settings, store: PostgresStore) -> None:
    """A time to come is refused, and so is a job that another process runs."""
    with pytest.raises(OperatorError, match="has not come yet"):
        await run_once(settings, "schedules", now_us() + DAY)
    assert await store.acquire_lease(lease_name("schedules"), "somebody", 60.0)
    with pytest.raises(OperatorError, match="run by another process"):
        await run_once(settings, "schedules")


@pytest.mark.timeout(30)
async def test_once_does_not_wait_for_tables(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database that was never migrated is said at once by what runs once."""
    monkeypatch.setenv("BADGES_DATABASE_URL", empty_dsn)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    assert await asyncio.to_thread(cli.main, ["schedule", "--once", "holders"]) == 1
    assert "help: run `badges db migrate`" in capsys.readouterr().err


async def test_the_service_runs_what_is_due(
    settings: Settings, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that is started runs the newest tick, is ready, shows what it did, and ends when it is told to."""
    monkeypatch.setattr(schedule, "LOOK_SECONDS", 0.1)
    scheduler = Scheduler(settings)
    serving = asyncio.create_task(scheduler.run())
    try:

        async def ran() -> list[Any]:
            assert not serving.done()
            rows = await store.job_runs(job="schedules")
            return rows if rows and rows[0].outcome == "done" else []

        await until(ran, "the newest tick's run", every=0.05)
        await until(lambda: scheduler.ready() is None, "being ready")
        await until(lambda: scheduler.metrics.catalog_version._value.get() == 1, "the gauges")
        await until(
            lambda: scheduler.metrics.job_last_success_timestamp.labels("schedules")._value.get() > 0, "its success"
        )
    finally:
        scheduler.stop()
        await serving
    assert scheduler.metrics.job_users.labels("schedules")._value.get() == 3
    assert scheduler.metrics.job_overdue_seconds.labels("schedules")._value.get() == 0


def test_the_command(settings: Settings) -> None:
    """`badges schedule --once` prints one line for each tick it ran."""
    environ = os.environ | {
        "BADGES_DATABASE_URL": settings.dsn,
        "BADGES_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "BADGES_CONTROL_TOPIC": settings.control_topic,
        "BADGES_ALLOW_INSECURE": "fsync",
    }

    def badges(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "worker", "schedule", *arguments],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    done = badges("--once", "schedules", "--at", format_instant(now_us() // HOUR * HOUR), "--format", "json")
    assert done.returncode == 0, done.stderr
    (line,) = json.loads(done.stdout)
    assert (line["job"], line["outcome"], line["users"], line["events"]) == ("schedules", "done", 3, 3)
    wrong = badges("--once", "nonsense")
    assert wrong.returncode == 2
    assert "schedules" in wrong.stderr


async def test_an_anniversary_becomes_an_award(
    kafka: KafkaService, settings: Settings, store: PostgresStore, fresh_topic: Callable[[str], str], tmp_path: Path
) -> None:
    """Who joined on this day years ago is found in the log, is sent the event, and is given the tenure, once."""
    topics = {name: fresh_topic(name) for name in ("event_topics", "award_topic", "dead_letter_topic")}
    for name in topics.values():
        await kafka.create_topic(name, 1)
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG + "tenures: [{key: member, since: user.registered, years: [1], label: M, description: D}]")
    await apply_catalog(store, path, applied_by="test")
    midnight = now_us() // DAY * DAY
    async with store.work() as session:
        await session.connection.execute(
            "INSERT INTO events (user_id, id, type, occurred_at, payload, received_at)"
            " SELECT user_id, 'e', 'user.registered', $1::timestamptz - interval '4 years', '{}',"
            " now() - interval '1 hour'"
            " FROM users WHERE user_id <> 'u2'",
            midnight + HOUR,
        )
    worker = Worker(
        load_settings(
            database_url=settings.dsn,
            kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
            control_topic=settings.control_topic,
            group_id=topics["event_topics"],
            session_timeout_ms=6000,
            metrics_port=0,
            allow_insecure="fsync",
            **topics,
        )
    )
    working = asyncio.create_task(worker.run())
    try:
        for _ in range(2):
            (told,) = await run_once(settings, "anniversaries")
            assert told.figures.events == 2
        await until(
            lambda: worker.metrics.events.labels("cron.anniversary", "duplicate")._value.get() == 2, "both runs"
        )
    finally:
        worker.stop()
        await working
    async with store.work() as session:
        rows = await session.connection.fetch(
            "SELECT user_id, badge_key, awarded_at, origin FROM user_badges ORDER BY 1"
        )
    assert [tuple(row) for row in rows] == [(user, "member_1y", midnight, "cron") for user in ("u1", "ü3")]
