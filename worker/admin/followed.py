"""A small table that a process keeps in memory and reads again when it is asked for and some seconds old."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from worker.errors import TransientError

#: What others change is known within so many seconds.
FOLLOW_SECONDS: Final = 5.0
#: While the database is away, what is known counts for so long.
AWAY_SECONDS: Final = 60.0


class Followed:
    """Calls `read` where what it read last is too old; of several who ask at a time, one reads."""

    def __init__(self, read: Callable[[], Awaitable[None]], *, clock: Callable[[], float] = monotonic) -> None:
        self._read = read
        self._clock = clock
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def follow(self, seconds: float) -> None:
        """Read where what is known is older than `seconds`. Raises TransientError where nothing fresh enough is."""
        asked_at = self._clock()
        if self._read_at is not None and asked_at - self._read_at < seconds:
            return
        async with self._reading:
            if self._read_at is not None and self._read_at >= asked_at:
                return  # somebody else has read it meanwhile
            started = self._clock()
            try:
                await self._read()
            except TransientError:
                if self._read_at is None or asked_at - self._read_at > AWAY_SECONDS:
                    raise
            else:
                self._read_at = started
