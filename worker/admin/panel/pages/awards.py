"""The feed: what was given and taken back within 24 hours, the newest first, live; and as CSV."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page, triggers_of
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.roles import Role, least
from worker.admin.routes import few, guarded_router
from worker.events import format_instant
from worker.events.instants import DAY

router = guarded_router(prefix=ROOT, include_in_schema=False)

ORIGINS: Final = ("live", "late", "backfill", "cron", "manual")
#: Rows of a CSV; what is older is fetched by narrower filters.
_MOST_ROWS: Final = 50_000


@router.get("/awards")
@least(Role.READER)
async def feed(page: Opened, trigger: str = "", badge: str = "", origin: str = "", before: str = "") -> Response:
    """The list."""
    values = await _rows(page, trigger, badge, origin, before)
    return await page.show(
        "awards.html",
        title="Awards",
        section="Awards",
        live=not before,
        triggers=triggers_of(page),
        keys=sorted(page.badges),
        origins=ORIGINS,
        **values,
    )


@router.get("/_/awards")
@least(Role.READER)
async def feed_rows(request: Request, page: Opened, trigger: str = "", badge: str = "", origin: str = "") -> Response:
    """The rows alone, fetched by an open page when the stream of awards says that there is news."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/awards?{request.url.query}", 303)
    return page.part("awards_rows.html", **await _rows(page, trigger, badge, origin, ""))


@router.get("/awards.csv")
@few(EXPORTS)
@least(Role.READER)
async def feed_csv(page: Opened, trigger: str = "", badge: str = "", origin: str = "") -> Response:
    """The filtered list of 24 hours as CSV, in UTC."""
    found = await page.desk.reads.panel_awards(
        since_us=page.desk.now() - DAY,
        badges=[badge] if badge else None,
        trigger=trigger or None,
        origin=origin or None,
        limit=_MOST_ROWS,
    )
    lines = (
        (
            format_instant(one.logged_us), one.user_id, one.badge_key, one.context, format_instant(one.awarded_us),
            one.kind, one.origin, one.trigger_type or "", one.reason or "",
        )
        for one in found
    )  # fmt: skip
    names = ("logged_at", "user_id", "badge_key", "context", "awarded_at", "kind", "origin", "trigger", "note")
    return await csv_answer("awards.csv", names, lines)


async def _rows(page: Page, trigger: str, badge: str, origin: str, before: str) -> dict[str, Any]:
    now = page.desk.now()
    found = await page.desk.reads.panel_awards(
        since_us=now - DAY,
        before=_key(before),
        badges=[badge] if badge else None,
        trigger=trigger or None,
        origin=origin or None,
        limit=PAGE + 1,
    )
    last = found[PAGE - 1] if len(found) > PAGE else None
    return {
        "given": {"trigger": trigger, "badge": badge, "origin": origin},
        "awards": found[:PAGE],
        "older": None if last is None else f"{last.logged_us}~{last.sequence}~{last.user_id}",
        "newer": bool(before),
        "filtered": bool(trigger or badge or origin),
    }


def _key(text: str) -> tuple[int, str, int] | None:
    """The key of a page; a forged one begins at the top."""
    at, _, rest = text.partition("~")
    sequence, _, user_id = rest.partition("~")
    if not (at.isascii() and at.isdigit() and sequence.isascii() and sequence.isdigit() and user_id):
        return None
    if len(at) > 17 or len(sequence) > 18 or "\0" in user_id:
        return None
    return int(at), user_id[:200], int(sequence)
