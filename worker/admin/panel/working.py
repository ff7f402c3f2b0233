"""Answers that may take long: a page waits for a moment, a part that it fetches afterwards to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any, Final, TypeVar

import structlog
from fastapi import Request

from worker.admin.problems import unavailable

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: So long a page waits for what is worked out of a user's log, seconds; then it comes without.
PATIENCE: Final = 0.04
#: So many answers are worked out at once; who asks for more is told to come again.
_MOST: Final = 32


class Working:
    """What is being worked out, each once, however many ask for it meanwhile."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def answer(self, key: Hashable, work: Coroutine[Any, Any, T], *, seconds: float | None) -> T:
        """What `work` answers; it goes on where it takes longer than `seconds` (None: as long as it takes).

        `work` is not begun where the same `key` is being worked out. Raises TimeoutError; Problem 503 where too much is
        worked out; and what `work` raises.
        """
        task: asyncio.Task[T] | None = self._tasks.get(key)
        if task is not None or len(self._tasks) >= _MOST:
            work.close()
        if task is None:
            if len(self._tasks) >= _MOST:
                raise unavailable("Too many logs are read at once.", seconds=2)
            task = self._tasks[key] = asyncio.create_task(work, name="panel answer")
            task.add_done_callback(lambda done: self._ended(key, done))
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError
        return task.result()

    def _ended(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._tasks[key]
        error = None if task.cancelled() else task.exception()  # looked at: nobody may wait for it any more
        if error is not None:
            log.warning("panel_answer_failed", what=key[0] if isinstance(key, tuple) else "", reason=str(error))


def working_of(request: Request) -> Working:
    """What the app that serves a request is working out."""
    found: Working = request.app.state.working
    return found
