"""What a job is: a name, the ticks at which it is due, what one run of it does; and which ticks are due, purely."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from worker.errors import BadgesError
from worker.exchange import Ran

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: A tick that failed rests so long, twice as long after each further failure, up to a bound within which an alert on
#: failures sees the next one; seconds.
REST_SECONDS = 30.0
MOST_REST_SECONDS = 900.0


class LeaseLost(BadgesError):
    """Another replica has the job by now: this run has ended, and what it had not done is done there."""


class Timing(Protocol):
    """When a job is due; instants are microseconds since 1970."""

    def between(self, after_us: int, upto_us: int) -> Iterator[int]:
        """The ticks after one instant and up to another, rising."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run did, for its summary line: users looked at, events sent, awards given, counts written.

    `awards` is None where the job only sends events: what those earn is given by workers, after the run.
    """

    users: int = 0
    events: int = 0
    awards: int | None = 0
    counts: int = 0
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The figures that are not zero or empty, as JSON data; null is what the job cannot know."""
        return {name: value for name, value in asdict(self).items() if value or value is None}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job for one tick.

    `previous_us` is the newest earlier tick that was done (None: none was). `forced`: a person asked for it by name;
    then a job that takes a slice at a time does the whole. `progress` is what an earlier run of this tick noted last
    with `mark` before it was killed; noting it costs one statement.
    """

    tick_us: int
    previous_us: int | None
    forced: bool
    progress: str
    mark: Callable[[str], Awaitable[None]]


class Job(Protocol):
    """One job. Whatever it does may be done again and must change nothing then: a run can be killed anywhere.

    Of the ticks missed, those younger than `catch_up_us` are run in order, or only the newest where `only_newest`. A
    tick that was begun stays due until it is done, or, where `only_newest`, a later one is: none is given up. One that
    a service kept from being done holds those after it, for they need that service, too. One that failed rests for
    `rest_seconds`, longer after each failure, and holds none: what is wrong with it may be its own. A job that never
    ran begins with the newest tick, if that is younger than `first_us`.
    """

    name: str
    catch_up_us: int
    first_us: int
    only_newest: bool

    @property
    def timing(self) -> Timing:
        """When it is due."""

    async def run(self, run: Run) -> Figures:
        """Do the work of one tick. Whatever it raises, it is tried again until it is done."""


def rest_seconds(failures: int) -> float:
    """How long a tick rests after so many failures, seconds."""
    return min(MOST_REST_SECONDS, REST_SECONDS * 2.0 ** min(10, max(0, failures - 1)))


@dataclass(frozen=True, slots=True)
class Every:
    """A tick each so many microseconds, counted from 1970, the first one `offset_us` after it."""

    period_us: int
    offset_us: int = 0

    def between(self, after_us: int, upto_us: int) -> Iterator[int]:
        """The ticks after one instant and up to another, rising."""
        first = ((after_us - self.offset_us) // self.period_us + 1) * self.period_us + self.offset_us
        return iter(range(first, upto_us + 1, self.period_us))


class Due(NamedTuple):
    """Ticks to be run, in this order; and of those that are too old the first one, which is written down as skipped."""

    ticks: tuple[int, ...] = ()
    skipped_us: int | None = None


def due(jobs: Iterable[Job], last_runs: Mapping[str, Ran], at_us: int, *, rested: bool = False) -> dict[str, Due]:
    """What is due of each job at an instant: what was begun and is not done, what was not begun, what failed.

    Nothing is due twice: a clock that was set back makes nothing due until it is where it was. `rested`: ticks that
    failed are due although they rest.
    """
    found = {job.name: _due(job, last_runs.get(job.name, Ran()), at_us, rested) for job in jobs}
    return {name: one for name, one in found.items() if one.ticks or one.skipped_us is not None}


def _due(job: Job, ran: Ran, at_us: int, rested: bool) -> Due:
    begun = [tick for tick in _begun(job, ran) if tick <= at_us]
    failed = {one.tick_us for one in ran.failed}
    resting = {one.tick_us for one in ran.failed if not rested and one.ago_us < rest_seconds(one.failures) * SECOND}
    if ran.newest_us is None:
        return Due(tuple(newest([*begun, *job.timing.between(at_us - job.first_us, at_us)])))
    oldest = max(ran.newest_us, at_us - job.catch_up_us)
    new = list(job.timing.between(oldest, at_us))
    first = next(job.timing.between(ran.newest_us, at_us), None)
    if job.only_newest:
        begun, new = newest(begun), newest(new)
    again = [tick for tick in begun if tick not in resting]
    ticks = [*(tick for tick in again if tick not in failed), *new, *(tick for tick in again if tick in failed)]
    if job.only_newest:
        ticks.sort()
    return Due(tuple(ticks), first if first is not None and (not new or first < new[0]) else None)


def due_since(job: Job, ran: Ran, at_us: int) -> int | None:
    """The oldest tick of a job that waits to be done at an instant; None where none does, or the job never began."""
    begun = list(_begun(job, ran))
    if ran.done_us is not None:
        begun += [tick for tick in (next(job.timing.between(ran.done_us, at_us), None),) if tick is not None]
    return min((tick for tick in begun if tick <= at_us), default=None)


def _begun(job: Job, ran: Ran) -> Iterator[int]:
    """The ticks that were begun and are to be done, rising; where only the newest counts, none before one done."""
    done_us = ran.done_us if job.only_newest else None
    ticks = sorted([*ran.unfinished, *(one.tick_us for one in ran.failed)])
    return (tick for tick in ticks if done_us is None or tick > done_us)


def newest(ticks: Sequence[int]) -> list[int]:
    """The last of rising ticks, if there is one."""
    return list(ticks[-1:])
