"""Calendar arithmetic in one time zone: local dates, periods, steps back from an instant, weekends and holidays.

Instants are integer microseconds since the epoch, UTC; dates are proleptic Gregorian ordinals (1 = 0001-01-01).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from worker.rules.ir import Days, Moment

PERIODS = ("day", "week", "month", "quarter", "year")

SECOND = 1_000_000
#: Fixed lengths in microseconds (decisions 5); `M`, `q` and `y` are calendar steps.
FIXED = {"s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND, "w": 7 * 86_400 * SECOND}
MONTHS = {"M": 1, "q": 3, "y": 12}

_DAY = FIXED["d"]
_HOUR = FIXED["h"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
#: Local arithmetic stays two days within the years 1 to 9999, so that no zone's offset leaves them.
MIN_US = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _MICROSECOND
MAX_US = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_CACHED_HOURS = 8192
#: So many zones of users are kept, each with the offsets of three weeks: some 30 MB at most.
_USERS_ZONES = 512
_USERS_HOURS = 512


class Calendar:
    """The calendar of one zone. Pure: what it caches is what it would compute again."""

    __slots__ = ("_hours", "_info", "_most", "zone")

    def __init__(self, zone: str = "UTC", *, hours: int = _CACHED_HOURS) -> None:
        """`zone` is an IANA name; ValueError with a sentence where there is none such.

        The offsets of so many `hours` are remembered, some 60 bytes each.
        """
        self.zone = zone
        self._most = hours
        try:
            self._info = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {zone!r}; write an IANA name such as Europe/Berlin") from error
        self._hours: dict[int, int | None] = {}

    def local(self, us: int) -> datetime:
        """The instant as an aware datetime of the zone."""
        return (_EPOCH + timedelta(microseconds=min(max(us, MIN_US), MAX_US))).astimezone(self._info)

    def ordinal(self, us: int) -> int:
        """The local date as an ordinal."""
        if self.zone == "UTC":
            return us // _DAY + _EPOCH_ORDINAL
        hour = us // _HOUR
        offset = self._hours.get(hour, 0) if hour in self._hours else self._offset(hour)
        if offset is None:
            return self.local(us).toordinal()
        return (us + offset) // _DAY + _EPOCH_ORDINAL

    def _offset(self, hour: int) -> int | None:
        """The zone's offset in this hour of UTC; None where it changes within the hour."""
        if len(self._hours) >= self._most:
            self._hours.clear()
        first, last = (self.local(hour * _HOUR + at).utcoffset() for at in (0, _HOUR - 1))
        offset = None if first != last or first is None else first // _MICROSECOND
        self._hours[hour] = offset
        return offset

    def local_date(self, us: int) -> date:
        """The date on the wall calendar of the zone at this instant."""
        return date.fromordinal(self.ordinal(us))

    def start_of_day(self, day: date) -> int:
        """The first instant of a local day."""
        local = datetime(day.year, day.month, day.day, tzinfo=self._info)
        return (local.astimezone(UTC) - _EPOCH) // _MICROSECOND

    def period(self, us: int, kind: str) -> int:
        """The key of the calendar period the instant lies in; keys of neighbouring periods differ by 1."""
        return _PERIOD_KEYS[kind](self.ordinal(us))

    def shift(self, us: int, moment: Moment) -> int:
        """The instant `moment` names when now is `us`; clamped to a month's end and to the years 1 to 9999."""
        if moment.at_us is not None:
            us = moment.at_us
        for amount, unit in moment.steps:
            if (length := FIXED.get(unit)) is not None:
                us += amount * length
            else:
                us = self._months(us, amount * MONTHS[unit])
            us = min(max(us, MIN_US), MAX_US)
        return us

    def _months(self, us: int, months: int) -> int:
        local = self.local(us)
        index = local.year * 12 + local.month - 1 + months
        if index < 12:
            return MIN_US
        if index >= 120_000:
            return MAX_US
        year, month = divmod(index, 12)
        day = min(local.day, days_in_month(year, month + 1))
        shifted = local.replace(year=year, month=month + 1, day=day)
        return (shifted.astimezone(UTC) - _EPOCH) // _MICROSECOND

    def anniversary(self, day: date, years: int, *, feb_29: str) -> date:
        """The date `years` after a local date; 29 February falls on `feb_28` or `mar_1` in a common year."""
        year = min(day.year + years, 9999)
        if day.month == 2 and day.day == 29 and days_in_month(year, 2) == 28:
            return date(year, 2, 28) if feb_29 == "feb_28" else date(year, 3, 1)
        return day.replace(year=year)

    def drops(self, us: int, days: Days) -> bool:
        """Whether an event at this instant falls on a day that is left out."""
        ordinal = self.ordinal(us)
        if days.exclude_weekends and (ordinal - 1) % 7 >= 5:
            return True
        if days.holidays and ordinal in listed_days(days.holidays):
            return True
        return any(ordinal in public_holidays(country, date.fromordinal(ordinal).year) for country in days.countries)


@lru_cache(maxsize=_USERS_ZONES)
def calendar_of(zone: str) -> Calendar:
    """The calendar of a zone that `is_zone` knows: one object for all users who have it."""
    return Calendar(zone, hours=_USERS_HOURS)


def is_zone(name: str) -> bool:
    """Whether a text, from wherever, is the name of an IANA zone as it is spelt there: not so `localtime` or `utc`."""
    return name in zone_names()


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The names of all zones there are."""
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def period_name(kind: str, key: int) -> str:
    """A period's name as people write it: 2024-03-05, 2024-W08, 2024-03, 2024-Q1, 2024."""
    if kind == "day":
        return date.fromordinal(key).isoformat()
    if kind == "week":
        year, week, _ = date.fromordinal(key * 7 + 1).isocalendar()
        return f"{year:04d}-W{week:02d}"
    if kind == "month":
        return f"{key // 12:04d}-{key % 12 + 1:02d}"
    if kind == "quarter":
        return f"{key // 4:04d}-Q{key % 4 + 1}"
    return f"{key:04d}"


def days_in_month(year: int, month: int) -> int:
    """28 to 31."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@lru_cache(maxsize=65_536)
def _month(ordinal: int) -> int:
    day = date.fromordinal(ordinal)
    return day.year * 12 + day.month - 1


_PERIOD_KEYS: dict[str, Callable[[int], int]] = {
    "day": lambda ordinal: ordinal,
    "week": lambda ordinal: (ordinal - 1) // 7,
    "month": _month,
    "quarter": lambda ordinal: _month(ordinal) // 3,
    "year": lambda ordinal: _month(ordinal) // 12,
}


@lru_cache(maxsize=1024)
def listed_days(dates: tuple[str, ...]) -> frozenset[int]:
    """The ordinals of a list of ISO dates."""
    return frozenset(date.fromisoformat(text).toordinal() for text in dates)


@lru_cache(maxsize=4096)
def public_holidays(code: str, year: int) -> frozenset[int]:
    """The ordinals of the public holidays of a country (`DE`) or a part of it (`DE-BY@0.109`) in one year."""
    return frozenset(day.toordinal() for day in _country(code, year))


def is_country(code: str) -> bool:
    """Whether there is a maintained calendar of public holidays for this code."""
    country, _, part = code.partition("-")
    parts = _countries().get(country)
    return parts is not None and (part in parts if part else "-" not in code)


@lru_cache(maxsize=1)
def _countries() -> dict[str, frozenset[str]]:
    from holidays import list_supported_countries

    return {country: frozenset(parts) for country, parts in list_supported_countries().items()}


def _country(code: str, year: int) -> Any:
    from holidays import country_holidays

    # That a calendar does not reach so far is in the guide; whoever reads the worker's log can do nothing about it.
    warnings.filterwarnings("ignore", message="Requested Holidays are available only")
    country, _, part = code.partition("@")[0].partition("-")
    return country_holidays(country, subdiv=part or None, years=year)


def holidays_version() -> str:
    """The edition of the maintained holiday calendars, for a fold's identity (decisions 7)."""
    from holidays.version import __version__

    return str(__version__)
