"""Quarantine: awards that a breaker holds back, to be looked at, released or dropped."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, Wrong, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page, slug
from worker.admin.panel.phrasing import plural
from worker.admin.panel.working import working_of
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router

#: So long a page waits for a release, seconds; what takes longer goes on without it.
_PATIENCE: Final = 3.0
#: So many awards are shown before they are released.
_SAMPLES: Final = 10

router = guarded_router(prefix=ROOT, include_in_schema=False)


@router.get("/awards/quarantine")
@least(Role.READER)
async def quarantine(page: Opened, badge: str = "", after: str = "") -> Response:
    """What is held, by badge and one by one."""
    return await _list(page, badge, after)


@router.post("/awards/quarantine")
@least(Role.SUPPORT, accepts=FORM)
async def settle(request: Request, page: Opened) -> Response:
    """Release or drop awards of one badge: all of them, or those of the users that were chosen."""
    form = await request.form()
    badge, verb, note = (str(form.get(name) or "").strip()[:2000] for name in ("badge", "verb", "note"))
    users = [str(one)[:200] for one in form.getlist("user")][:PAGE]
    chosen = str(form.get("which") or "") == "chosen"
    wrong = []
    if verb not in ("release", "drop"):
        wrong.append(Wrong("Choose what to do: release or drop."))
    if not note:
        wrong.append(Wrong("A note must say why.", "f-note", "It stands in the audit log and with each award."))
    if chosen and not users:
        wrong.append(Wrong("No award is chosen.", "f-which", "Choose some in the list, or all."))
    if verb == "drop" and str(form.get("confirm") or "").strip() != badge:
        wrong.append(Wrong("A drop is for good: type the badge's key.", "f-confirm", f"Write {badge}."))
    if wrong:
        return await _list(page, badge, "", wrong)
    if verb == "release" and not form.get("sure"):
        return await _confirm(page, badge, note, users if chosen else None)
    work = page.desk.settle_held(verb, badge=badge, users=users if chosen else None, actor=page.actor.name, note=note)
    asked = ("settle", verb, badge, tuple(users) if chosen else None, page.actor.name, note)
    word = "released" if verb == "release" else "dropped"
    try:
        done = await working_of(request).answer(asked, work, seconds=_PATIENCE)
        said = f"{plural(done, 'award')} {word}."
    except TimeoutError:
        said = (
            f"They are being {word}: the count below goes down until it is done. Should it stop before, {verb} again: "
            f"the rest is still held, and each award is {word} once."
        )
    return page.go(f"/awards/quarantine?badge={slug(badge)}", said)


async def _confirm(page: Page, badge: str, note: str, users: list[str] | None) -> Response:
    """What a release would give, before it does: how many, and ten of them."""
    reads = page.desk.reads
    held = {one.badge_key: one.awards for one in await reads.panel_held_back()}
    samples = await reads.quarantined(badge_key=badge, users=users, limit=_SAMPLES)
    return await page.show(
        "release.html",
        title="Release awards",
        section="Awards",
        key=badge,
        note=note,
        users=users,
        count=held.get(badge, 0),
        samples=samples,
    )


@router.get("/_/awards/quarantine")
@least(Role.READER)
async def held(request: Request, page: Opened, badge: str = "") -> Response:
    """How much is held, looked at again every five seconds."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/awards/quarantine?{request.url.query}", 303)
    counts = await page.desk.reads.panel_held_back()
    return page.part("quarantine_counts.html", counts=counts, key=badge)


async def _list(page: Page, badge: str, after: str, wrong: list[Wrong] | None = None) -> Response:
    reads = page.desk.reads
    counts = await reads.panel_held_back()
    key = badge or (counts[0].badge_key if counts else "")
    user, _, context = after[:500].replace("\0", "").partition("~")
    found: list[Any] = []
    if key:
        start = (key, user, context) if user else ("", "", "")
        found = list(await reads.quarantined(badge_key=key, after=start, limit=PAGE + 1))
    last = found[PAGE - 1].award if len(found) > PAGE else None
    return await page.show(
        "quarantine.html",
        title="Quarantine",
        section="Awards",
        faults=wrong,
        counts=counts,
        key=key,
        count=next((one.awards for one in counts if one.badge_key == key), 0),
        held=found[:PAGE],
        older=None if last is None else f"{last.user_id}~{last.context}",
        newer=bool(after),
    )
