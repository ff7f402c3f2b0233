"""Arrivals: how many events of each type came on each day, and how many users were active when it ended."""

from __future__ import annotations

from typing import Protocol

from worker.exchange import Counted
from worker.jobs.base import DAY, MINUTE, Every, Figures, Run, Timing
from worker.rules.catalog.definitions import Catalog

#: How recent an event makes a user active where the catalog does not say, days.
ACTIVE_DAYS = 30


class Arrivals:
    """One run counts what arrived since the last one."""

    name = "arrivals"
    catch_up_us = DAY
    first_us = DAY
    only_newest = True

    def __init__(self, store: ArrivalCounts, catalog: Catalog) -> None:
        self._store = store
        self._active_days = active_days(catalog)

    @property
    def timing(self) -> Timing:
        """Every five minutes: so old what is known of silent types is at most."""
        return Every(5 * MINUTE)

    async def run(self, run: Run) -> Figures:  # noqa: ARG002 (what was counted says where to go on)
        """Count until there is nothing more."""
        users = counts = 0
        more = True
        while more:
            counted = await self._store.count_arrivals(active_days=self._active_days)
            users, counts, more = users + counted.users, counts + counted.events, counted.more
        await self._store.note_active(self._active_days)
        return Figures(users=users, counts=counts)


class ArrivalCounts(Protocol):
    """What this asks of the store."""

    async def count_arrivals(self, *, active_days: int) -> Counted:
        """Count one more piece of what arrived."""

    async def note_active(self, active_days: int) -> None:
        """Write how many users are active by now."""


def active_days(catalog: Catalog) -> int:
    """How recent an event makes a user active, days."""
    return int(catalog.options.get("active_days", ACTIVE_DAYS))
