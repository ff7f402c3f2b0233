"""The chaos run: a real community's events through real Kafka and PostgreSQL, with everything killed on the way.

Three workers read the demo's 8,391 events, each produced twice, with five poison records between. One worker is killed
and replaced, one is frozen for three session timeouts, the broker and the database are each killed and started again.
Afterwards `user_badges` and the awards topic must both equal what brute force over the sorted history gives.

    python -m tests.acceptance.chaos --seed 7
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.acceptance.verdict import reading, verify
from tests.rig import waiting
from tests.rig.kafka_broker import KafkaBroker
from worker.demo.postgres import PostgresServer
from worker.stream.connection import stop_quietly

DEMO = Path(__file__).resolve().parents[2] / "worker" / "demo"
TOPICS = {"events": "badges.events", "awards": "badges.awards", "dead": "badges.dead-letters"}
PARTITIONS = 8
SESSION_SECONDS = 6.0


@dataclass
class Run:
    """One chaos run: its services, its workers and what it has produced so far."""

    seed: int
    broker: KafkaBroker
    database: PostgresServer
    folder: Path
    seconds: float
    dsn: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    spawned: int = 0
    produced: int = 0
    total: int = 0
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, text: str) -> None:
        """Say what happens, with the second it happens in."""
        line = f"{time.monotonic() - self.started:6.1f} s  {text}"
        self.notes.append(line)
        print(line, flush=True)

    def environment(self) -> dict[str, str]:
        """What every `badges` process is started with."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("BADGES_")},
            "BADGES_DATABASE_URL": self.dsn,
            "BADGES_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "BADGES_SESSION_TIMEOUT_MS": str(int(SESSION_SECONDS * 1000)),
            "BADGES_METRICS_PORT": "0",
            "BADGES_ALLOW_INSECURE": "fsync,plaintext",
        }

    def badges(self, *arguments: str) -> None:
        """Run the command to its end; it must succeed."""
        command = [sys.executable, "-m", "worker", *arguments]
        ran = subprocess.run(
            command, env=self.environment(), cwd=self.folder, capture_output=True, text=True, timeout=90, check=False
        )
        if ran.returncode:
            raise AssertionError(f"badges {' '.join(arguments)} exited {ran.returncode}: {ran.stdout}{ran.stderr}")

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        self.spawned += 1
        with (self.folder / f"worker-{self.spawned}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", "worker"],
                env=self.environment(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.workers.append(process)
        return process


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str) -> None:
    """Wait for a condition that asks services which may be down, or say which one never came."""

    async def holds() -> bool:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return await condition()
        return False

    await waiting.until(holds, what, seconds=seconds, every=0.2)


# ---- what is produced -----------------------------------------------------------------------------------------------


def poison() -> list[bytes]:
    """Five records that are no event, each for another reason."""
    envelope = {"type": "comment.posted", "user_id": "u2", "occurred_at": "2015-01-01T00:00:00Z"}
    return [
        b'{"type": "comment.posted", "user_id": ',
        json.dumps({**envelope, "id": "nul", "payload": {"post_id": "a\x00b"}}).encode(),
        json.dumps({**envelope, "id": "deep", "payload": {}})[:-2].encode() + b'"x":' + b"[" * 99 + b"]" * 99 + b"}}",
        json.dumps({**envelope, "id": "type", "type": "comment.postde"}).encode(),
        json.dumps({**envelope, "id": "future", "occurred_at": "2999-01-01T00:00:00Z"}).encode(),
    ]


def line_up(seed: int) -> list[tuple[bytes, bytes]]:
    """(key, value) of every record in order: each event, its repeat some records later, five poison records between."""
    draw = random.Random(seed)
    with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
        events = [line.strip() for line in lines if line.strip()]
    placed = [(index + 0.0, line) for index, line in enumerate(events)]
    placed += [(index + draw.uniform(0.5, 400), line) for index, line in enumerate(events)]
    placed.sort(key=lambda item: item[0])
    records = [(json.loads(line)["user_id"].encode(), line) for _, line in placed]
    for value in poison():
        records.insert(draw.randrange(len(records)), (b"u2", value))
    return records


async def produce(run: Run, records: list[tuple[bytes, bytes]]) -> None:
    """Send all records in order at an even pace; whatever the broker does not acknowledge is sent again."""
    run.total = len(records)
    pace = run.seconds / len(records)
    while run.produced < len(records):
        producer = AIOKafkaProducer(
            bootstrap_servers=run.broker.bootstrap_servers, enable_idempotence=True, acks="all", linger_ms=5
        )
        try:
            await producer.start()
            while run.produced < len(records):
                chunk = records[run.produced : run.produced + 50]
                sent = [await producer.send(TOPICS["events"], value, key=key) for key, value in chunk]
                await asyncio.wait_for(asyncio.gather(*sent), 60)
                run.produced += len(chunk)
                await asyncio.sleep(len(chunk) * pace)
                await run.flowing.wait()
        except Exception as error:
            run.note(f"the producer starts again: {type(error).__name__}")
            await asyncio.sleep(0.5)
        finally:
            await stop_quietly(producer, seconds=10)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


async def reach(run: Run, share: float) -> None:
    """Wait until this share of the records is produced."""

    async def reached() -> bool:
        return bool(run.total) and run.produced >= share * run.total

    await until(reached, seconds=600, what=f"{share:.0%} of the records produced")


async def at_work(run: Run) -> None:
    """Wait until every worker owns partitions, holding the stream meanwhile, so that each fault falls into it."""
    wanted = {str(process.pid) for process in run.workers}

    async def owning() -> bool:
        for process in run.workers:
            if process.poll() is not None:
                raise AssertionError(f"worker {process.pid} ended by itself with {process.returncode}")
        connection = await asyncpg.connect(run.dsn, timeout=5)
        try:
            rows = await connection.fetch("SELECT DISTINCT owner FROM badges.partitions WHERE owner IS NOT NULL")
        finally:
            await connection.close()
        return wanted <= {row["owner"].rpartition("-")[2] for row in rows}

    run.flowing.clear()
    await until(owning, seconds=60, what="every worker owns partitions")
    run.flowing.set()


async def kill_worker(run: Run) -> None:
    """SIGKILL one worker and start another in its place."""
    victim = run.workers.pop(0)
    run.note("a worker is killed and replaced")
    victim.kill()
    victim.wait(10)
    run.spawn()


async def freeze_worker(run: Run) -> None:
    """SIGSTOP one worker for three session timeouts, then let it go on."""
    victim = run.workers[0]
    run.note("a worker is frozen")
    victim.send_signal(signal.SIGSTOP)
    await asyncio.sleep(3 * SESSION_SECONDS)
    victim.send_signal(signal.SIGCONT)
    run.note("the frozen worker goes on")


async def kill_broker(run: Run) -> None:
    """kill -9 the broker, then start it again on the same data."""
    run.note("the broker is killed")
    run.broker.kill()
    await asyncio.sleep(3)
    run.broker.spawn()
    await asyncio.to_thread(run.broker.wait_until_ready)
    run.note("the broker is back")


async def kill_database(run: Run) -> None:
    """kill -9 PostgreSQL, then start it again on the same data."""
    run.note("the database is killed")
    run.database.kill()
    await asyncio.sleep(2)
    await asyncio.to_thread(run.database.restart)
    run.note("the database is back")


async def faults(run: Run) -> None:
    """The four faults, each while events flow; their order is the seed's."""
    acts = [kill_worker, freeze_worker, kill_broker, kill_database]
    random.Random(run.seed + 1).shuffle(acts)
    for number, act in enumerate(acts):
        await reach(run, 0.08 + 0.22 * number)
        await at_work(run)
        await act(run)
    await at_work(run)


# ---- the whole ------------------------------------------------------------------------------------------------------


async def ends(run: Run, topic: str) -> dict[int, int]:
    """The end offset of every partition."""
    async with reading(run.broker.bootstrap_servers, topic) as consumer:
        found = await consumer.end_offsets(list(consumer.assignment()))
        return {at.partition: offset for at, offset in found.items()}


async def caught_up(run: Run) -> None:
    """Wait until every record is applied and every message published."""
    expected = await ends(run, TOPICS["events"])

    async def applied() -> bool:
        connection = await asyncpg.connect(run.dsn, timeout=5)
        try:
            rows = await connection.fetch(
                "SELECT partition, next_offset FROM badges.partitions WHERE topic = $1", TOPICS["events"]
            )
            waiting = await connection.fetchval("SELECT count(*) FROM badges.outbox WHERE published_at IS NULL")
        finally:
            await connection.close()
        reached = {row["partition"]: row["next_offset"] for row in rows}
        return waiting == 0 and all(reached.get(number, 0) >= end for number, end in expected.items())

    await until(applied, seconds=120, what="every record applied and every message published")


def stop_workers(run: Run) -> list[str]:
    """SIGTERM all workers; each must end by itself, with exit code 0."""
    faults = []
    for process in run.workers:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    for process in run.workers:
        try:
            code = process.wait(25)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            code = None
        if code != 0:
            faults.append(f"a worker ended with {code} after SIGTERM")
    return faults


async def chaos(seed: int, *, seconds: float = 70.0) -> dict[str, Any]:
    """Run everything; returns figures, raises AssertionError with every deviation found."""
    with (
        tempfile.TemporaryDirectory(prefix="badges-chaos-") as folder,
        KafkaBroker() as broker,
        PostgresServer(prefer="local", fsync=True) as database,
    ):
        run = Run(seed, broker, database, Path(folder), seconds)
        run.dsn = database.dsn
        try:
            return await _chaos(run)
        finally:
            for process in run.workers:
                if process.poll() is None:
                    process.kill()
                    process.wait(10)


async def _chaos(run: Run) -> dict[str, Any]:
    run.badges("db", "migrate")
    run.badges("topics", "create", "--partitions", str(PARTITIONS))
    run.badges("catalog", "apply", str(DEMO / "catalog.yaml"))
    records = line_up(run.seed)
    for _ in range(3):
        run.spawn()
    await at_work(run)
    run.note(f"three workers own partitions; {len(records):,} records follow")
    producing = asyncio.create_task(produce(run, records))
    await faults(run)
    await producing
    run.note("everything is produced")
    await caught_up(run)
    run.note("everything is applied and published")
    deviations = stop_workers(run)
    figures = await verify(run.dsn, run.broker.bootstrap_servers, poison=poison())
    deviations += figures.deviations
    logs = "".join(path.read_text(errors="replace") for path in sorted(run.folder.glob("worker-*.log")))
    if "Traceback" in logs or "exc_info" in logs:
        deviations.append("a worker logged a traceback: " + logs[logs.find("Traceback") - 500 :][:3000])
    if deviations:
        kept = Path(tempfile.mkdtemp(prefix="badges-chaos-kept-"))
        for path in run.folder.glob("worker-*.log"):
            (kept / path.name).write_bytes(path.read_bytes())
        raise AssertionError("\n".join([f"seed {run.seed}, logs in {kept}:", *deviations]))
    run.note(f"exact: {figures.counts}")
    return figures.counts


def main() -> None:
    """Run once from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=70.0, help="how long producing takes")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    logging.disable()  # the clients here say a hundred lines a second while the broker is away
    asyncio.run(chaos(options.seed, seconds=options.seconds))


if __name__ == "__main__":
    main()
