"""A store on a database of a test's own; connections lost before a chosen statement, calls that fail at their turn.

Use the fixture as `from tests.rig.faults import Faults, store` with `__all__ = ["store"]`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from worker.errors import TransientError
from worker.store.memory import MemoryStore
from worker.store.pool import close_pool, create_pool
from worker.store.postgres import PostgresStore
from worker.store.session import Session


@asynccontextmanager
async def store_on(dsn: str, *, connections: int) -> AsyncIterator[PostgresStore]:
    """A store with so many connections to a database."""
    pool = await create_pool(dsn, max_size=connections)
    try:
        yield PostgresStore(pool)
    finally:
        await close_pool(pool)


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """A store on a database of the test's own."""
    async with store_on(postgres_dsn, connections=3) as opened:
        yield opened


class Faults:
    """Cuts the connection just before the statement whose turn it is, counted over all batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.names: list[str] = []
        for method in ("begin", "rows", "execute", "copy", "commit"):
            monkeypatch.setattr(Session, method, self.counting(method, getattr(Session, method)))

    def counting(self, method: str, original: Any) -> Any:
        """The method, after whose turn the connection is gone."""

        async def counted(session: Session, *arguments: Any) -> Any:
            if self.left is not None:
                self.names.append(str(arguments[0]) if arguments and method != "begin" else method)
                self.left -= 1
                if self.left == 0:
                    self.left = None
                    session.connection.terminate()
            return await original(session, *arguments)

        return counted


@contextmanager
def killed_at(store: MemoryStore, method: str, turns: Collection[int]) -> Iterator[None]:
    """In the block a method of the store's transactions fails at these of its calls, counted over all of them."""
    original, calls = store.transaction, 0

    @asynccontextmanager
    async def killing() -> AsyncIterator[Any]:
        async with original() as transaction:
            asked = getattr(transaction, method)

            async def killed(*arguments: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls in turns:
                    raise TransientError("killed")
                return await asked(*arguments, **named)

            with patch.object(transaction, method, killed):
                yield transaction

    with patch.object(store, "transaction", killing):
        yield
