"""Jobs over users asked for in the panel: previewed on all users, then left to the workers."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial

from worker.app.looks import Look, Looks
from worker.app.user_jobs import Asked, ask, preview_of, started
from worker.store.postgres import PostgresStore


@dataclass(slots=True, kw_only=True)
class JobAsk(Look):
    """A job that was asked for, with the look at whom it would concern."""

    asked: Asked


class JobAsks:
    """The jobs that people of this process look at before they start them."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._looks: Looks[JobAsk] = Looks()

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
        made = JobAsk(id=secrets.token_urlsafe(9), asked=asked, total=asked.users)
        self._looks.keep(made)
        self._looks.begin(made, partial(preview_of, self._store, asked, progress=made.told), name="panel job preview")
        return made

    def asked(self, ask_id: str) -> JobAsk | None:
        """One of them; None where it is forgotten."""
        return self._looks.get(ask_id)

    async def start(self, made: JobAsk, *, actor: str) -> int:
        """Write the job down for the workers, and in the log of changes; its number."""
        self._looks.forget(made)
        asked = made.asked
        return await self._store.create_user_job(
            asked.kind,
            asked.parameters,
            users=asked.users,
            requested_by=actor,
            note="asked for in the panel",
            line=partial(started, asked, actor),
        )
