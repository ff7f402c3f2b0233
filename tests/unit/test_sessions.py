"""Connections on their way back to the pool: nobody waits for them but who needs new ones."""

from __future__ import annotations

import asyncio

import pytest

from tests.rig.waiting import until
from worker.store.session import Database


class SlowPool:
    """A pool that takes connections back when it is told to."""

    def __init__(self) -> None:
        self.taken, self.back = asyncio.Event(), 0

    async def acquire(self, *, timeout: float) -> SlowPool:
        assert timeout > 0
        return self

    async def fetch(self, statement: str) -> list[str]:
        return [statement]

    async def expire_connections(self) -> None:
        """Nothing here is old."""

    async def release(self, connection: SlowPool) -> None:
        assert connection is self
        await self.taken.wait()
        self.back += 1


async def test_an_answer_does_not_wait_for_its_connection() -> None:
    """The rows are there while the connection is still being given back, which happens once."""
    pool = SlowPool()
    async with asyncio.timeout(5):
        assert await Database(pool).rows("server_settings")  # type: ignore[arg-type]
        assert pool.back == 0
        pool.taken.set()
        await until(lambda: pool.back, "the connection's return", every=0)
    assert pool.back == 1


async def test_a_stale_pool_is_waited_for() -> None:
    """Who found that all connections are of an old server goes on once none of them can be had again."""
    pool = SlowPool()

    async def fail() -> None:
        async with Database(pool)._session() as session:  # type: ignore[arg-type]
            session.pool_is_stale = True
            raise LookupError

    failing = asyncio.create_task(fail())
    for _ in range(9):
        await asyncio.sleep(0)
    assert not failing.done()
    pool.taken.set()
    with pytest.raises(LookupError):
        await failing
    assert pool.back == 1
