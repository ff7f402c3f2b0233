"""A community's events in a shuffled order, through real Kafka and PostgreSQL: the awards are those of the true order.

Two workers read the demo's 8,391 events, which come in an order that a seed draws: years late, in batches wherever they
fall. The demo's flows are monotone, so that the same users hold the same badges for the same contexts as in order;
the log and every memory equal those of the sorted history, and no award tells of an instant before it was earned.

    python -m tests.acceptance.shuffled --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import logging
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.acceptance.chaos import DEMO, PARTITIONS, Run, at_work, caught_up, produce, stop_workers
from tests.acceptance.verdict import award_key, expected_awards, messages, verify
from tests.rig.kafka_broker import KafkaBroker
from worker.demo.postgres import PostgresServer


def line_up(seed: int) -> list[tuple[bytes, bytes]]:
    """(key, value) of every event, in an order that has nothing to do with when it happened."""
    with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
        events = [line.strip() for line in lines if line.strip()]
    random.Random(seed).shuffle(events)
    return [(json.loads(line)["user_id"].encode(), line) for line in events]


async def shuffled(seed: int, *, seconds: float = 5.0) -> dict[str, Any]:
    """Run everything; returns figures, raises AssertionError with every deviation found."""
    with (
        tempfile.TemporaryDirectory(prefix="badges-shuffled-") as folder,
        KafkaBroker() as broker,
        PostgresServer(prefer="local", fsync=True) as database,
    ):
        run = Run(seed, broker, database, Path(folder), seconds)
        run.dsn = database.dsn
        try:
            return await _shuffled(run)
        finally:
            for process in run.workers:
                if process.poll() is None:
                    process.kill()
                    process.wait(10)


async def _shuffled(run: Run) -> dict[str, Any]:
    run.badges("db", "migrate")
    run.badges("topics", "create", "--partitions", str(PARTITIONS))
    run.badges("catalog", "apply", str(DEMO / "catalog.yaml"))
    for _ in range(2):
        run.spawn()
    await at_work(run)
    records = line_up(run.seed)
    run.note(f"two workers own partitions; {len(records):,} events follow, shuffled by {run.seed}")
    await produce(run, records)
    await caught_up(run)
    run.note("everything is applied and published")
    deviations = stop_workers(run)
    verdict = await verify(run.dsn, run.broker.bootstrap_servers, poison=[], instants=False)
    bodies = [json.loads(record.value) for record in await messages(run.broker.bootstrap_servers, "badges.awards")]
    verdict.counts["origins"] = dict(sorted(Counter(body["origin"] for body in bodies).items()))
    earliest = {award[:3]: award[3] for award in expected_awards()}
    early = [body for body in bodies if award_key(body)[3] < earliest.get(award_key(body)[:3], "")]
    verdict.expect("awards said to be earned before they were", early, [])
    if not verdict.counts["origins"].get("late"):
        verdict.deviations.append("nothing came late, so nothing was shown")
    deviations += verdict.deviations
    if deviations:
        raise AssertionError("\n".join([f"seed {run.seed}:", *deviations]))
    run.note(f"exact: {verdict.counts}")
    return verdict.counts


def main() -> None:
    """Run once from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long producing takes at least")
    options = parser.parse_args()
    logging.disable()
    asyncio.run(shuffled(options.seed, seconds=options.seconds))


if __name__ == "__main__":
    main()
