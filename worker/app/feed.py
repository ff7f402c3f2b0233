"""The awards as they come, for all who listen: one reader of the log, and a bounded line for each listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from worker.errors import TransientError
from worker.store.postgres import PostgresStore
from worker.store.profiles import FeedPlace, LoggedAward

log = structlog.get_logger(__name__)

#: How often the log is looked at while somebody listens, seconds.
LOOK_SECONDS: Final = 0.5
_AWAY_SECONDS: Final = 2.0
#: Who listens and does not read is sent away when so many pages wait.
_MOST_PAGES: Final = 64
#: Who comes back is given what was missed meanwhile, of so many microseconds and so many awards at most.
_MISSED_US: Final = 3_600_000_000
_MISSED_AWARDS: Final = 10_000


@dataclass(frozen=True, slots=True)
class News:
    """Awards that were logged, in order, and the place behind them (None: more of this look follow).

    `missed`: there were more, which are not told.
    """

    awards: Sequence[LoggedAward]
    place: FeedPlace | None
    missed: bool = False


class Feed:
    """Follows the log of awards while anybody listens; answers `admin.feed.Feed`."""

    def __init__(self, store: PostgresStore, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._store = store
        self._look_seconds = look_seconds
        self._lines: set[asyncio.Queue[News | None]] = set()
        self._place: FeedPlace | None = None
        self._task: asyncio.Task[None] | None = None
        self._joining = asyncio.Lock()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._lines)

    async def close(self) -> None:
        """Send everybody away, and stop reading."""
        for line in list(self._lines):
            _close(line)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def listen(self, since: FeedPlace | None = None) -> AsyncIterator[News]:
        """News from now on, or from a place on; ends where the listener is too slow or the process stops.

        Behind a place that lies too far back some are missed, which is told.
        """
        line: asyncio.Queue[News | None] = asyncio.Queue()
        try:
            async with self._joining:
                here = await self._join(line)
            async for news in self._missed(since, here):
                yield news
            while (found := await line.get()) is not None:
                yield found
        finally:
            self._lines.discard(line)

    async def _join(self, line: asyncio.Queue[News | None]) -> FeedPlace:
        """Take part in what is read behind a place, which comes back."""
        if self._place is None or self._task is None or self._task.done():
            self._place = await self._store.feed_now()
            self._task = asyncio.create_task(self._follow(), name="feed")
        self._lines.add(line)
        return self._place

    async def _missed(self, since: FeedPlace | None, here: FeedPlace) -> AsyncIterator[News]:
        if since is None or here.at_us - since.at_us > _MISSED_US:
            yield News((), here, missed=since is not None)
            return
        count = 0
        async for page in self._store.feed_between(since, here):
            if count >= _MISSED_AWARDS:
                yield News((), None, missed=True)
                break
            yield News(page, None)
            count += len(page)
        yield News((), here)

    async def _follow(self) -> None:
        """Look again and again until nobody listens any more."""
        while self._lines:
            await asyncio.sleep(self._look_seconds)
            try:
                async with self._joining:
                    await self._look()
            except TransientError as error:
                log.info("feed_unseen", reason=error.message)
                await asyncio.sleep(_AWAY_SECONDS)
        self._place = None

    async def _look(self) -> None:
        assert self._place is not None  # noqa: S101 (who joins sets it)
        old, new = self._place, await self._store.feed_now()
        last: list[LoggedAward] = []
        async for page in self._store.feed_between(old, new):
            if last:
                self._tell(News(last, None))
            last = page
        self._place = new
        if last:
            self._tell(News(last, new))

    def _tell(self, news: News) -> None:
        for line in list(self._lines):
            if line.qsize() >= _MOST_PAGES:
                self._lines.discard(line)
                _close(line)
            else:
                line.put_nowait(news)


def _close(line: asyncio.Queue[News | None]) -> None:
    while not line.empty():
        line.get_nowait()
    line.put_nowait(None)
