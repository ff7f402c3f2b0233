"""A compiled catalog that follows the head in the database: for processes that read and judge but apply no batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final

import structlog

from worker.app.catalog import head_plan
from worker.errors import AuthorError, TransientError
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore

log = structlog.get_logger(__name__)

#: How often the head is looked at, seconds; `refresh` looks at once, but no oftener than `_PAUSE_SECONDS`.
FOLLOW_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.05


class HeadPlans:
    """The plan of the catalog's head, as of a second ago; answers `admin.services.Plans`."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._plan: Plan | None = None
        self._refused = 0
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")

    @property
    def current(self) -> Plan | None:
        """The plan of the newest version seen; None before the first."""
        return self._plan

    async def refresh(self) -> Plan | None:
        """Look at the head now, compile what is new, and return the plan. Raises TransientError."""
        asked_at = monotonic()
        async with self._looking:
            if self._looked_at < asked_at - _PAUSE_SECONDS:
                self._looked_at = monotonic()
                await self._look()
        return self._plan

    async def at_least(self, version: int) -> Plan | None:
        """The plan of a version that is known to rule, or of a newer one; None or an older one where it is refused."""
        if self._plan is None or self._plan.version < version:
            async with self._looking:
                if self._plan is None or self._plan.version < version:
                    await self._look()
        return self._plan

    async def _look(self) -> None:
        known = 0 if self._plan is None else self._plan.version
        version = await self._store.head_version()
        if version in (known, self._refused):
            return
        try:
            plan = await head_plan(self._store)
        except AuthorError as error:
            self._refused = version
            log.error("catalog_unreadable", version=version, reason=error.message)  # noqa: TRY400 (it says all)
            return
        if plan is not None:
            self._plan = plan
            log.info("catalog_loaded", version=plan.version, badges=len(plan.badges))

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the head while the block runs."""
        task = asyncio.create_task(self._follow(), name="catalog")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self) -> None:
        while True:
            try:
                await self.refresh()
            except TransientError as error:
                log.info("catalog_unseen", reason=error.message)
            await asyncio.sleep(FOLLOW_SECONDS)
