"""Reads the logs of all users from PostgreSQL, page by page, for a preview; nobody is locked, nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg

from worker.events import Event
from worker.store.histories import BEFORE_ALL, logged_event
from worker.store.session import Database

#: So many users are read together, and so many of their events at a time: what a preview has in memory.
_USERS: Final = 200
_EVENTS: Final = 2_000


class PopulationTable(Database):
    """All users: what they hold and what happened to them, as far as it was committed when each page was read."""

    async def count(self) -> int:
        """How many users there are."""
        return int((await self._read("count_users"))[0]["users"])

    async def sample(self, seed: str, limit: int) -> list[str]:
        """So many users, the same for the same seed; all where there are fewer."""
        return [row["user_id"] for row in await self._read("sample_users", seed, limit)]

    async def awards(self, keys: Collection[str]) -> dict[str, int]:
        """How many awards of these badges are held."""
        return {row["badge_key"]: row["awards"] for row in await self._read("count_awards", list(keys))}

    async def users(
        self, keys: Collection[str]
    ) -> AsyncIterator[tuple[Sequence[str], Mapping[str, Mapping[tuple[str, str], int]]]]:
        """Users, some hundred at a time, by id; and when each was awarded what they hold of these badges."""
        last = ""
        while True:
            found = [row["user_id"] for row in await self._read("next_users", last, _USERS)]
            if not found:
                return
            yield found, await self._held(found, keys)
            last = found[-1]

    async def one_user(
        self, user_id: str, keys: Collection[str]
    ) -> AsyncIterator[tuple[Sequence[str], Mapping[str, Mapping[tuple[str, str], int]]]]:
        """The same of one user alone."""
        yield [user_id], await self._held([user_id], keys)

    async def _held(self, users: list[str], keys: Collection[str]) -> dict[str, dict[tuple[str, str], int]]:
        held: dict[str, dict[tuple[str, str], int]] = {}
        for user_id, key, context, awarded_us in await self._read("held_among", users, list(keys)):
            held.setdefault(user_id, {})[key, context] = awarded_us
        return held

    async def events(self, first: str, last: str, types: Collection[str] | None) -> AsyncIterator[list[Event]]:
        """The events of the users from one to another, user by user and in order, in pages; only of these types."""
        after: tuple[Any, ...] = (first, *BEFORE_ALL)
        wanted = None if types is None else list(types)
        while True:
            rows = await self._read("events_among", *after, last, wanted, _EVENTS)
            yield [logged_event(*row) for row in rows]
            if len(rows) < _EVENTS:
                return
            user_id, source, event_id, _, occurred_us, *_ = rows[-1]
            after = (user_id, occurred_us, source, event_id)

    async def _read(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.work() as session:
            await session.rows("begin_reading")
            return await session.rows(name, *arguments)
