"""Quarantine: awards that a breaker holds back, to be looked at, released or dropped."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, Wrong, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page, slug
from worker.admin.panel.phrasing import plural
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.panel.working import working_of
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import few, guarded_router
from worker.events import format_instant, json_text

#: So long a page waits for a release, seconds; what takes longer goes on without it.
_PATIENCE: Final = 3.0
#: So many awards are shown before they are released.
_SAMPLES: Final = 10
#: Rows of a CSV.
_MOST_ROWS: Final = 50_000

router = guarded_router(prefix=ROOT, include_in_schema=False)


@router.get("/awards/quarantine")
@least(Role.READER)
async def quarantine(page: Opened, badge: str = "", after: str = "") -> Response:
    """What is held, by badge and one by one."""
    return await _list(page, badge, after)


@router.get("/awards/quarantine.csv")
@few(EXPORTS)
@least(Role.READER)
async def quarantine_csv(page: Opened, badge: str = "") -> Response:
    """What is held of a badge, or of all, as CSV, in UTC."""
    found = await page.desk.reads.quarantined(badge_key=badge or None, limit=_MOST_ROWS + 1)
    names = (
        "badge_key", "user_id", "context", "awarded_at", "origin", "trigger", "trigger_id", "catalog_version", "reason",
        "held_since",
    )  # fmt: skip
    lines = (
        (
            one.award.badge_key, one.award.user_id, one.award.context, format_instant(one.award.awarded_us),
            one.award.origin, one.award.trigger_type or "", one.award.trigger_id or "", one.award.catalog_version,
            one.award.reason, format_instant(one.withheld_us),
        )
        for one in found[:_MOST_ROWS]
    )  # fmt: skip
    cut = f"More than {_MOST_ROWS:,} awards are held: the rest is left out." if len(found) > _MOST_ROWS else ""
    return await csv_answer("quarantine.csv", names, lines, cut=cut)


@router.post("/awards/quarantine")
@least(Role.SUPPORT, accepts=FORM)
async def settle(request: Request, page: Opened) -> Response:
    """Release or drop awards of one badge: all of them, or just those that were chosen."""
    form = await request.form()
    badge, verb, note = (str(form.get(name) or "").strip()[:2000] for name in ("badge", "verb", "note"))
    chosen = None
    if str(form.get("which") or "") == "chosen":
        chosen = sorted({place for text in form.getlist("award")[:PAGE] if (place := _place(str(text)))})
    wrong = []
    if verb not in ("release", "drop"):
        wrong.append(Wrong("Choose what to do: release or drop."))
    if not note:
        wrong.append(Wrong("A note must say why.", "f-note", "It stands in the audit log and with each award."))
    if chosen == []:
        wrong.append(Wrong("No award is chosen.", "f-which", "Choose some in the list, or all."))
    if verb == "drop" and str(form.get("confirm") or "").strip() != badge:
        wrong.append(Wrong("A drop is for good: type the badge's key.", "f-confirm", f"Write {badge}."))
    if wrong:
        return await _list(page, badge, "", wrong)
    if verb == "release" and not form.get("sure"):
        return await _confirm(page, badge, note, chosen)
    work = page.desk.settle_held(verb, badge=badge, places=chosen, actor=page.actor.name, note=note)
    asked = ("settle", verb, badge, None if chosen is None else tuple(chosen), page.actor.name, note)
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


def _place(text: str) -> tuple[str, str] | None:
    """The user and the context of an award, as the list writes them; None of what names none."""
    try:
        match json_text.loads(text):
            case [str(user_id), str(context)]:
                return user_id, context
    except ValueError:
        pass
    return None


async def _confirm(page: Page, badge: str, note: str, chosen: list[tuple[str, str]] | None) -> Response:
    """What a release would give, before it does: how many, and ten of them."""
    reads = page.desk.reads
    found = await reads.quarantined(badge_key=badge, places=chosen, limit=_SAMPLES if chosen is None else PAGE)
    if chosen is None:
        count = {one.badge_key: one.awards for one in await reads.panel_held_back()}.get(badge, 0)
    else:
        count, chosen = len(found), [(one.award.user_id, one.award.context) for one in found]
    if not count:
        return await _list(page, badge, "", [Wrong("Of what was chosen nothing is held any more.", "f-which")])
    return await page.show(
        "release.html",
        title="Release awards",
        section="Awards",
        key=badge,
        note=note,
        chosen=chosen,
        count=count,
        samples=found[:_SAMPLES],
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
    )
