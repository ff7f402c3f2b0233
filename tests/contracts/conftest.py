"""The stores that must keep one contract: in memory, on the session's PostgreSQL, on the embedded one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.contracts.samples import AnyStore
from tests.rig.postgres import PostgresService, execute
from worker.store.memory import MemoryStore
from worker.store.pool import close_pool, create_pool
from worker.store.postgres import PostgresStore

#: Faster than a database for each test; the head and the builds go before the versions they point at.
WIPE = """
DO $$
DECLARE name text;
BEGIN
    SET LOCAL badges.removal = 'on';
    DELETE FROM badges.catalog_head;
    DELETE FROM badges.catalog_builds;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'badges' AND tablename <> 'schema_migrations' LOOP
        EXECUTE format('DELETE FROM badges.%I', name);
    END LOOP;
END $$"""


@pytest.fixture(scope="session")
def postgres_database(postgres: PostgresService) -> Iterator[str]:
    """A migrated database of the session's server, for all tests here."""
    with postgres.database() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def embedded_database(embedded_postgres: PostgresService) -> Iterator[str]:
    """A migrated database of the embedded server, for all tests here."""
    with embedded_postgres.database() as dsn:
        yield dsn


@pytest.fixture(params=["memory", "postgres", "embedded"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AnyStore]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore()
        return
    async for made in _empty(request.getfixturevalue(f"{request.param}_database")):
        yield made


@pytest.fixture(params=["postgres", "embedded"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[PostgresStore]:
    """An empty store in each PostgreSQL, for what only a database can show."""
    async for made in _empty(request.getfixturevalue(f"{request.param}_database")):
        yield made


async def _empty(dsn: str) -> AsyncIterator[PostgresStore]:
    await execute(dsn, WIPE)
    pool = await create_pool(dsn, max_size=6, idle_seconds=1.0)
    try:
        yield PostgresStore(pool)
    finally:
        await close_pool(pool)
