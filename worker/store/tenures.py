"""On which local day each user joined: kept from the log as it arrives, and asked for who has an anniversary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeAlias

from worker.errors import TimedOut
from worker.events import json_text
from worker.exchange import Followed, Joined
from worker.rules.operators.calendar import calendar_of, zone_names
from worker.rules.plan.zones import ZoneRule
from worker.store.arrivals import SPANS_US, ArrivalTables
from worker.store.session import Session

_READER: Final = "tenures"
#: So many users are read in one transaction.
_USERS: Final = 1_000
_LAST: Final = (253_402_300_799_999_999, "\U0010ffff", "\U0010ffff")

#: A user and an event type from which years are counted.
Pair: TypeAlias = tuple[str, str]
#: A place in the order of a user's events: instant, source, id.
Place: TypeAlias = tuple[int, str, str]


def month_day(day: date) -> int:
    """The day of the year as the table has it."""
    return day.month * 100 + day.day


class TenureTables(ArrivalTables):
    """Users' days of joining, by the types from which years are counted, in the zones of then and of now."""

    async def follow_tenures(self, types: Sequence[str], rule: ZoneRule) -> Followed:
        """Read one more piece of the log; under other types or another rule of zones it begins, user by user.

        Raises TransientError.
        """
        text = json_text.dumps([sorted(types), rule.default, rule.event, rule.field])
        for span in SPANS_US[:-1]:
            try:
                return await self._follow(types, rule, text, span)
            except TimedOut:
                continue  # more arrived in so long than can be read in time
        return await self._follow(types, rule, text, SPANS_US[-1])

    async def _follow(self, types: Sequence[str], rule: ZoneRule, text: str, span: int) -> Followed:
        async with self.work() as session:
            reading = await self.reading(session, _READER, text)
            if reading.after is not None:
                if await session.execute("drop_tenures", list(types), 10_000):
                    return Followed(0, began=True, more=True)
                users = [row["user_id"] for row in await session.rows("next_users", reading.after, _USERS)]
                await _refresh(session, users, users, types, rule, changed=False)
                await session.execute("move_reader", _READER, reading.upto_us, users[-1] if users else None)
                return Followed(len(users), began=True, more=True)
            end = min(reading.horizon_us, reading.upto_us + span)
            if end <= reading.upto_us or not types:
                return Followed(0, began=False, more=False)
            end, touched = await _touched(session, reading.upto_us, end, types, rule)
            joined = [user_id for user_id, has_joined in touched.items() if has_joined]
            await _refresh(session, list(touched), joined, types, rule, changed=True)
            await session.execute("move_reader", _READER, end, None)
        return Followed(len(touched), began=False, more=end < reading.horizon_us)

    async def tenure_zones(self, event_type: str, day: int) -> list[str]:
        """The zones of users who joined on a day of the year (month times 100 and day)."""
        return [row["zone"] for row in await self.rows("tenure_zones", event_type, day)]

    async def tenures_due(
        self, event_type: str, day: int, zone: str, *, before: date, after: str, limit: int
    ) -> list[tuple[str, int | None]]:
        """The next users of a zone who joined on a day of the year before a date, and when they named the zone."""
        found = await self.rows("tenures_due", event_type, day, zone, after, before, limit)
        return [(row["user_id"], row["zone_at"]) for row in found]

    async def tenures_changed(self, after: Pair, limit: int) -> list[Joined]:
        """The next users whose day is to be looked at once more."""
        return [Joined(*row) for row in await self.rows("tenures_changed", *after, limit)]

    async def tenures_seen(self, pairs: Sequence[Pair]) -> None:
        """These were looked at."""
        await self.execute("tenures_seen", [user_id for user_id, _ in pairs], [kind for _, kind in pairs])

    async def zones_of(self, users: Sequence[str], at_us: int, rule: ZoneRule) -> list[str]:
        """The zone each user had at an instant."""
        if rule.event is None or not users:
            return [rule.default] * len(users)
        async with self.work() as session:
            places = [(user_id, (at_us, _LAST[1], _LAST[2])) for user_id in users]
            return [zone for zone, _ in await _zones(session, places, rule)]


async def _touched(
    session: Session, start: int, end: int, types: Sequence[str], rule: ZoneRule
) -> tuple[int, Mapping[str, bool]]:
    """Users to be looked at for what arrived in a span, and whether they may have joined; the span is cut to fit.

    What one transaction appended arrived in one instant and is taken whole.
    """
    while True:
        most = _USERS * 20 if end - start > 1 else 10_000_000
        rows = await session.rows("tenures_touched", start, end, list(types), rule.event, most + 1)
        if len(rows) <= most:
            return end, {row["user_id"]: row["joined"] for row in rows}
        end = start + (end - start) // 2


async def _refresh(
    session: Session,
    users: Sequence[str],
    joined: Sequence[str],
    types: Sequence[str],
    rule: ZoneRule,
    *,
    changed: bool,
) -> None:
    """Write the days of users anew, from their logs; of those who are not among `joined` only the zones."""
    joiners = set(joined)
    for start in range(0, len(users), _USERS):
        part = list(users[start : start + _USERS])
        since: dict[Pair, Place] = {}
        for user_id, kind, *place in await session.rows("tenures_known", part):
            since[user_id, kind] = (place[0], place[1], place[2])
        asked = [user_id for user_id in part if user_id in joiners]
        for user_id, kind, *place in await session.rows("tenures_since", asked, list(types)):
            first: Place = (place[0], place[1], place[2])
            since[user_id, kind] = min(first, since.get((user_id, kind), first))
        rows = await _rows(session, {pair: since[pair] for pair in sorted(since) if pair[1] in types}, rule)
        if rows:
            await session.execute("save_tenures", *zip(*rows, strict=True), changed)


async def _rows(session: Session, since: Mapping[Pair, Place], rule: ZoneRule) -> list[tuple[Any, ...]]:
    then = await _zones(session, [(user_id, place) for (user_id, _), place in since.items()], rule)
    now = await _zones(session, [(user_id, _LAST) for user_id, _ in since], rule)
    rows: list[tuple[Any, ...]] = []
    for ((user_id, kind), place), (zone_then, _), (zone, zone_us) in zip(since.items(), then, now, strict=True):
        day = calendar_of(zone_then).local_date(place[0])
        rows.append((user_id, kind, day, month_day(day), zone, zone_us, *place))
    return rows


async def _zones(session: Session, places: Sequence[tuple[str, Place]], rule: ZoneRule) -> list[tuple[str, int | None]]:
    """The zone each user had at a place, and when it was named; the catalog's where none was."""
    found: list[tuple[str, int | None]] = [(rule.default, None)] * len(places)
    if rule.event is None or not places:
        return found
    rows = await session.rows(
        "zones_at",
        [user_id for user_id, _ in places],
        [place[0] for _, place in places],
        [place[1] for _, place in places],
        [place[2] for _, place in places],
        rule.event,
        rule.field,
        list(zone_names()),
    )
    for number, zone, at_us in rows:
        found[number - 1] = (zone, at_us)
    return found
