"""The log of awards for the API: its pages, and the feed of what comes; answers `admin.awards.AwardLog`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from worker.admin.awards import Position
from worker.app.feed import Feed, News
from worker.store.postgres import PostgresStore
from worker.store.profiles import FeedPlace, LoggedAward


class Awards:
    """Reads the log of one database; close it before its store."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._feed = Feed(store)

    async def page(
        self,
        *,
        since_us: int,
        before: Position,
        limit: int,
        badge_key: str | None,
        trigger: str | None,
        origin: str | None,
        user_id: str | None,
    ) -> Sequence[LoggedAward]:
        """The log from a place back to an instant, newest first."""
        return await self._store.awards_page(
            since_us=since_us,
            before=before,
            limit=limit,
            badge_key=badge_key,
            trigger=trigger,
            origin=origin,
            user_id=user_id,
        )

    @property
    def listeners(self) -> int:
        """How many listen to the feed of this process."""
        return self._feed.listeners

    def listen(self, since: tuple[str, int] | None = None) -> AsyncIterator[News]:
        """News from now on, or from a place on."""
        return self._feed.listen(None if since is None else FeedPlace(*since))

    async def close(self) -> None:
        """Send all listeners away."""
        await self._feed.close()
