"""One transaction on one connection: begun, committed or undone, every failure translated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg

from worker.errors import TransientError
from worker.store.failures import FOREIGN, STALE_POOL, state_of, translate
from worker.store.pool import Connection, Pool
from worker.store.queries import QUERIES

_ACQUIRE_SECONDS: Final = 10.0
_ROLLBACK_SECONDS: Final = 5.0


class Session:
    """The statements of one connection. `broken`: its state is unknown, so it is thrown away when it comes back."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.broken = False
        self.pool_is_stale = False

    @property
    def gone(self) -> bool:
        """Whether the connection was closed, by whomever."""
        try:
            return self.connection.is_closed()
        except asyncpg.InterfaceError:
            # The pool took it back when it died.
            return True

    def discard(self) -> None:
        """Close the connection at once; the pool makes another."""
        if not self.gone:
            self.connection.terminate()

    @contextmanager
    def door(self, during: str) -> Iterator[None]:
        """Translate what goes wrong inside. A cancelled statement may still run: its connection is thrown away."""
        try:
            yield
        except asyncio.CancelledError:
            self.broken = True
            raise
        except FOREIGN as error:
            self.broken |= self.gone or not isinstance(error, asyncpg.PostgresError)
            self.pool_is_stale |= state_of(error) in STALE_POOL
            raise translate(error, during=during, closed=self.gone) from None

    async def rows(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a named query."""
        with self.door(name):
            return await self.connection.fetch(QUERIES[name], *arguments)

    async def execute(self, name: str, *arguments: Any) -> int:
        """How many rows a named statement touched."""
        with self.door(name):
            status = await self.connection.execute(QUERIES[name], *arguments)
        return int(status.rpartition(" ")[2])

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append rows to a table by binary COPY, which is refused whole where one row is."""
        with self.door(f"COPY {table}"):
            await self.connection.copy_records_to_table(table, records=rows, columns=columns)

    async def begin(self, statements: str = "BEGIN") -> None:
        """Open the transaction, perhaps with more that belongs to its beginning: one round trip for all."""
        with self.door("BEGIN"):
            await self.connection.execute(statements)

    async def commit(self) -> None:
        """Commit. Any failure means that the outcome is unknown, and is a TransientError (reliability 1.4)."""
        try:
            with self.door("COMMIT"):
                status = await self.connection.execute("COMMIT")
        except TransientError as error:
            self.broken = True
            raise TransientError(f"{error.message}; whether the batch is stored is unknown") from None
        if status != "COMMIT":
            raise TransientError("PostgreSQL rolled the transaction back: a statement in it had failed")

    async def undo(self) -> None:
        """Roll back; never raises. A connection that cannot is thrown away, and the server rolls back."""
        if self.broken or self.gone:
            self.discard()
            return
        try:
            await self.connection.execute("ROLLBACK", timeout=_ROLLBACK_SECONDS)
        except FOREIGN:
            self.discard()
        except asyncio.CancelledError:
            self.discard()
            raise


class Database:
    """A pool and what is done with it: single statements, and sessions for transactions."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._returning: set[asyncio.Task[None]] = set()

    async def rows(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a named query, in a transaction of its own."""
        async with self._session() as session:
            return await session.rows(name, *arguments)

    async def execute(self, name: str, *arguments: Any) -> int:
        """How many rows a named statement touched, in a transaction of its own."""
        async with self._session() as session:
            return await session.execute(name, *arguments)

    @asynccontextmanager
    async def work(self, begin: str = "BEGIN") -> AsyncIterator[Session]:
        """A transaction: committed on leaving, undone on an exception."""
        async with self._session() as session, _in_transaction(session, begin):
            yield session

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        session = Session(await self._acquire())
        try:
            yield session
        except BaseException as error:
            if session.broken or isinstance(error, asyncio.CancelledError):
                session.discard()
            raise
        finally:
            returning = asyncio.create_task(self._give_back(session))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
            if session.pool_is_stale:
                # Whoever tries again at once must find new connections. Else nobody waits: on a loop that is busy, the
                # turns it takes to give a connection back were more than those of a short statement.
                await asyncio.wait({returning})

    async def _acquire(self) -> Connection:
        try:
            return await self.pool.acquire(timeout=_ACQUIRE_SECONDS)
        except FOREIGN as error:
            raise translate(error, during="connecting") from None

    async def _give_back(self, session: Session) -> None:
        """Return the connection; one that cannot be returned is closed, which is as good."""
        try:
            if session.pool_is_stale:
                await self.pool.expire_connections()
            await self.pool.release(session.connection)
        except FOREIGN:
            session.discard()


@asynccontextmanager
async def _in_transaction(session: Session, begin: str) -> AsyncIterator[None]:
    """BEGIN, then COMMIT on leaving or ROLLBACK on an exception; cancelled, the connection is closed at once."""
    try:
        await session.begin(begin)
        yield
        await session.commit()
    except asyncio.CancelledError:
        session.broken = True
        await session.undo()
        raise
    except BaseException:
        await session.undo()
        raise
