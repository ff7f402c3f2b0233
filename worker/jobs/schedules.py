"""The catalog's `schedules`: when one comes due, every user is sent its `cron.*` event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from worker.jobs.base import DAY, Figures, Run, Timing
from worker.jobs.cron_events import Send, scheduled
from worker.jobs.timing import Cron, Together

#: So many users are read, and their events sent, at a time.
CHUNK: Final = 1_000


class Users(Protocol):
    """What this asks of the store."""

    async def next_users(self, after: str, limit: int) -> list[str]:
        """The next users after one, by id."""


class Schedules:
    """One run sends the events of every schedule that is due at its tick, to all users, by id.

    A schedule's fields are read in the catalog's time zone. Killed, it goes on behind the last chunk it noted.
    """

    name = "schedules"
    catch_up_us = 31 * DAY
    first_us = DAY
    only_newest = False

    def __init__(self, store: Users, send: Send, schedules: Sequence[Mapping[str, Any]], zone: str) -> None:
        self._store = store
        self._send = send
        self._crons = tuple((entry["event"], Cron(entry["cron"], zone)) for entry in schedules)

    @property
    def timing(self) -> Timing:
        """When any of the schedules is due."""
        return Together(tuple(cron for _, cron in self._crons))

    async def run(self, run: Run) -> Figures:
        """Send the events of one tick."""
        types = sorted({name for name, cron in self._crons if list(cron.between(run.tick_us - 1, run.tick_us))})
        after, users = run.progress, 0
        while types and (chunk := await self._store.next_users(after, CHUNK)):
            await self._send([scheduled(user_id, name, run.tick_us) for user_id in chunk for name in types])
            users += len(chunk)
            after = chunk[-1]
            await run.mark(after)
        return Figures(users=users, events=users * len(types), awards=None, note=", ".join(types))
