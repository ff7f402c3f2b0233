"""Profiles read together: while one question is out, those who come meanwhile wait and are asked for at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from worker.errors import BadgesError
from worker.store.postgres import PostgresStore
from worker.store.profiles import ProfileAward

#: So many profiles are asked for at once at most.
_MOST: Final = 200
#: So many questions are out at once at most; a second one goes out while the first is answered.
_AT_ONCE: Final = 2

_Answer = tuple[int, Sequence[ProfileAward]]


class GatheredProfiles:
    """Reads the awards of users, many in one round trip under load; answers `admin.profiles.Profiles`.

    Nothing is kept: what is answered was read after it was asked for.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Future[_Answer]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def awards(self, user_id: str) -> _Answer:
        """The version of the catalog that rules, and the user's awards."""
        waiting = self._waiting.get(user_id)
        if waiting is None:
            waiting = self._waiting[user_id] = asyncio.get_running_loop().create_future()
            if len(self._reading) < _AT_ONCE:
                self._begin()
        return await asyncio.shield(waiting)

    async def set_sort_override(self, user_id: str, badge_key: str, context: str | None, value: int | None) -> int:
        """Place awards of a badge by hand; how many the user holds of it."""
        return await self._store.set_sort_override(user_id, badge_key, context, value)

    def _begin(self) -> None:
        task = asyncio.create_task(self._read(), name="profiles")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self) -> None:
        while self._waiting:
            users = list(self._waiting)[:_MOST]
            asked = [self._waiting.pop(user_id) for user_id in users]
            try:
                version, found = await self._store.awards_of_users(users)
            except BadgesError as error:
                for future in asked:
                    _fail(future, error)
            except BaseException:
                for future in asked:
                    future.cancel()
                raise
            else:
                for future, awards in zip(asked, found, strict=True):
                    if not future.done():
                        future.set_result((version, awards))


def _fail(future: asyncio.Future[_Answer], error: BadgesError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waited may be gone: then nobody is told
