"""`badges bench` on a real broker and database: figures from a tiny run, nothing left, services that fail it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from tests.rig.kafka import KafkaService
from tests.rig.waiting import until
from worker.bench import backfill
from worker.bench.ground import PREFIX, Ground
from worker.bench.report import Options, run
from worker.bench.sizes import QUICK, History, Sizes
from worker.cli.bench_table import backfill_lines
from worker.config import Settings, load_settings
from worker.demo.postgres import PostgresServer
from worker.errors import OperatorError
from worker.stream.topics import look

TINY = Sizes(
    mode="tiny",
    events=3_000,
    rounds=1,
    naive_events=20,
    latency_seconds=2,
    latency_rounds=1,
    repeat_events=1_000,
    repeat_rounds=1,
    handover_events=0,
    session_timeout_ms=6_000,
    scaling_events=1_000,
    catalog=(30,),
    catalog_events=500,
    history=(History(10, 40),),
    history_events=200,
    users=(100,),
    users_events=200,
    growth_rounds=1,
)
ONLY_SPEED = Options("ladder", QUICK, only=frozenset({"speed"}))


def settings_of(kafka: KafkaService, dsn: str) -> Settings:
    return load_settings(
        database_url=dsn, kafka_bootstrap_servers=kafka.bootstrap_servers, allow_insecure="fsync,plaintext"
    )


def environ_of(kafka: KafkaService, dsn: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("BADGES_")},
        "BADGES_DATABASE_URL": dsn,
        "BADGES_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "BADGES_ALLOW_INSECURE": "fsync,plaintext",
    }


async def schemas(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'")
        return {row["nspname"] for row in rows}
    finally:
        await connection.close()


async def bench_topics(settings: Settings) -> list[str]:
    return [name for name in (await look(settings, ())).topics if PREFIX in name]


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets the environment that measured processes inherit."""

    def take(environ: dict[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith("BADGES_")]:
            monkeypatch.delenv(name)
        for name, value in environ.items():
            if name.startswith("BADGES_"):
                monkeypatch.setenv(name, value)

    return take


@pytest.mark.timeout(300)
async def test_every_figure_from_one_run(
    real_kafka: KafkaService, postgres_dsn: str, surroundings: Callable[[dict[str, str]], None]
) -> None:
    """One run gives every figure, its awards right, and leaves the services as they were: tables, topics and all."""
    surroundings(environ_of(real_kafka, postgres_dsn))
    settings = settings_of(real_kafka, postgres_dsn)
    before = await schemas(postgres_dsn)
    said: list[str] = []
    figures = await run(settings, Options("ladder", TINY, profile=True), said=said.append)
    assert await schemas(postgres_dsn) == before == {"badges", "public"}
    assert await bench_topics(settings) == []
    assert figures["events"] == 3_000
    assert figures["ratio"] == figures["worker_events_per_s"] / figures["floor_events_per_s"] > 0
    assert figures["naive_events_per_s"] > 0
    assert figures["cpu_us_per_event"]["worker"] > 0
    assert 0 <= figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"] < 10_000
    assert figures["latency_ms"]["awards"] > 50
    assert 30 < figures["rss_mb"] < 1_000
    assert figures["repeats"]["ratio"] > 0
    assert figures["handover_s"] is None
    assert figures["processes"].keys() == {"1", "2"}
    assert [row["badges"] for row in figures["growth"]["catalog"]] == [30]
    assert [row["events_per_user"] for row in figures["growth"]["history"]] == [40]
    assert [row["users"] for row in figures["growth"]["users"]] == [100]
    assert all(row["ratio"] == 1 for rows in figures["growth"].values() for row in rows)
    assert {"COMMIT", "fence"} <= {row["statement"] for row in figures["profile"]["statements"]}
    assert any(row["function"].startswith("worker/pipeline") for row in figures["profile"]["python"])
    assert figures["awards_checked"] > figures["awards"] > 100


async def test_services_that_are_not_empty(real_kafka: KafkaService, postgres_dsn: str) -> None:
    """Where a schema or a topic of the bench's name is there, it says so, makes nothing and removes nothing."""
    settings = settings_of(real_kafka, postgres_dsn)
    name = f"{PREFIX}taken_{os.getpid()}"
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute(f"CREATE SCHEMA {name}_1")
        with pytest.raises(OperatorError, match=rf"not empty: they hold schema {name}_1\. Nothing was touched"):
            await run(settings, ONLY_SPEED, said=lambda _: None, name=name)
        assert await schemas(postgres_dsn) == {"badges", "public", f"{name}_1"}
        await connection.execute(f"DROP SCHEMA {name}_1")
    finally:
        await connection.close()
    ground = Ground(settings, name=name)
    topic = await ground.topic("awards", 1)
    try:
        with pytest.raises(OperatorError, match=f"they hold topic {topic}"):
            await run(settings, ONLY_SPEED, said=lambda _: None, name=name)
        assert await bench_topics(settings) == [topic]
    finally:
        assert await ground.clear() == []


#: Started in the background a process ignores SIGINT; here it is taken as at a terminal.
BENCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from worker.cli import main
sys.exit(main())
"""


class Running:
    """The command in a process of its own, up to its first measured run."""

    def __init__(self, kafka: KafkaService, dsn: str, folder: Path) -> None:
        self.log = folder / "stderr"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BENCH, "bench", "--quick", "--only", "speed", "--events", "20000"],
                env=environ_of(kafka, dsn), cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.log.read_text()

    async def reached(self, words: str) -> None:
        await until(lambda: words in self.said or self.process.poll() is not None, words, seconds=60)
        assert self.process.poll() is None, self.said

    async def at_work(self, dsn: str) -> None:
        """The floor is measured, and the worker's schema is there."""
        await self.reached("floor, round 1")

        async def there() -> bool:
            return any(name.startswith(PREFIX) for name in await schemas(dsn))

        await until(there, "the worker's schema")

    async def ended(self) -> int:
        await until(lambda: self.process.poll() is not None, "the bench ended", seconds=90)
        return int(self.process.returncode)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted(real_kafka: KafkaService, postgres_dsn: str, tmp_path: Path, number: signal.Signals) -> None:
    """Stopped in the middle it removes what it made, and says only that it was interrupted."""
    bench = Running(real_kafka, postgres_dsn, tmp_path)
    await bench.at_work(postgres_dsn)
    bench.process.send_signal(number)
    assert await bench.ended() == 130, bench.said
    assert bench.said.endswith("Interrupted.\n")
    assert await schemas(postgres_dsn) == {"badges", "public"}
    assert await bench_topics(settings_of(real_kafka, postgres_dsn)) == []


@pytest.mark.timeout(200)
async def test_database_that_vanishes(
    real_kafka: KafkaService, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """A database that goes away ends the bench with one sentence, which names what it could not remove."""
    bench = Running(real_kafka, postgres_server.dsn, tmp_path)
    await bench.at_work(postgres_server.dsn)
    postgres_server.kill()
    assert await bench.ended() == 1
    *_, left, error, remedy = bench.said.strip().splitlines()
    assert left.startswith(f"left behind: schema {PREFIX}")
    assert error.startswith("error: PostgreSQL went away during the bench: "), bench.said
    assert remedy.startswith("  help: ")
    assert "Traceback" not in bench.said
    assert await bench_topics(settings_of(real_kafka, "postgresql://x@127.0.0.1/x")) == []


def test_wrong_use() -> None:
    """Two sizes at once are wrong use, and no address of a database is a sentence."""
    from worker.cli import main

    assert main(["bench", "--quick", "--full"]) == 2


async def test_a_backfill_is_measured(
    kafka: KafkaService, postgres_dsn: str, surroundings: Callable[[dict[str, str]], None]
) -> None:
    """Alone it grants what was forgotten; beside live events it runs in the worker; awards are those of brute force."""
    surroundings(environ_of(kafka, postgres_dsn))
    sizes = replace(TINY, latency_seconds=3)
    settings = settings_of(kafka, postgres_dsn)
    before = await schemas(postgres_dsn)
    figures = await backfill.run(settings, sizes, said=lambda _: None)
    assert figures["backfill_events_per_s"] > 0
    assert figures["backfill_awards"] >= 0
    assert {"p50", "p99", "max", "awards"} == set(figures["latency_ms"]["beside"])
    assert list(backfill_lines(figures))
    assert await schemas(postgres_dsn) == before
    assert await bench_topics(settings) == []
