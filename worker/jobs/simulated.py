"""The scheduler in simulated time: the events that anniversaries and schedules would send of a file of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Final

from worker.errors import OperatorError
from worker.events import Event
from worker.jobs.anniversaries import joined_on, month_day, since_types
from worker.jobs.base import DAY
from worker.jobs.cron_events import ANNIVERSARY, anniversary_id, scheduled_id
from worker.jobs.timing import Cron
from worker.rules.catalog.definitions import Catalog
from worker.rules.operators.calendar import calendar_of, is_zone
from worker.rules.operators.values import lookup
from worker.rules.plan.zones import ZoneRule, zone_rule
from worker.rules.rehearse import in_order

#: So many events are made at most: a schedule of each minute, over years and many users, would be more than memory.
MOST: Final = 2_000_000
#: Further behind the last event than this nothing is simulated, microseconds.
FURTHEST_US: Final = 200 * 366 * DAY
_SOURCE: Final = "badges"

#: A stretch of a user's time in one zone: from when (exclusive; None: from ever) and to when (None: from then on).
Stretch = tuple[str, int | None, int | None]


def with_jobs(catalog: Catalog, events: Sequence[Event], until_us: int | None) -> list[Event]:
    """The events in order, with those that the scheduler would have sent up to an instant, or the last event.

    `events` are in order. Raises OperatorError where that would be too many, or too far off.
    """
    last = max((event.occurred_us for event in events), default=0)
    end = last if until_us is None else until_us
    if end - last > FURTHEST_US:
        raise OperatorError("--until lies more than 200 years after the last event.", help="write a nearer time")
    made: list[Event] = []
    users: dict[str, list[Event]] = {}
    for event in events:
        users.setdefault(event.user_id, []).append(event)
    types, rule = since_types(catalog), zone_rule(catalog)
    for user_id, history in users.items():
        made += _anniversaries(user_id, history, types, rule, catalog.feb_29, end)
        _bounded(made)
    made += _scheduled(catalog, {user_id: history[0].occurred_us for user_id, history in users.items()}, end, made)
    return in_order([*events, *made])[0]


def _bounded(made: Sequence[Event]) -> None:
    if len(made) > MOST:
        raise OperatorError(
            f"The jobs would send more than {MOST:,} events.", help="name one user, or an earlier --until"
        )


def _scheduled(catalog: Catalog, users: Mapping[str, int], end: int, made: Sequence[Event]) -> list[Event]:
    """A schedule's events reach the users who are known at its tick."""
    found: list[Event] = []
    first = min(users.values(), default=end)
    for entry in catalog.options.get("schedules", ()):
        for tick in Cron(entry["cron"], catalog.timezone).between(first - 1, end):
            event_id = scheduled_id(entry["event"], tick)
            found += [_event(user_id, entry["event"], tick, event_id) for user_id, at in users.items() if at <= tick]
            if len(found) + len(made) > MOST:
                _bounded([*made, *found])
    return found


def _anniversaries(
    user_id: str, history: Sequence[Event], types: Sequence[str], rule: ZoneRule, feb_29: str, end: int
) -> Iterator[Event]:
    """One event for each local day on which another year is full, at its first instant."""
    stretches = _stretches(history, rule)
    days: set[date] = set()
    for kind in types:
        since = next((event for event in history if event.type == kind), None)
        if since is not None:
            joined = calendar_of(_zone_at(history, since, rule)).local_date(since.occurred_us)
            days.update(_days(joined, calendar_of(rule.default).local_date(end).year + 1, feb_29))
    for day in sorted(days):
        at = _first_instant(day, stretches)
        if at is not None and at <= end:
            yield _event(user_id, ANNIVERSARY, at, anniversary_id(day))


def _days(joined: date, last_year: int, feb_29: str) -> Iterator[date]:
    """The anniversaries of a day, as the job finds them."""
    for year in range(joined.year + 1, min(last_year, 9998) + 1):
        for month, number in ((joined.month, joined.day), (2, 28), (3, 1)):
            if (month, number) == (2, 29) and (year % 4 or (year % 100 == 0 and year % 400)):
                continue
            if month_day(joined) in joined_on(date(year, month, number), feb_29):
                yield date(year, month, number)
                break


def _stretches(history: Sequence[Event], rule: ZoneRule) -> list[Stretch]:
    changes: list[tuple[str, int | None]] = [(rule.default, None)]
    for event in history:
        zone = _named(event, rule)
        if zone is not None and zone != changes[-1][0]:
            changes.append((zone, event.occurred_us))
    ends = [at for _, at in changes[1:]]
    return [(zone, at, end) for (zone, at), end in zip(changes, [*ends, None], strict=True)]


def _named(event: Event, rule: ZoneRule) -> str | None:
    """The zone that an event names, if it does."""
    if rule.event is None or rule.field is None or event.type != rule.event:
        return None
    zone = lookup(event.payload, rule.field)
    return zone if isinstance(zone, str) and is_zone(zone) else None


def _zone_at(history: Sequence[Event], place: Event, rule: ZoneRule) -> str:
    found = rule.default
    for event in history:
        if event.order > place.order:
            break
        found = _named(event, rule) or found
    return found


def _first_instant(day: date, stretches: Sequence[Stretch]) -> int | None:
    """When a local day begins for a user: in the zone of then, or on coming into a zone where it has begun.

    Where there is no such day, as on the way over the date line, it is the next one.
    """
    for zone, came, went in stretches:
        calendar = calendar_of(zone)
        start = calendar.start_of_day(day)
        at = start if came is None or came < start else came + 1
        if (went is None or at < went) and calendar.local_date(at) >= day:
            return at
    return None


def _event(user_id: str, event_type: str, at_us: int, event_id: str) -> Event:
    return Event(user_id, event_type, at_us, _SOURCE, event_id, {}, "{}")
