"""What commands that only ask a service share: the service's client keeps still, the command says what is wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.store.postgres import PostgresStore


@contextmanager
def quiet_clients() -> Iterator[None]:
    """Keep aiokafka's own lines off standard error: each failure is told once, as a sentence."""
    logger = logging.getLogger("aiokafka")
    handler, before = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


@asynccontextmanager
async def catalog_store(
    settings: Settings, *, name: str = "badges catalog", writes: bool = True
) -> AsyncIterator[PostgresStore]:
    """A store for commands that ask the database; its tables must be this version's. Logs go to standard error."""
    from worker import logs
    from worker.app import open_store, until_schema

    logs.configure(settings)
    async with open_store(settings, name=name, writes=writes) as store:
        await until_schema(store, seconds=0)
        yield store
