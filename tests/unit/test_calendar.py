"""The calendar: local dates, periods, steps from now, days left out."""

from __future__ import annotations

import warnings
from calendar import monthrange
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events import format_instant, parse_instant
from worker.rules.ir import Days, Moment
from worker.rules.operators.calendar import (
    FIXED,
    MAX_US,
    MIN_US,
    PERIODS,
    Calendar,
    days_in_month,
    holidays_version,
    is_country,
    period_name,
    public_holidays,
)

UTC = Calendar("UTC")
BERLIN = Calendar("Europe/Berlin")
DE = f"DE@{holidays_version()}"
BAVARIA = f"DE-BY@{holidays_version()}"


def shifted(calendar: Calendar, now: str, *steps: tuple[int, str]) -> str:
    """Where steps from an instant lead, as text."""
    return format_instant(calendar.shift(parse_instant(now), Moment(steps))).replace(".000000", "")


@pytest.mark.parametrize(
    ("at", "kind", "name"),
    [
        ("2024-02-29T23:59:59.999999Z", "day", "2024-02-29"),
        ("2024-02-25T12:00:00Z", "week", "2024-W08"),
        ("2024-12-30T00:00:00Z", "week", "2025-W01"),
        ("2027-01-03T00:00:00Z", "week", "2026-W53"),
        ("2024-12-31T00:00:00Z", "month", "2024-12"),
        ("2024-01-01T00:00:00Z", "month", "2024-01"),
        ("2024-07-01T00:00:00Z", "quarter", "2024-Q3"),
        ("2024-06-30T23:59:59Z", "quarter", "2024-Q2"),
        ("1970-01-01T00:00:00Z", "year", "1970"),
        ("9999-12-31T23:59:59Z", "week", "9999-W52"),
    ],
)
def test_an_instant_lies_in_the_period_of_that_name(at: str, kind: str, name: str) -> None:
    """Days, ISO weeks of the ISO year, months, quarters and years have the names people write."""
    assert period_name(kind, UTC.period(parse_instant(at), kind)) == name


@pytest.mark.parametrize("kind", PERIODS)
def test_neighbouring_periods_have_neighbouring_keys(kind: str) -> None:
    """Through twelve years of days a period's key never falls and rises by at most one."""
    day = FIXED["d"]
    keys = [UTC.period(parse_instant("2019-12-25T12:00:00Z") + day * count, kind) for count in range(12 * 366)]
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(keys))
    assert len({period_name(kind, key) for key in keys}) == len(set(keys))


def test_a_period_is_that_of_the_zone() -> None:
    """Half past eleven in the evening in UTC is tomorrow in Berlin, and yesterday's evening in New York."""
    late = parse_instant("2024-12-31T23:30:00Z")
    assert UTC.local_date(late) == date(2024, 12, 31)
    assert BERLIN.local_date(late) == date(2025, 1, 1)
    assert Calendar("America/New_York").local_date(parse_instant("2024-01-01T04:59:59Z")) == date(2023, 12, 31)


@given(
    us=st.integers(0, parse_instant("2100-01-01T00:00:00Z")),
    zone=st.sampled_from(["Europe/Berlin", "Asia/Kathmandu", "Africa/Monrovia", "Australia/Lord_Howe", "UTC"]),
)
def test_the_quick_way_to_a_date_is_the_slow_one(us: int, zone: str) -> None:
    """The remembered offsets give the date that the zone's rules give."""
    calendar = Calendar(zone)
    assert calendar.ordinal(us) == calendar.local(us).toordinal()
    assert calendar.local_date(us) == calendar.local(us).date()


def test_months_have_the_days_of_the_calendar() -> None:
    """Also in centuries that are leap years, and in those that are not."""
    for year in (1900, 1999, 2000, 2001, 2004, 2023, 2024, 2100, 2400):
        assert [days_in_month(year, month) for month in range(1, 13)] == [
            monthrange(year, month)[1] for month in range(1, 13)
        ]


def test_a_change_of_the_offset_within_an_hour_is_seen() -> None:
    """In St John's clocks went back from 00:01 to 23:01 of the day before, at 02:31 UTC on 7 November 2010."""
    calendar = Calendar("America/St_Johns")
    dates = [calendar.local_date(parse_instant(f"2010-11-07T02:{rest}Z")) for rest in ("29:59", "30:00", "31:00")]
    assert [day.day for day in dates] == [6, 7, 6]


def test_many_hours_do_not_fill_the_memory() -> None:
    """The remembered offsets are bounded."""
    calendar = Calendar("Europe/Berlin")
    for hour in range(20_000):
        calendar.ordinal(hour * FIXED["h"])
    assert len(calendar._hours) <= 8192


@pytest.mark.parametrize(
    ("now", "steps", "then"),
    [
        ("2024-03-31T12:00:00Z", ((-30, "d"),), "2024-03-01T12:00:00Z"),
        ("2024-03-31T12:00:00Z", ((-1, "M"),), "2024-02-29T12:00:00Z"),
        ("2023-03-31T12:00:00Z", ((-1, "M"),), "2023-02-28T12:00:00Z"),
        ("2024-02-29T12:00:00Z", ((-1, "y"),), "2023-02-28T12:00:00Z"),
        ("2024-05-31T12:00:00Z", ((-1, "q"),), "2024-02-29T12:00:00Z"),
        ("2023-12-15T12:00:00Z", ((-1, "y"), (-3, "M")), "2022-09-15T12:00:00Z"),
        ("2024-03-31T12:00:00Z", ((-1, "M"), (-1, "M")), "2024-01-29T12:00:00Z"),
        ("2023-12-15T12:00:00Z", ((-1, "h"), (-30, "min")), "2023-12-15T10:30:00Z"),
        ("2023-12-15T12:00:00Z", ((-2, "w"), (10, "s")), "2023-12-01T12:00:10Z"),
        ("2023-12-15T12:00:00Z", (), "2023-12-15T12:00:00Z"),
    ],
)
def test_steps_lead_to_the_instant_a_person_expects(now: str, steps: tuple[tuple[int, str], ...], then: str) -> None:
    """Fixed lengths are added, calendar steps clamp to the month's end, in the order written."""
    assert shifted(UTC, now, *steps) == then


def test_calendar_steps_keep_the_hour_of_the_zone() -> None:
    """A month back over the change of clocks is the same hour on the wall, 30 days back is not."""
    assert shifted(BERLIN, "2024-04-15T10:00:00Z", (-1, "M")) == "2024-03-15T11:00:00Z"
    assert shifted(BERLIN, "2024-04-15T10:00:00Z", (-31, "d")) == "2024-03-15T10:00:00Z"


@pytest.mark.parametrize(
    ("amount", "unit", "edge"),
    [
        (-999_999_999, "y", MIN_US),
        (-2024, "y", MIN_US),
        (999_999_999, "M", MAX_US),
        (-999_999_999, "w", MIN_US),
        (999_999_999, "d", MAX_US),
    ],
)
def test_steps_end_at_the_edge_of_the_calendar(amount: int, unit: str, edge: int) -> None:
    """No number of steps leaves the years 1 to 9999, in any zone."""
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        calendar = Calendar(zone)
        at = calendar.shift(parse_instant("2024-01-01T00:00:00Z"), Moment(((amount, unit),)))
        assert at == edge
        assert calendar.local_date(calendar.shift(at, Moment(((1, "M"), (-1, "M")))))


@pytest.mark.parametrize(
    ("day", "days", "dropped"),
    [
        ("2024-03-01", Days(exclude_weekends=True), False),
        ("2024-03-02", Days(exclude_weekends=True), True),
        ("2024-03-03", Days(exclude_weekends=True), True),
        ("2024-03-04", Days(exclude_weekends=True), False),
        ("2024-12-25", Days(holidays=("2024-12-25",)), True),
        ("2023-12-25", Days(holidays=("2024-12-25",)), False),
        ("2024-10-03", Days(countries=(DE,)), True),
        ("2024-11-01", Days(countries=(DE,)), False),
        ("2024-11-01", Days(countries=(BAVARIA,)), True),
        ("2024-08-15", Days(), False),
    ],
)
def test_days_that_are_left_out(day: str, days: Days, dropped: bool) -> None:
    """Weekends, listed dates and the public holidays of a country or a part of it are left out, others not."""
    assert UTC.drops(parse_instant(f"{day}T12:00:00Z"), days) is dropped


def test_a_day_is_left_out_by_its_local_date() -> None:
    """Friday evening in UTC is Saturday in Berlin."""
    friday = parse_instant("2024-03-01T23:30:00Z")
    weekend = Days(exclude_weekends=True)
    assert BERLIN.drops(friday, weekend)
    assert not UTC.drops(friday, weekend)


@pytest.mark.parametrize(
    ("code", "known"), [("DE", True), ("DE-BY", True), ("DE-XX", False), ("XX", False), ("DE-", False), ("", False)]
)
def test_countries_that_have_a_calendar(code: str, known: bool) -> None:
    """A country or a part of it is known by its ISO code."""
    assert is_country(code) is known


def test_years_that_a_calendar_does_not_reach() -> None:
    """A year outside a calendar's range has few holidays or none, and nobody is told on the error stream."""
    public_holidays.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert public_holidays("DE", 2200) == frozenset()
        assert len(public_holidays("IN", 2040)) < len(public_holidays("IN", 2030))
    assert said == []


def test_anniversaries_of_a_leap_day() -> None:
    """29 February has its anniversary on 28 February or 1 March as the catalog says, and its own day in a leap year."""
    leap = date(2024, 2, 29)
    assert UTC.anniversary(leap, 1, feb_29="feb_28") == date(2025, 2, 28)
    assert UTC.anniversary(leap, 1, feb_29="mar_1") == date(2025, 3, 1)
    assert UTC.anniversary(leap, 4, feb_29="mar_1") == leap.replace(year=2028)
    assert UTC.anniversary(date(2024, 3, 1), 1, feb_29="mar_1") == date(2025, 3, 1)


def test_a_local_day_begins_where_the_date_changes() -> None:
    """The first instant of a day is of that day, the one before it of the day before, also when clocks change."""
    for offset in range(400):
        day = date(2024, 1, 1) + timedelta(days=offset)
        start = BERLIN.start_of_day(day)
        assert BERLIN.local_date(start) == day
        assert BERLIN.local_date(start - 1) == day - timedelta(days=1)


def test_an_unknown_zone_is_refused_with_a_sentence() -> None:
    """A name that is no zone is named in the error, whatever it looks like."""
    for name in ("Mars/Olympus", "", "../etc/passwd", "Europe"):
        with pytest.raises(ValueError, match="there is no time zone"):
            Calendar(name)
