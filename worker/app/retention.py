"""Ties retention together: floors and users from the store, the cut from the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.errors import TransientError
from worker.jobs.retention import Cut
from worker.pipeline.sealed import cut_user
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore
from worker.store.retention import RetentionTable

#: So many users are looked at in one statement.
PAGE: Final = 500


class Cuts:
    """Removes events below the floors, user by user; answers `jobs.retention.Cutting`."""

    def __init__(self, store: PostgresStore, plan: Plan) -> None:
        self._store = store
        self._table = RetentionTable(store.pool)
        self._plan = plan

    async def move_floors(self, floors: Mapping[str, int]) -> None:
        """Refuse what is older from now on."""
        await self._table.move_floors(floors)

    async def cut(self, after: str) -> Cut:
        """Remove what lies below the floors of the next users, one transaction each."""
        floors = await self._table.kept_floors()
        if not floors:
            return Cut(None, 0, 0, 0)
        last, due = await self._table.users_to_cut(after, floors, limit=PAGE)
        users = events = waiting = 0
        for user_id in due:
            removed = await self._cut_one(user_id, floors)
            if removed is None:
                waiting += 1
            else:
                users, events = users + 1, events + removed
        return Cut(last, users, events, waiting)

    async def _cut_one(self, user_id: str, floors: Mapping[str, int]) -> int | None:
        async with self._store.transaction() as transaction:
            if await transaction.catalog_version() != self._plan.version:
                raise TransientError("The catalog has moved; the job begins again with the new one.")
            return await cut_user(transaction, self._plan, user_id, floors)

    async def prune_letters(self) -> int:
        """Remove a share of the dead letters that are older than 30 days."""
        return await self._table.prune_letters()
