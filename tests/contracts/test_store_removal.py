"""Events of erased users, and of an age that retention removed, are told apart by every store."""

from __future__ import annotations

import pytest

from tests.contracts.samples import NOON, AnyStore, event
from worker.errors import TransientError
from worker.store.memory import MemoryStore
from worker.store.removal import user_hash


async def erase(store: AnyStore, user_id: str, at: int) -> None:
    """Note that a user was erased."""
    if isinstance(store, MemoryStore):
        store.tables.erased_users[user_hash(user_id)] = at
    else:
        await store.pool.execute("INSERT INTO erased_users VALUES ($1, $2)", user_hash(user_id), at)


async def retain(store: AnyStore, kind: str, floor: int) -> None:
    """Note how far back events of a type are kept."""
    if isinstance(store, MemoryStore):
        store.tables.retention_floors[kind] = floor
    else:
        await store.pool.execute("INSERT INTO retention_floors VALUES ($1, $2)", kind, floor)


async def test_nothing_is_refused_by_default(store: AnyStore) -> None:
    """Where nobody was erased and nothing removed, every event may come."""
    async with store.transaction() as transaction:
        assert await transaction.screen([event("u1", "a")]) == {}


async def test_events_up_to_the_erasure_are_refused(store: AnyStore) -> None:
    """An erased user's events are refused up to the instant of the erasure; later ones begin a new person."""
    await erase(store, "gone", NOON)
    events = [
        event("gone", "a", occurred_us=NOON),
        event("gone", "b", occurred_us=NOON + 1),
        event("here", "c", occurred_us=NOON),
    ]
    async with store.transaction() as transaction:
        assert await transaction.screen(events) == {0: "erased"}


async def test_events_below_the_floor_are_refused(store: AnyStore) -> None:
    """Events older than what retention kept of their type are refused; other types are not."""
    here = event("u1", "a", occurred_us=NOON)
    await retain(store, here.type, NOON + 1)
    async with store.transaction() as transaction:
        assert await transaction.screen([here, event("u1", "b", occurred_us=NOON + 1)]) == {0: "too_old"}


async def test_who_is_erased_meanwhile_gets_no_new_row(store: AnyStore) -> None:
    """A user whose row went after the events were looked at is not made anew: the batch is undone and made again."""

    async def batch() -> None:
        async with store.transaction() as transaction:
            assert await transaction.screen([event("gone", "a")]) == {}
            await transaction.remember([event("gone", "a")])
            await erase(store, "gone", NOON)
            await transaction.lock(["gone"], version=1)

    with pytest.raises(TransientError, match="erased while the batch ran"):
        await batch()
    later = event("gone", "b", occurred_us=NOON + 1)
    async with store.transaction() as transaction:
        assert await transaction.screen([later]) == {}
        assert (await transaction.lock(["gone"], version=1))["gone"].newest is None
