"""Awards and memory lost at random under a running worker: the sweep restores all of it and tells exactly that.

`BADGES_TEST_SEEDS` says what is lost: `7`, `1-5`, `3,9`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer

from tests.acceptance.test_chaos import seeds
from tests.community import DEMO
from tests.integration.test_user_jobs import asks, damage, everything, found
from tests.rig.kafka import KafkaService
from tests.rig.waiting import until
from worker.app import Worker, open_store
from worker.config import load_settings
from worker.exchange import UserJob
from worker.store.postgres import PostgresStore
from worker.stream.connection import stop_quietly


async def ended(store: PostgresStore, number: int) -> UserJob:
    """The job, once the worker has done it."""

    async def done() -> UserJob | None:
        job = await store.user_job(number)
        return job if job and job.state not in ("waiting", "running") else None

    job: UserJob = await until(done, f"job {number} ending", seconds=60, every=0.05)
    return job


@pytest.mark.parametrize("seed", seeds(os.environ.get("BADGES_TEST_SEEDS", "6")))
async def test_what_is_lost_under_a_worker_comes_back(
    kafka: KafkaService, postgres_dsn: str, fresh_topic: Callable[[str], str], seed: int
) -> None:
    """200 awards and 50 rows of memory come back by a job that the worker takes; then its users go on from there."""
    topics = {name: fresh_topic(name) for name in ("events", "awards", "dead", "control")}
    for name in topics.values():
        await kafka.create_topic(name, 1)
    settings = load_settings(
        database_url=postgres_dsn,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        event_topics=topics["events"],
        award_topic=topics["awards"],
        dead_letter_topic=topics["dead"],
        control_topic=topics["control"],
        catalog=DEMO / "catalog.yaml",
        group_id=topics["events"],
        metrics_port=0,
        allow_insecure="fsync",
    )
    with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
        events = [line for line in lines if line.strip()]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all")
    await producer.start()
    worker = Worker(settings)
    serving = asyncio.create_task(worker.run())
    try:
        for start in range(0, len(events), 1000):
            sent = [await producer.send(topics["events"], line, partition=0) for line in events[start : start + 1000]]
            await asyncio.gather(*sent)
        await until(
            lambda: serving.done() or sum(((worker.member and worker.member.offsets()) or {}).values()) >= len(events),
            "applying all events",
            seconds=60,
        )
        async with open_store(settings, name="badges test") as store:
            before = await asyncio.to_thread(everything, postgres_dsn)
            assert len(before["badges"]) == 527
            gone = await asyncio.to_thread(lambda: damage(postgres_dsn, 200, 25, 25, seed=seed))
            job = await ended(store, await store.create_user_job("sweep", {}))
            assert (job.state, found(job)) == ("done", {"award_missing": 200, "fold_missing": 50})
            after = await asyncio.to_thread(everything, postgres_dsn, gone)
            assert [after[name] for name in ("badges", "log", "users")] == [
                before[name] for name in ("badges", "log", "users")
            ]
            user = sorted(gone)[0]
            more = {
                "id": "after-the-sweep",
                "type": "comment.posted",
                "user_id": user,
                "occurred_at": "2026-01-01T00:00:00Z",
                "payload": {"post_id": 1},
            }
            await producer.send_and_wait(topics["events"], json.dumps(more).encode(), partition=0)
            await until(
                lambda: (
                    serving.done() or sum(((worker.member and worker.member.offsets()) or {}).values()) > len(events)
                ),
                "applying one more event",
            )
            job = await ended(store, await store.create_user_job("recompute", {"user": user}))
            assert (job.state, found(job), job.users_done) == ("done", {}, 1)
            assert asks(postgres_dsn, "SELECT count(*) FROM events WHERE id = 'after-the-sweep'")[0][0] == 1
    finally:
        worker.stop()
        await serving
        await stop_quietly(producer)
