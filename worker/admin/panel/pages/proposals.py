"""A change of the catalog before it is applied: what it changes, what users would gain; applied, or overtaken."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Form, Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel import wording
from worker.admin.panel.frame import ROOT, is_fragment
from worker.admin.panel.page import Opened, Page
from worker.admin.panel.pages.catalog import change_lines
from worker.admin.panel.pages.editing import refuse_managed
from worker.admin.panel.phrasing import plural
from worker.admin.problems import Problem
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.errors import BadgesError
from worker.rules.compare import Phrases, compare
from worker.rules.preview import Gain, Preview

router = guarded_router(prefix=ROOT, include_in_schema=False)


@router.get("/catalog/proposals/{proposal_id}")
@least(Role.AUTHOR)
async def proposal(page: Opened, proposal_id: str) -> Response:
    """What a change does, and the button that applies it."""
    found = page.desk.proposal(proposal_id)
    if found is None:
        return await _forgotten(page)
    return await page.show("proposal.html", title="Preview", section="Catalog", **_values(found))


@router.get("/_/catalog/proposals/{proposal_id}")
@least(Role.AUTHOR)
async def proposal_part(request: Request, page: Opened, proposal_id: str) -> Response:
    """How far the look at the population is."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/catalog/proposals/{proposal_id}", 303)
    found = page.desk.proposal(proposal_id)
    if found is None:
        raise Problem(404, "This preview was forgotten: look again.")
    return page.part("population_live.html", **_values(found))


@router.post("/catalog/proposals/{proposal_id}")
@least(Role.AUTHOR, accepts=FORM)
async def apply(page: Opened, proposal_id: str, note: Annotated[str, Form()] = "") -> Response:
    """Let it rule; where another version came between, show both changes side by side."""
    refuse_managed(page)
    found = page.desk.proposal(proposal_id)
    if found is None:
        return await _forgotten(page)
    if found.preview is None:
        raise Problem(409, "Apply comes after the preview: it is not done yet.")
    base = 0 if found.found.head is None else found.found.head.version
    try:
        version = await page.desk.apply(found, actor=page.actor.name, note=note.strip()[:500])
    except BadgesError as error:
        other = getattr(error, "head", None)  # the store's HeadMoved, which no face imports
        rules = None if other is None else await page.desk.version(other)
        if rules is None:
            raise
        changed = compare(found.found.old, rules)
        return await page.show(
            "overtaken.html",
            title="Somebody applied meanwhile",
            section="Catalog",
            status=409,
            base=base,
            other=other,
            theirs=change_lines(changed, Phrases(found.found.old, rules)),
            ours=_lines(found.found),
            back=found.back,
        )
    summary = found.found.changed.summary
    to = found.back.removesuffix("/edit")
    return page.go(to if to.startswith("/badges/") else "/catalog", f"Version {version} rules: {summary}.")


@router.post("/catalog/versions/{version}/rollback")
@least(Role.AUTHOR, accepts=FORM)
async def rollback(page: Opened, version: int) -> Response:
    """An earlier version as a change of the one that rules, with its preview."""
    refuse_managed(page)
    found = await page.desk.version(version)
    if found is None:
        return await page.missing(
            f"There is no version {version}", "Versions are numbered from 1.", section="Catalog",
            link="/catalog/versions", act="All versions",
        )  # fmt: skip
    made = await page.desk.propose(found.document, actor=page.actor.name, back="/catalog/versions")
    return page.go(f"/catalog/proposals/{made.id}")


def _values(found: Any) -> dict[str, Any]:
    playing: Preview | None = found.preview
    gains = [] if playing is None else list(playing.gains.values())
    return {
        "proposal": found,
        "found": found.found,
        "changed": found.found.changed,
        "lines": _lines(found.found),
        "notices": _notices(found.found),
        "texts": wording.differences(
            {} if found.found.old is None else found.found.old.document, found.found.new.document
        ),
        "gains": [(gain, _nobody(playing, gain)) for gain in gains] if playing is not None else [],
        "awards": sum(gain.awards for gain in gains),
        "live": False,
    }


def _lines(found: Any) -> list[dict[str, Any]]:
    return change_lines(found.changed, Phrases(found.old, found.new))


def _notices(found: Any) -> list[str]:
    """What an author should know before a test is changed in place."""
    return [
        f"{change.key}: the {plural(found.given[change.key], 'award')} given by the old test stay and will look like "
        "those given by the new one. To keep them apart, deprecate it and add another."
        for change in found.changed.badges
        if change.kind == "test" and found.given.get(change.key)
    ]


def _nobody(playing: Preview, gain: Gain) -> str:
    """Why nobody would gain a badge."""
    if gain.awards:
        return ""
    unseen = sorted(gain.badge.triggers - playing.seen - {"*"})
    if gain.holding:
        return f"{plural(gain.holding, 'user')} hold it already, nobody gains it."
    if unseen and len(unseen) == len(gain.badge.triggers):
        return f"{' and '.join(unseen)} was never seen."
    return "Nobody's events match."


async def _forgotten(page: Page) -> Response:
    return await page.missing(
        "This preview was forgotten",
        "Previews are kept in memory, the newest sixteen. Nothing was changed.",
        section="Catalog",
        link="/catalog",
        act="Catalog",
    )
