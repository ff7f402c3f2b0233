"""Looks at the whole population that people of one process wait for: made in the background, the newest few kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from worker.errors import BadgesError
from worker.rules.preview import Preview

#: So many are kept; older ones are forgotten, and must be looked at again.
_KEPT: Final = 16


@dataclass(slots=True, kw_only=True)
class Look:
    """How far a look is; `preview` is the result, `error` a sentence where there is none."""

    id: str
    done: int = 0
    total: int = 0
    events: int = 0
    preview: Preview | None = None
    error: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether users are still looked at."""
        return self.task is not None and not self.task.done()

    def told(self, done: int, total: int, events: int) -> None:
        """Note how far it is."""
        self.done, self.total, self.events = done, total, events


One = TypeVar("One", bound=Look)


class Looks(Generic[One]):
    """The looks that people of this process wait for, by id."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, One] = OrderedDict()

    def keep(self, look: One) -> None:
        """Keep one; the oldest makes room, and ends."""
        while len(self._kept) >= _KEPT:
            _, oldest = self._kept.popitem(last=False)
            if oldest.task is not None:
                oldest.task.cancel()
        self._kept[look.id] = look

    def begin(self, look: One, work: Callable[[], Awaitable[tuple[Preview, int]]], *, name: str) -> None:
        """Do the work, which gives the preview and how many users there were, in the background."""
        look.task = asyncio.create_task(_finish(look, work), name=name)

    def get(self, look_id: str) -> One | None:
        """One of them; None where it is forgotten."""
        return self._kept.get(look_id)

    def forget(self, look: One) -> None:
        """Keep it no longer."""
        self._kept.pop(look.id, None)


async def _finish(look: Look, work: Callable[[], Awaitable[tuple[Preview, int]]]) -> None:
    try:
        look.preview, look.total = await work()
        look.done = look.total
    except BadgesError as error:
        look.error = error.message
