"""Jobs over users asked for in the panel: previewed on all users, then left to the workers."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from worker.app.user_jobs import Asked, ask, preview_of
from worker.errors import BadgesError
from worker.rules.preview import Preview
from worker.store.postgres import PostgresStore

_KEPT: Final = 16


@dataclass(slots=True)
class JobAsk:
    """A job that was asked for, and how far its preview is; `preview` is the result, `error` why there is none."""

    id: str
    asked: Asked
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


class JobAsks:
    """The jobs that people of this process look at before they start them."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, JobAsk] = OrderedDict()

    async def ask(self, kind: str, *, user: str, badge: str, trigger: str, notify: bool) -> JobAsk:
        """Check a job and begin its preview. Raises OperatorError for what nobody knows."""
        asked = await ask(
            self._store,
            kind,
            badges=[badge] if badge else [],
            user=user or None,
            trigger=trigger or None,
            notify=notify,
        )
        made = JobAsk(secrets.token_urlsafe(9), asked, total=asked.users)
        while len(self._kept) >= _KEPT:
            _, oldest = self._kept.popitem(last=False)
            if oldest.task is not None:
                oldest.task.cancel()
        self._kept[made.id] = made
        made.task = asyncio.create_task(self._look(made), name="panel job preview")
        return made

    def asked(self, ask_id: str) -> JobAsk | None:
        """One of them; None where it is forgotten."""
        return self._kept.get(ask_id)

    async def start(self, made: JobAsk, *, actor: str) -> int:
        """Write the job down for the workers; its number."""
        self._kept.pop(made.id, None)
        asked = made.asked
        return await self._store.create_user_job(
            asked.kind, asked.parameters, users=asked.users, requested_by=actor, note="asked for in the panel"
        )

    async def _look(self, made: JobAsk) -> None:
        def told(done: int, total: int, events: int) -> None:
            made.done, made.total, made.events = done, total, events

        try:
            made.preview, made.total = await preview_of(self._store, made.asked, progress=told)
            made.done = made.total
        except BadgesError as error:
            made.error = error.message
