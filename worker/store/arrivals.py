"""Reads the log in the order of its arrival: each event once, whatever fails; counts it by type and day.

Theory of operation. An event's `received_at` is when its transaction began. What arrived before the horizon (the
beginning of the oldest transaction that may still append) is all there and stays as it is, so a reader that notes how
far it was, in the transaction in which it writes what it made of that, has read everything exactly once. It begins user
by user, with what arrived before an instant, and goes on by arrival from that instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from worker.errors import TimedOut
from worker.exchange import Counted, TypeDays
from worker.rules.ir import NEVER_COUNTED
from worker.store.catalog import CatalogTables
from worker.store.session import Session

_DAY: Final = 86_400_000_000
#: So much of the log is read in one transaction, microseconds of arrival; less where that cannot be done in time.
SPANS_US: Final = (_DAY, _DAY // 24, _DAY // 1440)
#: So many users are counted in one transaction while a reader begins.
_USERS: Final = 500
_READER: Final = "arrivals"
_PATTERNS: Final = [name + "%" if name.endswith(".") else name for name in NEVER_COUNTED]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a reader is: everything that arrived before `upto_us`, of the users up to `after` (None: of all).

    What arrived before `horizon_us` can be read now.
    """

    upto_us: int
    after: str | None
    horizon_us: int


def day_of(us: int) -> date:
    """The date of an instant in UTC."""
    return (_EPOCH + timedelta(microseconds=us)).date()


def start_of(day: date) -> int:
    """The first instant of a day in UTC."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class ArrivalTables(CatalogTables):
    """What arrived: counts by type and day, users' last activity, active users at the end of each day."""

    async def count_arrivals(self, *, active_days: int) -> Counted:
        """Count one more piece of what arrived; a day that has ended is closed with its count of active users."""
        for span in SPANS_US[:-1]:
            try:
                return await self._count(span, active_days)
            except TimedOut:
                continue  # more arrived in so long than can be counted in time
        return await self._count(SPANS_US[-1], active_days)

    async def _count(self, span: int, active_days: int) -> Counted:
        async with self.work() as session:
            reading = await self.reading(session, _READER, "")
            if reading.after is not None:
                return await _begin(session, reading)
            end = min(reading.horizon_us, reading.upto_us + span, (reading.upto_us // _DAY + 1) * _DAY)
            if end <= reading.upto_us:
                return Counted(0, 0, reading.upto_us, more=False)
            (found,) = await session.rows("count_arrivals", reading.upto_us, end, _PATTERNS)
            if end % _DAY == 0:
                await session.execute("forget_gone_users")
                since = end - active_days * _DAY
                await session.execute("close_day", day_of(end - 1), active_days, since)
            await session.execute("move_reader", _READER, end, None)
        return Counted(found["events"], found["users"], end, more=end < reading.horizon_us)

    async def note_active(self, active_days: int) -> None:
        """Write how many users are active by now, as the day that is not over has it so far."""
        upto = await self.arrivals_counted()
        if upto is not None:
            await self.execute("close_day", day_of(upto), active_days, upto - active_days * _DAY)

    async def reading(self, session: Session, name: str, rule: str) -> Reading:
        """Lock a reader to the end of the transaction; under another rule than before it begins anew."""
        halves = (half % 2**32 for half in self.catalog_lock)
        (found,) = await session.rows("take_reader", name, rule, *halves)
        return Reading(found["upto"], found["after"], found["horizon"])

    async def arrivals_counted(self) -> int | None:
        """Up to when arrivals are counted; None while that begins."""
        found = await self.rows("arrivals_read", _READER)
        return found[0]["upto"] if found else None

    async def active_users(self) -> tuple[date, int, int] | None:
        """The last day that was closed, how many users were active then, and within how many days that means."""
        found = await self.rows("active_users")
        return (found[0]["day"], found[0]["active_users"], found[0]["active_days"]) if found else None

    async def trigger_days(self, types: Sequence[str]) -> dict[str, TypeDays]:
        """When events of these types arrived; types of which none ever did are left out."""
        return {
            row["type"]: TypeDays(
                row["type"],
                row["last_at"],
                row["last_day"],
                row["last_events"],
                row["first_day"],
                dict(zip(row["days"], row["events"], strict=True)),
            )
            for row in await self.rows("trigger_days", list(types))
        }


async def _begin(session: Session, reading: Reading) -> Counted:
    users = [row["user_id"] for row in await session.rows("next_users", reading.after, _USERS)]
    if not users:
        await session.execute("move_reader", _READER, reading.upto_us, None)
        return Counted(0, 0, reading.upto_us, more=True)
    (found,) = await session.rows("count_first_arrivals", users, reading.upto_us, _PATTERNS)
    await session.execute("move_reader", _READER, reading.upto_us, users[-1])
    return Counted(found["events"], found["users"], reading.upto_us, more=True)
