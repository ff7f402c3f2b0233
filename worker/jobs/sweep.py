"""The consistency sweep: each night a share of all users is held against the log, so that in some days all are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from worker.jobs.base import DAY, HOUR, Every, Figures, Run, Timing


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did by its end: users, events read, awards put back or granted, what was found by kind."""

    users: int
    events: int
    awards: int
    kinds: Mapping[str, int]


class Sweeping(Protocol):
    """Sweeps users, wherever that is done."""

    async def begin(self, *, everybody: bool) -> int:
        """A new sweep, of a share of all users or of everybody; its number."""

    async def go_on(self, number: int) -> Swept:
        """Do a sweep to its end, from where it is. Raises TransientError and OperatorError."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Daily, at three by UTC; asked for by name it sweeps everybody. A run that was killed goes on where it was."""

    sweeping: Sweeping
    name: str = "sweep"
    catch_up_us: int = DAY
    first_us: int = DAY
    only_newest: bool = True

    @property
    def timing(self) -> Timing:
        """When it is due."""
        return Every(DAY, 3 * HOUR)

    async def run(self, run: Run) -> Figures:
        """Sweep a share; the sweep's number is noted first, so that another run of the tick goes on with it."""
        number = int(run.progress) if run.progress.isdecimal() else await self.sweeping.begin(everybody=run.forced)
        await run.mark(str(number))
        swept = await self.sweeping.go_on(number)
        found = ", ".join(f"{kind} {count}" for kind, count in swept.kinds.items())
        return Figures(users=swept.users, events=swept.events, awards=swept.awards, note=found)
