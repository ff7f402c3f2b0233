"""Home: is it well, and if not, where to go; the trend of awards; the search that leads to what a person types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, in_script, is_fragment
from worker.admin.panel.page import Opened, Page, slug
from worker.admin.panel.phrasing import COUNTED, instant_text, many, plural, span
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.events.instants import DAY, SECOND

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: Limits of the alert rules: seconds an outbox row may wait, seconds without progress while records wait.
_OUTBOX_SECONDS: Final = 60.0
_STANDING_SECONDS: Final = 60.0
#: So many silent triggers are named one by one.
_MOST_SILENT: Final = 5
#: Of a trigger that is silent, or was never seen.
_SILENT: Final = ("silent", "never_seen")


#: Kinds of alarms, worst first.
_WORST: Final = ("bad", "held", "warn")


@dataclass(frozen=True, slots=True)
class Alarm:
    """One line of what needs attention; the first one decides what the whole is called."""

    word: str
    kind: str
    text: str
    since_us: int | None
    path: str
    act: str


@router.get("/")
@least(Role.READER)
async def home(page: Opened) -> Response:
    """The page."""
    return await page.show("home.html", title="Home", section="Home", live=True, **await _state(page))


@router.get("/_/health")
@least(Role.READER)
async def health(request: Request, page: Opened) -> Response:
    """What is looked at again every five seconds."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/", 303)
    return page.part("home_state.html", **await _state(page))


@router.get("/find")
@least(Role.READER)
async def find(page: Opened, q: str = "") -> Response:
    """To the badge or event type of this name, else to the users whose ids begin so."""
    text = q.strip()[:200]
    if text in page.badges:
        return RedirectResponse(f"{ROOT}/badges/{slug(text)}", 303)
    if page.catalog is not None and text in page.catalog.dictionary.types:
        return RedirectResponse(f"{ROOT}/catalog?trigger={slug(text)}", 303)
    wanted = text.casefold()
    named = [badge.key for badge in page.badges.values() if badge.label.casefold() == wanted] if wanted else []
    if named:
        return RedirectResponse(f"{ROOT}/badges/{slug(named[0])}", 303)
    if wanted and any(wanted in badge.label.casefold() or wanted in badge.key for badge in page.badges.values()):
        users = await page.desk.reads.panel_users(text, limit=1)
        if not users:
            return RedirectResponse(f"{ROOT}/catalog?q={slug(text)}", 303)
    return RedirectResponse(f"{ROOT}/users?q={slug(text)}", 303)


async def _state(page: Page) -> dict[str, Any]:
    desk, now = page.desk, page.desk.now()
    reads = desk.reads
    group = await reads.panel_group(desk.group_id)
    awards = await reads.panel_count_awards(now - DAY)
    letters = await reads.panel_count_letters(now - DAY)
    held = await reads.panel_held_back()
    waiting, oldest = await reads.panel_unpublished()
    builds = await reads.panel_builds(1)
    (triggers, _), lag, trend = await asyncio.gather(desk.coverage(), desk.lag(), desk.trend())
    silent = [one for one in triggers if one.state in _SILENT]
    runs = await reads.newest_runs()
    alarms = [
        *_of_workers(page, group, lag),
        *_of_outbox(page, waiting, oldest),
        *_of_held(page, held),
        *_of_runs(runs),
        *_of_letters(letters),
        *_of_triggers(silent),
    ]
    alarms.sort(key=lambda one: _WORST.index(one.kind))
    return {
        "group": group,
        "version": None if page.catalog is None else page.catalog.version,
        "chart": charted(trend),
        "lag": lag,
        "worst": alarms[0] if alarms else None,
        "alarms": alarms,
        "awards": many(awards, COUNTED),
        "usual": None if trend is None else round(trend.usual),
        "letters_day": many(letters, COUNTED),
        "held": many(sum(one.awards for one in held), COUNTED),
        "silent": len(silent),
        "waiting": many(waiting, COUNTED),
        "oldest_waits": waiting > 0,
        "oldest": oldest,
        "builds": [one for one in builds if one.done_us is None],
        "runs": runs,
        "now": now,
        "newest": await reads.panel_awards(since_us=now - DAY, limit=8),
    }


def _of_workers(page: Page, group: Any, lag: Any | None) -> Iterator[Alarm]:
    path, act = "/settings/connections", "Connections"
    if group.workers == 0:
        yield Alarm(
            "down", "bad", "No worker reads the event topics. Start one: badges worker", group.moved_us, path, act
        )
    elif group.owned < group.partitions:
        text = f"{group.partitions - group.owned} of {group.partitions} partitions have no worker."
        yield Alarm("late", "warn", text, group.moved_us, path, act)
    elif lag is not None and lag.seconds > _STANDING_SECONDS:
        text = f"{plural(lag.records, 'record')} wait to be read, and none was for {span(lag.seconds)}."
        yield Alarm("late", "bad", text, page.desk.now() - int(lag.seconds * SECOND), path, act)
    if page.catalog is None:
        yield Alarm("missing", "warn", "No catalog rules yet, so nothing is awarded.", None, "/catalog", "Catalog")


def _of_outbox(page: Page, waiting: int, oldest: float) -> Iterator[Alarm]:
    if waiting and oldest > _OUTBOX_SECONDS:
        text = f"{many(waiting, COUNTED)} messages wait to be published, the oldest for {span(oldest)}."
        since = page.desk.now() - int(oldest * SECOND)
        yield Alarm("late", "warn", text, since, "/settings/connections", "Connections")


def _of_held(page: Page, held: Sequence[Any]) -> Iterator[Alarm]:
    for one in held:
        badge = page.badges.get(one.badge_key)
        text = f"{badge.label if badge else one.badge_key}: {many(one.awards)} held back"
        path = f"/awards/quarantine?badge={slug(one.badge_key)}"
        yield Alarm("held", "held", text, one.since_us, path, "Review")


def _of_runs(runs: Sequence[Any]) -> Iterator[Alarm]:
    for run in runs:
        if run.outcome == "failed":
            yield Alarm("failed", "bad", f"The job {run.job} failed: {run.note}", run.started_us, "/jobs", "Jobs")


def _of_letters(letters: int) -> Iterator[Alarm]:
    if letters:
        text = f"{many(letters, COUNTED)} dead {'letter' if letters == 1 else 'letters'} in 24 hours"
        yield Alarm("dead letter", "bad", text, None, "/dead-letters", "Look")


def _of_triggers(silent: Sequence[Any]) -> Iterator[Alarm]:
    for one in silent[:_MOST_SILENT]:
        word = "silent" if one.state == "silent" else "never seen"
        yield Alarm(word, "warn", one.sentence, one.last_us, "/catalog/coverage", "Coverage")
    if len(silent) > _MOST_SILENT:
        text = f"{len(silent) - _MOST_SILENT} more triggers are silent or were never seen"
        yield Alarm("silent", "warn", text, None, "/catalog/coverage", "Coverage")


def charted(trend: Any | None) -> dict[str, Any] | None:
    """The chart of a trend: the awards of each day over the usual band, and its figures; None where there are none."""
    if trend is None or not any(trend.awards):
        return None
    starts = [(trend.first_day + at) * DAY for at in range(len(trend.awards))]
    shown = {
        "x": [at // SECOND for at in starts],
        "series": [
            {"label": "usual, most", "y": list(trend.high), "color": "--muted", "thin": True},
            {"label": "usual, least", "y": list(trend.low), "color": "--muted", "thin": True},
            {"label": "awards", "y": list(trend.awards)},
        ],
        "band": [1, 2],
    }
    rows = [
        (instant_text(at)[:10], count, low, high)
        for at, count, low, high in zip(starts, trend.awards, trend.low, trend.high, strict=True)
    ]
    return {"script": in_script(shown), "rows": rows[::-1]}
