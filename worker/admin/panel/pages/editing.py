"""A badge written or changed: its form, judged while somebody types; a clean one becomes a proposal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response

from worker.admin.answers import as_json
from worker.admin.panel import animations
from worker.admin.panel.drawing import icon_names
from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.judging import FIELDS, Judged, judge
from worker.admin.panel.kinds import KINDS
from worker.admin.panel.making import entries_of
from worker.admin.panel.page import Opened, Page, slug
from worker.admin.panel.pages.badge import flow_text, no_badge
from worker.admin.panel.words import words
from worker.admin.problems import Problem
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.rules.catalog.definitions import Badge
from worker.rules.operators import CRITERIA_OPERATORS, FLOW_OPERATORS

router = guarded_router(prefix=ROOT, include_in_schema=False)

STATUSES: Final = ("draft", "active", "hidden", "locked", "deprecated")
REVOCABLE: Final = ("never", "manual", "auto")
#: Flows to start from.
STARTS: Final[Mapping[str, Any]] = {
    "first time": {"event": "comment.posted"},
    "count": {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 10}}},
    "window": {
        "$timeWindow": {"last": "7d", "flow": {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 10}}}}
    },
    "score": {"event": "answer.scored", "criteria": {"score": {"$gte": 10}}},
}


@router.get("/catalog/new")
@least(Role.AUTHOR)
async def new(request: Request, page: Opened) -> Response:
    """The form of a new badge."""
    refuse_managed(page)
    start = STARTS.get(request.query_params.get("from", ""), STARTS["first time"])
    values = {"flow": flow_text(start), "status": "active", "revocable": "never", "family": "misc"}
    return await _form(page, None, Judged(values))


@router.post("/catalog/new")
@least(Role.AUTHOR, accepts=FORM)
async def add(request: Request, page: Opened) -> Response:
    """Judge a new badge; a clean one goes on to its preview."""
    refuse_managed(page)
    return await _judged(page, None, await _values(request))


@router.get("/badges/{key}/edit")
@least(Role.AUTHOR)
async def edit(page: Opened, key: str) -> Response:
    """The form of a badge."""
    refuse_managed(page)
    badge = page.badges.get(key)
    if badge is None:
        return await no_badge(page, key)
    section, place = badge.path.split("/")[1:3]
    kind = next((one for one in KINDS.values() if one.section == section), None)
    if kind is not None:
        return page.go(f"/catalog/sections/{kind.slug}/{slug(entries_of(page.catalog, kind)[int(place)][0])}/edit")
    return await _form(page, badge, Judged(_of(badge)))


@router.post("/badges/{key}/edit")
@least(Role.AUTHOR, accepts=FORM)
async def change(request: Request, page: Opened, key: str) -> Response:
    """Judge a changed badge; a clean one goes on to its preview."""
    refuse_managed(page)
    badge = page.badges.get(key)
    if badge is None:
        return await no_badge(page, key)
    return await _judged(page, badge, await _values(request))


@router.post("/_/lint")
@least(Role.AUTHOR, accepts=FORM)
async def lint(request: Request, page: Opened, key: str = "") -> Response:
    """What the engine reads of a form, and what is wrong with it, while somebody types."""
    judged = await judge(page.desk, page.catalog, page.badges.get(key), await _values(request))
    return page.part("lint.html", judged=judged)


@router.get("/_/words")
@least(Role.AUTHOR)
async def completion(page: Opened) -> Response:
    """The words that the flow's editor completes."""
    found = await asyncio.to_thread(words, page.catalog)
    return Response(as_json(found), media_type="application/json", headers={"Cache-Control": "private, max-age=10"})


def refuse_managed(page: Page) -> None:
    """Refuse a change of a catalog that comes from a file (409)."""
    if page.desk.managed_by_file:
        raise Problem(409, "This catalog is managed by a file: change it there; the workers apply it.")


async def _values(request: Request) -> dict[str, str]:
    form = await request.form()
    found = {name: form.get(name) for name in (*FIELDS, "flow")}
    return {name: value.replace("\r\n", "\n") for name, value in found.items() if isinstance(value, str)}


async def _judged(page: Page, badge: Badge | None, values: Mapping[str, str]) -> Response:
    judged = await judge(page.desk, page.catalog, badge, values)
    if not judged.clean or judged.edit is None:
        return await _form(page, badge, judged, status=422)
    back = "/catalog/new" if badge is None else f"/badges/{slug(badge.key)}/edit"
    made = await page.desk.propose(judged.edit.document, actor=page.actor.name, back=back)
    return page.go(f"/catalog/proposals/{made.id}")


async def _form(page: Page, badge: Badge | None, judged: Judged, *, status: int = 200) -> Response:
    wrong = [Wrong(mark.message, mark.field, mark.help) for mark in judged.marks if mark.severity == "error"]
    types = {} if page.catalog is None else page.catalog.document.get("events") or {}
    return await page.show(
        "edit.html",
        title="New badge" if badge is None else f"Edit {badge.label or badge.key}",
        section="Catalog",
        status=status,
        faults=wrong,
        badge=badge,
        tab="edit",
        judged=judged,
        values={**dict.fromkeys((*FIELDS, "flow"), ""), **judged.values},
        statuses=STATUSES,
        revocables=REVOCABLE,
        icons=icon_names(),
        families=sorted({one.family for one in page.badges.values()}),
        kinds=animations.CHOICES,
        types={
            name: sorted(((entry or {}).get("schema") or {}).get("properties") or {}) for name, entry in types.items()
        },
        operators=sorted({*FLOW_OPERATORS, *CRITERIA_OPERATORS}),
    )


def _of(badge: Badge) -> dict[str, str]:
    plain = {name: getattr(badge, name) for name in FIELDS if name != "animation"}
    return {
        **{name: "" if value is None else str(value) for name, value in plain.items()},
        "animation": str((badge.animation or {}).get("kind", "none")),
        "flow": flow_text(badge.flow),
    }
