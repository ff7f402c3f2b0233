"""Instants: RFC 3339 text to microseconds since the Unix epoch (UTC) and back.

Reading goes by tables, one look-up per part of the text, because every event carries an instant; what the tables do
not know is read by an expression, slowly and with a sentence that says what is wrong.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

SECOND = 1_000_000
DAY = 86_400 * SECOND

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LEAST = (date.min.toordinal() - _EPOCH_DAY) * DAY
_MOST = (date.max.toordinal() - _EPOCH_DAY + 1) * DAY - 1

_DATE_T = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]", re.ASCII)
_WHOLE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_CLOCK = {f"{h:02}:{m:02}:": (h * 60 + m) * 60 * SECOND for h in range(24) for m in range(60)}
_WHOLE_SECONDS = {f"{s:02}Z": s * SECOND for s in range(60)}
_SECONDS = {f"{s:02}.": s * SECOND for s in range(60)}
_THOUSANDS = {f"{n:03}": n for n in range(1000)}
_TEXTS = tuple(_THOUSANDS)
_CLOCK_TEXTS = tuple(text[:-1] for text in _CLOCK)

_DAYS_AT_MOST = 16_384


class _Days(dict[str, int]):
    """Microseconds from the epoch to the beginning of a day written as `2026-03-01T`; KeyError for what is no such."""

    def __missing__(self, text: str) -> int:
        found = _DATE_T.fullmatch(text)
        if found is None:
            raise KeyError(text)
        year, month, day = (int(part) for part in found.groups())
        if len(self) >= _DAYS_AT_MOST:
            self.clear()
        us = self[text] = (date(year, month, day).toordinal() - _EPOCH_DAY) * DAY
        return us


_days = _Days()


def parse_instant(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 date-time with an offset; digits beyond the sixth are cut off.

    Raises ValueError, with a sentence, for anything else, and for instants outside the years 1 to 9999.
    """
    try:
        minute = _days[text[:11]] + _CLOCK[text[11:17]]
        if len(text) == 20:
            return minute + _WHOLE_SECONDS[text[17:]]
        whole = minute + _SECONDS[text[17:20]] + 1000 * _THOUSANDS[text[20:23]]
        if text[-1] == "Z" and len(text) == 27:
            return whole + _THOUSANDS[text[23:26]]
        if text[23:] == "Z":
            return whole
    except (KeyError, ValueError):
        pass
    return _parse_slowly(text)


def _parse_slowly(text: str) -> int:
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise ValueError(f"{_shown(text)} is not an RFC 3339 instant with an offset, like 2026-03-01T12:00:00Z")
    hour, minute, second = int(found[1]), int(found[2]), int(found[3])
    offset_hour, offset_minute = int(found[6] or 0), int(found[7] or 0)
    if hour > 23 or minute > 59 or second > 59 or offset_hour > 23 or offset_minute > 59:
        raise ValueError(f"{_shown(text)} names a time of day that does not exist")
    try:
        day = _days[text[:11]]
    except ValueError:
        raise ValueError(f"{_shown(text)} names a day that does not exist") from None
    micros = int((found[4] or "0").ljust(6, "0")[:6])
    offset = (offset_hour * 60 + offset_minute) * 60 * SECOND
    total = day + ((hour * 60 + minute) * 60 + second) * SECOND + micros + (offset if found[5] == "-" else -offset)
    if not _LEAST <= total <= _MOST:
        raise ValueError(f"{_shown(text)} lies outside the years 1 to 9999 in UTC")
    return total


def format_instant(us: int) -> str:
    """RFC 3339 in UTC, always with six fraction digits: `2026-03-01T12:00:00.123000Z`.

    Raises ValueError outside the years 1 to 9999.
    """
    if not _LEAST <= us <= _MOST:
        raise ValueError(f"{us} microseconds since 1970 lie outside the years 1 to 9999")
    minute, rest = divmod(us, 60 * SECOND)
    day, minute = divmod(minute, 24 * 60)
    second, fraction = divmod(rest, SECOND)
    thousands, ones = divmod(fraction, 1000)
    return f"{_day_text(day)}T{_CLOCK_TEXTS[minute]}:{second:02}.{_TEXTS[thousands]}{_TEXTS[ones]}Z"


@lru_cache(maxsize=_DAYS_AT_MOST)
def _day_text(day: int) -> str:
    """The date so many days after the epoch."""
    return date.fromordinal(day + _EPOCH_DAY).isoformat()


def _shown(text: str) -> str:
    """The text as it may stand in a sentence: quoted, escaped, at most 60 characters."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
