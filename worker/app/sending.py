"""Sends what scheduled jobs say to the control topic: acknowledged by all replicas, no faster than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Protocol

from worker.exchange import Message

#: So many messages are handed over at once.
CHUNK = 500


class Publishing(Protocol):
    """A started producer, dead after its first failure."""

    async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
        """Send all in order; returns once all are stored."""

    async def close(self) -> None:
        """Disconnect."""


class Sender:
    """Sends at most `rate` messages a second; a producer is opened when one is needed.

    After a failure (TransientError) nobody knows what was stored: who sends again must say the same again.
    """

    def __init__(
        self,
        open_publisher: Callable[[], Awaitable[Publishing]],
        topic: str,
        rate: int,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._open = open_publisher
        self._topic = topic
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._publisher: Publishing | None = None
        self._turn = asyncio.Lock()
        self._free_at = 0.0

    async def send(self, messages: Sequence[Message]) -> None:
        """Send messages in order; returns once all are stored."""
        for start in range(0, len(messages), CHUNK):
            part = messages[start : start + CHUNK]
            async with self._turn:
                now = self._clock()
                if self._free_at > now:
                    await self._sleep(self._free_at - now)
                self._free_at = max(self._free_at, now) + len(part) / self._rate
                await self._publish(part)

    async def _publish(self, part: Sequence[Message]) -> None:
        if self._publisher is None:
            self._publisher = await self._open()
        publisher, self._publisher = self._publisher, None
        await publisher.publish([(self._topic, message) for message in part])
        self._publisher = publisher

    async def close(self) -> None:
        """Disconnect."""
        if self._publisher is not None:
            await self._publisher.close()
            self._publisher = None
