"""State as a checkpoint of the log: whatever is kept in memory, evicted, crashed or taken over, nothing differs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.errors import BadgesError, PoisonBatch, TransientError
from worker.events import Event, Record, format_instant
from worker.exchange import Claim
from worker.pipeline import users
from worker.pipeline.batch import Applier
from worker.pipeline.cache import Cache
from worker.pipeline.facts import Limits
from worker.rules import evaluate
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import compile_plan
from worker.store.memory import MemoryStore
from worker.store.memory_transaction import MemoryTransaction

CATALOG = """
version: 1
events:
  a.done: {description: A., schema: {type: object, properties: {post: {type: string}, score: {type: integer}}}}
  b.done: {description: B., schema: {type: object, properties: {post: {type: string}}}}
  zone.named: {description: Where., schema: {type: object, properties: {zone: {type: string}}}}
user_timezone: {event: zone.named, field: zone}
metrics:
  as: {count: a.done}
  balance: {count: a.done, less: b.done}
badges:
  - {key: busy, label: Busy, description: Three in two days,
     flow: {$timeWindow: {last: 2d, flow: {event: a.done, criteria: {$eventCount: {$gte: 3}}}}}}
  - {key: twice, label: Twice, description: Two for a post, per: post,
     flow: {event: a.done, criteria: {$eventCount: {$gte: 2}}}}
  - {key: both, label: Both, description: Twice and a B,
     flow: {$and: [{badge: twice}, {event: b.done, criteria: {$eventCount: {$gte: 1}}}]}}
  - {key: days, label: Days, description: Seven days,
     flow: {event: a.done, criteria: {$timePeriod: {periodType: day, periodCount: {$gte: 7}}}}}
  - {key: workdays, label: Workdays, description: Two for a post on workdays, per: post,
     flow: {$timeWindow: {businessDaysOnly: true, flow: {event: a.done, criteria: {$eventCount: {$gte: 2}}}}}}
  - {key: even, label: Even, description: Exactly none left, flow: {snapshot: {balance: {$eq: 1}}}}
ladders:
  - {key: steps, metric: as, levels: [1, 2, 4, 8], label: Steps, description: "{level}"}
"""
PLAN = compile_plan(load_catalog([Source("catalog.yaml", CATALOG)]))
LIMITS = Limits("awards", "dead", "control", 1 << 60)
#: What `zone.named` says; one of them is no zone.
ZONES = ("Pacific/Kiritimati", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Nowhere/Atall")
DAY = 86_400_000_000
START = 1_772_323_200_000_000


class FaultyStore(MemoryStore):
    """Fails at the statement whose turn it is, counting from 0; COMMIT is the last one.

    The `fault` is a lost connection, one lost while COMMIT went through (`unknown`), or a refused value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fail_at: int | None = None
        self.fault = "connection"

    def error(self) -> BadgesError:
        """What the fault is seen as."""
        if self.fault == "refused":
            return PoisonBatch("the database refused a value")
        return TransientError("the connection is gone")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A transaction whose statements are counted down to the fault."""
        async with super().transaction() as transaction:
            yield _Counting(transaction, self)
            if self.fail_at is not None and self.fault != "unknown":
                raise self.error()
        if self.fail_at is not None:
            raise self.error()


class _Counting:
    def __init__(self, transaction: MemoryTransaction, store: FaultyStore) -> None:
        self._transaction = transaction
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if self._store.fail_at is not None and name not in ("log_of",):
            if self._store.fail_at == 0:
                raise self._store.error()
            self._store.fail_at -= 1
        return getattr(self._transaction, name)


@dataclass
class Step:
    """One thing that happens: a batch of a partition, perhaps with a fault first; before it, what is lost."""

    partition: int
    events: list[dict[str, Any]]
    fail_at: int | None = None
    fault: str = "connection"
    lost: str = "nothing"


@dataclass
class Line:
    """A stream of two partitions and the store behind it."""

    store: FaultyStore
    cache_bytes: int
    processes: int
    appliers: dict[int, Applier] = field(default_factory=dict)
    claims: dict[int, Claim] = field(default_factory=dict)

    async def take(self, step: Step) -> None:
        """Apply a step until its batch is in."""
        if step.lost == "process":
            self.appliers.clear()
            self.claims.clear()
        if step.lost == "claim":
            self.claims.pop(step.partition, None)
        self.store.fail_at, self.store.fault = step.fail_at, step.fault
        try:
            await self.batch(step)
        except (TransientError, PoisonBatch) as error:
            if isinstance(error, TransientError):
                self.claims.pop(step.partition, None)
            self.store.fail_at = None
            await self.batch(step)
        self.store.fail_at = None

    async def batch(self, step: Step) -> None:
        """Apply the batch where it was not applied."""
        claim = self.claims.get(step.partition)
        if claim is None:
            claim = await self.store.claim("events", step.partition, generation=1, owner="w", start_offset=0)
            assert claim is not None
            self.claims[step.partition] = claim
        begin = step.events[0]["offset"]
        row = self.store.tables.partitions["events", step.partition]
        if row.next_offset > begin:
            return
        # partitions of one process share what it has in memory
        process = step.partition % self.processes
        applier = self.appliers.setdefault(process, Applier(self.store, PLAN, LIMITS, cache=Cache(self.cache_bytes)))
        records = [
            Record("events", step.partition, event["offset"], START // 1000, b"k", json.dumps(event["value"]).encode())
            for event in step.events
        ]
        await applier.apply(claim, records, from_offset=begin)


def outcome(store: MemoryStore) -> dict[str, Any]:
    """What other people see of a store: current awards, messages in order per user, the log."""
    said: dict[str, list[Any]] = {}
    for _, row in sorted(store.tables.outbox.items()):
        for message in row.messages:
            body = json.loads(message.value or b"{}")
            said.setdefault(body["user_id"], []).append(
                (body["sequence"], body["badge_key"], body["context"], body["awarded_at"], body["origin"])
            )
    held = {
        (user_id, *key): grant.awarded_us
        for user_id, rows in store.tables.user_badges.items()
        for key, grant in rows.items()
    }
    return {"held": held, "said": said, "events": store.tables.events}


async def recovered(store: MemoryStore, user_id: str) -> dict[str, Any]:
    """The memory that a new owner would work with: the row, and the log after it folded."""
    async with store.transaction() as transaction:
        states = await transaction.lock([user_id], version=0)
        state = states[user_id]
        scopes = {scope for (user, scope) in store.tables.scopes if user == user_id}
        tail = (await transaction.tails([state])).get(user_id, [])
        scopes.update(scope for event in tail for scope in PLAN.scopes(event))
        await transaction.read(states, [(user_id, scope) for scope in sorted({*scopes, ""})])
        for event in tail:
            evaluate.fold(PLAN, state, event)
    return plain(state.scopes)


def plain(scopes: dict[str, Any]) -> Any:
    """Memory as it compares: JSON-like, scopes without memory left out."""
    return json.loads(json.dumps({scope: memory for scope, memory in scopes.items() if memory}))


@st.composite
def lines(draw: st.DrawFn) -> list[Step]:
    """Batches on two partitions over few users, with repeats, events out of order and faults of every kind."""
    steps, offsets, made = [], [0, 0], []
    for _ in range(draw(st.integers(3, 12))):
        partition = draw(st.sampled_from([0, 0, 1]))
        events = []
        for _ in range(draw(st.integers(1, 7))):
            if made and draw(st.integers(0, 9)) == 0:
                value = draw(st.sampled_from(made))
            else:
                late = draw(st.integers(0, 7)) == 0
                at = START + (draw(st.integers(0, 20)) if late else 20 + len(made)) * DAY // 4
                value = {
                    "id": f"e{len(made)}",
                    "type": draw(st.sampled_from(["a.done", "a.done", "b.done", "zone.named"])),
                    "user_id": draw(st.sampled_from(["u1", "u2"])),
                    "occurred_at": format_instant(at),
                    "payload": {"post": draw(st.sampled_from("pq")), "zone": draw(st.sampled_from(ZONES))},
                }
                made.append(value)
            events.append({"offset": offsets[partition], "value": value})
            offsets[partition] += 1
        fail_at = draw(st.integers(0, 14)) if draw(st.integers(0, 3)) == 0 else None
        fault = draw(st.sampled_from(["connection", "unknown", "refused"]))
        lost = draw(st.sampled_from([*["nothing"] * 6, "claim", "process"]))
        steps.append(Step(partition, events, fail_at, fault, lost))
    return steps


@given(
    steps=lines(),
    cache_bytes=st.sampled_from([0, 2_500, 1 << 30, 1 << 30]),
    every=st.sampled_from([1, 3, 1000]),
    processes=st.sampled_from([1, 2, 2]),
)
def test_what_is_kept_in_memory_changes_nothing(
    steps: Sequence[Step], cache_bytes: int, every: int, processes: int
) -> None:
    """Crashes at any statement, lost claims, evictions and rare checkpoints leave awards, messages and memory alike.

    The measure is a worker that keeps nothing, writes each state at once and meets no fault.
    """
    original, users.CHECKPOINT = users.CHECKPOINT, every  # type: ignore[misc]
    try:
        store = asyncio.run(played(steps, cache_bytes, processes))
        users.CHECKPOINT = 1  # type: ignore[misc]
        plainly = asyncio.run(played([Step(step.partition, step.events) for step in steps], 0, 1))
    finally:
        users.CHECKPOINT = original  # type: ignore[misc]
    assert outcome(store) == outcome(plainly)
    for user_id, log in store.tables.events.items():
        in_order: list[Event] = sorted(log.values(), key=lambda event: event.order)
        held = {key: grant.awarded_us for key, grant in store.tables.user_badges.get(user_id, {}).items()}
        wanted, _ = evaluate.replay(PLAN, user_id, in_order, held)
        assert asyncio.run(recovered(store, user_id)) == plain(wanted.scopes)


async def played(steps: Sequence[Step], cache_bytes: int, processes: int) -> FaultyStore:
    """The store after all steps."""
    line = Line(FaultyStore(), cache_bytes, processes)
    for step in steps:
        await line.take(step)
    return line.store
