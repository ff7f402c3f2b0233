"""Ids and times of the catalog's entries in PostgreSQL, and how many hold its badges."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from worker.store.session import Database


@dataclass(frozen=True, slots=True)
class BadgeRow:
    """A badge as its table has it, whether or not the catalog still does; instants in microseconds."""

    key: str
    id: int
    label: str
    description: str
    family: str
    tier: int | None
    sort_score: int
    status: str
    created_us: int
    updated_us: int
    criteria_updated_us: int


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An event type or a condition type: its id, and when it was made and changed, in microseconds."""

    name: str
    id: int
    created_us: int
    updated_us: int


class EntryTables(Database):
    """Rows that outlive the versions of the catalog; only `apply_catalog` writes them."""

    async def badge_rows(self) -> list[BadgeRow]:
        """Every badge that ever was one, by id."""
        return [BadgeRow(*row) for row in await self.rows("badge_rows")]

    async def event_type_rows(self) -> list[EntryRow]:
        """Every event type that ever was one, by id."""
        return [EntryRow(*row) for row in await self.rows("event_type_rows")]

    async def condition_type_rows(self) -> list[EntryRow]:
        """Every condition type that ever was one, by id."""
        return [EntryRow(*row) for row in await self.rows("condition_type_rows")]

    async def reserve_badge_id(self) -> int:
        """An id that no badge has or will have, but the one it is given to."""
        return int((await self.rows("reserve_badge_id"))[0]["id"])

    async def holder_counts(self, keys: Collection[str] | None = None) -> dict[str, int]:
        """How many hold each of these badges (None: all), as last counted."""
        asked = None if keys is None else list(keys)
        return {row["key"]: row["users_with_badge"] for row in await self.rows("holder_counts", asked)}
