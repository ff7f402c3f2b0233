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
    records gather. Whoever goes may take those along who wait in the line. A turn counts as a batch from the moment it
    is given: else those who come before its batch begins would each begin one too.
    """

    def __init__(self, parallel: int, *, eager: int | None = None) -> None:
        self._eager = parallel if eager is None else eager
        self._slots = asyncio.Semaphore(parallel)
        self._running = 0
        self._given: set[asyncio.Future[None]] = set()
        self._line: deque[tuple[asyncio.Future[None], Waiter]] = deque()

    def line_up(self, waiter: Waiter) -> asyncio.Future[None]:
        """Done once fewer than `eager` batches run and those who came before had their turn, or it is taken along.

        Whoever does not wait for it any longer sets or cancels it.
        """
        turn = asyncio.get_running_loop().create_future()
        while self._line and self._line[0][0].done():
            self._line.popleft()
        if self._busy():
            self._line.append((turn, waiter))
        else:
            self._give(turn)
        return turn

    def redeem(self, turn: asyncio.Future[None] | None) -> None:
        """The batch for which a turn was given has begun, or will not."""
        if turn in self._given:
            self._given.remove(turn)
            self._pass_on()

    def waiting(self) -> Iterator[Waiter]:
        """Those who wait in the line, the longest first."""
        return (waiter for turn, waiter in list(self._line) if not turn.done())

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        self._running += 1

    async def __aexit__(self, *_: object) -> None:
        self._running -= 1
        self._slots.release()
        self._pass_on()

    def _busy(self) -> bool:
        return self._running + len(self._given) >= self._eager

    def _give(self, turn: asyncio.Future[None]) -> None:
        self._given.add(turn)
        turn.set_result(None)

    def _pass_on(self) -> None:
        while self._line and not self._busy():
            turn = self._line.popleft()[0]
            if not turn.done():
                self._give(turn)
