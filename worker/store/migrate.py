"""Makes the schema from `sql/0001_….sql` on: each file once, in order, under a lock, and never a changed one.

A file whose first line is `-- no-transaction` is run statement by statement, for CREATE INDEX CONCURRENTLY; each of its
statements ends a line with `;` and must bear being run again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeAlias
from zlib import crc32

import asyncpg

from worker.errors import BadgesError, OperatorError, TransientError
from worker.resources import resource
from worker.store.failures import FOREIGN, translate
from worker.store.pool import SCHEMA, Pool, open_connection, quote, server_settings
from worker.store.queries import QUERIES

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_FILE: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_NO_TRANSACTION: Final = "-- no-transaction"
_LOCK_CLASS: Final = 0x6261_6467 + 1  # beside the catalog's lock
_POLL_SECONDS: Final = 0.05
_STATEMENT_SECONDS: Final = 3600

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `sql/`."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The checksum that shows a changed file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def alone(self) -> bool:
        """Whether its statements must run outside of a transaction."""
        return self.text.startswith(_NO_TRANSACTION)


@dataclass(frozen=True, slots=True)
class Applied:
    """One migration the database has; `applied_us` in microseconds."""

    number: int
    name: str
    sha256: str
    applied_us: int


@dataclass(frozen=True, slots=True)
class Status:
    """What the database has and what it lacks."""

    applied: tuple[Applied, ...]
    pending: tuple[Migration, ...]


def shipped() -> tuple[Migration, ...]:
    """The migrations of this version, in order; their numbers run from 1 without a gap."""
    files = sorted((entry for entry in resource("sql").iterdir() if _FILE.fullmatch(entry.name)), key=lambda e: e.name)
    found = tuple(Migration(int(file.name[:4]), file.name, file.read_text("utf-8")) for file in files)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise RuntimeError("the numbers of the files in sql/ do not run from 0001 without a gap")
    return found


async def migrate(
    dsn: str,
    *,
    schema: str = SCHEMA,
    migrations: Sequence[Migration] | None = None,
    wait_seconds: float = 60.0,
    applied: Callable[[Migration], None] = lambda _migration: None,
) -> list[str]:
    """Apply what is missing; returns the names. Safe when several start at once: one works, the others wait for it.

    `applied` is called after each. Raises OperatorError where a file was changed after it was applied or the database
    is newer, TransientError where another migration holds the lock longer than `wait_seconds`.
    """
    wanted = shipped() if migrations is None else tuple(migrations)
    names = []
    async with (
        _connected(dsn, schema, seconds=_STATEMENT_SECONDS) as connection,
        _alone(connection, schema, wait_seconds),
    ):
        await _make_schema(connection, schema)
        for migration in compare(await _applied(connection), wanted).pending:
            await _apply(connection, migration)
            applied(migration)
            names.append(migration.name)
    return names


async def status(dsn: str, *, schema: str = SCHEMA) -> Status:
    """What the database has and lacks. Raises OperatorError as `migrate` does."""
    async with _connected(dsn, schema) as connection:
        return compare(await _applied(connection), shipped())


def compare(applied: Sequence[Applied], wanted: Sequence[Migration]) -> Status:
    """Hold what the database has against the files; raises OperatorError where they do not go together."""
    known = {migration.number: migration for migration in wanted}
    newest = max((row.number for row in applied), default=0)
    if newest > len(wanted):
        raise newer_schema(newest, len(wanted))
    for row in applied:
        if known[row.number].sha256 != row.sha256:
            raise OperatorError(
                f"sql/{known[row.number].name} is not the file that was applied to this database as {row.name}.",
                help="restore the file as it was, and put the change into a new migration",
            )
    if len(applied) < newest:
        raise OperatorError(
            f"the database has schema {newest} but lacks one of the migrations before it.",
            help="restore the database from a backup, or the rows of badges.schema_migrations",
        )
    return Status(tuple(applied), tuple(migration for migration in wanted if migration.number > newest))


def newer_schema(found: int, known: int) -> OperatorError:
    """The error for a database that a newer badgestream migrated."""
    return OperatorError(f"the database has schema {found}, this version knows {known}: upgrade badgestream")


async def schema_version(pool: Pool) -> int:
    """The number of the last migration the database has, 0 for none. OperatorError where this version is too old."""
    try:
        async with pool.acquire(timeout=5.0) as connection:
            found = int(await connection.fetchval(QUERIES["schema_version"]))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return 0
    except FOREIGN as error:
        raise translate(error, during="schema_version") from None
    known = len(shipped())
    if found > known:
        raise newer_schema(found, known)
    return found


def newest_known_version() -> int:
    """The schema this version of badgestream needs."""
    return len(shipped())


async def grant_read_role(dsn: str, role: str, *, schema: str = SCHEMA) -> bool:
    """Let a role read every table of the schema, now and later; made if it is missing (then True).

    Raises OperatorError for a name PostgreSQL cannot take and for a role that can write there already.
    """
    name, home = quote(role), quote(schema)
    async with _connected(dsn, schema) as connection:
        try:
            async with connection.transaction():
                made = not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)", role)
                if made:
                    await connection.execute(f"CREATE ROLE {name} LOGIN")
                    await connection.execute(f"ALTER ROLE {name} SET default_transaction_read_only = on")
                    await connection.execute(f"ALTER ROLE {name} SET search_path = {home}")
                elif await connection.fetchval("SELECT has_table_privilege($1, 'events', 'INSERT')", role):
                    raise OperatorError(
                        f"the role {role} can write to badgestream's tables", help="choose another name"
                    )
                await connection.execute(f"GRANT USAGE ON SCHEMA {home} TO {name}")
                await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {home} TO {name}")
                await connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {home} GRANT SELECT ON TABLES TO {name}")
        except FOREIGN as error:
            raise translate(error, during=f"GRANT to {role}") from None
    return made


@asynccontextmanager
async def _connected(dsn: str, schema: str, *, seconds: int = 30) -> AsyncIterator[Connection]:
    settings = server_settings("badges-migrate", schema, idle_seconds=seconds)
    settings |= {"statement_timeout": f"{seconds}s"}
    connection = await open_connection(dsn, settings, command_seconds=seconds + 5)
    try:
        yield connection
    except FOREIGN as error:
        raise translate(error, during="the migration") from None
    finally:
        connection.terminate() if connection.is_closed() else await connection.close(timeout=5.0)


@asynccontextmanager
async def _alone(connection: Connection, schema: str, wait_seconds: float) -> AsyncIterator[None]:
    """Hold the session lock. It is asked for again and again: waiting inside PostgreSQL would hold a snapshot, for
    which CREATE INDEX CONCURRENTLY in the winner would wait in turn.
    """
    lock = lock_of(schema)
    deadline = monotonic() + wait_seconds
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", *lock):
        if monotonic() > deadline:
            raise TransientError("another migration of this database is running")
        await asyncio.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1, $2)", *lock)


def lock_of(schema: str) -> tuple[int, int]:
    """The name of the advisory lock that a migration of this schema holds."""
    return _LOCK_CLASS, crc32(schema.encode()) - 2**31


async def _make_schema(connection: Connection, schema: str) -> None:
    # CREATE … IF NOT EXISTS would ask for the right to create even where there is nothing to create.
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quote(schema)):
        await connection.execute(f"CREATE SCHEMA {quote(schema)}")
    if not await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        await connection.execute(_TABLE)


async def _applied(connection: Connection) -> list[Applied]:
    if not await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        return []
    return [Applied(*row) for row in await connection.fetch(QUERIES["applied_migrations"])]


async def _apply(connection: Connection, migration: Migration) -> None:
    record = "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)"
    row: tuple[Any, ...] = (migration.number, migration.name, migration.sha256)
    try:
        if migration.alone:
            for statement in statements(migration.text):
                await connection.execute(statement)
            await connection.execute(record, *row)
        else:
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(record, *row)
    except FOREIGN as error:
        failure = translate(error, during=f"sql/{migration.name}")
        # The statements are ours and hold no row's values: the server's sentence says which one failed.
        reason = str(error).partition("\n")[0]
        raise _same_kind(failure, f"sql/{migration.name} failed: {reason}") from None


def _same_kind(failure: BadgesError, message: str) -> BadgesError:
    return TransientError(message) if isinstance(failure, TransientError) else OperatorError(message, help=failure.help)


def statements(text: str) -> list[str]:
    """The statements of a file without transaction: each ends a line with `;`."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [piece.strip() for piece in re.split(r";[ \t]*(?:\n|$)", code) if piece.strip()]
