"""Which of a worker's partitions may apply a batch now, and which let more records gather first."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """At most `parallel` batches at a time (`async with`), and a line for those that are not full yet.

    A transaction costs much the same for one record as for a hundred. While fewer than `eager` run (unless said
    otherwise: while there is room), waiting for company gains nothing, and the first in the line goes at once; else
    records gather.
    """

    def __init__(self, parallel: int, *, eager: int | None = None) -> None:
        self._eager = parallel if eager is None else eager
        self._slots = asyncio.Semaphore(parallel)
        self._running = 0
        self._line: deque[asyncio.Future[None]] = deque()

    def line_up(self) -> asyncio.Future[None]:
        """Done once fewer than `eager` batches run and those who came before had their turn.

        Whoever does not wait for it any longer sets or cancels it.
        """
        turn = asyncio.get_running_loop().create_future()
        while self._line and self._line[0].done():
            self._line.popleft()
        if self._running >= self._eager:
            self._line.append(turn)
        else:
            turn.set_result(None)
        return turn

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        self._running += 1

    async def __aexit__(self, *_: object) -> None:
        self._running -= 1
        self._slots.release()
        while self._line and self._running < self._eager:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
