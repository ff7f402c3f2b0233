"""Grant and revoke by hand: with a note, confirmed, sent to the workers as an event; one line in the audit log."""

from __future__ import annotations

import secrets
from typing import Annotated, Final, Literal

from fastapi import Form, Request
from starlette.responses import Response

from worker.admin.panel.addresses import Named, user_address
from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.page import Opened, Page
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.auditing import award_line, noted
from worker.control import NOTE_CHARACTERS, grant_added, grant_revoked
from worker.rules.by_hand import act_faults

#: Where each field of an act stands on the form; the user stands in the address.
_FIELDS: Final = {"badge_key": "f-badge", "context": "f-context", "note": "f-note"}

router = guarded_router(prefix=ROOT, include_in_schema=False)


@router.get("/users/{user_id:path}/grant")
@router.get("/users/{user_id:path}/revoke")
@least(Role.SUPPORT)
async def form(request: Request, page: Opened, user_id: Named, badge: str = "", context: str = "") -> Response:
    """The form of a grant or a revocation."""
    return await _form(page, _act(request), user_id, badge, context)


@router.post("/users/{user_id:path}/grant")
@router.post("/users/{user_id:path}/revoke")
@least(Role.SUPPORT, accepts=FORM)
async def send(
    request: Request,
    page: Opened,
    services: Asked,
    user_id: Named,
    badge: Annotated[str, Form()] = "",
    context: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
) -> Response:
    """Send it."""
    return await _send(page, services, _act(request), user_id, badge, context, note)


def _act(request: Request) -> str:
    """What the address says to do: grant or revoke."""
    return str(request.scope["path"]).rpartition("/")[2]


async def _send(page: Page, services: Asked, act: str, user_id: str, badge: str, context: str, note: str) -> Response:
    note, context = note.strip(), context.strip()
    wrong = []
    if len(note) > NOTE_CHARACTERS or len(context) > 200 or "\0" in note + context + user_id:
        wrong.append(Wrong("The note or the context is too long.", "f-note", "Shorten it."))
    if len(user_id) > 200:
        wrong.append(Wrong("There is no user of so long an id.", help="200 characters are the most."))
    if not wrong:
        known = await services.people.knows_user(user_id)
        faults = act_faults(page.badges, user_id, badge, context, note, gives=act == "grant", known=known)
        wrong += [Wrong(one.message, _FIELDS.get(one.field, ""), f"{one.help.capitalize()}.") for one in faults]
    if wrong:
        return await _form(page, act, user_id, badge, context, note, wrong)
    build = grant_added if act == "grant" else grant_revoked
    event = build(
        user_id,
        badge,
        note=note,
        actor=page.actor.name,
        id=f"panel:{secrets.token_hex(12)}",
        at_us=page.desk.now(),
        context=context,
    )
    action: Literal["grant.added", "grant.revoked"] = "grant.added" if act == "grant" else "grant.revoked"
    async with noted(services.store, award_line(page.actor.name, action, user_id, badge, context, note)):
        await page.desk.send([event])
    done = "The grant" if act == "grant" else "The revocation"
    return page.go(user_address(user_id), f"{done} was sent; a worker applies it within a second.")


async def _form(
    page: Page,
    act: str,
    user_id: str,
    badge: str,
    context: str,
    note: str = "",
    wrong: list[Wrong] | None = None,
) -> Response:
    found = page.badges.get(badge)
    return await page.show(
        "by_hand.html",
        title=f"{'Grant to' if act == 'grant' else 'Revoke from'} {user_id}",
        section="Users",
        faults=wrong,
        act=act,
        user_id=user_id,
        keys=sorted(page.badges),
        badge=found,
        given={"badge": badge, "context": context, "note": note},
    )
