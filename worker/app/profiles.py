"""Profiles read together: while one question is out, those who come meanwhile wait and are asked for at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from worker.errors import BadgesError
from worker.exchange import AuditLine
from worker.store.postgres import PostgresStore
from worker.store.profiles import ProfileAward

#: So many profiles are asked for at once at most.
_MOST: Final = 200
#: So many questions are out at once at most; a second one goes out while the first is answered.
_AT_ONCE: Final = 2

_Found = TypeVar("_Found")


class GatheredProfiles:
    """Reads the awards of users, many in one round trip under load; answers `admin.profiles.Profiles`.

    Nothing is kept: what is answered was read after it was asked for.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._awards: _Gathered[Sequence[ProfileAward]] = _Gathered(store.awards_of_users)
        self._stamps: _Gathered[int] = _Gathered(store.stamps_of_users)

    async def awards(self, user_id: str) -> tuple[int, Sequence[ProfileAward]]:
        """The version of the catalog that rules, and the user's awards."""
        return await self._awards.ask(user_id)

    async def stamp(self, user_id: str) -> tuple[int, int]:
        """The version of the catalog that rules, and the exclusive or of the stamps of the user's awards."""
        return await self._stamps.ask(user_id)

    async def set_sort_override(
        self, user_id: str, badge_key: str, context: str | None, value: int | None, *, line: Callable[[int], AuditLine]
    ) -> int:
        """Place awards of a badge by hand; how many the user holds of it."""
        return await self._store.set_sort_override(user_id, badge_key, context, value, line)


class _Gathered(Generic[_Found]):
    """One question about users, asked for all at once who wait for it; `read` answers in the order asked."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[tuple[int, Sequence[_Found]]]]) -> None:
        self._ask = read
        self._waiting: dict[str, asyncio.Future[tuple[int, _Found]]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def ask(self, user_id: str) -> tuple[int, _Found]:
        """The version that rules, and what was found of the user."""
        waiting = self._waiting.get(user_id)
        if waiting is None:
            waiting = self._waiting[user_id] = asyncio.get_running_loop().create_future()
            if len(self._reading) < _AT_ONCE:
                self._begin()
        return await asyncio.shield(waiting)

    def _begin(self) -> None:
        task = asyncio.create_task(self._read(), name="profiles")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self) -> None:
        while self._waiting:
            users = list(self._waiting)[:_MOST]
            asked = [self._waiting.pop(user_id) for user_id in users]
            try:
                version, found = await self._ask(users)
            except BadgesError as error:
                for future in asked:
                    _fail(future, error)
            except BaseException:
                for future in asked:
                    future.cancel()
                raise
            else:
                for future, one in zip(asked, found, strict=True):
                    if not future.done():
                        future.set_result((version, one))


def _fail(future: asyncio.Future[tuple[int, _Found]], error: BadgesError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waited may be gone: then nobody is told
