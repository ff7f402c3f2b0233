"""Holders of each badge by day, kept from the log of awards as it grows, and what is usual of each badge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from worker.errors import TimedOut
from worker.exchange import AwardDay, Baseline, HoldersCounted
from worker.store.arrivals import SPANS_US, ArrivalTables, day_of

_READER: Final = "holders"
_DAY: Final = 86_400_000_000
#: Days of a trend line.
TREND_DAYS: Final = 28
#: So many users are looked at in one statement for who is active and what they hold.
_ACTIVE_SLICE: Final = 5_000
#: So many days of history are kept; of what was before, how many holders there were.
KEPT_DAYS: Final = 731


@dataclass(frozen=True, slots=True)
class HoldersDay:
    """A badge on one day (UTC): holders at its end, who came and went, awards given live and by backfills."""

    day: date
    holders: int
    gained: int = 0
    lost: int = 0
    awards: int = 0
    backfilled: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """How rare a badge is: `holders` of the `users` active within `days` hold it, as of an instant (microseconds)."""

    holders: int
    users: int
    days: int
    counted_us: int

    @property
    def part(self) -> float | None:
        """Which part of the active users hold it, 0 to 1; None where nobody is active."""
        return self.holders / self.users if self.users else None


class HolderTables(ArrivalTables):
    """Counts of holders; each entry of the log of awards is counted once, whatever fails."""

    async def count_holders(self) -> HoldersCounted:
        """Count one more piece of the log of awards, within one day at most."""
        for span in SPANS_US[:-1]:
            try:
                return await self._count_holders(span)
            except TimedOut:
                continue  # more was given in so long than can be counted in time
        return await self._count_holders(SPANS_US[-1])

    async def _count_holders(self, span: int) -> HoldersCounted:
        async with self.work() as session:
            reading = await self.reading(session, _READER, "")
            start = reading.upto_us
            if reading.after is not None:
                first = (await session.rows("first_award"))[0]["at"]
                start = reading.horizon_us if first is None else min(first, reading.horizon_us)
            end = min(reading.horizon_us, start + span, (start // _DAY + 1) * _DAY)
            if end <= start and reading.after is None:
                return HoldersCounted(0, 0, start, more=False)
            (found,) = await session.rows("count_holders", start, end, day_of(start))
            if end % _DAY == 0:
                await session.execute("prune_holders", day_of(end) - timedelta(days=KEPT_DAYS))
            await session.execute("move_reader", _READER, end, None)
        return HoldersCounted(found["users"], found["awards"], end, more=end < reading.horizon_us)

    async def write_users_with_badge(self) -> int:
        """Take the counts over into `badges.users_with_badge`; how many changed."""
        return await self.execute("write_users_with_badge")

    async def count_shares(self, *, active_days: int) -> int | None:
        """Count how many of the users active within so many days hold each badge; how many are active.

        Each user is looked at once, so that a part is never more than the whole. None while arrivals are counted first.
        """
        upto = await self.arrivals_counted()
        if upto is None:
            return None
        found: Counter[str] = Counter()
        users, after = 0, ""
        while True:
            rows = await self.rows("active_holders", upto - active_days * _DAY, after, _ACTIVE_SLICE)
            page = next(row for row in rows if row["badge_key"] is None)
            found.update({row["badge_key"]: row["users"] for row in rows if row["badge_key"] is not None})
            if page["last_user"] is None:
                break
            users, after = users + page["users"], page["last_user"]
        await self.execute("save_shares", list(found), list(found.values()), users, active_days, upto)
        return users

    async def shares_counted(self) -> tuple[int, int] | None:
        """Up to when arrivals were counted as shares were, and of how many active users; None where they never were."""
        (row,) = await self.rows("shares_counted")
        return None if row["at"] is None else (row["at"], row["users"])

    async def badge_shares(self, keys: Collection[str] | None = None) -> dict[str, Share]:
        """How rare each of these badges is (None: all), as last counted; those of a version since then are left out."""
        asked = None if keys is None else list(keys)
        return {key: Share(*row) for key, *row in await self.rows("badge_shares", asked)}

    async def award_days(self, first: date, end: date) -> list[AwardDay]:
        """Awards of each badge on the days from one to before another, those without any left out."""
        return [AwardDay(*row) for row in await self.rows("award_days", first, end)]

    async def save_baselines(self, day: date, found: Mapping[str, Baseline]) -> None:
        """Write what is usual on a day, for all badges."""
        ordered = sorted(found.items())
        await self.execute(
            "save_baselines",
            [key for key, _ in ordered],
            day,
            [one.usual for _, one in ordered],
            [one.spread for _, one in ordered],
            [one.days for _, one in ordered],
        )

    async def baselines_day(self) -> date | None:
        """The day for which it was last written what is usual."""
        found = (await self.rows("baselines_day"))[0]["day"]
        return found if found is None else date.fromordinal(found.toordinal())

    async def badge_baselines(self) -> dict[str, Baseline]:
        """What is usual of each badge that was awarded in the last 28 days; of others nothing is."""
        return {key: Baseline(usual, spread, days) for key, usual, spread, days in await self.rows("badge_baselines")}

    async def holders_trend(self, badge_key: str, last: date, *, days: int = TREND_DAYS) -> list[HoldersDay]:
        """A badge on each of so many days up to one, rising."""
        first = last - timedelta(days=days - 1)
        known = {row["day"]: HoldersDay(*row) for row in await self.rows("holders_trend", badge_key, first)}
        before = [one.holders for day, one in sorted(known.items()) if day < first]
        holders, found = before[-1] if before else 0, []
        for number in range(days):
            day = first + timedelta(days=number)
            one = known.get(day) or HoldersDay(day, holders)
            holders = one.holders
            found.append(one)
        return found

    async def awards_since(self, since_us: int) -> dict[str, int]:
        """Awards of each badge logged since an instant, but for those that a backfill gave."""
        return {row["badge_key"]: row["awards"] for row in await self.rows("awards_since", since_us)}
