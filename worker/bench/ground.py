"""The bench's own ground: a schema for each run and topics of its own, made on the services given, and removed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka.admin import NewTopic

from worker.app import open_store
from worker.app.services import check_surroundings
from worker.bench.cpu import postmaster_of
from worker.config import Settings
from worker.errors import BadgesError, OperatorError
from worker.store.failures import FOREIGN, translate
from worker.store.migrate import migrate
from worker.store.pool import open_connection, quote
from worker.stream.connection import admin_client
from worker.stream.topics import look

#: What every schema and topic of any bench begins with.
PREFIX: Final = "badges_bench_"
#: What Kafka answers for a topic that is not there.
_UNKNOWN = 3


class Ground:
    """Makes schemas and topics whose names begin with `name`, and removes every one of them in `clear`."""

    def __init__(self, settings: Settings, *, name: str | None = None) -> None:
        self.settings = settings
        self.name = name or PREFIX + secrets.token_hex(4)
        self.schemas: list[str] = []
        self.topics: list[str] = []
        self.replicas = 1

    async def inspect(self) -> list[str]:
        """Refuse services that cannot be measured on, or that hold anything of this name; nothing is touched.

        Returns what other benches have left behind, or still use.
        """
        check_surroundings(self.settings)
        async with open_store(self.settings, name=f"{self.name} inspects"):
            pass
        async with admin_client(self.settings) as admin:
            cluster = await admin.describe_cluster()
        if str(cluster["cluster_id"]).startswith("mockCluster"):
            raise OperatorError(
                "This Kafka keeps everything in memory and cannot remove topics: figures taken on it mean nothing.",
                help="set BADGES_KAFKA_BOOTSTRAP_SERVERS to a real broker",
            )
        self.replicas = min(3, len(cluster["brokers"]))
        topics = (await look(self.settings, ())).topics
        rows = await self.ask("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, $1)", PREFIX)
        found = [*(f"schema {row[0]}" for row in rows), *(f"topic {topic}" for topic in topics if PREFIX in topic)]
        taken = [thing for thing in found if thing.partition(" ")[2].startswith(self.name)]
        if taken:
            raise OperatorError(
                f"The services are not empty: they hold {', '.join(sorted(taken)[:5])}. Nothing was touched.",
                help="remove these if no other bench is running, and start again",
            )
        return sorted(found)

    async def ask(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows of a statement, on a connection of its own."""
        connection = await self._connect()
        try:
            return list(await connection.fetch(statement, *arguments))
        except FOREIGN as error:
            raise translate(error, during="a statement of the bench", closed=connection.is_closed()) from None
        finally:
            await _close(connection)

    async def postmaster(self) -> int | None:
        """The process that serves PostgreSQL; None where it is on another machine."""
        connection = await self._connect()
        try:
            row = await connection.fetchrow("SELECT pg_backend_pid(), inet_client_port()")
            return postmaster_of(row[0], row[1])
        except FOREIGN as error:
            raise translate(error, during="a statement of the bench", closed=connection.is_closed()) from None
        finally:
            await _close(connection)

    async def _connect(self) -> Any:
        return await open_connection(self.settings.dsn, {"application_name": self.name}, command_seconds=120.0)

    @asynccontextmanager
    async def schema(self, label: str) -> AsyncIterator[str]:
        """A schema with the project's tables, dropped on leaving."""
        name = f"{self.name}_{label}"
        self.schemas.append(name)
        await migrate(self.settings.dsn, schema=name)
        await self.settle()
        try:
            yield name
        finally:
            # What cannot be dropped now is tried again, and named, by `clear`; what went wrong before is what counts.
            with suppress(BadgesError):
                await asyncio.shield(self._drop(name))

    async def settle(self) -> None:
        """Ask for a checkpoint, where the role may: what one run wrote shall not be written out during the next."""
        with suppress(BadgesError):
            await self.ask("CHECKPOINT")

    async def _drop(self, schema: str) -> None:
        await self.ask(f"DROP SCHEMA IF EXISTS {quote(schema)} CASCADE")
        self.schemas.remove(schema)

    async def topic(self, label: str, partitions: int, *, config: Mapping[str, str] | None = None) -> str:
        """Make a topic, and wait until every partition has a leader."""
        name = f"{self.name}.{label}"
        self.topics.append(name)
        async with admin_client(self.settings) as admin:
            wanted = NewTopic(
                name, partitions, self.replicas, topic_configs={"cleanup.policy": "delete", **(config or {})}
            )
            answer = await admin.create_topics([wanted])
        for row in answer.topic_errors:
            if row[1]:
                raise OperatorError(f"Kafka did not make topic {name}: error {row[1]}.")
        while not self._is_led(name, (await look(self.settings, ())).topics):  # noqa: ASYNC110 (the broker's)
            await asyncio.sleep(0.05)
        return name

    @staticmethod
    def _is_led(name: str, topics: Mapping[str, Any]) -> bool:
        return name in topics and topics[name].led

    async def remove_topics(self, *names: str) -> None:
        """Remove topics, whether or not they came into being."""
        async with admin_client(self.settings) as admin:
            answer = await admin.delete_topics(list(names))
        for name, code in answer.topic_error_codes:
            if code in (0, _UNKNOWN):
                self.topics.remove(name)

    async def clear(self) -> list[str]:
        """Remove everything that was made; what could not be removed comes back by name."""
        with suppress(BadgesError):
            for schema in list(self.schemas):
                await self._drop(schema)
        if self.topics:
            with suppress(BadgesError):
                await self.remove_topics(*self.topics)
        return [*(f"schema {name}" for name in self.schemas), *(f"topic {name}" for name in self.topics)]


async def _close(connection: Any) -> None:
    """Close politely, or at once where the server does not answer."""
    try:
        await connection.close(timeout=5.0)
    except FOREIGN:
        connection.terminate()
