"""Instants: RFC 3339 text to microseconds since the Unix epoch (UTC) and back.

Every event carries an instant, so the usual spellings are read by the standard library's own reader; the others, and
what is none, are read by an expression, slowly and with a sentence that says what is wrong.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache

SECOND = 1_000_000
DAY = 86_400 * SECOND

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LEAST = (date.min.toordinal() - _EPOCH_DAY) * DAY
_MOST = (date.max.toordinal() - _EPOCH_DAY + 1) * DAY - 1

_WHOLE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
#: Of instants with six digits behind the second, with three, and with none.
_SIZES = (27, 24, 20)
_EPOCH = datetime.fromtimestamp(0, UTC)
_TEXTS = tuple(f"{n:03}" for n in range(1000))
_CLOCK_TEXTS = tuple(f"{h:02}:{m:02}" for h in range(24) for m in range(60))


def parse_instant(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 date-time with an offset; digits beyond the sixth are cut off.

    Raises ValueError, with a sentence, for anything else, and for instants outside the years 1 to 9999.
    """
    # The library takes more of ISO 8601 than this, of other shapes.
    if len(text) in _SIZES and text[-1] == "Z" and text[4:17:3] == "--T::" and text[19] in ".Z":
        try:
            since = datetime.fromisoformat(text) - _EPOCH
        except ValueError:
            return _parse_slowly(text)
        seconds = since.seconds
        if seconds or text[11] == "0":  # else it is the hour 24, which newer libraries take
            return (since.days * 86_400 + seconds) * SECOND + since.microseconds
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
        day = (date.fromisoformat(text[:10]).toordinal() - _EPOCH_DAY) * DAY
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


@lru_cache(maxsize=16_384)
def _day_text(day: int) -> str:
    """The date so many days after the epoch."""
    return date.fromordinal(day + _EPOCH_DAY).isoformat()


def _shown(text: str) -> str:
    """The text as it may stand in a sentence: quoted, escaped, at most 60 characters."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
