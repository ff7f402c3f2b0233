"""Opens PostgreSQL: a pool whose connections are bounded in every wait, and a server that is worth trusting."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import asyncpg

from worker.errors import OperatorError
from worker.store.failures import FOREIGN, translate
from worker.store.queries import QUERIES

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

SCHEMA: Final = "badges"
OLDEST_SERVER: Final = 140_000

#: PostgreSQL counts microseconds from 2000-01-01; everybody else from 1970-01-01.
_EPOCH_GAP: Final = 946_684_800_000_000
_INT64: Final = struct.Struct("!q")

_COMMAND_SECONDS: Final = 35.0
_CONNECT_SECONDS: Final = 5.0


async def create_pool(
    dsn: str,
    *,
    application_name: str = "badgestream",
    schema: str = SCHEMA,
    min_size: int = 1,
    max_size: int = 4,
    idle_seconds: float = 5.0,
) -> Pool:
    """A pool of connections with every wait bounded (reliability 1.1); instants are int microseconds since 1970.

    `idle_seconds`: how long a transaction may do nothing before the server ends it, which frees what a frozen process
    holds. Raises OperatorError for an address or a role that is wrong, TransientError while nothing answers.
    """
    with _connecting(dsn):
        return await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            timeout=_CONNECT_SECONDS,
            command_timeout=_COMMAND_SECONDS,
            server_settings=server_settings(application_name, schema, idle_seconds=idle_seconds),
            init=_prepare,
            reset=_leave_as_it_is,
        )


async def open_connection(dsn: str, settings: dict[str, str], *, command_seconds: float) -> Any:
    """One connection outside of any pool, for work that takes its time; fails as `create_pool` does."""
    with _connecting(dsn):
        connection = await asyncpg.connect(
            dsn, timeout=_CONNECT_SECONDS, command_timeout=command_seconds, server_settings=settings
        )
        await _set_instants(connection)
        return connection


@contextmanager
def _connecting(dsn: str) -> Iterator[None]:
    try:
        yield
    except FOREIGN as error:
        if isinstance(error, asyncpg.ClientConfigurationError):
            raise _not_an_address(error, dsn) from None
        raise translate(error, during="connecting") from None
    except ValueError as error:
        raise _not_an_address(error, dsn) from None


def _not_an_address(error: Exception, dsn: str) -> OperatorError:
    text = re.sub(r"postgres(?:ql)?://\S+", "(the address)", str(error).replace(dsn, "(the address)"))
    return OperatorError(
        f"BADGES_DATABASE_URL is not an address of PostgreSQL: {text}",
        help="write postgresql://user@host:5432/database",
    )


def server_settings(application_name: str, schema: str, *, idle_seconds: float = 5.0) -> dict[str, str]:
    """What every connection asks the server for; read committed is what the locks of a batch are designed for."""
    return {
        "application_name": application_name,
        "search_path": quote(schema),
        "TimeZone": "UTC",
        "idle_in_transaction_session_timeout": f"{round(idle_seconds * 1000)}ms",
        "lock_timeout": "10s",
        "statement_timeout": "30s",
        "default_transaction_isolation": "read committed",
        "jit": "off",
        # Every statement goes by a key. A plan made while the tables were empty would read them whole, and would stay
        # until the next ANALYZE, which a backlog outruns.
        "enable_seqscan": "off",
    }


def quote(identifier: str) -> str:
    """An identifier for SQL text. Raises OperatorError where PostgreSQL would cut it or cannot take it."""
    if not identifier or "\0" in identifier or len(identifier.encode("utf-8", "replace")) > 63:
        raise OperatorError(f"{identifier!r} is no name PostgreSQL can take", help="use 1 to 63 bytes of text")
    return '"' + identifier.replace('"', '""') + '"'


async def _prepare(connection: Any) -> None:
    await _set_instants(connection)
    version = connection.get_server_version()
    if version.major >= 17:
        await connection.execute("SET transaction_timeout = '20s'")
    try:
        await connection.execute("SET client_connection_check_interval = '2s'")
    except asyncpg.PostgresError:
        # Some platforms cannot notice a client that went away; there the idle time-out alone ends its transaction.
        return


async def _set_instants(connection: Any) -> None:
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_instant_out, decoder=_instant_in, format="binary"
    )


def _instant_out(microseconds: int) -> bytes:
    return _INT64.pack(microseconds - _EPOCH_GAP)


def _instant_in(data: bytes) -> int:
    return int(_INT64.unpack(data)[0]) + _EPOCH_GAP


async def _leave_as_it_is(_connection: Any) -> None:
    """No session state is ever changed, so nothing needs the round trip of RESET ALL."""


async def close_pool(pool: Pool, *, seconds: float = 3.0) -> None:
    """Close politely within `seconds`, else at once."""
    try:
        await asyncio.wait_for(pool.close(), seconds)
    except FOREIGN:
        pool.terminate()


async def check_server(pool: Pool, *, allow_insecure: Collection[str] = ()) -> list[str]:
    """Raise OperatorError where the server's settings break the promise that what is committed stays.

    `fsync` in `allow_insecure` lifts the three settings of durability; what was lifted comes back as sentences.
    """
    try:
        async with pool.acquire(timeout=_CONNECT_SECONDS) as connection:
            row = await connection.fetchrow(QUERIES["server_settings"])
    except FOREIGN as error:
        raise translate(error, during="the check of the server's settings") from None
    assert row is not None  # noqa: S101 (a SELECT without FROM has one row)
    return judge_server(dict(row), allow_insecure=allow_insecure)


def judge_server(found: dict[str, Any], *, allow_insecure: Collection[str] = ()) -> list[str]:
    """`check_server` for settings at hand."""
    if found["server_version_num"] < OLDEST_SERVER:
        raise OperatorError(f"PostgreSQL {found['server_version_num'] // 10_000} is too old", help="use 14 or newer")
    if found["server_encoding"] != "UTF8":
        raise OperatorError(f"the database's encoding is {found['server_encoding']}", help="create it with UTF8")
    if found["transaction_read_only"] != "off":
        raise OperatorError("the database is read-only", help="point BADGES_DATABASE_URL at the primary server")
    if found["default_transaction_isolation"] != "read committed":
        raise OperatorError(f"transactions are {found['default_transaction_isolation']}", help="use read committed")
    lifted = []
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if found[name] != "off":
            continue
        sentence = f"PostgreSQL runs with {name} = off: committed awards can be lost when its machine stops"
        if "fsync" not in allow_insecure:
            raise OperatorError(sentence, help=f"set {name} = on, or BADGES_ALLOW_INSECURE=fsync for tests and demos")
        lifted.append(sentence)
    return lifted
