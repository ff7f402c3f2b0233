"""A user's rights: everything held about them as a file, and its end, which is typed out and noted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Form
from starlette.responses import Response, StreamingResponse

from worker.admin.admission import check_room
from worker.admin.panel.addresses import Named
from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.page import Opened, Page
from worker.admin.panel.phrasing import plural
from worker.admin.panel.tables import EXPORTS
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.errors import OperatorError

router = guarded_router(prefix=ROOT, include_in_schema=False)

_MOST_NOTE: Final = 1_000


@router.get("/users/{user_id:path}/export.json")
@least(Role.SUPPORT)
async def export(page: Opened, user_id: Named) -> Response:
    """All that is held about a user, as one JSON object; the log of changes says who took it."""
    check_room(EXPORTS, page.actor)
    pieces = aiter(page.desk.export(user_id, actor=page.actor.name))
    try:
        first = await anext(pieces)
    except OperatorError as error:
        return await _unknown(page, error)

    async def written() -> AsyncIterator[str]:
        with EXPORTS.joined(page.actor.key):
            yield first
            async for piece in pieces:
                yield piece

    headers = {
        "Content-Disposition": 'attachment; filename="user.json"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return StreamingResponse(written(), media_type="application/json", headers=headers)


@router.get("/users/{user_id:path}/erase")
@least(Role.ADMIN)
async def erase_form(page: Opened, user_id: Named) -> Response:
    """What an erasure removes and leaves, and its form."""
    return await _form(page, user_id)


@router.post("/users/{user_id:path}/erase")
@least(Role.ADMIN, accepts=FORM)
async def erase(
    page: Opened, user_id: Named, confirm: Annotated[str, Form()] = "", note: Annotated[str, Form()] = ""
) -> Response:
    """Remove everything held about the user; the log of changes keeps a hash, who did it and why."""
    wrong = []
    if confirm != user_id:
        wrong.append(Wrong("An erasure cannot be undone: type the user's id.", "f-confirm", f"Write {user_id}."))
    if not note.strip():
        wrong.append(Wrong("A note must say why.", "f-note", "It is kept with the erasure, so it should name nobody."))
    elif len(note) > _MOST_NOTE or not note.strip().isprintable():
        wrong.append(Wrong(f"The note is one line of at most {_MOST_NOTE:,} characters.", "f-note", "Shorten it."))
    if wrong:
        return await _form(page, user_id, note, wrong)
    try:
        found = await page.desk.erase(user_id, actor=page.actor.name, note=note.strip())
    except OperatorError as error:
        return await _unknown(page, error)
    return page.go("/users", f"The user was erased: {plural(sum(found.rows.values()), 'row')} removed.")


async def _form(page: Page, user_id: str, note: str = "", wrong: list[Wrong] | None = None) -> Response:
    return await page.show(
        "erase.html",
        title=f"Erase {user_id}",
        section="Users",
        faults=wrong,
        user_id=user_id,
        note=note,
    )


async def _unknown(page: Page, error: OperatorError) -> Response:
    return await page.missing(error.message, "Ids are exact.", section="Users", link="/users", act="Users")
