"""Retention: events older than the catalog keeps them go, a share of users at a time; their counts live on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from worker.jobs.base import DAY, HOUR, Every, Figures, Run, Timing
from worker.rules.ir import Moment
from worker.rules.operators.calendar import Calendar

_UNITS: Final = {"s": "s", "min": "min", "h": "h", "d": "d", "w": "w", "M": "M", "m": "M", "q": "q", "y": "y"}


class Cut(NamedTuple):
    """One share of users: the last one looked at (None: there are no more), how many lost events, and how many."""

    last: str | None
    users: int
    events: int
    waiting: int


class Cutting(Protocol):
    """Removes events, wherever that is done."""

    async def move_floors(self, floors: Mapping[str, int]) -> None:
        """Refuse what is older from now on; a floor never goes back."""

    async def cut(self, after: str) -> Cut:
        """Remove what lies below the floors of the next users, one transaction each. Raises TransientError."""

    async def prune_letters(self) -> int:
        """Remove a share of the dead letters that are older than 30 days; how many."""


def floors_at(kept: Mapping[str, str], calendar: Calendar, at_us: int) -> dict[str, int]:
    """The floor of each type at an instant: the beginning of the day on which what is kept begins, by the calendar."""
    found = {}
    for kind, length in kept.items():
        digits = length.rstrip("abcdefghijklmnopqrstuvwxyzM")
        back = Moment(((-int(digits), _UNITS[length[len(digits) :]]),))
        found[kind] = _floor(back, calendar, at_us)
    return found


def _floor(back: Moment, calendar: Calendar, at_us: int) -> int:
    reached = calendar.shift(at_us, back)
    return max(0, reached - reached % DAY) if at_us - reached >= DAY else max(0, reached)


@dataclass(frozen=True, slots=True)
class Retention:
    """Daily, at four by UTC. A run that was killed goes on with the user after the last one noted."""

    cutting: Cutting
    options: Mapping[str, Any]
    calendar: Calendar
    name: str = "retention"
    catch_up_us: int = DAY
    first_us: int = DAY
    only_newest: bool = True

    @property
    def timing(self) -> Timing:
        """When it is due."""
        return Every(DAY, 4 * HOUR)

    async def run(self, run: Run) -> Figures:
        """Move the floors, then remove what lies below them, then dead letters of more than 30 days.

        In this order: from the first step on nothing that old is taken, so nothing comes back behind the second.
        """
        kept = self.options.get("retention", {})
        await self.cutting.move_floors(floors_at(kept, self.calendar, run.tick_us))
        users = events = waiting = 0
        after: str | None = run.progress
        while after is not None:
            found = await self.cutting.cut(after)
            users, events, waiting = users + found.users, events + found.events, waiting + found.waiting
            after = found.last
            if after is not None:
                await run.mark(after)
        letters = 0
        while removed := await self.cutting.prune_letters():
            letters += removed
        notes = [f"{letters:,} dead letters removed"] if letters else []
        notes += [f"{waiting:,} users wait for the build of the catalog"] if waiting else []
        return Figures(users=users, events=events, note=", ".join(notes))
