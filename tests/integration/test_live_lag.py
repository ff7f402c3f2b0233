"""Jobs over users yield to records that wait in the topics, as broker and database tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.test_worker import CATALOG
from tests.rig.kafka import KafkaService
from tests.rig.settings import own_settings
from tests.rig.waiting import until
from worker.app import apply_catalog, live_lag, open_store
from worker.app.live_lag import Backlog, LiveLag
from worker.app.user_jobs import Foreground, ask
from worker.config import Settings
from worker.pipeline import driving, slices
from worker.store.postgres import PostgresStore
from worker.stream.connection import stop_quietly

USERS = 30


@pytest.fixture
async def settings(kafka: KafkaService, postgres_dsn: str, fresh_topic: Callable[[str], str]) -> Settings:
    """Topics with ten records of events."""
    made = await own_settings(kafka, postgres_dsn, fresh_topic)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all")
    await producer.start()
    for _ in range(10):
        await producer.send_and_wait(made.event_topics.names[0], b"{}", partition=0)
    await stop_quietly(producer)
    return made


@pytest.fixture
async def store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    """A database in which a worker has begun with the events."""
    monkeypatch.setattr(live_lag, "LOOK_SECONDS", 0.02)
    async with open_store(settings, name="badges test") as opened:
        await opened.claim(settings.event_topics.names[0], 0, generation=1, owner="worker", start_offset=0)
        yield opened


async def stand_at(store: PostgresStore, offset: int, *, ago: int = 0) -> None:
    """The worker has applied so much, its last batch so many seconds ago."""
    await store.pool.execute(
        "UPDATE partitions SET next_offset = $1, progressed_at = clock_timestamp() - make_interval(secs => $2)",
        offset,
        ago,
    )


async def test_records_that_wait_are_seen(store: PostgresStore, settings: Settings) -> None:
    """While a worker applies batches it is known how far it is behind; one that stands still counts for nothing."""
    lag = LiveLag(store, settings)
    try:
        await stand_at(store, 3)
        await until(lambda: lag.seconds() > 0.1, "seeing the lag")
        await stand_at(store, 10)
        await until(lambda: lag.seconds() == 0.0, "seeing that all is applied")
        # one more partition is taken in: the broker is asked about it too
        await store.claim(settings.control_topic, 0, generation=1, owner="worker", start_offset=0)
        await stand_at(store, 0)
        await until(lambda: lag.seconds() > 0.1, "seeing the lag again")
        await stand_at(store, 0, ago=60)
        await until(lambda: lag.seconds() == 0.0, "forgetting who stands still")
    finally:
        await lag.close()


async def test_what_ends_a_transaction_is_no_record_that_waits(
    store: PostgresStore, settings: Settings, real_kafka: KafkaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker, and what was aborted, have offsets that no worker applies; a record of the next transaction waits."""
    looks: list[float] = []
    look = Backlog.look
    monkeypatch.setattr(Backlog, "look", lambda *arguments: looks.append(look(*arguments)) or looks[-1])
    topic = settings.event_topics.names[0]
    producer = AIOKafkaProducer(bootstrap_servers=real_kafka.bootstrap_servers, transactional_id=topic)
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(topic, b"{}", partition=0)
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"{}", partition=0)
    await producer.abort_transaction()
    lag = LiveLag(store, settings)
    try:
        await stand_at(store, 11)
        await until(lambda: lag.seconds() == 0.0 and len(looks) > 20, "looking twenty times")
        assert looks == [0.0] * len(looks), "the ten records and that of the first transaction are applied"
        async with producer.transaction():
            await producer.send_and_wait(topic, b"{}", partition=0)
        await until(lambda: lag.seconds() > 0.1, "seeing the record beyond the markers")
        await stand_at(store, 15)
        await until(lambda: lag.seconds() == 0.0, "seeing that it is applied")
    finally:
        await lag.close()
        await stop_quietly(producer)


async def test_a_backfill_waits_for_records_that_wait(
    store: PostgresStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops where it is while live work is behind, says for how long, and goes on to its end afterwards."""
    monkeypatch.setattr(driving, "LAG_SECONDS", 0.1)
    monkeypatch.setattr(driving, "LAG_WAIT", 0.02)
    monkeypatch.setattr(driving, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(slices, "SLICE_USERS", 1)
    monkeypatch.setattr(slices, "LIVE_SLICE_USERS", 1)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    await apply_catalog(store, tmp_path / "catalog.yaml", applied_by="test")
    await store.pool.execute(
        "INSERT INTO users (user_id, built_version) SELECT 'u' || n, 1 FROM generate_series(1, $1::integer) AS n", USERS
    )
    told: list[tuple[int, float]] = []
    asked = await ask(store, "recompute")
    foreground = Foreground(store, settings, asked, rate=None, told=lambda job, lag: told.append((job.users_done, lag)))
    foreground._driver.slices.limit = 1
    running = asyncio.create_task(foreground.run(requested_by="test"))
    await until(lambda: running.done() or sum(lag > 0 for _, lag in told) > 5, "waiting")
    assert not running.done()
    held = [done for done, lag in told if lag]
    assert max(held) == min(held) < USERS, "nobody is looked at while it waits"
    await stand_at(store, 10)
    job = await asyncio.wait_for(running, 30)
    assert (job.state, job.users_done) == ("done", USERS)
