"""Holders: how many different users hold each badge, day by day, and what is usual of each badge."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final, Protocol

from worker.exchange import AwardDay, Baseline, HoldersCounted
from worker.jobs.arrivals import ACTIVE_DAYS
from worker.jobs.base import DAY, MINUTE, SECOND, Every, Figures, Run, Timing
from worker.jobs.spikes import DAYS, baseline

#: Who asks by name waits so many seconds at most for what was logged up to the asking.
_MOST_WAITS: Final = 20
_EPOCH: Final = date(1970, 1, 1)
#: Up to so many active users shares are counted with each run, above once a day.
_FEW_USERS: Final = 20_000


class HolderCounts(Protocol):
    """What this asks of the store."""

    async def count_holders(self) -> HoldersCounted:
        """Count one more piece of the log of awards, within one day at most."""

    async def write_users_with_badge(self) -> int:
        """Take the counts over into the list of badges; how many changed."""

    async def award_days(self, first: date, end: date) -> Sequence[AwardDay]:
        """Awards of each badge on the days from one to before another, those without any left out."""

    async def arrivals_counted(self) -> int | None:
        """Up to when arrivals are counted; None while that begins."""

    async def shares_counted(self) -> tuple[int, int] | None:
        """Up to when arrivals were counted as shares were, and of how many active users; None where they never were."""

    async def count_shares(self, *, active_days: int) -> int | None:
        """Count how many of the users active within so many days hold each badge; None where nothing is known yet."""

    async def baselines_day(self) -> date | None:
        """The day for which it was last written what is usual."""

    async def save_baselines(self, day: date, found: Mapping[str, Baseline]) -> None:
        """Write what is usual on a day, for all badges."""


class Holders:
    """One run counts what was awarded since the last one; with the first run of a day, what is usual on it.

    A day's figures are those of what was logged by its end, however late the run comes that counts it.
    """

    name = "holders"
    catch_up_us = DAY
    first_us = DAY
    only_newest = True

    def __init__(self, store: HolderCounts, *, active_days: int = ACTIVE_DAYS) -> None:
        self._store = store
        self._active_days = active_days

    @property
    def timing(self) -> Timing:
        """Each quarter of an hour."""
        return Every(15 * MINUTE)

    async def run(self, run: Run) -> Figures:
        """1 count; 2 take the counts over; 3 what is usual on the day it is by now; 4 who of the active holds what."""
        users, awards, upto_us = await self._count()
        if run.forced:
            # what was logged just before the asking is not all there yet
            asked_us, waits = upto_us + 6 * SECOND, 0
            while upto_us < asked_us and waits < _MOST_WAITS:
                await asyncio.sleep(1.0)
                more_users, more_awards, upto_us = await self._count()
                users, awards, waits = users + more_users, awards + more_awards, waits + 1
        changed = await self._store.write_users_with_badge()
        today = _EPOCH + timedelta(days=upto_us // DAY)
        if run.forced or await self._store.baselines_day() != today:
            await self._write_baselines(today)
        if run.forced or await self._shares_are_old():
            await self._store.count_shares(active_days=self._active_days)
        return Figures(users=users, awards=awards, counts=changed)

    async def _count(self) -> tuple[int, int, int]:
        """Users and awards counted, and up to when."""
        users = awards = 0
        while True:
            counted = await self._store.count_holders()
            users, awards = users + counted.users, awards + counted.awards
            if not counted.more:
                return users, awards, counted.upto_us

    async def _shares_are_old(self) -> bool:
        """Whether who is active is known of another day by now, or of so few users that counting again costs little.

        Who is active is what arrivals say, by a clock of their own: they may be counted up to another day than awards.
        """
        found, upto_us = await self._store.shares_counted(), await self._store.arrivals_counted()
        if found is None or found[1] <= _FEW_USERS:
            return True
        return upto_us is not None and upto_us // DAY != found[0] // DAY

    async def _write_baselines(self, today: date) -> None:
        days: dict[str, dict[date, int]] = {}
        first: dict[str, date] = {}
        for one in await self._store.award_days(today - timedelta(days=DAYS), today):
            days.setdefault(one.badge_key, {})[one.day] = one.awards
            first[one.badge_key] = one.first_day
        found = {key: baseline(counts, first[key], today) for key, counts in days.items()}
        await self._store.save_baselines(today, found)
