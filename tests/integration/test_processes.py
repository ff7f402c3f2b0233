"""`badges worker --processes 2` on a real broker and database: shared work, one port, death, replacement, the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.rig.kafka import KafkaService
from tests.rig.required import missing
from tests.rig.waiting import alive, until
from worker.store.pool import open_connection
from worker.stream.connection import stop_quietly

CATALOG = """
version: 1
events:
  comment.posted: {description: A comment was posted.}
metrics:
  comments: {count: comment.posted}
ladders:
  - {key: commentator, metric: comments, levels: [3], label: Commentator, description: "{level} comments"}
"""
USERS = 40


@dataclass
class Parent:
    """A worker of two processes, its topics and its database."""

    environment: dict[str, str]
    dsn: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    sent: int = 0

    def start(self) -> None:
        """Start it; what it says goes into a file."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "worker", "--processes", "2"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines of this event."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in parsed if line["event"] == event]

    def children(self) -> dict[int, int]:
        """The newest process id of each child."""
        return {line["process"]: line["pid"] for line in self.said("process_started")}

    def get(self, path: str) -> tuple[int, str]:
        """Status and text over HTTP; (0, "") before it listens."""
        served = self.said("health_served")
        if not served:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{served[0]['port']}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    async def until(self, wanted: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
        """Wait for a condition that may ask over HTTP."""
        await until(lambda: asyncio.to_thread(wanted), lambda: self.logged(what), seconds=seconds, every=0.05)

    def logged(self, what: str) -> str:
        """What was waited for, after the end of the log."""
        return f"{(self.folder / 'log').read_text()[-6000:]}\n{what}"

    async def until_ready(self) -> None:
        """Wait until all children are."""
        await self.until(lambda: self.get("/readyz")[0] == 200, "being ready")

    async def produce(self, rounds: int) -> None:
        """One event per user and round, users over all partitions."""
        producer = AIOKafkaProducer(bootstrap_servers=self.environment["BADGES_KAFKA_BOOTSTRAP_SERVERS"], acks="all")
        await producer.start()
        try:
            for number in range(rounds * USERS):
                user = f"u{number % USERS}"
                event = {"id": f"e{self.sent}", "type": "comment.posted", "user_id": user}
                event["occurred_at"] = f"2026-03-01T10:{self.sent // 60:02}:{self.sent % 60:02}Z"
                await producer.send(
                    self.environment["BADGES_EVENT_TOPICS"],
                    json.dumps(event).encode(),
                    key=user.encode(),
                    partition=number % USERS % 4,
                )
                self.sent += 1
            await producer.flush()
        finally:
            await stop_quietly(producer)

    async def rows(self, query: str) -> list[Any]:
        """Rows of a query in the schema `badges`."""
        connection = await open_connection(self.dsn, {"search_path": "badges"}, command_seconds=10)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    async def until_applied(self) -> None:
        """Wait until every event produced is logged."""

        async def applied() -> bool:
            (row,) = await self.rows("SELECT count(*) AS n FROM events")
            return bool(row["n"] >= self.sent)

        await until(applied, lambda: self.logged(f"applying {self.sent} events"), seconds=60, every=0.05)

    async def until_owned_by(self, pids: set[str]) -> None:
        """Wait until these processes, all of them and nobody else, own the partitions of the events."""
        owners: set[str] = set()

        async def owned() -> bool:
            rows = await self.rows("SELECT owner FROM partitions WHERE topic LIKE '%events%'")
            owners.clear()
            owners.update(str(row["owner"]).rpartition("-")[2] for row in rows)
            return owners == pids

        await until(owned, lambda: f"owning by {pids}, it is {owners},", seconds=60, every=0.05)

    def end(self) -> None:
        """Leave no process behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for pid in self.children().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def parent(
    kafka: KafkaService, postgres_dsn: str, fresh_topic: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[Parent]:
    """A database, topics of four partitions and a catalog file."""
    if not kafka.real:
        missing("kafka", "the mock broker serves one member of a group")
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    names = {name: fresh_topic(name) for name in ("events", "awards", "dead", "control")}
    for name in names.values():
        await kafka.create_topic(name, 4)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BADGES_")}
    parent = Parent(
        {
            **clean,
            "BADGES_DATABASE_URL": postgres_dsn,
            "BADGES_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "BADGES_EVENT_TOPICS": names["events"],
            "BADGES_AWARD_TOPIC": names["awards"],
            "BADGES_DEAD_LETTER_TOPIC": names["dead"],
            "BADGES_CONTROL_TOPIC": names["control"],
            "BADGES_GROUP_ID": names["events"],
            "BADGES_SESSION_TIMEOUT_MS": "6000",
            "BADGES_CATALOG": str(tmp_path / "catalog.yaml"),
            "BADGES_METRICS_PORT": "0",
            "BADGES_ALLOW_INSECURE": "fsync",
        },
        postgres_dsn,
        tmp_path,
    )
    try:
        yield parent
    finally:
        parent.end()


async def test_two_processes_are_one_worker(parent: Parent) -> None:
    """Two processes share the partitions and one port; one that is killed is replaced, and a stop ends all in time.

    Every event counts once, every award is there once, and the sums over both processes keep what the dead one counted.
    """
    parent.start()
    await parent.until_ready()
    assert parent.get("/livez") == (200, "ok\n")
    first = parent.children()
    await parent.until_owned_by({str(pid) for pid in first.values()})
    await parent.produce(2)
    await parent.until_applied()
    await parent.until(lambda: parent.metric("badges_events_total") == parent.sent, "all events counted")
    assert {line["process"] for line in parent.said("batch_processed")} == {1, 2}
    assert len(parent.said("catalog_applied")) == 1

    os.kill(first[2], signal.SIGKILL)
    await parent.until(lambda: parent.get("/readyz")[0] == 503, "being unready")
    assert "process 2 of 2" in parent.get("/readyz")[1]
    assert parent.get("/livez") == (200, "ok\n")
    await parent.produce(2)
    await parent.until_ready()
    await parent.until_applied()
    assert parent.children()[1] == first[1]
    assert parent.children()[2] != first[2]
    await parent.until(lambda: parent.metric("badges_events_total") == parent.sent, "all events counted")
    await parent.until(lambda: parent.metric("badges_published_total") == USERS, "all awards published")
    assert parent.metric("badges_awards_total") == USERS
    assert parent.metric("badges_process_restarts_total") == 1
    assert parent.metric("badges_catalog_version") == 1
    held = await parent.rows("SELECT user_id FROM user_badges")
    assert sorted(row["user_id"] for row in held) == sorted(f"u{number}" for number in range(USERS))

    last = parent.children()
    assert parent.process is not None
    parent.process.terminate()
    begun = monotonic()
    assert await asyncio.to_thread(parent.process.wait, 25) == 0
    assert monotonic() - begun < 10
    assert not any(alive(pid) for pid in last.values())
    assert all(row["owner"] is None for row in await parent.rows("SELECT owner FROM partitions"))


async def test_no_orphans(parent: Parent) -> None:
    """Children whose parent is killed end by themselves, give their partitions back, and leave no folder behind."""
    parent.environment["TMPDIR"] = str(parent.folder)
    parent.start()
    await parent.until_ready()
    children = parent.children()
    assert parent.process is not None
    parent.process.kill()
    await asyncio.to_thread(parent.process.wait, 10)
    await parent.until(lambda: not any(alive(pid) for pid in children.values()), "the children's end", seconds=20)
    assert all(row["owner"] is None for row in await parent.rows("SELECT owner FROM partitions"))
    assert list(parent.folder.glob("badges-metrics-*")) == []


async def test_a_refusal_is_said_once(parent: Parent) -> None:
    """What only a person can mend is one sentence of the parent, and exit 1; nothing is started again for it."""
    parent.environment["BADGES_CATALOG"] = str(parent.folder / "none.yaml")
    parent.start()
    assert parent.process is not None
    assert await asyncio.to_thread(parent.process.wait, 60) == 1
    said = (parent.folder / "log").read_text()
    assert said.count("none.yaml") == 1
    assert "Traceback" not in said
    assert len(parent.said("process_started")) == 1
