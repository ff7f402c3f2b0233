"""Anniversaries: a `cron.anniversary` event for each user on the local day on which another year since joining is full.

A tick serves the zones whose local day has begun since the last one. Tenure itself is date arithmetic in the worker:
this only says that the day is there. Who has an anniversary is found by an index, over days of joining that are kept
from the log as it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Final, Protocol

from worker.exchange import Followed, Joined, Message
from worker.jobs.base import DAY, MINUTE, Every, Figures, Run, Timing
from worker.jobs.cron_events import Send, anniversary
from worker.rules.catalog.definitions import Catalog
from worker.rules.ir import leaves
from worker.rules.operators.calendar import calendar_of, days_in_month
from worker.rules.plan.zones import ZoneRule, zone_rule

#: So many users are read, and their events sent, at a time.
CHUNK: Final = 1_000
#: How long after a day began a change of zone, or a late joining, may still bring its anniversary: no zone's day begins
#: earlier than this before another's.
_LATEST: Final = 26 * 60 * MINUTE


class Tenures(Protocol):
    """What this asks of the store."""

    async def follow_tenures(self, types: Sequence[str], rule: ZoneRule) -> Followed:
        """Read one more piece of the log."""

    async def tenure_zones(self, event_type: str, day: int) -> list[str]:
        """The zones of users who joined on a day of the year (month times 100 and day)."""

    async def tenures_due(
        self, event_type: str, day: int, zone: str, *, before: date, after: str, limit: int
    ) -> list[tuple[str, int | None]]:
        """The next users of a zone who joined on a day of the year before a date, and when they named the zone."""

    async def tenures_changed(self, after: tuple[str, str], limit: int) -> Sequence[Joined]:
        """The next users whose day is to be looked at once more."""

    async def tenures_seen(self, pairs: Sequence[tuple[str, str]]) -> None:
        """These (user, type) were looked at."""

    async def zones_of(self, users: Sequence[str], at_us: int, rule: ZoneRule) -> list[str]:
        """The zone each user had at an instant."""


class Anniversaries:
    """One run sends the events of the local days that began since the last one, or, where none was done or a person
    asks, of the local day that it is in each zone.
    """

    name = "anniversaries"
    catch_up_us = 31 * DAY
    first_us = DAY
    only_newest = False

    def __init__(self, store: Tenures, send: Send, catalog: Catalog) -> None:
        self._store = store
        self._send = send
        self._rule = zone_rule(catalog)
        self._feb_29 = catalog.feb_29
        self._types = since_types(catalog)

    @property
    def timing(self) -> Timing:
        """Each quarter of an hour: no zone's day begins at another minute."""
        return Every(15 * MINUTE)

    async def run(self, run: Run) -> Figures:
        """1 follow the log; 2 the days that began; 3 users whose day or zone is known since lately."""
        if not self._types:
            return Figures(note="the catalog has no tenures")
        began = await self._follow()
        after_us = None if run.forced or began else run.previous_us
        sent = 0
        for event_type in self._types:
            for day_of_year in _days_of_year(self._begun(after_us, run.tick_us), self._feb_29):
                for zone in await self._store.tenure_zones(event_type, day_of_year):
                    for day in days_begun(zone, after_us, run.tick_us):
                        if day_of_year in joined_on(day, self._feb_29):
                            sent += await self._serve(event_type, day_of_year, zone, day)
        sent += await self._serve_changed(run.tick_us)
        return Figures(users=sent, events=sent, awards=None)

    async def _follow(self) -> bool:
        began = False
        while True:
            followed = await self._store.follow_tenures(self._types, self._rule)
            began |= followed.began
            if not followed.more:
                return began

    def _begun(self, after_us: int | None, tick_us: int) -> list[date]:
        """The days that began in any zone: those of the zones furthest east and west and all between."""
        first = calendar_of("Etc/GMT+12").ordinal(tick_us - _LATEST if after_us is None else after_us)
        last = calendar_of("Pacific/Kiritimati").ordinal(tick_us)
        return [date.fromordinal(ordinal) for ordinal in range(first, last + 1)]

    async def _serve(self, event_type: str, day_of_year: int, zone: str, day: date) -> int:
        """Send the events of users of a zone who joined on a day of the year, for a day that has begun there."""
        start_us, sent, after, more = calendar_of(zone).start_of_day(day), 0, "", True
        while more:
            chunk = await self._store.tenures_due(
                event_type, day_of_year, zone, before=date(day.year, 1, 1), after=after, limit=CHUNK
            )
            more = len(chunk) == CHUNK
            if chunk:
                after = chunk[-1][0]
                await self._send(await self._messages([(user_id, day, start_us, at) for user_id, at in chunk], zone))
                sent += len(chunk)
        return sent

    async def _messages(self, due: Sequence[tuple[str, date, int, int | None]], zone: str) -> list[Message]:
        """The events of users for a day and its first instant; who came into the zone during it begins it then."""
        moved = [(user_id, start) for user_id, _, start, named in due if named is not None and named >= start]
        since: dict[str, bool] = {}
        if moved:
            zones = await self._store.zones_of([user_id for user_id, _ in moved], moved[0][1], self._rule)
            since = {user_id: then != zone for (user_id, _), then in zip(moved, zones, strict=True)}
        return [
            anniversary(user_id, day, named + 1 if named is not None and since.get(user_id) else start)
            for user_id, day, start, named in due
        ]

    async def _serve_changed(self, tick_us: int) -> int:
        """Users whose day of joining or whose zone became known: their day may have begun before that was read."""
        sent, after = 0, ("", "")
        while chunk := await self._store.tenures_changed(after, CHUNK):
            after = (chunk[-1].user_id, chunk[-1].type)
            messages: list[Message] = []
            for one in chunk:
                calendar = calendar_of(one.zone)
                day = calendar.local_date(tick_us)
                if month_day(one.day) in joined_on(day, self._feb_29) and one.day.year < day.year:
                    due = (one.user_id, day, calendar.start_of_day(day), one.zone_us)
                    messages += await self._messages([due], one.zone)
                messages += await self._left_out(one)
            if messages:
                await self._send(messages)
            await self._store.tenures_seen([(one.user_id, one.type) for one in chunk])
            sent += len(messages)
        return sent

    async def _left_out(self, one: Joined) -> list[Message]:
        """The day between, where somebody's way over the date line led from the day before to the day after."""
        if one.zone_us is None:
            return []
        day = calendar_of(one.zone).local_date(one.zone_us) - timedelta(days=1)
        if month_day(one.day) not in joined_on(day, self._feb_29) or one.day.year >= day.year:
            return []
        left_us = one.zone_us - 1
        (before,) = await self._store.zones_of([one.user_id], left_us, self._rule)
        if calendar_of(before).local_date(left_us) >= day:
            return []
        return [anniversary(one.user_id, day, one.zone_us + 1)]


def since_types(catalog: Catalog) -> list[str]:
    """The event types from which a catalog's tenures count years, sorted."""
    tenures = (badge for badge in catalog.badges if badge.kind == "tenure")
    return sorted({name for badge in tenures for test in leaves(badge.formula) for name in test.fold.match.types})


def month_day(day: date) -> int:
    """Month times 100 and day."""
    return day.month * 100 + day.day


def joined_on(day: date, feb_29: str) -> tuple[int, ...]:
    """The days of the year of joining that have their anniversary on a date."""
    common = days_in_month(day.year, 2) == 28
    if common and (day.month, day.day) == ((2, 28) if feb_29 == "feb_28" else (3, 1)):
        return (month_day(day), 229)
    return (month_day(day),)


def days_begun(zone: str, after_us: int | None, upto_us: int) -> Iterator[date]:
    """The local days that began after one instant and up to another; without the first, the day that it is."""
    calendar = calendar_of(zone)
    last = calendar.ordinal(upto_us)
    first = last if after_us is None else calendar.ordinal(after_us) + 1
    return (date.fromordinal(ordinal) for ordinal in range(first, last + 1))


def _days_of_year(days: Iterable[date], feb_29: str) -> list[int]:
    return sorted({day_of_year for day in days for day_of_year in joined_on(day, feb_29)})
