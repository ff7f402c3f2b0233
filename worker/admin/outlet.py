"""Sends events to Kafka for many requests at once: who waits goes out together, and is answered when all is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol

import structlog

from worker.errors import BadgesError, TransientError
from worker.exchange import Message

log = structlog.get_logger(__name__)

#: What goes out together is bounded, and what may wait.
_TOGETHER: Final = 5_000
_MOST_WAITING: Final = 50_000
#: How long events may wait for their turn, seconds; then they are taken back, and are certainly not stored.
WAIT_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 1.0

Post = tuple[str, Message]


class Publishing(Protocol):
    """A started producer; after a failure it is closed."""

    async def publish(self, messages: Sequence[Post]) -> None:
        """Store all, in order; raises BadgesError where one is not known to be stored."""

    async def close(self) -> None:
        """Disconnect."""


@dataclass(slots=True, eq=False)
class _Waiting:
    posts: Sequence[Post]
    stored: asyncio.Future[None]
    since: float


class Outlet:
    """One producer for all requests. While Kafka is away, requests are refused at once, and it is tried again."""

    def __init__(
        self, open_publisher: Callable[[], Awaitable[Publishing]], *, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._open = open_publisher
        self._wait_seconds = wait_seconds
        self._queue: deque[_Waiting] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._publisher: Publishing | None = None
        self._away: str | None = None

    async def send(self, posts: Sequence[Post]) -> None:
        """Return when all are stored. Raises TransientError where they are not, or where that is not known."""
        if self._away is not None:
            raise TransientError(self._away)
        if self._waiting + len(posts) > _MOST_WAITING:
            raise TransientError("Too many events wait for Kafka.")
        asked = _Waiting(posts, asyncio.get_running_loop().create_future(), monotonic())
        self._queue.append(asked)
        self._waiting += len(posts)
        self._wake.set()
        try:
            await asked.stored
        except asyncio.CancelledError:
            self._take_back(asked)
            raise

    def _take_back(self, asked: _Waiting) -> None:
        """Take events out of the queue where they still are in it."""
        with suppress(ValueError):
            self._queue.remove(asked)
            self._waiting -= len(asked.posts)

    async def _watch(self) -> None:
        """Take back what has waited for too long: one look for all costs less than a timer for each."""
        while True:
            await asyncio.sleep(self._wait_seconds / 20)
            oldest = monotonic() - self._wait_seconds
            while self._queue and self._queue[0].since < oldest:
                asked = self._queue.popleft()
                self._waiting -= len(asked.posts)
                told = f"Kafka took no events within {self._wait_seconds:g} s; these were not sent."
                _settle([asked], TransientError(told))

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        watching = asyncio.create_task(self._watch(), name="outlet watch")
        try:
            while True:
                if self._publisher is None and not await self._connected():
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                while self._queue and self._publisher is not None:
                    await self._send_together(self._publisher)
        finally:
            watching.cancel()
            if self._publisher is not None:
                await self._publisher.close()

    async def _connected(self) -> bool:
        try:
            self._publisher = await self._open()
        except BadgesError as error:
            if self._away is None:
                log.warning("kafka_away", reason=error.message)
            self._fail(error.message)
            return False
        if self._away is not None:
            log.info("kafka_back")
        self._away = None
        return True

    async def _send_together(self, publisher: Publishing) -> None:
        taken: list[_Waiting] = []
        count = 0
        while self._queue and (not taken or count + len(self._queue[0].posts) <= _TOGETHER):
            taken.append(self._queue.popleft())
            count += len(taken[-1].posts)
        self._waiting -= count
        started = monotonic()
        try:
            await publisher.publish([post for asked in taken for post in asked.posts])
        except BadgesError as error:
            self._publisher = None
            log.warning("events_undecided", events=count, reason=error.message, seconds=round(monotonic() - started, 3))
            _settle(taken, TransientError(f"{error.message} Whether it is stored is unknown: send it again."))
        except BaseException:
            _settle(taken, TransientError("The API stops."))
            raise
        else:
            _settle(taken, None)

    def _fail(self, message: str) -> None:
        """Refuse what waits, and what comes until Kafka is back."""
        self._away = message
        waiting = list(self._queue)
        self._queue.clear()
        self._waiting = 0
        _settle(waiting, TransientError(message))


def _settle(taken: Sequence[_Waiting], error: TransientError | None) -> None:
    for asked in taken:
        if asked.stored.done():
            continue
        if error is None:
            asked.stored.set_result(None)
        else:
            asked.stored.set_exception(error)
            asked.stored.exception()  # nobody may be waiting any more
