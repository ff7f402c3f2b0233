"""Ticks by cron syntax in a time zone, as Debian's cron reads it, also where clocks are put forward or back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import groupby
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields in a zone. A time that a day does not have comes just after the gap, one that it has twice once."""

    text: str
    zone: str = "UTC"

    def between(self, after_us: int, upto_us: int) -> Iterator[int]:
        """The ticks after one instant and up to another, rising; none for a date that never comes."""
        zone = UTC if self.zone == "UTC" else ZoneInfo(self.zone)
        after = (_EPOCH + timedelta(microseconds=after_us)).astimezone(zone)
        try:
            # One second earlier: what is meant is "after", and the parts of a second are cut off.
            found = CronSim(self.text, after - timedelta(seconds=1))
            for at in found:
                tick = (at.astimezone(UTC) - _EPOCH) // _MICROSECOND
                if tick > upto_us:
                    return
                if tick > after_us:
                    yield tick
        except (CronSimError, StopIteration, OverflowError):
            return


@dataclass(frozen=True, slots=True)
class Together:
    """The ticks of several timings, each instant once."""

    timings: tuple[Cron, ...]

    def between(self, after_us: int, upto_us: int) -> Iterator[int]:
        """The ticks after one instant and up to another, rising."""
        found: Iterable[int] = merge(*(timing.between(after_us, upto_us) for timing in self.timings))
        return (tick for tick, _ in groupby(found))
