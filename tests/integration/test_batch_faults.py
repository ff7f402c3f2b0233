"""A connection lost before any statement of any batch, on PostgreSQL: between log, checkpoint and commit alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.properties.test_checkpoint import DAY, LIMITS, PLAN, START, plain
from tests.rig.faults import Faults, store
from worker.errors import TransientError
from worker.events import Record, format_instant
from worker.exchange import Claim
from worker.pipeline import users
from worker.pipeline.batch import Applier, Entangled
from worker.pipeline.cache import Cache
from worker.pipeline.decoding import Part
from worker.rules import evaluate
from worker.store import transaction as store_transaction
from worker.store.postgres import PostgresStore

__all__ = ["store"]

#: (user, type, day, post) of the events of each batch. Days that fall are late events.
BATCHES = [
    [("a", "a.done", 1, "p"), ("b", "a.done", 1, "q")],
    [("a", "a.done", 2, "p"), ("a", "a.done", 3, "q"), ("b", "b.done", 2, "p")],
    [("a", "b.done", 2, "p"), ("c", "a.done", 1, "p")],
    [("a", "a.done", 4, "q"), ("b", "a.done", 3, "q"), ("c", "b.done", 3, "p")],
]


def records(run: int, number: int, offset: int) -> list[Record]:
    """A batch of the run, whose users are its own."""
    found = []
    for at, (user, kind, day, post) in enumerate(BATCHES[number]):
        value = {
            "id": f"e{number}-{at}",
            "type": kind,
            "user_id": f"{user}{run:03}",
            "occurred_at": format_instant(START + day * DAY),
            "payload": {"post": post},
        }
        found.append(Record("events", run, offset + at, START // 1000 + 10**9, b"k", json.dumps(value).encode()))
    return found


async def play(store: PostgresStore, faults: Faults, run: int, *, fault: int | None) -> None:
    """Apply all batches; after a fault the partition is claimed again, as its owner does."""
    applier = Applier(store, PLAN, LIMITS, cache=Cache(1 << 20))
    claim = await store.claim("events", run, generation=1, owner="test", start_offset=0)
    faults.left = fault
    for number, batch in enumerate(BATCHES):
        begin = sum(len(one) for one in BATCHES[:number])
        try:
            assert claim is not None
            await applier.apply(claim, records(run, number, begin), from_offset=begin)
        except TransientError:
            claim = await store.claim("events", run, generation=1, owner="test", start_offset=0)
            assert claim is not None
            if claim.next_offset == begin:
                await applier.apply(claim, records(run, number, begin), from_offset=begin)
            else:
                assert claim.next_offset == begin + len(batch)
    faults.left = None


async def seen(store: PostgresStore, run: int) -> dict[str, Any]:
    """What the run has left behind, its users' names without the run's number."""
    found: dict[str, Any] = {}
    async with store.pool.acquire() as connection:
        for table, columns in {
            "user_badges": "badge_key, context, awarded_at, origin, sequence, trigger_id",
            "badge_awards_log": "badge_key, context, awarded_at, origin, sequence, trigger_id",
            "events": "id, type, occurred_at",
        }.items():
            rows = await connection.fetch(
                f"SELECT left(user_id, 1), {columns} FROM {table} WHERE right(user_id, 3) = $1", f"{run:03}"
            )
            found[table] = sorted(map(str, rows))
    said = [message for shard in range(4) for row in await store.unpublished([shard], 1000) for message in row.messages]
    bodies = [json.loads(message.value or b"{}") for message in said]
    found["said"] = sorted(
        (body["user_id"][0], body["sequence"], body["badge_key"], body["context"])
        for body in bodies
        if body["user_id"].endswith(f"{run:03}")
    )
    found["memory"] = {user: await recovered(store, f"{user}{run:03}") for user in "abc"}
    return found


async def recovered(store: PostgresStore, user_id: str) -> Any:
    """The memory that a new owner would work with."""
    async with store.transaction() as transaction:
        states = await transaction.lock([user_id], version=0)
        tail = (await transaction.tails(states.values())).get(user_id, [])
        scopes = {"", "post=p", "post=q"}
        await transaction.read(states, [(user_id, scope) for scope in sorted(scopes)])
        for event in tail:
            evaluate.fold(PLAN, states[user_id], event)
    return plain(states[user_id].scopes)


async def play_together(store: PostgresStore, faults: Faults, run: int, *, fault: int | None) -> None:
    """As `play`, but user c is in a partition of its own, and what there is of both partitions goes together."""
    applier = Applier(store, PLAN, LIMITS, cache=Cache(1 << 20))
    places = (2000 + 2 * run, 2001 + 2 * run)

    async def claims() -> list[Claim]:
        found = [await store.claim("events", place, generation=1, owner="t", start_offset=0) for place in places]
        return [claim for claim in found if claim is not None]

    owned, offsets = await claims(), [0, 0]
    faults.left = fault
    for number in range(len(BATCHES)):
        lines: list[list[Record]] = [[], []]
        for record in records(run, number, 0):
            which = json.loads(record.value or b"")["user_id"].startswith("c")
            offset = offsets[which] + len(lines[which])
            lines[which].append(Record("events", places[which], offset, record.timestamp_ms, b"k", record.value))
        while due := [which for which in (0, 1) if lines[which] and lines[which][-1].offset >= offsets[which]]:
            parts = [Part(owned[which], lines[which], offsets[which]) for which in due]
            try:
                await applier.apply_together(parts)
            except TransientError:
                owned = await claims()
                offsets = [claim.next_offset for claim in owned]
            else:
                for part, which in zip(parts, due, strict=True):
                    offsets[which] += len(part.records)
    faults.left = None


async def test_partitions_applied_together_give_what_one_gives(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever statement the connection is lost before, two partitions in one transaction give what one gives."""
    monkeypatch.setattr(users, "CHECKPOINT", 1)
    faults = Faults(monkeypatch)
    await play(store, faults, 0, fault=None)
    wanted = await seen(store, 0)
    await play_together(store, faults, 1, fault=10_000)
    first, statements = faults.names.index("fence_together"), len(faults.names)  # before it goes its BEGIN
    assert {"lock_users", "save_users", "grant_few"} <= set(faults.names[first:])
    assert await seen(store, 1) == wanted
    for fault in range(first, statements + 1):
        await play_together(store, faults, fault + 1, fault=fault)
        assert await seen(store, fault + 1) == wanted, f"lost before statement {fault}"


async def test_a_user_of_two_partitions_is_not_applied_twice_at_once(store: PostgresStore) -> None:
    """Partitions that share a user are refused together, without effect."""
    applier = Applier(store, PLAN, LIMITS)
    parts = []
    for partition in (3000, 3001):
        claim = await store.claim("events", partition, generation=1, owner="t", start_offset=0)
        assert claim is not None
        first = records(900, 0 if partition == 3000 else 1, 0)[0]  # another event of the same user
        line = [Record("events", partition, 0, first.timestamp_ms, b"k", first.value)]
        parts.append(Part(claim, line, 0))
    with pytest.raises(Entangled):
        await applier.apply_together(parts)
    for part in parts:
        await applier.apply(part.claim, part.records, from_offset=0)


@pytest.mark.parametrize(
    ("every", "few", "granting"), [(1, 32, {"grant_few"}), (3, 0, {"user_badges", "badge_awards_log", "publish"})]
)
async def test_lost_connections_change_nothing(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, every: int, few: int, granting: set[str]
) -> None:
    """Whichever statement the connection is lost before, awards, log, messages and memory are the same."""
    monkeypatch.setattr(users, "CHECKPOINT", every)
    monkeypatch.setattr(store_transaction, "FEW", few)
    faults = Faults(monkeypatch)
    await play(store, faults, 0, fault=10_000)
    wanted, statements = await seen(store, 0), len(faults.names)
    assert {"fence", "lock_users", "save_users", "commit", *granting} <= set(faults.names)
    for fault in range(1, statements + 1):
        await play(store, faults, fault, fault=fault)
        assert await seen(store, fault) == wanted, f"lost before statement {fault}"
