"""Home: is it well, and if not, where to go; and the search that leads to what a person types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, is_fragment
from worker.admin.panel.page import Opened, Page, slug
from worker.admin.panel.phrasing import COUNTED, many, span
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.events.instants import DAY, SECOND

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: Limits of the alert rules: seconds an outbox row may wait, seconds without progress while partitions are owned.
_OUTBOX_SECONDS = 60.0


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
    alarms = list(_alarms(page, group, letters, held, waiting, oldest))
    worst = alarms[0] if alarms else None
    return {
        "group": group,
        "worst": worst,
        "alarms": alarms,
        "awards": many(awards, COUNTED),
        "letters_day": many(letters, COUNTED),
        "held": many(sum(one.awards for one in held), COUNTED),
        "waiting": many(waiting, COUNTED),
        "oldest_waits": waiting > 0,
        "oldest": oldest,
        "builds": [one for one in builds if one.done_us is None],
        "runs": await _last_runs(page),
        "now": now,
        "newest": await reads.panel_awards(since_us=now - DAY, limit=8),
    }


async def _last_runs(page: Page) -> list[Any]:
    """The newest run of each scheduled job, of the newest runs."""
    newest: dict[str, Any] = {}
    for run in await page.desk.reads.job_runs(limit=20):
        newest.setdefault(run.job, run)
    return list(newest.values())


def _alarms(page: Page, group: Any, letters: int, held: Any, waiting: int, oldest: float) -> list[Alarm]:
    found = []
    if group.workers == 0:
        text = "No worker reads the event topics. Start one: badges worker"
        found.append(Alarm("down", "bad", text, group.moved_us, "/settings/connections", "Connections"))
    elif group.owned < group.partitions:
        text = f"{group.partitions - group.owned} of {group.partitions} partitions have no worker."
        found.append(Alarm("late", "warn", text, group.moved_us, "/settings/connections", "Connections"))
    if page.catalog is None:
        text = "No catalog rules yet, so nothing is awarded."
        found.append(Alarm("missing", "warn", text, None, "/catalog", "Catalog"))
    if waiting and oldest > _OUTBOX_SECONDS:
        text = f"{many(waiting, COUNTED)} messages wait to be published, the oldest for {span(oldest)}."
        since = page.desk.now() - int(oldest * SECOND)
        found.append(Alarm("late", "warn", text, since, "/settings/connections", "Connections"))
    for one in held:
        badge = page.badges.get(one.badge_key)
        text = f"{badge.label if badge else one.badge_key}: {many(one.awards)} held back"
        path = f"/awards/quarantine?badge={slug(one.badge_key)}"
        found.append(Alarm("held", "held", text, one.since_us, path, "Review"))
    if letters:
        text = f"{many(letters, COUNTED)} dead letters in 24 hours"
        found.append(Alarm("dead letter", "bad", text, None, "/dead-letters", "Look"))
    return found
