"""Users: what a person has and how far they are, why they do not have a badge, and their history as CSV."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.addresses import Named, user_address
from worker.admin.panel.frame import ROOT, Wrong, is_fragment, zone_named, zone_of
from worker.admin.panel.page import PAGE, Opened, Page, slug
from worker.admin.panel.phrasing import instant_text
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.panel.working import PATIENCE, working_of
from worker.admin.problems import Problem
from worker.admin.roles import Role, least
from worker.admin.routes import few, guarded_router
from worker.errors import BadgesError
from worker.events import format_instant, parse_instant

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: Awards and steps shown at once on a user's page.
_SHOWN: Final = 50
_MOST_ROWS: Final = 50_000


#: A log of more events is read by the part that follows the page.
_AT_ONCE: Final = 2_000


@router.get("/users")
@least(Role.READER)
async def users(page: Opened, q: str = "", after: str = "") -> Response:
    """Users whose id begins with what is typed."""
    text = q.strip()[:200]
    found = [] if "\0" in text + after else await page.desk.reads.panel_users(text, after=after[:200], limit=PAGE + 1)
    return await page.show(
        "users.html",
        title="Users",
        section="Users",
        q=text,
        users=found[:PAGE],
        older=found[PAGE - 1].user_id if len(found) > PAGE else None,
    )


@router.get("/users.csv")
@few(EXPORTS)
@least(Role.READER)
async def users_csv(page: Opened, q: str = "") -> Response:
    """Users whose id begins with what is typed as CSV, in UTC."""
    text = q.strip()[:200]
    found = [] if "\0" in text else await page.desk.reads.panel_users(text, limit=_MOST_ROWS + 1)
    lines = (
        (one.user_id, "" if one.newest_us is None else format_instant(one.newest_us), one.built_version or "")
        for one in found[:_MOST_ROWS]
    )
    cut = f"More than {_MOST_ROWS:,} users match: the rest is left out." if len(found) > _MOST_ROWS else ""
    return await csv_answer("users.csv", ("user_id", "newest_event_at", "built_version"), lines, cut=cut)


@router.get("/why")
@least(Role.SUPPORT)
async def why_of(page: Opened, user: str = "", badge: str = "") -> Response:
    """From a form to the page it names."""
    return page.go(user_address(user.strip()[:200], "why", badge[:100]))


@router.get("/_/users/{user_id:path}")
@least(Role.READER)
async def user_part(request: Request, page: Opened, user_id: Named) -> Response:
    """All of a user, once it is worked out."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}{user_address(user_id)}", 303)
    found = await _overview(request, page, user_id, seconds=None)
    if found is None:
        raise Problem(404, f"No event and no award for {user_id[:200]}.")
    return page.part("user_body.html", **_whole(request, page, user_id, found))


@router.get("/users/{user_id:path}/history")
@least(Role.READER)
async def history(page: Opened, user_id: Named, before: int | None = None) -> Response:
    """What was given and taken back, line by line."""
    found = await page.desk.reads.panel_user_log(user_id[:200], before=before, limit=PAGE + 1)
    return await page.show(
        "user_history.html",
        title=f"History of {user_id}",
        section="Users",
        user_id=user_id,
        lines=found[:PAGE],
        older=found[PAGE - 1].sequence if len(found) > PAGE else None,
    )


@router.get("/users/{user_id:path}/history.csv")
@few(EXPORTS)
@least(Role.READER)
async def history_csv(page: Opened, user_id: Named) -> Response:
    """The history as CSV, in UTC."""
    found = await page.desk.reads.panel_user_log(user_id[:200], limit=_MOST_ROWS)
    names = (
        "sequence", "badge_key", "context", "kind", "awarded_at", "source", "origin", "trigger", "trigger_id",
        "catalog_version", "note", "logged_at",
    )  # fmt: skip
    lines = (
        (
            one.sequence, one.badge_key, one.context, one.kind, format_instant(one.awarded_us), one.source, one.origin,
            one.trigger_type or "", one.trigger_id or "", one.catalog_version, one.reason or "",
            format_instant(one.logged_us),
        )
        for one in found
    )  # fmt: skip
    return await csv_answer("history.csv", names, lines)


@router.get("/users/{user_id:path}/why/{key}")
@least(Role.SUPPORT)
async def why(
    request: Request,
    page: Opened,
    user_id: Named,
    key: str,
    at: str = "",
    context: str = "",
    nearest: str = "",
    whole: str = "",
) -> Response:
    """Why a user has a badge or not, as of an instant."""
    wrong: list[Wrong] = []
    at_us = moment(at, request, "why-at", wrong)
    found: Any = None
    late = False
    asked = (user_id, key, at_us, context, nearest)
    work = page.desk.why(user_id, key, at_us=at_us, context=context or None, closest=bool(nearest))
    seconds = None if whole or is_fragment(request) else PATIENCE
    try:
        found = await working_of(request).answer(asked, work, seconds=seconds)
    except TimeoutError:
        late = True
    except BadgesError as error:
        wrong.append(Wrong(error.message, help=f"{error.help}." if error.help else ""))
    badge = page.badges.get(key)
    values = {
        "user_id": user_id,
        "key": key,
        "badge": badge,
        "found": found,
        "at": at,
        "context": context,
        "closest": bool(nearest),
        "late": late,
        "us": _us,
    }
    if is_fragment(request):
        return page.part("why_tree.html", **values)
    label = badge.label or key if badge is not None else key
    return await page.show(
        "why.html", title=f"{label}: why for {user_id}", section="Users", faults=wrong,
        status=404 if found is None and not late else 200, **values,
    )  # fmt: skip


# after every other address below it: a user's id may have slashes
@router.get("/users/{user_id:path}")
@least(Role.READER)
async def user(request: Request, page: Opened, user_id: Named, whole: str = "") -> Response:
    """All of a user; of one with a long log first the awards, the rest as a part that follows (or `whole`)."""
    # what is begun now would only slow the page down that does not wait for it
    late = not whole and await page.desk.reads.panel_long(user_id[:200], _AT_ONCE)
    found = None
    if not late:
        try:
            found = await _overview(request, page, user_id, seconds=None if whole else PATIENCE)
        except TimeoutError:
            late = True
    if late:
        awards = await page.desk.reads.panel_user_awards(user_id[:200], limit=_SHOWN + 1)
        return await page.show("user.html", title=user_id, section="Users", user_id=user_id, found=None, awards=awards)
    if found is None:
        return await _nobody(page, user_id)
    return await page.show("user.html", title=user_id, section="Users", **_whole(request, page, user_id, found))


async def _overview(request: Request, page: Page, user_id: str, *, seconds: float | None) -> Any:
    working = working_of(request)
    return await working.answer(("user", user_id), page.desk.overview(user_id), seconds=seconds)


def _whole(request: Request, page: Page, user_id: str, found: Any) -> dict[str, Any]:
    return {
        "there": _there(request, found["zone"]),
        "now": page.desk.now(),
        "user_id": user_id,
        "found": found,
        "awards": found["awards"][:_SHOWN],
        "steps": found["progress"][:_SHOWN],
        "shown": _SHOWN,
        "us": _us,
    }


def _there(request: Request, name: str) -> Callable[[int | None], str]:
    """What the clocks of a user's zone show at an instant; "" where those of the reader's show the same."""
    zone, reader = zone_named(name), zone_of(request) or ZoneInfo("UTC")

    def shown(us: int | None) -> str:
        text = "" if us is None or zone is None else instant_text(us, zone)
        return "" if us is None or text == instant_text(us, reader) else text

    return shown


async def _nobody(page: Page, user_id: str) -> Response:
    return await page.missing(
        f"No event and no award for {user_id[:200]}",
        "Ids are exact; did the app send another? A look at users whose ids begin alike may tell.",
        section="Users",
        link=f"/users?q={slug(user_id[:3])}",
        act="Users with ids like it",
    )


def moment(text: str, request: Request, field: str, wrong: list[Wrong]) -> int | None:
    """An instant as typed into a field, None where nothing is; what is none is one thing more that is `wrong`."""
    if not text.strip():
        return None
    try:
        return _instant(text, request)
    except ValueError as error:
        wrong.append(Wrong(f"{error}.", field, "Write 2026-03-01T12:00:00Z."))
        return None


def _instant(text: str, request: Request) -> int:
    """RFC 3339, or without an offset in the reader's zone. Raises ValueError with a sentence."""
    given = text.strip()[:60]
    try:
        return parse_instant(given)
    except ValueError:
        try:
            local = datetime.fromisoformat(given)
        except ValueError:
            raise ValueError(f"{given!r} is no instant") from None
        if local.tzinfo is None:
            local = local.replace(tzinfo=zone_of(request) or UTC)
        if local.year < 1970:
            raise ValueError(f"{given!r} lies before 1970") from None
        return int(local.timestamp()) * 1_000_000


def _us(text: str | None) -> int | None:
    """The microseconds of an instant as the API writes it."""
    return None if text is None else parse_instant(text)
