"""Instants: RFC 3339 in, microseconds out, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events import format_instant, parse_instant

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("2026-03-01T12:00:00.123Z", micros(datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC))),
        ("2026-03-01t12:00:00z", micros(datetime(2026, 3, 1, 12, tzinfo=UTC))),
        ("2026-03-01T12:00:00+02:00", micros(datetime(2026, 3, 1, 10, tzinfo=UTC))),
        ("2026-03-01T12:00:00.5-05:30", micros(datetime(2026, 3, 1, 17, 30, 0, 500_000, tzinfo=UTC))),
        ("2024-02-29T23:59:59.999999999Z", micros(datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC))),
        ("0001-01-01T00:00:00Z", micros(datetime(1, 1, 1, tzinfo=UTC))),
        ("9999-12-31T23:59:59.999999Z", micros(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))),
    ],
)
def test_instants_are_read(text: str, expected: int) -> None:
    """An RFC 3339 instant is microseconds since 1970, digits beyond the sixth cut off, offsets taken away."""
    assert parse_instant(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-03-01 12:00:00Z",
        "2026-03-01T12:00Z",
        "2026-03-01T12:00:00.Z",
        "2026-03-01T12:00:00.1234567890Z",
        "2026-03-01T12:00:00,5Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T12:60:00Z",
        "2026-03-01T12:00:60Z",
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:00+0200",
        "2026-03-01T12:00:00Z ",
        "2026-03-01T12:00:00ZZ",
        "2026-03-01T12:00:00.12:Z",
        "+026-03-01T12:00:00Z",
        "２０２６-03-01T12:00:00Z",
        "2026-03-01T12:00:00.１２３Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "20260301T120000Z",
        "2026-W09-7T12:00:00Z",
        "2026-03-01T123456.1Z",
        "2026-03-01T12:00:00,123Z",
        "2026-03-01T12:00:00Z123Z",
        "2026-03-01T24:00:00.000Z",
        "2026-03-01T12:00+01:0Z",
        "2026-03-01T12:00:00\udc00Z",
        "x" * 100_000,
    ],
)
def test_what_is_no_instant_is_refused_with_a_sentence(text: str) -> None:
    """Anything but RFC 3339 with an offset raises ValueError, in a short sentence that can be encoded."""
    with pytest.raises(ValueError) as caught:
        parse_instant(text)
    assert len(str(caught.value).encode()) < 200


@given(
    st.datetimes(min_value=datetime.fromisoformat("0001-01-03"), max_value=datetime.fromisoformat("9999-12-28")),
    st.integers(-1439, 1439),
)
def test_reading_agrees_with_datetime(naive: datetime, offset: int) -> None:
    """For every instant and offset the tables give what the standard library gives."""
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert parse_instant(moment.isoformat()) == micros(moment)
    assert parse_instant(moment.astimezone(UTC).isoformat().replace("+00:00", "Z")) == micros(moment)


@given(st.integers(micros(datetime(1, 1, 1, tzinfo=UTC)), micros(datetime(9999, 12, 31, tzinfo=UTC))))
def test_what_is_written_is_read_back(us: int) -> None:
    """Writing and reading an instant gives the same instant, always in 27 characters."""
    text = format_instant(us)
    assert parse_instant(text) == us
    assert len(text) == 27


def test_six_digits_are_always_written() -> None:
    """An instant is written in UTC with six fraction digits."""
    assert format_instant(parse_instant("2026-03-01T12:00:00.123Z")) == "2026-03-01T12:00:00.123000Z"


@pytest.mark.parametrize("us", [10**20, -(10**20)])
def test_instants_outside_the_calendar_are_not_written(us: int) -> None:
    """What no year from 1 to 9999 holds raises ValueError."""
    with pytest.raises(ValueError, match="outside the years"):
        format_instant(us)
