"""How pages write figures and instants: the same units everywhere, times in the reader's zone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from worker.events import format_instant

#: Above it counts are not counted out.
COUNTED: Final = 10_000


def number(value: float | Decimal | None) -> str:
    """`1,269`; at most two digits behind the point; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def many(value: int, most: int = COUNTED) -> str:
    """A count that was cut off above `most`: `10,000+`."""
    return f"{most:,}+" if value > most else f"{value:,}"


def percent(part: float, whole: float) -> str:
    """`8.5 %`; a dash of nothing."""
    if whole <= 0:
        return "–"
    return f"{100 * part / whole:.1f} %"


def plural(count: int, noun: str, several: str | None = None) -> str:
    """`1 award`, `2,000 awards`."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def span(seconds: float) -> str:
    """A length of time: `0.4 s`, `25 s`, `4 min 10 s`, `2 h 5 min`, `9 days`."""
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    if whole < 2 * 86_400:
        hours, rest = divmod(whole // 60, 60)
        return f"{hours} h" + (f" {rest} min" if rest else "")
    return f"{whole // 86_400} days"


def size(count: int) -> str:
    """Bytes: `812 B`, `64 KiB`."""
    return f"{count:,} B" if count < 1024 else f"{count / 1024:,.0f} KiB"


def instant_text(us: int, zone: ZoneInfo | None = None) -> str:
    """`2017-12-06 02:56:18Z`; in a zone without the Z."""
    at = datetime.fromtimestamp(us // 1_000_000, tz=zone or UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S") + ("Z" if zone is None else "")


def time_tag(us: int | None, zone: ZoneInfo | None = None, *, ago: bool = True) -> Markup:
    """An instant as `<time>`, which the browser shows in the reader's zone, with how long ago it was."""
    if us is None:
        return Markup('<span class="muted">never</span>')
    beside = Markup(" data-ago") if ago else Markup("")
    return Markup('<time datetime="{}"{}>{}</time>').format(format_instant(us), beside, instant_text(us, zone))
