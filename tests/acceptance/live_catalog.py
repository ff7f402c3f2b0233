"""A catalog that changes under load: a level and a badge are added while a community's events flow to three workers.

Two of the workers are killed and replaced while the new version is taken up and users are built for it. Afterwards the
new badges' holders and instants must equal a count by hand over the whole stream, each stored once and published under
one id: quietly where the badge was earned before its user was built, else live. No other badge may notice.

    python -m tests.acceptance.live_catalog --seconds 45
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import yaml
from aiokafka import AIOKafkaProducer

from tests.acceptance.chaos import (
    DEMO,
    PARTITIONS,
    TOPICS,
    Run,
    at_work,
    caught_up,
    kill_worker,
    produce,
    reach,
    stop_workers,
    until,
)
from tests.acceptance.verdict import Award, Verdict, award_key, expected_awards, messages, published, stored_awards
from tests.rig.kafka_broker import KafkaBroker
from worker.demo.postgres import PostgresServer
from worker.events import format_instant, parse_instant
from worker.stream.connection import stop_quietly

#: When the catalog is applied: five of the twelve who come to 25 comments have, seven have not.
APPLY_AT = 0.3
#: Until when users must be built: two of those come later.
BUILT_AT = 0.85
#: A post that nobody of the community comments on: what the second new badge counts is remembered nowhere yet.
POST = 9_999_999
LEVEL, NEW = "commentator_25", "regular_10"
#: Two more users: one has nine comments on the post when the badge comes, one has ten.
NINE, TEN = "has-nine", "has-ten"

Place = tuple[int, int]


@dataclass
class Landmarks:
    """Where the stream stood before the new version was applied, and once all users were built."""

    before: dict[int, int] = field(default_factory=dict)
    built: dict[int, int] = field(default_factory=dict)


def comments(user_id: str, count: int) -> list[dict[str, Any]]:
    """Comments on the post, one every second day of 2010, before all of the community's."""
    first = datetime(2010, 1, 1, tzinfo=UTC)
    return [
        {
            "id": f"{user_id}-{number}",
            "type": "comment.posted",
            "user_id": user_id,
            "occurred_at": (first + timedelta(days=2 * number)).isoformat(),
            "payload": {"post_id": POST},
        }
        for number in range(count)
    ]


def community() -> list[dict[str, Any]]:
    """The community's events, in the order in which they happened."""
    with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def as_records(events: list[dict[str, Any]]) -> list[tuple[bytes, bytes]]:
    """(key, value) of each event."""
    return [(event["user_id"].encode(), json.dumps(event).encode()) for event in events]


def changed_catalog() -> str:
    """The demo's catalog with a level more, and a badge over a memory that no version kept."""
    document = yaml.safe_load((DEMO / "catalog.yaml").read_text())
    document["ladders"][0]["levels"] = [10, 25, 50, 100]
    criteria = {"post_id": POST, "$eventCount": {"$gte": 10}}
    document["badges"].append(
        {"key": NEW, "label": "Regular", "flow": {"event": "comment.posted", "criteria": criteria}}
    )
    return str(yaml.safe_dump(document, sort_keys=False))


def by_hand(events: list[dict[str, Any]]) -> dict[Award, str]:
    """What the new badges must come to, and the two users' other ones, by counting; with the id of the event."""
    found: dict[Award, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    in_order = sorted(events, key=lambda event: (parse_instant(event["occurred_at"]), event["id"]))
    for event in in_order:
        user_id = event["user_id"]
        if event["type"] != "comment.posted":
            continue
        counts[user_id, "all"] += 1
        counts[user_id, "post"] += event["payload"]["post_id"] == POST
        earned = {LEVEL: counts[user_id, "all"] == 25, NEW: counts[user_id, "post"] == 10}
        if user_id in (NINE, TEN):
            earned |= {"commentator_10": counts[user_id, "all"] == 10, "five_comment_days": counts[user_id, "all"] == 5}
        for key in (key for key, now in earned.items() if now):
            found.setdefault((user_id, key, "", format_instant(parse_instant(event["occurred_at"]))), event["id"])
    return found


async def fetch(run: Run, statement: str) -> list[Any]:
    """Rows of the database."""
    connection = await asyncpg.connect(run.dsn, timeout=5)
    try:
        await connection.execute("SET search_path TO badges")
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def positions(run: Run) -> dict[int, int]:
    """The next offset of each partition of the events."""
    rows = await fetch(run, f"SELECT partition, next_offset FROM partitions WHERE topic = '{TOPICS['events']}'")
    return {row["partition"]: row["next_offset"] for row in rows}


async def all_built(run: Run) -> None:
    """Wait until no user's memory is of a version before the one that the head builds on."""

    async def built() -> bool:
        (row,) = await fetch(
            run,
            """SELECT count(*) FILTER (WHERE u.built_version < v.basis) AS behind
               FROM users u, catalog_head h JOIN catalog_versions v USING (version)""",
        )
        return bool(row["behind"] == 0)

    await until(built, seconds=90, what="every user is built for the new version")


async def send(run: Run, events: list[dict[str, Any]]) -> None:
    """Produce events at once."""
    producer = AIOKafkaProducer(bootstrap_servers=run.broker.bootstrap_servers, acks="all")
    await producer.start()
    try:
        for key, value in as_records(events):
            await producer.send_and_wait(TOPICS["events"], value, key=key)
    finally:
        await stop_quietly(producer)


async def change(run: Run, landmarks: Landmarks) -> None:
    """Apply the new version mid-stream; kill a worker while it is applied and another while users are built."""
    await reach(run, APPLY_AT)
    landmarks.before = await positions(run)
    run.note("a level and a badge are added")
    (run.folder / "changed.yaml").write_text(changed_catalog())
    applying = asyncio.create_task(
        asyncio.to_thread(run.badges, "catalog", "apply", "changed.yaml", "--note", "mid-stream")
    )
    await kill_worker(run)
    await applying
    run.note("the new version rules")
    await kill_worker(run)
    await at_work(run)
    await reach(run, BUILT_AT)
    run.flowing.clear()
    await all_built(run)
    landmarks.built = await _ends(run)
    run.note("every user is built; the rest of the stream follows")
    run.flowing.set()


async def _ends(run: Run) -> dict[int, int]:
    from tests.acceptance.chaos import ends

    return await ends(run, TOPICS["events"])


async def check(run: Run, events: list[dict[str, Any]], landmarks: Landmarks) -> Verdict:
    """Hold tables and topics against the count by hand."""
    verdict = Verdict()
    counted = by_hand(events)
    wanted = expected_awards() | counted.keys()
    connection = await asyncpg.connect(run.dsn, timeout=5)
    try:
        stored = await stored_awards(connection)
    finally:
        await connection.close()
    for key in (LEVEL, NEW):
        verdict.expect(
            f"{key} stored", {one for one in stored if one[1] == key}, {one for one in counted if one[1] == key}
        )
    verdict.expect("user_badges", set(stored), wanted)
    verdict.expect("rows of user_badges", len(stored), len(wanted))
    first = await published(run.broker.bootstrap_servers, verdict)
    verdict.expect("awards topic", {award_key(body) for body in first.values()}, wanted)
    verdict.expect("ids on the awards topic", len(first), len(wanted))
    places = await _places(run)
    for body in first.values():
        if body["badge_key"] in (LEVEL, NEW):
            _check_origin(body, counted, places, landmarks, verdict)
        elif (body["origin"], body["notify"]) != ("live", True):
            verdict.deviations.append(f"{body['badge_key']} of {body['user_id']} was given as {body['origin']}")
    origins = Counter(
        (body["badge_key"], body["origin"]) for body in first.values() if body["badge_key"] in (LEVEL, NEW)
    )
    verdict.counts["awards"] = len(stored)
    verdict.counts["origins"] = {f"{key} {origin}": count for (key, origin), count in sorted(origins.items())}
    if not {(LEVEL, "backfill"), (LEVEL, "live"), (NEW, "backfill"), (NEW, "live")} <= set(origins):
        verdict.deviations.append(f"each new badge was to be given quietly and live: {dict(origins)}")
    return verdict


async def _places(run: Run) -> dict[str, Place]:
    """Where each event lies, by its id."""
    records = await messages(run.broker.bootstrap_servers, TOPICS["events"])
    return {json.loads(record.value)["id"]: (record.partition, record.offset) for record in records}


def _check_origin(
    body: Mapping[str, Any],
    counted: Mapping[Award, str],
    places: Mapping[str, Place],
    landmarks: Landmarks,
    verdict: Verdict,
) -> None:
    """Quiet where the event was applied before the version was, live where it came after all were built."""
    trigger = counted.get(award_key(body))
    if trigger is None:
        return
    what = f"{body['badge_key']} of {body['user_id']}"
    verdict.expect(f"the trigger of {what}", body["trigger"]["id"], trigger)
    partition, offset = places[trigger]
    given = (body["origin"], body["notify"])
    if offset < landmarks.before.get(partition, 0):
        verdict.expect(f"{what}, earned before", given, ("backfill", False))
    elif offset >= landmarks.built[partition]:
        verdict.expect(f"{what}, earned after", given, ("live", True))
    elif given not in (("backfill", False), ("live", True)):
        verdict.deviations.append(f"{what} was given as {given}")


async def live_catalog(*, seconds: float = 45.0) -> dict[str, Any]:
    """Run everything; returns figures, raises AssertionError with every deviation found."""
    with (
        tempfile.TemporaryDirectory(prefix="badges-live-catalog-") as folder,
        KafkaBroker() as broker,
        PostgresServer(prefer="local", fsync=True) as database,
    ):
        run = Run(0, broker, database, Path(folder), seconds)
        run.dsn = database.dsn
        try:
            return await _live_catalog(run)
        except AssertionError as error:
            kept = Path(tempfile.mkdtemp(prefix="badges-live-catalog-kept-"))
            for path in run.folder.glob("worker-*.log"):
                (kept / path.name).write_bytes(path.read_bytes())
            raise AssertionError(f"logs in {kept}:\n{error}") from None
        finally:
            for process in run.workers:
                if process.poll() is None:
                    process.kill()
                    process.wait(10)


async def _live_catalog(run: Run) -> dict[str, Any]:
    run.badges("db", "migrate")
    run.badges("topics", "create", "--partitions", str(PARTITIONS))
    run.badges("catalog", "apply", str(DEMO / "catalog.yaml"))
    events = [*comments(NINE, 9), *comments(TEN, 10), *community()]
    for _ in range(3):
        run.spawn()
    await at_work(run)
    run.note(f"three workers own partitions; {len(events):,} events follow")
    landmarks = Landmarks()
    producing = asyncio.create_task(produce(run, as_records(events)))
    await change(run, landmarks)
    await producing
    await caught_up(run)
    last = comments(NINE, 10)[9:]
    await send(run, last)
    await caught_up(run)
    run.note("everything is applied and published")
    deviations = stop_workers(run)
    verdict = await check(run, [*events, *last], landmarks)
    deviations += verdict.deviations
    logs = "".join(path.read_text(errors="replace") for path in sorted(run.folder.glob("worker-*.log")))
    if "Traceback" in logs or "exc_info" in logs:
        deviations.append("a worker logged a traceback: " + logs[max(0, logs.find("Traceback") - 500) :][:3000])
    if deviations:
        raise AssertionError("\n".join(deviations))
    run.note(f"exact: {verdict.counts}")
    return verdict.counts


def main() -> None:
    """Run once from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=45.0, help="how long producing takes")
    options = parser.parse_args()
    logging.disable()
    asyncio.run(live_catalog(seconds=options.seconds))


if __name__ == "__main__":
    main()
