"""Settings: tokens, the log of changes, and how the connections stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Form, Request
from starlette.responses import RedirectResponse, Response

from worker.admin.credentials import digest, new_token
from worker.admin.panel.frame import ROOT, Wrong, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.panel.working import PATIENCE, working_of
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import few, guarded_router
from worker.errors import OperatorError
from worker.events import format_instant

router = guarded_router(prefix=ROOT, include_in_schema=False)

_MOST_ROWS: Final = 50_000


@router.get("/settings")
@least(Role.READER)
async def settings(page: Opened) -> Response:
    """What there is."""
    return await page.show("settings.html", title="Settings", section="Settings")


@router.get("/settings/connections")
@least(Role.READER)
async def connections(request: Request, page: Opened, whole: str = "") -> Response:
    """What `badges doctor` finds, as a part that follows (or `whole`); workers, outbox, build of the catalog."""
    reads = page.desk.reads
    waiting, oldest = await reads.panel_unpublished()
    return await page.show(
        "connections.html",
        title="Connections",
        section="Settings",
        group=await reads.panel_group(page.desk.group_id),
        group_id=page.desk.group_id,
        waiting=waiting,
        oldest=oldest,
        builds=await reads.panel_builds(),
        topics=await reads.panel_topics(),
        checks=await _checked(request, page, seconds=None if whole else PATIENCE),
    )


@router.get("/_/settings/connections")
@least(Role.READER)
async def checks(request: Request, page: Opened) -> Response:
    """What `badges doctor` finds, once all is checked."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/settings/connections", 303)
    return page.part("checks.html", checks=await _checked(request, page, seconds=None))


async def _checked(request: Request, page: Page, *, seconds: float | None) -> tuple[Sequence[Any], str] | None:
    """Everything is checked anew, but once for all who ask meanwhile; None where it takes longer than `seconds`."""
    try:
        return await working_of(request).answer(("connections",), page.desk.checks(), seconds=seconds)
    except TimeoutError:
        return None


@router.get("/settings/tokens")
@least(Role.ADMIN)
async def tokens(page: Opened) -> Response:
    """The tokens."""
    return await _tokens(page)


@router.post("/settings/tokens")
@least(Role.ADMIN, accepts=FORM)
async def create(page: Opened, name: Annotated[str, Form()] = "", role: Annotated[str, Form()] = "") -> Response:
    """Make a token; its text is shown once."""
    given = name.strip()
    if not 0 < len(given) <= 100 or not given.isprintable():
        return await _tokens(page, wrong=Wrong("A token's name has 1 to 100 characters.", "f-name"))
    if role not in set(Role):
        return await _tokens(page, wrong=Wrong("This is no role.", "f-role", "Choose one of the list."))
    text = new_token()
    try:
        await page.desk.reads.create_token(given, role, digest(text), actor=page.actor.name)
    except OperatorError as error:
        return await _tokens(page, wrong=Wrong(error.message, "f-name", f"{error.help or ''}"))
    return await _tokens(page, made=text, name=given)


@router.post("/settings/tokens/{number}/revoke")
@least(Role.ADMIN, accepts=FORM)
async def revoke(page: Opened, number: int) -> Response:
    """End a token."""
    found = await page.desk.reads.revoke_token(number, actor=page.actor.name)
    said = f"The token {found.name} ends within seconds." if found is not None else "It was revoked already."
    return page.go("/settings/tokens", said)


@router.get("/settings/audit")
@least(Role.SUPPORT)
async def audit(page: Opened, actor: str = "", action: str = "", before: int | None = None) -> Response:
    """Who changed what, newest first."""
    found = await page.desk.reads.changes(
        before=before, actor=actor[:200] or None, action=action[:200] or None, limit=PAGE + 1
    )
    return await page.show(
        "audit.html",
        title="Audit log",
        section="Settings",
        changes=found[:PAGE],
        given={"actor": actor, "action": action},
        older=found[PAGE - 1].id if len(found) > PAGE else None,
        filtered=bool(actor or action),
    )


@router.get("/settings/audit.csv")
@few(EXPORTS)
@least(Role.SUPPORT)
async def audit_csv(page: Opened, actor: str = "", action: str = "") -> Response:
    """The filtered log as CSV, in UTC."""
    found = await page.desk.reads.changes(actor=actor[:200] or None, action=action[:200] or None, limit=_MOST_ROWS)
    lines = (
        (one.id, format_instant(one.at_us), one.actor, one.action, one.subject, one.before, one.after, one.note)
        for one in found
    )
    names = ("id", "at", "actor", "action", "subject", "before", "after", "note")
    return await csv_answer("audit.csv", names, [["" if cell is None else cell for cell in line] for line in lines])


async def _tokens(page: Page, *, made: str = "", name: str = "", wrong: Wrong | None = None) -> Response:
    return await page.show(
        "tokens.html",
        title="Tokens",
        section="Settings",
        faults=None if wrong is None else (wrong,),
        tokens=await page.desk.reads.tokens(),
        roles=[role.value for role in Role],
        made=made,
        name=name,
    )
