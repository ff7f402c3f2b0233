"""Which of a worker's partitions may apply a batch now, which let more records gather, and who comes along."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")


class Turns(Generic[Waiter]):
    """At most `parallel` batches at a time (`async with`), and a line for those that are not full yet.

    A transaction costs much the same for one record as for a hundred. While fewer than `eager` run (unless said
    otherwise: while there is room), waiting for company gains nothing, and the first in the line goes at once; else
    records gather. Whoever goes may take those along who wait in the line.
    """

    def __init__(self, parallel: int, *, eager: int | None = None) -> None:
        self._eager = parallel if eager is None else eager
        self._slots = asyncio.Semaphore(parallel)
        self._running = 0
        self._line: deque[tuple[asyncio.Future[None], Waiter]] = deque()

    def line_up(self, waiter: Waiter) -> asyncio.Future[None]:
        """Done once fewer than `eager` batches run and those who came before had their turn, or it is taken along.

        Whoever does not wait for it any longer sets or cancels it.
        """
        turn = asyncio.get_running_loop().create_future()
        while self._line and self._line[0][0].done():
            self._line.popleft()
        if self._running >= self._eager:
            self._line.append((turn, waiter))
        else:
            turn.set_result(None)
        return turn

    def waiting(self) -> Iterator[Waiter]:
        """Those who wait in the line, the longest first."""
        return (waiter for turn, waiter in list(self._line) if not turn.done())

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        self._running += 1

    async def __aexit__(self, *_: object) -> None:
        self._running -= 1
        self._slots.release()
        while self._line and self._running < self._eager:
            turn = self._line.popleft()[0]
            if not turn.done():
                turn.set_result(None)
                return
