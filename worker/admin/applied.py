"""Waits until events are applied: one look at the database for all who wait, every few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from worker.errors import BadgesError

_EVERY_SECONDS: Final = 0.015
_AFTER_FAULT_SECONDS: Final = 0.25

#: User, source and id: what an event is told apart by.
Identity = tuple[str, str, str]


class EventLog(Protocol):
    """The log of events, which has what was applied."""

    async def logged(self, events: Sequence[Identity]) -> Collection[Identity]:
        """Those of these events that are logged."""


class Applied:
    """Tells when events are logged, which they are in the transaction that grants their badges."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._waiting: dict[Identity, list[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, event: Identity, *, seconds: float) -> bool:
        """Whether the event was applied within `seconds`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(event, []).append(future)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="applied")
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            left = [other for other in self._waiting.get(event, ()) if other is not future]
            if left:
                self._waiting[event] = left
            else:
                self._waiting.pop(event, None)
        return True

    async def _look(self) -> None:
        """Look as long as somebody waits."""
        while self._waiting:
            try:
                found = await self._events.logged(list(self._waiting))
            except BadgesError:
                await asyncio.sleep(_AFTER_FAULT_SECONDS)
                continue
            for event in found:
                for future in self._waiting.pop(event, ()):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(_EVERY_SECONDS)
