"""Events, awards and letters to store, and the few moves every test of a store makes."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import NAMESPACE_URL, uuid5

from worker.events import Event
from worker.events.envelope import said_type
from worker.exchange import Claim, DeadLetter, Grant, Message, Remembered, Step
from worker.outbox import OutboxStore
from worker.pipeline.protocols import Store, Transaction
from worker.rules.catalog.definitions import Badge
from worker.rules.ir import All
from worker.rules.state import UserState
from worker.store.memory import MemoryStore
from worker.store.memory_transaction import MemoryTransaction
from worker.store.postgres import PostgresStore
from worker.store.transaction import PostgresTransaction

AnyStore: TypeAlias = MemoryStore | PostgresStore

_SEQUENCES = itertools.count(1)

NOON = 1_772_366_400_000_000


def type_check(memory: MemoryStore, postgres: PostgresStore) -> tuple[Store, Store, OutboxStore, OutboxStore]:
    """mypy holds here that both stores answer what pipeline and relay ask."""
    return memory, postgres, memory, postgres


def type_check_transactions(
    memory: MemoryTransaction, postgres: PostgresTransaction
) -> tuple[Transaction, Transaction]:
    """mypy holds here that both transactions do."""
    return memory, postgres


def event(user_id: str = "u1", event_id: str = "e1", /, **changes: Any) -> Event:
    """An event; `payload` may be given as data or, exactly, as `payload_json`."""
    payload = changes.pop("payload", {"score": 10})
    text = changes.pop("payload_json", None)
    values: dict[str, Any] = {"type": "question.scored", "occurred_us": NOON, "source": ""} | changes
    if text is not None:
        payload = json.loads(text, parse_float=Decimal)
    return Event(user_id=user_id, id=event_id, payload=payload, payload_json=text or json.dumps(payload), **values)


def grant(user_id: str = "u1", badge_key: str = "first", /, **changes: Any) -> Grant:
    """An award."""
    values: dict[str, Any] = {
        "context": "",
        "awarded_us": NOON,
        "source": "auto",
        "origin": "live",
        "award_id": str(uuid5(NAMESPACE_URL, f"{user_id}|{badge_key}|{changes.get('context', '')}")),
        "sequence": next(_SEQUENCES),
        "catalog_version": 1,
        "trigger_id": "e1",
        "trigger_type": "question.scored",
        "metadata_json": '{"event_count": 1}',
        "message": b"{}",
    }
    return Grant(user_id=user_id, badge_key=badge_key, **(values | changes))


def letter(offset: int = 0, /, **changes: Any) -> DeadLetter:
    """A dead letter."""
    raw = changes.get("raw", b"{not json")
    values: dict[str, Any] = {
        "topic": "events",
        "partition": 0,
        "incarnation": 1,
        "reason": "not_json",
        "detail": "the value is not JSON",
        "path": "",
        "user_id": None,
        "key": b"u1",
        "raw": raw,
        "sha256": hashlib.sha256(raw).digest(),
        "length": len(raw),
        "timestamp_ms": NOON // 1000,
        "said_type": said_type(raw),
    }
    return DeadLetter(offset=offset, **(values | changes))


def badge(key: str, **changes: Any) -> Badge:
    """A badge of the catalog, as far as a store reads it."""
    return Badge(key=key, formula=All((), ""), triggers=frozenset({"question.scored"}), **changes)


def message(text: str) -> Message:
    """A message whose value is a text."""
    return Message(key=b"k", value=text.encode())


async def claim(store: AnyStore, partition: int = 0, *, generation: int = 1, owner: str = "worker-1") -> Claim:
    """A claim that must succeed."""
    taken = await store.claim("events", partition, generation=generation, owner=owner, start_offset=0)
    assert taken is not None
    return taken


def step(start: int, end: int) -> Step:
    """From offset `start` to `end`, which is the next one to apply."""
    return Step(start, end, end - 1, hashlib.sha256(str(end).encode()).digest())


async def remember(store: AnyStore, *events: Event) -> Remembered:
    """Log events (in any order) in a transaction of their own; indexes are of the sorted events."""
    async with store.transaction() as transaction:
        return await transaction.remember(sorted(events, key=identity))


def identity(of: Event) -> tuple[str, str, str]:
    """What events are sorted by before they are stored."""
    return (of.user_id, of.source, of.id)


async def load(transaction: Transaction, wants: Mapping[str, Collection[str]]) -> dict[str, UserState]:
    """Lock users and read what their rows hold, with the memory and awards of the scopes named and of the user."""
    found = await transaction.lock(wants, version=1)
    await transaction.read(
        found, sorted({(user_id, scope) for user_id, scopes in wants.items() for scope in (*scopes, "")})
    )
    return found


async def log_of(store: AnyStore, user_id: str) -> list[Event]:
    """The user's log as the store has it."""
    async with store.transaction() as transaction:
        await load(transaction, {user_id: ()})
        return [logged async for logged in transaction.log_of(user_id)]


async def state_of(store: AnyStore, user_id: str, *scopes: str) -> UserState:
    """The user's state as the store has it."""
    async with store.transaction() as transaction:
        return (await load(transaction, {user_id: scopes}))[user_id]


async def waiting(store: AnyStore) -> list[str]:
    """The values of all messages that wait in the outbox, shard by shard in order."""
    rows = [row for shard in range(4) for row in await store.unpublished([shard], 1000)]
    return [(one.value or b"").decode() for row in rows for one in row.messages]


def payloads(events: Sequence[Event]) -> list[Any]:
    """Their payloads."""
    return [one.payload for one in events]
