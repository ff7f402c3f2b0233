"""What pages draw without script: shapes of states, sparklines, badge tiles, as SVG of checked colours."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Final

from markupsafe import Markup, escape

#: What each kind of state looks like beside its word; the word is never left out.
_SHAPES: Final = {
    "ok": '<path d="M1 5.5 4 8.5 9 2" fill="none" stroke="currentColor" stroke-width="2"/>',
    "warn": '<path d="M5 .8 9.6 9.2H.4z" fill="currentColor"/>',
    "bad": '<path d="M1.5 1.5l7 7m0-7l-7 7" fill="none" stroke="currentColor" stroke-width="2"/>',
    "held": '<path d="M2 1h2v8H2zM6 1h2v8H6z" fill="currentColor"/>',
    "info": '<circle cx="5" cy="5" r="3.5" fill="currentColor"/>',
    "off": '<circle cx="5" cy="5" r="3.5" fill="none" stroke="currentColor" stroke-width="1.5"/>',
    "bar": '<path d="M1 4h8v2H1z" fill="currentColor"/>',
}
_CLASSES: Final = {"off": "", "bar": ""}
#: The kind of each word that a state is called by.
KINDS: Final = {
    **dict.fromkeys(("active", "earned", "passed", "ok", "done", "well", "new version rules", "rules", "live"), "ok"),
    **dict.fromkeys(("silent", "never seen", "late", "slow", "locked", "waiting", "missing", "warning"), "warn"),
    "missed": "warn",
    **dict.fromkeys(("fault", "down", "failed", "dead letter", "error"), "bad"),
    **dict.fromkeys(("held", "paused"), "held"),
    **dict.fromkeys(("hidden", "running", "manual", "backfill", "cron", "started"), "info"),
    **dict.fromkeys(("deprecated", "revoked", "dropped", "cancelled", "withdrawn"), "bar"),
}
_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")
#: A badge without a colour of its own.
PLAIN: Final = "#5c6773"
_ROMAN: Final = ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))


def tag(word: str, kind: str | None = None) -> Markup:
    """A state: its shape and its word, on a tint; without a `kind` the word's own one."""
    kind = kind or KINDS.get(word, "off")
    shape = Markup(_SHAPES[kind])  # noqa: S704 (from the table above)
    return Markup('<span class="tag {}"><svg width="10" height="10" aria-hidden="true">{}</svg>{}</span>').format(
        _CLASSES.get(kind, kind), shape, word
    )


def spark(values: Sequence[float | None], label: str, *, peaks: Sequence[int] = ()) -> Markup:
    """A line of 28 days or so, 96 × 24: the last point a dot, a missing day a gap, each spike a triangle."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Markup('<span class="muted small">{}</span>').format("no trend yet")
    most = max(*known, 1)
    step = 88 / (len(values) - 1)
    points = [
        (4 + step * index, None if value is None else 20 - 16 * value / most) for index, value in enumerate(values)
    ]
    lines, run = [], []
    for x, y in [*points, (0.0, None)]:
        if y is not None:
            run.append(f"{x:.1f},{y:.1f}")
        elif run:
            lines.append(run)
            run = []
    drawn = [
        f'<polyline points="{" ".join(one)}" fill="none" stroke="currentColor" stroke-width="1.5"/>' for one in lines
    ]
    x, y = next((x, y) for x, y in reversed(points) if y is not None)
    drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="currentColor"/>')
    for at, height in (points[peak] for peak in peaks):
        if height is not None:
            drawn.append(f'<path class="peak" d="M{at - 4:.1f} {height + 4:.1f}h8l-4 -7z"/>')
    body = Markup("".join(drawn))  # noqa: S704 (numbers only)
    return Markup(
        '<svg class="spark" width="96" height="24" viewBox="0 0 96 24" role="img" aria-label="{}">{}</svg>'
    ).format(label, body)


def tile(
    size: int,
    *,
    label: str = "",
    icon: str | None = None,
    colour: str | None = None,
    tier: int | None = None,
    image_url: str | None = None,
    status: str = "active",
    share: float | None = None,
) -> Markup:
    """A badge as a square of 32, 48 or 96 px; decoration beside its name, so hidden from readers of the page.

    The icon is black or white, whichever stands out more on the colour. `share` (0 to 1) draws it as not yet earned,
    with a ring of progress; `hidden` has a dashed edge. The picture of `image_url` lies over it, where it is https.
    """
    fill = colour if colour is not None and _COLOUR.fullmatch(colour) else PLAIN
    ink = ink_on(fill)
    earned = share is None
    dash = ' stroke-dasharray="3 2"' if status == "hidden" else ""
    shown = (
        f'<rect x="1" y="1" width="46" height="46" rx="10" fill="{fill if earned else "none"}" '
        f'stroke="{ink if earned else "currentColor"}" stroke-opacity=".35"{dash}/>'
    )
    if share is not None and share > 0:
        shown += (
            f'<rect x="2.5" y="2.5" width="43" height="43" rx="8.5" fill="none" stroke="currentColor" '
            f'stroke-width="3" pathLength="100" stroke-dasharray="{max(0.0, min(1.0, share)) * 100:.0f} 100"/>'
        )
    stroke = ink if earned else "currentColor"
    drawing = _icons().get(icon or "")
    if drawing is not None:
        shown += (
            f'<g transform="translate(12 12)" fill="none" stroke="{stroke}" stroke-width="2" '
            f'stroke-linecap="round" stroke-linejoin="round">{drawing}</g>'
        )
    else:
        letter = escape((label.strip() or "?")[0].upper())
        shown += (
            f'<text x="24" y="31" text-anchor="middle" font-size="20" font-weight="700" fill="{stroke}">{letter}</text>'
        )
    if tier is not None:
        place = 'x="43" y="44" text-anchor="end" font-size="10" font-weight="700"'
        shown += f'<text {place} fill="{stroke}">{roman(tier)}</text>'
    drawn = Markup(
        '<svg class="tile" width="{0}" height="{0}" viewBox="0 0 48 48" aria-hidden="true">{1}</svg>'
    ).format(
        size,
        Markup(shown),  # noqa: S704 (checked colours, numbers, vendored drawings, one escaped letter)
    )
    if image_url is not None and image_url.startswith("https://"):
        drawn = Markup(
            '<span class="tile-wrap">{}<img src="{}" alt="" width="{}" height="{}" loading="lazy" '
            'referrerpolicy="no-referrer" data-over></span>'
        ).format(drawn, image_url, size, size)
    return drawn


def ink_on(colour: str) -> str:
    """Black or white, whichever has the higher contrast on a `#rrggbb`; the higher one is never below 4.58:1."""
    bright = luminance(colour)
    return "#000000" if (bright + 0.05) / 0.05 >= 1.05 / (bright + 0.05) else "#ffffff"


def luminance(colour: str) -> float:
    """The relative luminance of a `#rrggbb` by WCAG 2.2, 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def roman(number: int) -> str:
    """A tier as a roman numeral; above 39 in digits."""
    if not 0 < number < 40:
        return str(number)
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text


def icon_names() -> list[str]:
    """The icons a badge can name, sorted; others show the first letter of its label."""
    return sorted(_icons())


@lru_cache(maxsize=1)
def _icons() -> dict[str, str]:
    text = (files("worker.admin.panel") / "static" / "vendor" / "icons.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found
