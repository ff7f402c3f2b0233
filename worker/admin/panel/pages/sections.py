"""Ladders, tenures, milestones, event types and condition types: listed, written, changed; conditions tried out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import Request
from starlette.responses import Response

from worker.admin.catalog_view import Refused
from worker.admin.panel.animations import CHOICES as ANIMATIONS
from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.judging import Judged, json_of
from worker.admin.panel.kinds import KINDS, Kind
from worker.admin.panel.making import badges_of, entries_of, entry_of, judge_entry, values_of
from worker.admin.panel.page import Opened, Page, slug
from worker.admin.panel.pages.editing import refuse_managed
from worker.admin.problems import Problem
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.errors import AuthorError, BadgesError

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: Entries of a kind on its page.
_MOST = 500
_TRIAL = '{"type": "order.paid", "payload": {"total": 120}}'


@router.get("/catalog/sections/{kind}")
@least(Role.READER)
async def listed(page: Opened, kind: str) -> Response:
    """The entries of a kind."""
    found = _kind(kind)
    rows = entries_of(page.catalog, found)
    return await page.show(
        "sections.html",
        title=found.plural,
        section="Catalog",
        kind=found,
        kinds=list(KINDS.values()),
        rows=[
            (name, _summary(found, entry), badges_of(page.catalog, found, index) if found.own != "name" else [])
            for index, (name, entry) in enumerate(rows[:_MOST])
        ],
        more=max(0, len(rows) - _MOST),
    )


@router.get("/catalog/sections/{kind}/new")
@least(Role.AUTHOR)
async def new(page: Opened, kind: str) -> Response:
    """The form of a new entry."""
    refuse_managed(page)
    found = _kind(kind)
    return await _form(page, found, None, Judged(found.start))


@router.post("/catalog/sections/{kind}/new")
@least(Role.AUTHOR, accepts=FORM)
async def add(request: Request, page: Opened, kind: str) -> Response:
    """Judge a new entry; a clean one goes on to its preview."""
    return await _judged(request, page, _kind(kind), None)


@router.get("/catalog/sections/{kind}/{name}/edit")
@least(Role.AUTHOR)
async def edit(page: Opened, kind: str, name: str) -> Response:
    """The form of an entry."""
    refuse_managed(page)
    found = _kind(kind)
    entry = entry_of(page.catalog, found, name)
    if entry is None:
        return await _missing(page, found, name)
    return await _form(page, found, name, Judged(values_of(found, name, entry)))


@router.post("/catalog/sections/{kind}/{name}/edit")
@least(Role.AUTHOR, accepts=FORM)
async def change(request: Request, page: Opened, kind: str, name: str) -> Response:
    """Judge a changed entry; a clean one goes on to its preview."""
    found = _kind(kind)
    if entry_of(page.catalog, found, name) is None:
        return await _missing(page, found, name)
    return await _judged(request, page, found, name)


@router.post("/_/lint/{kind}")
@least(Role.AUTHOR, accepts=FORM)
async def lint(request: Request, page: Opened, kind: str, name: str = "") -> Response:
    """What is wrong with a form, while somebody types."""
    found = _kind(kind)
    judged = await judge_entry(page.desk, page.catalog, found, name or None, await _values(request, found))
    return page.part("lint.html", judged=judged)


@router.post("/catalog/condition-types/try")
@least(Role.AUTHOR, accepts=FORM)
async def try_condition(request: Request, page: Opened, services: Asked, name: str = "") -> Response:
    """Ask a condition as it stands in its form, saved or not, about one event; nothing is stored."""
    kind = KINDS["condition-types"]
    refuse_managed(page)
    if name and entry_of(page.catalog, kind, name) is None:
        return await _missing(page, kind, name)
    judged = await judge_entry(page.desk, page.catalog, kind, name or None, await _values(request, kind))
    form = await request.form()
    given = {part: str(form.get(f"trial_{part}") or "").strip()[:20_000] for part in ("event", "params")}
    body, wrong = {}, []
    for part, text in given.items():
        body[part], marks = json_of(text or "{}", part)
        wrong += [Wrong(mark.message, f"t-{part}", mark.help) for mark in marks]
    said: tuple[str, str | None] | None = None
    if judged.clean and judged.edit is not None and not wrong:
        view = await services.catalog.view()
        tried = replace(view, catalog=replace(view.catalog, document=judged.edit.document))
        try:
            said = await services.rehearsal.ask_condition(tried, judged.edit.key, body)
        except AuthorError as error:
            wrong = [Wrong(fault.message, f"t-{fault.path.split('/')[1]}", fault.help or "") for fault in error.faults]
        except Refused as error:
            wrong = [Wrong(error.message, "t-event", error.help or "")]
    status = 200 if said is not None else 422
    return await _form(page, kind, name or None, judged, status=status, wrong=wrong, said=said, trial=given)


async def _judged(request: Request, page: Page, kind: Kind, name: str | None) -> Response:
    refuse_managed(page)
    judged = await judge_entry(page.desk, page.catalog, kind, name, await _values(request, kind))
    if not judged.clean or judged.edit is None:
        return await _form(page, kind, name, judged, status=422)
    back = f"/catalog/sections/{kind.slug}/" + ("new" if name is None else f"{slug(name)}/edit")
    try:
        made = await page.desk.propose(judged.edit.document, actor=page.actor.name, back=back)
    except BadgesError as error:
        wrong = [Wrong(error.message, "", error.help or "")]
        return await _form(page, kind, name, judged, status=422, wrong=wrong)
    return page.go(f"/catalog/proposals/{made.id}")


async def _form(
    page: Page,
    kind: Kind,
    name: str | None,
    judged: Judged,
    *,
    status: int = 200,
    wrong: list[Wrong] | None = None,
    said: Any = None,
    trial: Any = None,
) -> Response:
    faults = [Wrong(mark.message, mark.field, mark.help) for mark in judged.marks if mark.severity == "error"]
    document = {} if page.catalog is None else page.catalog.document
    return await page.show(
        "section_form.html",
        title=f"New {kind.noun}" if name is None else f"Edit {name}",
        section="Catalog",
        status=status,
        faults=[*faults, *(wrong or ())],
        kind=kind,
        name=name,
        judged=judged,
        values=judged.values,
        animations=ANIMATIONS,
        events=sorted(document.get("events") or {}),
        metrics=sorted(document.get("metrics") or {}),
        verdict=said,
        trial=trial or {"event": _TRIAL, "params": "{}"},
    )


async def _values(request: Request, kind: Kind) -> dict[str, str]:
    form = await request.form()
    found = {field.name: form.get(field.name) for field in kind.fields}
    return {name: value.replace("\r\n", "\n") for name, value in found.items() if isinstance(value, str)}


def _summary(kind: Kind, entry: Any) -> str:
    """What tells an entry from others, in one line."""
    match kind.slug:
        case "ladders":
            return f"{entry.get('metric')}: {', '.join(str(one) for one in entry.get('levels') or ())}"
        case "tenures":
            return f"{', '.join(str(one) for one in entry.get('years') or ())} years since {entry.get('since')}"
        case "milestones":
            return f"{entry.get('rule_type') or 'no rule'} on {entry.get('trigger_event') or 'nothing'}"
    return str(entry.get("description") or "")


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise Problem(404, "There is no such part of the catalog.")
    return KINDS[name]


async def _missing(page: Page, kind: Kind, name: str) -> Response:
    return await page.missing(
        f"There is no {kind.noun} {name[:100]}",
        "The catalog that rules has none of this name.",
        section="Catalog",
        link=f"/catalog/sections/{kind.slug}",
        act=kind.plural,
    )
