"""Holds what a run left behind against brute force: awards, messages, the event log, state, dead letters."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer

from worker.events import Event, decode_line, format_instant, parse_instant
from worker.files import read_sources
from worker.rules.catalog.load import load_catalog
from worker.rules.evaluate import fold, replay
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import UserState
from worker.stream.connection import stop_quietly

DEMO = Path(__file__).resolve().parents[2] / "worker" / "demo"
NAMESPACE = uuid5(NAMESPACE_DNS, "badgestream")

Award = tuple[str, str, str, str]


@dataclass
class Verdict:
    """What was counted, and one sentence for everything that is not as it must be."""

    counts: dict[str, Any] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)

    def expect(self, what: str, found: Any, wanted: Any) -> None:
        """Note a deviation where two values differ; sets and counters say what is missing and what is too much."""
        if found == wanted:
            return
        if isinstance(found, set) and isinstance(wanted, set):
            missing, extra = sorted(wanted - found)[:3], sorted(found - wanted)[:3]
            self.deviations.append(
                f"{what}: {len(wanted - found)} missing {missing}, {len(found - wanted)} too much {extra}"
            )
        else:
            self.deviations.append(f"{what}: found {found!r}, wanted {wanted!r}")


def expected_awards() -> set[Award]:
    """(user, badge, context, awarded_at) that the rules give by brute force."""
    lines = (DEMO / "expected.jsonl").read_text().splitlines()
    return {award_key(json.loads(line)) for line in lines if line}


def award_key(body: Mapping[str, Any]) -> Award:
    """What makes two awards the same; instants by value, however they are spelled."""
    awarded_at = format_instant(parse_instant(body["awarded_at"]))
    return (body["user_id"], body["badge_key"], body["context"], awarded_at)


@asynccontextmanager
async def reading(bootstrap_servers: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group, assigned every partition of a topic from the beginning."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        assert consumer.assignment(), f"the topic {topic} is missing"
        yield consumer
    finally:
        await stop_quietly(consumer)


async def messages(bootstrap_servers: str, topic: str) -> list[Any]:
    """Every message of a topic, partition by partition."""
    found: list[Any] = []
    async with reading(bootstrap_servers, topic) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(at) < end for at, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
    return found


async def verify(dsn: str, bootstrap_servers: str, *, poison: list[bytes], instants: bool = True) -> Verdict:
    """Compare the database and the topics with what they must hold; with or without the instants of the awards."""
    verdict, width = Verdict(), 4 if instants else 3
    wanted = {award[:width] for award in expected_awards()}
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET search_path TO badges")
        stored = await stored_awards(connection)
        verdict.counts["awards"] = len(stored)
        verdict.expect("user_badges", {award[:width] for award in stored}, wanted)
        verdict.expect("rows of user_badges", len(stored), len(wanted))
        await _log_and_state(connection, verdict)
        await _dead_letters(connection, verdict, poison)
    finally:
        await connection.close()
    first = await published(bootstrap_servers, verdict)
    verdict.expect("awards topic", {award_key(body)[:width] for body in first.values()}, wanted)
    dead = await messages(bootstrap_servers, "badges.dead-letters")
    verdict.expect("dead letters published", {record.value for record in dead}, set(poison))
    return verdict


async def stored_awards(connection: Any) -> list[Award]:
    """Every row of user_badges."""
    rows = await connection.fetch("SELECT user_id, badge_key, context, awarded_at FROM badges.user_badges")
    return [
        (row["user_id"], row["badge_key"], row["context"], row["awarded_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        for row in rows
    ]


async def published(bootstrap_servers: str, verdict: Verdict) -> dict[str, Any]:
    """The messages on the awards topic by id; notes a wrong id or key, two that differ, a sequence out of order."""
    records = await messages(bootstrap_servers, "badges.awards")
    first: dict[str, Any] = {}
    orders: dict[str, list[int]] = {}
    for record in records:
        body = json.loads(record.value)
        name = json.dumps(
            [body["user_id"], body["badge_key"], body["context"], 0, "awarded"],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        if body["id"] != str(uuid5(NAMESPACE, name)):
            verdict.deviations.append(f"message id {body['id']} is not the award's")
        if record.key != body["user_id"].encode():
            verdict.deviations.append(f"message {body['id']} has the key {record.key!r}")
        if body["id"] not in first:
            orders.setdefault(body["user_id"], []).append(body["sequence"])
        if first.setdefault(body["id"], body) != body:
            verdict.deviations.append(f"two messages with id {body['id']} differ")
    verdict.counts["messages"] = len(records)
    for user_id, sequences in orders.items():
        verdict.expect(f"sequence of {user_id}", sequences, list(range(1, len(sequences) + 1)))
    return first


async def _log_and_state(connection: Any, verdict: Verdict) -> None:
    catalog = load_catalog(read_sources(DEMO / "catalog.yaml"))
    plan = compile_plan(catalog)
    by_user: dict[str, list[Event]] = {}
    with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
        for number, line in enumerate(lines, 1):
            event = decode_line(line, catalog.dictionary, number=number)
            assert isinstance(event, Event)
            by_user.setdefault(event.user_id, []).append(event)
    wanted = {
        (event.user_id, event.source, event.id, event.type, format_instant(event.occurred_us))
        for events in by_user.values()
        for event in events
    }
    rows = await connection.fetch("SELECT user_id, source, id, type, occurred_at FROM events")
    found = [(*list(row)[:4], row["occurred_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")) for row in rows]
    verdict.counts["events"] = len(found)
    verdict.expect("event log", set(found), wanted)
    verdict.expect("rows of the event log", len(found), len(wanted))
    folded = {}
    for user_id, events in by_user.items():
        state, _ = replay(plan, user_id, sorted(events, key=lambda event: event.order), {})
        for scope, folds in state.scopes.items():
            if folds:
                folded[user_id, scope] = msgspec.msgpack.decode(msgspec.msgpack.encode(folds))
    stored = await _recovered(connection, plan, by_user)
    verdict.counts["states"] = len(stored)
    differing = [key for key in folded.keys() | stored.keys() if folded.get(key) != stored.get(key)]
    if differing:
        key = sorted(differing)[0]
        verdict.deviations.append(
            f"{len(differing)} states differ from the fold of the log, first {key}: "
            f"{stored.get(key)} / {folded.get(key)}"
        )


async def _recovered(connection: Any, plan: Plan, by_user: Mapping[str, list[Event]]) -> dict[tuple[str, str], Any]:
    """The memory of each scope as a new owner would have it: the state written last, and the log after it folded."""
    scopes: dict[str, dict[str, Any]] = {}
    for row in await connection.fetch("SELECT user_id, scope, state FROM user_scopes"):
        scopes.setdefault(row["user_id"], {})[row["scope"]] = msgspec.msgpack.decode(row["state"])
    stored = {}
    for row in await connection.fetch("SELECT user_id, state, newest_at, newest_source, newest_id FROM users"):
        user_id = row["user_id"]
        state = UserState(user_id, scopes=scopes.get(user_id, {}))
        state.scopes[""] = msgspec.msgpack.decode(row["state"]) if row["state"] else {}
        newest = None
        if row["newest_at"] is not None:
            newest = (parse_instant(row["newest_at"].isoformat()), row["newest_source"], row["newest_id"])
        for event in sorted(by_user.get(user_id, []), key=lambda event: event.order):
            if newest is None or event.order > newest:
                fold(plan, state, event)
        for scope, folds in state.scopes.items():
            if folds:
                stored[user_id, scope] = msgspec.msgpack.decode(msgspec.msgpack.encode(folds))
    return stored


async def _dead_letters(connection: Any, verdict: Verdict, poison: list[bytes]) -> None:
    rows = await connection.fetch("SELECT reason, raw, sha256 FROM dead_letters")
    verdict.counts["dead_letters"] = dict(Counter(row["reason"] for row in rows))
    verdict.expect("dead letters", {row["raw"] for row in rows}, set(poison))
    for row in rows:
        verdict.expect("sha256 of a dead letter", row["sha256"], hashlib.sha256(row["raw"]).digest())
