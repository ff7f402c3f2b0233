"""The whole worker on a real broker and database: poison, stopping, a catalog that changes, faults at the start."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import generate_latest

from tests.rig.kafka import KafkaService
from tests.rig.log_lines import log_lines
from tests.rig.required import missing
from tests.rig.settings import own_settings
from tests.rig.waiting import until
from worker.app import Worker, apply_catalog, open_store, services
from worker.app import catalog as catalogs
from worker.app import worker as worker_room
from worker.config import DeadLetterLimit, Settings, load_settings
from worker.errors import OperatorError
from worker.events import parse_instant
from worker.store.pool import open_connection
from worker.store.removal import user_hash
from worker.stream.connection import stop_quietly

CATALOG = """
version: 1
events:
  comment.posted:
    description: A comment was posted.
    schema: {type: object, required: [post_id], properties: {post_id: {type: string}}}
  comment.liked: {description: A comment was liked.}
metrics:
  comments: {count: comment.posted}
ladders:
  - {key: commentator, metric: comments, levels: [1, 2], label: Commentator, description: "{level} comments"}
"""
MORE = CATALOG.replace("levels: [1, 2]", "levels: [1, 2, 3]")


@dataclass
class Rig:
    """Topics and a database of one test, and what is needed to look into them."""

    settings: Settings
    topic: str
    folder: Path

    async def produce(self, *values: bytes, ahead_seconds: int = 0) -> None:
        """Put values on the one partition that keyed `u1` records go to; the producer's clock may be ahead."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers, acks="all", max_request_size=2_000_000
        )
        await producer.start()
        try:
            for value in values:
                stamp_ms = int((time() + ahead_seconds) * 1000)
                await producer.send_and_wait(self.topic, value, key=b"u1", partition=0, timestamp_ms=stamp_ms)
        finally:
            await stop_quietly(producer)

    async def rows(self, query: str) -> list[Any]:
        """Rows of a query in the schema `badges`."""
        connection = await open_connection(self.settings.dsn, {"search_path": "badges"}, command_seconds=10)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    async def until_rows(self, query: str, wanted: Callable[[list[Any]], bool], what: str) -> list[Any]:
        """The rows of a query once they are as wanted."""
        found: list[Any] = []

        async def as_wanted() -> bool:
            found[:] = await self.rows(query)
            return wanted(found)

        await until(as_wanted, lambda: f"{found}: {what}", seconds=40, every=0.05)
        return found

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        """A worker that owns partitions; stopped afterwards."""
        worker = Worker(self.settings)
        task = asyncio.create_task(worker.run())
        try:
            await until(lambda: task.done() or (worker.member and worker.member.offsets()), "owning a partition")
            yield worker
        finally:
            worker.stop()
            await task


@pytest.fixture
async def rig(kafka: KafkaService, postgres_dsn: str, fresh_topic: Callable[[str], str], tmp_path: Path) -> Rig:
    """A database, topics and a catalog file."""
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    settings = await own_settings(kafka, postgres_dsn, fresh_topic, catalog=catalog)
    return Rig(settings, settings.event_topics.names[0], tmp_path)


def event(number: int, **changes: Any) -> dict[str, Any]:
    """A comment of u1."""
    return {
        "id": f"e{number}",
        "type": "comment.posted",
        "user_id": "u1",
        "occurred_at": f"2026-03-01T10:00:{number % 60:02}Z",
        "payload": {"post_id": "p"},
    } | changes


def line(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def poison() -> dict[str, bytes]:
    """A record for each dead-letter code."""
    future = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    no_type = event(90)
    del no_type["type"]
    return {
        "not_json": b"\xff\xfe nothing",
        "too_large": line(event(91, payload={"post_id": "x" * 300_000})),
        "too_deep": line(event(92))[:-2] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        "missing_field": line(no_type),
        "invalid_field": line(event(93, user_id="a\x00b")),
        "unknown_event_type": line(event(94, type="comment.postde")),
        "payload_invalid": line(event(95, payload={"post_id": 7})),
        "occurred_in_future": line(event(96, occurred_at=future)),
        "too_old": line(event(97, type="comment.liked", occurred_at="2020-01-01T00:00:00Z")),
        "erased": line(event(98, user_id="gone")),
        "id_conflict": line(event(1, payload={"post_id": "other"})),
    }


async def test_every_poison_is_a_dead_letter_and_stops_nothing(rig: Rig) -> None:
    """Each dead-letter code comes out of the real pipeline, and the record after it is applied."""
    connection = await open_connection(rig.settings.dsn, {"search_path": "badges"}, command_seconds=10)
    erased = parse_instant("2026-06-01T00:00:00Z")
    await connection.execute("INSERT INTO erased_users VALUES ($1, $2)", user_hash("gone"), erased)
    await connection.execute("INSERT INTO retention_floors VALUES ('comment.liked', '2025-01-01')")
    await connection.close()
    records = [line(event(1))]
    for number, value in enumerate(poison().values(), 2):
        records += [value, line(event(number))]
    async with rig.working() as worker:
        await rig.produce(*records)
        await rig.until_rows(
            f"SELECT next_offset FROM partitions WHERE topic = '{rig.topic}'",
            lambda rows: bool(rows) and rows[0]["next_offset"] == len(records),
            "the last record being applied",
        )
        letters = await rig.rows('SELECT reason, "offset", raw, length FROM dead_letters ORDER BY "offset"')
        assert [row["reason"] for row in letters] == list(poison())
        assert [row["offset"] for row in letters] == list(range(1, 2 * len(poison()), 2))
        assert [row["length"] for row in letters][1] == len(poison()["too_large"])
        assert [len(row["raw"]) for row in letters][1] == 64 * 1024
        events = await rig.rows("SELECT id FROM events ORDER BY occurred_at")
        assert [row["id"] for row in events] == [f"e{number}" for number in range(1, len(poison()) + 2)]
        await rig.until_rows(
            "SELECT count(*) FROM outbox WHERE published_at IS NULL", lambda rows: rows[0][0] == 0, "publishing"
        )
        metrics = await asyncio.to_thread(fetch, worker, "/metrics")
        assert 'badges_dead_letters_total{reason="id_conflict"} 1.0' in metrics
        assert "badges_outbox_pending" in metrics
        assert "u1" not in metrics


def fetch(worker: Worker, path: str) -> str:
    """What the worker answers over HTTP."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.health_port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


async def test_a_stop_is_quick_and_clean(rig: Rig) -> None:
    """A worker that is asked to stop ends within 10 s, gives its partitions back, and the next one goes on."""
    async with rig.working() as worker:
        assert (
            await asyncio.to_thread(fetch, worker, "/livez"),
            await asyncio.to_thread(fetch, worker, "/readyz"),
        ) == (
            "ok\n",
            "ok\n",
        )
        await rig.produce(line(event(1)))
        await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 1, "the first award")
        begun = monotonic()
    assert monotonic() - begun < 10
    assert all(row["owner"] is None for row in await rig.rows("SELECT owner FROM partitions"))
    await rig.produce(line(event(2)))
    async with rig.working():
        await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 2, "the second award")


async def test_a_stop_while_waiting_for_the_tables(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits for its tables ends at once when it is asked to stop."""
    said: list[str] = []
    recorder = SimpleNamespace(
        info=lambda event, **_: said.append(event), warning=lambda event, **_: said.append(event)
    )
    monkeypatch.setattr(services, "log", recorder)
    worker = Worker(load_settings(database_url=empty_dsn, metrics_port=0, allow_insecure="fsync"))
    task = asyncio.create_task(worker.run())
    await until(lambda: "schema_awaited" in said, "waiting")
    worker.stop()
    await asyncio.wait_for(task, 5)


async def test_a_new_catalog_is_taken_up_while_events_flow(rig: Rig) -> None:
    """A version applied under a running worker counts a user's past events: the next one earns what they make due."""
    async with rig.working():
        await rig.produce(line(event(1)), line(event(2)), line(event(3)))
        await rig.until_rows("SELECT 1 FROM events", lambda rows: len(rows) == 3, "three events")
        more = rig.folder / "more.yaml"
        more.write_text(MORE)
        async with open_store(rig.settings, name="test") as store:
            version, _ = await apply_catalog(store, more, applied_by="test")
        assert version == 2
        await rig.produce(line(event(4)))
        found = await rig.until_rows(
            "SELECT badge_key, origin, awarded_at, catalog_version FROM user_badges ORDER BY badge_key",
            lambda rows: len(rows) == 3,
            "the third award",
        )
    assert [(row["badge_key"], row["origin"], row["catalog_version"]) for row in found] == [
        ("commentator_1", "live", 1),
        ("commentator_2", "live", 1),
        ("commentator_3", "backfill", 2),
    ]
    assert found[2]["awarded_at"] == parse_instant("2026-03-01T10:00:03Z")


async def test_a_version_that_cannot_be_read_stops_nothing_for_good(rig: Rig) -> None:
    """A worker that cannot read the version that rules says so once, waits, and goes on with the next one it can."""
    newer = json.dumps({"version": 1, "events": {}, "badges": [], "of_tomorrow": {}})
    with log_lines(worker_room) as lines:
        async with rig.working() as worker, open_store(rig.settings, name="test") as store:
            await rig.produce(line(event(1)))
            await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 1, "the first award")
            await store.apply_catalog(newer, "newer", badges=[], event_types=[])
            await rig.produce(line(event(2)))
            await until(lambda: "of_tomorrow" in (worker._ready() or ""), "the refusal")
            assert len(await rig.rows("SELECT 1 FROM events")) == 1
            await apply_catalog(store, rig.folder / "catalog.yaml", applied_by="test")
            await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 2, "the second award")
            assert worker._ready() is None
    said = [one for one in lines if one["event"] == "catalog_unreadable"]
    assert [(one["version"], one["log_level"]) for one in said] == [(2, "error")]
    assert "Version 2 of the catalog cannot be read" in said[0]["reason"]


async def test_memories_of_another_program_are_left_alone(rig: Rig) -> None:
    """Where a newer program has begun users' memories anew this one says so once, waits, and goes on when it may."""
    more = rig.folder / "more.yaml"
    more.write_text(MORE)
    with log_lines(worker_room) as lines:
        async with rig.working() as worker, open_store(rig.settings, name="test") as store:
            await rig.produce(line(event(1)))
            await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 1, "the first award")
            head = await store.catalog_head()
            assert head is not None
            newer: dict[str, Any] = {"memories": "other", "program": "badgestream 999, holidays 999", "anew": True}
            await store.apply_catalog(head.document, head.hash, badges=[], event_types=[], **newer)
            await rig.produce(line(event(2)))
            await until(lambda: "holidays 999" in (worker._ready() or ""), "the refusal")
            assert len(await rig.rows("SELECT 1 FROM events")) == 1
            await apply_catalog(store, more, applied_by="test")
            await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 2, "the second award")
            assert worker._ready() is None
    said = [one for one in lines if one["event"] == "catalog_refused"]
    assert [(one["version"], one["log_level"]) for one in said] == [(2, "error")]
    assert "--rebuild" in said[0]["help"]


async def test_a_topic_created_again_halts_its_partition(rig: Rig) -> None:
    """Where another record stands at the last applied offset nothing is applied, and readiness says why."""
    async with rig.working():
        await rig.produce(line(event(1)))
        await rig.until_rows("SELECT 1 FROM events", lambda rows: len(rows) == 1, "the first event")
    await rig.rows("UPDATE partitions SET last_sha = '\\x00' RETURNING 1")
    await rig.produce(line(event(2)))
    worker = Worker(rig.settings)
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.member and worker.member.halted(), "the partition being halted")
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(fetch, worker, "/readyz")
        assert caught.value.code == 503
        assert b"created again" in caught.value.read()
    finally:
        worker.stop()
        await task
    assert len(await rig.rows("SELECT 1 FROM events")) == 1


async def test_a_bad_deploy_does_not_drain_the_topic_into_the_bin(rig: Rig) -> None:
    """Once the brake has tripped the worker stays, says so and takes nothing more; one started anew goes on there."""
    limit = DeadLetterLimit(share=0.5, seconds=60.0, least=4)
    rig.settings = rig.settings.model_copy(update={"dead_letter_limit": limit, "batch_max_events": 4})
    async with rig.working() as worker:
        await rig.produce(*(line(event(number, type="comment.postde")) for number in range(12)), line(event(20)))
        assert worker.member is not None
        await until(lambda: len(worker.member.halted()) == 2, "its partitions of both topics standing still")
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(fetch, worker, "/readyz")
        assert caught.value.code == 503
        said = caught.value.read().decode()
        refused = (await rig.rows("SELECT count(*) FROM dead_letters"))[0][0]
        assert 4 <= refused < 8
        assert said.startswith(f"{refused} of the last {refused} records, within 60 s, became dead letters, most often")
        assert "for unknown_event_type" in said
        assert "badges dlq list" in said
        assert await asyncio.to_thread(fetch, worker, "/livez") == "ok\n"
        gauge = "badges_partitions_halted 2.0"
        await until(lambda: gauge in generate_latest(worker.metrics.registry).decode(), gauge)
        assert worker._consumer is not None
        assert worker._consumer.healthy(seconds=5), "it is still in the group"
        offsets = await rig.rows(f"SELECT next_offset FROM partitions WHERE topic = '{rig.topic}'")
        assert offsets[0]["next_offset"] == refused
    rig.settings = rig.settings.model_copy(update={"dead_letter_limit": None})
    async with rig.working():
        await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 1, "the award of the good record")
    assert (await rig.rows("SELECT count(*) FROM dead_letters"))[0][0] == 12


# ---------------------------------------------------------------- what is wrong at the start


def badges(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BADGES_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def failure(ran: subprocess.CompletedProcess[str]) -> str:
    """The words of a clear failure: exit 1, an error and its remedy, no trace."""
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    lines = [text for text in ran.stderr.splitlines() if not text.startswith("{")]
    assert len([text for text in lines if text.startswith("error:")]) == 1, ran.stderr
    return " ".join(lines)


def surroundings(rig: Rig, **changes: str) -> dict[str, str]:
    """The environment of a worker of this test."""
    return {
        "BADGES_DATABASE_URL": rig.settings.dsn,
        "BADGES_KAFKA_BOOTSTRAP_SERVERS": rig.settings.kafka_bootstrap_servers,
        "BADGES_EVENT_TOPICS": rig.topic,
        "BADGES_AWARD_TOPIC": rig.settings.award_topic,
        "BADGES_DEAD_LETTER_TOPIC": rig.settings.dead_letter_topic,
        "BADGES_CONTROL_TOPIC": rig.settings.control_topic,
        "BADGES_CATALOG": str(rig.settings.catalog),
        "BADGES_METRICS_PORT": "0",
        "BADGES_ALLOW_INSECURE": "fsync",
    } | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"BADGES_BATCH_MAX_EVENTS": "many"}, "BADGES_BATCH_MAX_EVENTS"),
        ({"BADGES_DATABASE_URL": "postgresql://badges@127.0.0.1:1/badges"}, "127.0.0.1:1"),
        ({"BADGES_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "127.0.0.1:1"),
        ({"BADGES_KAFKA_BOOTSTRAP_SERVERS": "192.0.2.1:9092"}, "BADGES_ALLOW_INSECURE=plaintext"),
        ({"BADGES_CATALOG": "/nowhere.yaml"}, "/nowhere.yaml"),
    ],
)
async def test_a_wrong_setting_is_one_sentence(rig: Rig, changes: dict[str, str], words: str) -> None:
    """A wrong setting, an unreachable service or a missing file: one sentence that names it, exit 1."""
    ran = await asyncio.to_thread(badges, "worker", **surroundings(rig, **changes))
    assert words in failure(ran)


async def test_a_missing_topic_is_named(rig: Rig, kafka: KafkaService) -> None:
    """A topic that is not there is named, with the command that makes it."""
    if not kafka.real:
        missing("kafka", "the mock makes every topic that is asked for")
    ran = await asyncio.to_thread(badges, "worker", **surroundings(rig, BADGES_EVENT_TOPICS="not.there"))
    said = failure(ran)
    assert "not.there" in said
    assert "badges topics create" in said


async def test_a_faulty_catalog_is_refused(rig: Rig) -> None:
    """A worker does not start with a faulty catalog; every fault is named with its place."""
    faulty = rig.folder / "faulty.yaml"
    faulty.write_text(CATALOG.replace("levels: [1, 2]", "levels: [2, 2]"))
    ran = await asyncio.to_thread(badges, "worker", **surroundings(rig, BADGES_CATALOG=str(faulty)))
    assert ran.returncode == 1
    assert "bad_levels" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_a_newer_schema_is_refused(rig: Rig) -> None:
    """A database that a newer version migrated is not touched."""
    await rig.rows("INSERT INTO schema_migrations (number, name, sha256) VALUES (9999, 'later', '') RETURNING 1")
    ran = await asyncio.to_thread(badges, "worker", **surroundings(rig))
    assert "upgrade badgestream" in failure(ran)


async def test_the_first_catalog_is_awaited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without a catalog goes to work once one is applied."""
    said: list[str] = []
    monkeypatch.setattr(catalogs, "log", SimpleNamespace(info=lambda event, **_: said.append(event)))
    path, rig.settings = rig.folder / "catalog.yaml", rig.settings.model_copy(update={"catalog": None})

    async def apply_when_awaited() -> None:
        await until(lambda: "catalog_awaited" in said, "waiting")
        async with open_store(rig.settings, name="test") as store:
            await apply_catalog(store, path, applied_by="test")

    applying = asyncio.create_task(apply_when_awaited())
    async with rig.working():
        await applying
        await rig.produce(line(event(1)))
        await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 1, "the first award")


async def test_a_database_without_catalog_is_named(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker to which no catalog comes says how to apply one."""
    monkeypatch.setattr("worker.app.worker.WAIT_SECONDS", 0.0)
    with pytest.raises(OperatorError) as refused:
        await Worker(rig.settings.model_copy(update={"catalog": None})).run()
    assert "badges catalog apply" in (refused.value.help or "")
