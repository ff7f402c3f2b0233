"""What retention asks of PostgreSQL beside its transactions: floors, users with events that are due, old letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from worker.exchange import Seal
from worker.store.blobs import unpack_state
from worker.store.session import Database


def seal_of(rows: Sequence[asyncpg.Record]) -> Seal | None:
    """The seal of the rows of one user; None for none."""
    if not rows:
        return None
    newest = (rows[0]["newest_at"], rows[0]["newest_source"], rows[0]["newest_id"])
    return Seal(newest, frozenset(rows[0]["types"]), {row["scope"]: unpack_state(row["state"]) for row in rows})


class RetentionTable(Database):
    """Floors of event types, and what lies below them."""

    async def move_floors(self, floors: Mapping[str, int]) -> None:
        """Refuse events of these types that are older than an instant each; a floor never goes back."""
        for kind, floor in sorted(floors.items()):
            await self.execute("move_floor", kind, floor)

    async def kept_floors(self) -> dict[str, int]:
        """All floors there are."""
        return {row["type"]: row["floor"] for row in await self.rows("retention_floors")}

    async def users_to_cut(
        self, after: str, floors: Mapping[str, int], *, limit: int
    ) -> tuple[str | None, Sequence[str]]:
        """The last of the next users (None: there are no more), and those of them with events below the floors."""
        highest = max(floors.values())
        rows = await self.rows("users_to_cut", after, limit, list(floors), list(floors.values()), highest)
        return (rows[-1]["user_id"] if rows else None), [row["user_id"] for row in rows if row["due"]]

    async def prune_letters(self, *, days: int = 30, limit: int = 5_000) -> int:
        """Remove dead letters that came more than so many days ago, at most `limit` at once; how many."""
        return await self.execute("prune_letters", days, limit)
