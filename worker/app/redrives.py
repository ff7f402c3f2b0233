"""Dead letters that people of the panel try again: all that they mean, in the background, until done or stopped."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import structlog

from worker.app.dead_letters import redrive_letters
from worker.auditing import noted
from worker.config import Settings
from worker.errors import BadgesError, OperatorError
from worker.exchange import AuditLine
from worker.pipeline.redrive import Redriven
from worker.store.dead_letters import LetterFilter
from worker.store.postgres import PostgresStore

log = structlog.get_logger(__name__)

#: So many are kept, for who looks again; older ones are forgotten.
_KEPT: Final = 16


@dataclass(slots=True, kw_only=True)
class Redrive:
    """How far a replay of dead letters is: what came of those that were looked at, of how many.

    `stopping`: it ends behind the letters that are being tried. `error`: the sentence that it ended with, too early.
    """

    id: str
    total: int
    found: Redriven = field(default_factory=Redriven)
    stopping: bool = False
    error: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether letters are still tried."""
        return self.task is not None and not self.task.done()

    @property
    def left(self) -> int:
        """How many wait that were not looked at."""
        return max(0, self.total - self.found.seen)


class _Stopped(Exception):
    """Ends a replay behind the letters that were tried last."""


class Redrives:
    """The replays of this process, one at a time."""

    def __init__(self, store: PostgresStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._kept: OrderedDict[str, Redrive] = OrderedDict()

    async def begin(self, wanted: LetterFilter, *, line: AuditLine) -> Redrive:
        """Begin to try the letters that wait, oldest first, which `line` says in the log of changes.

        Raises OperatorError where another replay runs.
        """
        count, _ = await self._store.count_letters(wanted)
        if any(one.running for one in self._kept.values()):
            raise OperatorError("Another replay of dead letters runs.", help="wait for its end, or stop it")
        made = Redrive(id=secrets.token_urlsafe(9), total=count)
        while len(self._kept) >= _KEPT:
            self._kept.popitem(last=False)
        self._kept[made.id] = made
        made.task = asyncio.create_task(self._run(made, wanted, line), name="panel replay of letters")
        return made

    def get(self, redrive_id: str) -> Redrive | None:
        """One of them; None where it is forgotten."""
        return self._kept.get(redrive_id)

    def running(self) -> Redrive | None:
        """The one that runs; None where none does."""
        return next((one for one in self._kept.values() if one.running), None)

    async def close(self) -> None:
        """Break off the one that runs; what was tried is settled, the rest waits."""
        for one in self._kept.values():
            if one.task is not None and one.running:
                one.task.cancel()
                await asyncio.wait({one.task})

    async def _run(self, made: Redrive, wanted: LetterFilter, line: AuditLine) -> None:
        def told(found: Redriven, total: int) -> None:
            made.found, made.total = found, total
            if made.stopping and found.seen < total:
                raise _Stopped

        try:
            async with noted(self._store, line):
                made.found = await redrive_letters(self._store, self._settings, wanted, told=told)
        except _Stopped:
            return
        except BadgesError as error:
            advice = error.help or ""
            made.error = f"{error.message} {advice[:1].upper()}{advice[1:]}{'.' if advice else ''}".strip()
            log.warning("letters_replay_ended", seen=made.found.seen, total=made.total, reason=error.message)
