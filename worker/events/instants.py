"""Instants: RFC 3339 text to microseconds since the Unix epoch (UTC) and back.

Reading goes by tables, one look-up per part of the text, because every event carries an instant; what the tables do
not know is read by an expression, slowly and with a sentence that says what is wrong.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

SECOND = 1_000_000
DAY = 86_400 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
_SECONDS = {f"{s:02}{end}": s * SECOND for s in range(60) for end in "Z."}
_FRACTIONS = {f"{ms:03}Z": ms * 1000 for ms in range(1000)}


_MINUTES_AT_MOST = 16_384
#: The minutes met lately, as written: `2026-03-01T12:00:`. Events that arrive together are mostly of few minutes.
_minutes: dict[str, int] = {}


@lru_cache(maxsize=16_384)
def _day(text: str) -> int:
    """Microseconds from the epoch to the beginning of the day written as `2026-03-01T`."""
    found = _DATE_T.fullmatch(text)
    if found is None:
        raise KeyError(text)
    year, month, day = (int(part) for part in found.groups())
    return (date(year, month, day).toordinal() - _EPOCH_DAY) * DAY


def _minute(text: str) -> int:
    """Microseconds from the epoch to the beginning of the minute the text begins with. KeyError for unusual texts."""
    found = _day(text[:11]) + _CLOCK[text[11:17]]
    if len(_minutes) >= _MINUTES_AT_MOST:
        _minutes.clear()
    _minutes[text[:17]] = found
    return found


def parse_instant(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 date-time with an offset; digits beyond the sixth are cut off.

    Raises ValueError, with a sentence, for anything else, and for instants outside the years 1 to 9999.
    """
    try:
        minute = _minutes.get(text[:17])
        whole = (_minute(text) if minute is None else minute) + _SECONDS[text[17:20]]
        if len(text) == 20 and text[19] == "Z":
            return whole
        fraction = text[20:]
        if len(fraction) == 7 and fraction[6] == "Z" and fraction[:6].isdecimal() and fraction.isascii():
            return whole + int(fraction[:6])
        return whole + _FRACTIONS[fraction]
    except (KeyError, ValueError):
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
        day = _day(text[:11])
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
    moment = _EPOCH + timedelta(microseconds=us)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _shown(text: str) -> str:
    """The text as it may stand in a sentence: quoted, escaped, at most 60 characters."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
