"""Opens what a process works on: a store on a server worth trusting, the topics a worker reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import structlog

from worker.config import Settings, Topics, shown_address, transport_refusals
from worker.errors import OperatorError, TransientError
from worker.pipeline.facts import Limits
from worker.store.migrate import newest_known_version, schema_version
from worker.store.pool import SCHEMA, check_server, close_pool, create_pool
from worker.store.postgres import PostgresStore

log = structlog.get_logger(__name__)

#: How long a worker waits, unready, for a database that is away or whose schema is behind (decisions 32), seconds.
WAIT_SECONDS = 60.0


def subscription(settings: Settings) -> Topics:
    """What a worker reads: the event topics, and the control topic beside them."""
    given = settings.event_topics
    return Topics(names=(*given.names, settings.control_topic), pattern=given.pattern)


def check_surroundings(settings: Settings) -> None:
    """Refuse what would put data at risk before anything is opened; say what was allowed all the same."""
    refusals = transport_refusals(settings)
    if refusals:
        raise OperatorError(refusals[0])
    for allowance in sorted(settings.allow_insecure):
        log.warning("insecure_allowed", what=allowance)


def limits_of(settings: Settings, *, past: bool = False) -> Limits:
    """What batches take from the settings."""
    return Limits(
        award_topic=settings.award_topic,
        dead_letter_topic=settings.dead_letter_topic,
        control_topic=settings.control_topic,
        max_future_us=settings.max_future_us,
        late_events_inline=settings.late_events_inline,
        past=past,
    )


@asynccontextmanager
async def open_store(
    settings: Settings, *, name: str, connections: int = 2, schema: str = SCHEMA, writes: bool = True
) -> AsyncIterator[PostgresStore]:
    """A store on a pool of its own; closed within seconds whatever happens.

    Who `writes` needs a server that keeps what it commits; reading one that forgets puts nothing at risk.
    """
    try:
        pool = await create_pool(settings.dsn, application_name=name, schema=schema, max_size=connections)
    except TransientError as error:
        raise OperatorError(
            f"The database {shown_address(settings.dsn)} cannot be used now: {error.message}.",
            help="start it, or set BADGES_DATABASE_URL",
        ) from None
    try:
        if writes:
            for sentence in await check_server(pool, allow_insecure=settings.allow_insecure):
                log.warning("durability_lifted", what=sentence)
        yield PostgresStore(pool, group_id=settings.group_id, schema=schema)
    finally:
        await close_pool(pool)


async def until_schema(store: PostgresStore, *, seconds: float = WAIT_SECONDS) -> None:
    """Wait for the schema this version needs; a worker never migrates (decisions 32)."""
    deadline = monotonic() + seconds
    while (found := await schema_version(store.pool)) < newest_known_version():
        if monotonic() > deadline:
            raise OperatorError(
                f"The database has schema {found}, this version needs {newest_known_version()}.",
                help="run `badges db migrate`",
            )
        log.info("schema_awaited", found=found, needed=newest_known_version())
        await asyncio.sleep(1.0)
