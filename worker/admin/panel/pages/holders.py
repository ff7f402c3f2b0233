"""Holders: how rare each badge is, and how it has been given day by day, spikes marked; and as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from worker.admin.panel.frame import ROOT, in_script
from worker.admin.panel.page import PAGE, Opened, Page
from worker.admin.panel.pages.badge import no_badge
from worker.admin.panel.phrasing import instant_text
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.problems import unavailable
from worker.admin.roles import Role, least
from worker.admin.routes import few, guarded_router
from worker.events import format_instant
from worker.events.instants import DAY, SECOND
from worker.rules.catalog.definitions import Badge

router = guarded_router(prefix=ROOT, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One badge: holders, awards of 28 days, the usual day, which days were spikes, by their place; how rare it is.

    `share` says how many of the active users hold it; None where that is not counted.
    """

    badge: Badge
    users: int
    days: tuple[int, ...]
    usual: float
    spikes: tuple[int, ...]
    share: Any | None = None

    @property
    def spiking(self) -> bool:
        """Whether today is one."""
        return len(self.days) - 1 in self.spikes


@router.get("/awards/holders")
@least(Role.READER)
async def holders(page: Opened, after: int = 0) -> Response:
    """All badges, those with a spike first, then the most held."""
    found = await _lines(page)
    lines = found or []
    start = max(0, after)
    return await page.show(
        "holders.html",
        title="Holders",
        section="Awards",
        lines=lines[start : start + PAGE],
        counted=found is not None,
        shared=next((line.share for line in lines if line.share is not None), None),
        older=start + PAGE if len(lines) > start + PAGE else None,
    )


@router.get("/awards/holders.csv")
@few(EXPORTS)
@least(Role.READER)
async def holders_csv(page: Opened) -> Response:
    """All badges as CSV, in the order of the list; the share is of the users active lately."""
    found = await _lines(page)
    if found is None:
        raise unavailable("Holders are being counted.", seconds=5)
    names = (
        "badge_key", "label", "family", "status", "holders", "active_holders", "active_users", "active_days",
        "shares_counted_at", "awards_today", "awards_28_days", "usual_day", "spike_today",
    )  # fmt: skip
    lines = (
        (
            line.badge.key, line.badge.label, line.badge.family, line.badge.status, line.users,
            *(("",) * 4 if (share := line.share) is None else
              (share.holders, share.users, share.days, format_instant(share.counted_us))),
            line.days[-1] if line.days else 0, sum(line.days), round(line.usual, 2), "yes" if line.spiking else "no",
        )
        for line in found
    )  # fmt: skip
    return await csv_answer("holders.csv", names, lines)


async def _lines(page: Page) -> list[Line] | None:
    """All badges, those with a spike first, then the most held; None while they are counted first."""
    counts = await page.desk.counts()
    if counts is None:
        return None
    lines = [_line(badge, counts.get(badge.key)) for badge in page.badges.values()]
    return sorted(lines, key=lambda line: (not line.spiking, -line.users, line.badge.key))


@router.get("/awards/holders/{key}")
@least(Role.READER)
async def badge_holders(page: Opened, key: str) -> Response:
    """One badge's days as a chart and as a table."""
    badge = page.badges.get(key)
    if badge is None:
        return await no_badge(page, key)
    counts = await page.desk.counts()
    line = _line(badge, None if counts is None else counts.get(key))
    first = page.desk.now() // DAY - len(line.days) + 1
    band = _band(await page.desk.trend(key))
    shown = [((first + at) * DAY, count, *band.get(first + at, (None, None))) for at, count in enumerate(line.days)]
    chart = {
        "x": [at // SECOND for at, *_ in shown],
        "series": [
            {"label": "usual, most", "y": [high for *_, high in shown], "color": "--muted", "thin": True},
            {"label": "usual, least", "y": [low for *_, low, _ in shown], "color": "--muted", "thin": True},
            {"label": "awards a day", "y": list(line.days)},
            *([] if not line.spikes else [{"label": "spike", "y": _alone(line), "color": "--warn", "marks": True}]),
        ],
        "band": [1, 2],
    }
    return await page.show(
        "badge_holders.html",
        title=badge.label or key,
        section="Catalog",
        badge=badge,
        tab="holders",
        line=line,
        counted=counts is not None,
        days=shown[::-1],
        chart=in_script(chart),
        day_text=_day,
    )


def _band(trend: Any | None) -> dict[int, tuple[float, float]]:
    """Between which figures each day (since 1970) is usual, by the four weeks before it."""
    if trend is None:
        return {}
    return {trend.first_day + at: both for at, both in enumerate(zip(trend.low, trend.high, strict=True))}


def _day(us: int) -> str:
    return instant_text(us)[:10]


def _alone(line: Line) -> list[int | None]:
    """The days that were spikes, no other."""
    return [count if at in line.spikes else None for at, count in enumerate(line.days)]


def _line(badge: Badge, count: Any | None) -> Line:
    if count is None:
        return Line(badge, 0, (), 0.0, ())
    before = count.days[:-1]
    usual = count.usual if count.usual is not None else sum(before) / len(before) if before else 0.0
    return Line(badge, count.users, tuple(count.days), usual, count.spikes, count.share)
