"""Translations: texts × languages, missing ones first, written in their cells; import with a look before, export."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import File, Request, UploadFile
from starlette.responses import Response

from worker.admin.answers import as_json
from worker.admin.catalog_view import View
from worker.admin.panel import wording
from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.page import PAGE, Opened, Page, slug
from worker.admin.panel.pages.editing import refuse_managed
from worker.admin.panel.phrasing import plural
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked, Services
from worker.errors import AuthorError, BadgesError, Fault
from worker.events import json_text
from worker.exchange import AuditLine
from worker.rules.catalog.edits import Edit

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: Languages beside each other on a page.
_MOST_SHOWN: Final = 4
_MOST_BYTES: Final = 4 * 1024 * 1024


@router.get("/catalog/translations")
@least(Role.READER)
async def translations(page: Opened, lang: str = "", missing: str = "", after: int = 0) -> Response:
    """The table."""
    return await _table(page, lang, missing=bool(missing), after=after)


@router.post("/catalog/translations")
@least(Role.AUTHOR, accepts=FORM)
async def save(request: Request, page: Opened, services: Asked, lang: str = "", missing: str = "") -> Response:
    """Take over the cells that changed, as one version: only words change, so nobody gains or loses anything."""
    refuse_managed(page)
    if page.catalog is None:
        return page.go("/catalog")
    texts = await _sent(request, page)
    if not texts:
        return page.go(f"/catalog/translations?lang={slug(lang)}", "Nothing was changed.")
    try:
        version = await _take_over(page, services, texts)
    except BadgesError as error:
        return await _table(page, lang, missing=bool(missing), after=0, wrong=_told(error))
    said = f"{plural(len(texts), 'text')} translated"
    return page.go(f"/catalog/translations?lang={slug(lang)}&undo={version - 1}", f"{said}: version {version} rules.")


@router.post("/_/catalog/translations")
@least(Role.AUTHOR, accepts=FORM)
async def save_cell(request: Request, page: Opened, services: Asked, cell: str = "") -> Response:
    """Take over one cell that was changed in place, and show it as it is now."""
    refuse_managed(page)
    key, field, language = (*cell[:400].split("|"), "", "")[:3]
    text, wrong, undo = str((await request.form()).get(cell) or "").strip(), [], None
    was = _texts(page).get((key, field, language), "")
    if text != was:
        try:
            undo = await _take_over(page, services, {(key, field, language): text}) - 1
        except BadgesError as error:
            wrong = _told(error)
    return page.part(
        "translation_cell.html", line={"key": key, "field": field}, one=language, text=text, wrong=wrong, undo=undo
    )


async def _sent(request: Request, page: Page) -> dict[tuple[str, str, str], str]:
    """The cells of a form that differ from what the catalog says."""
    known, found = _texts(page), {}
    for name, value in (await request.form()).multi_items():
        place = tuple(name.split("|"))
        if len(place) == 3 and isinstance(value, str) and value.strip() != known.get(place, ""):
            found[place[0], place[1], place[2]] = value
    return found


async def _take_over(page: Page, services: Services, texts: wording.Texts) -> int:
    """Make texts a version of the catalog as it is now; its number. Raises AuthorError, Refused."""

    def change(view: View, _: str | None) -> Edit:
        document, wrong = wording.changed(view.catalog.document, texts)
        if wrong:
            raise AuthorError([Fault("bad_text", "", one) for one in wrong])
        return Edit(document, "", "translations")

    said = f"{plural(len(texts), 'text')} translated"
    _, _, after = await services.catalog.edit(
        change,
        by=page.actor.name,
        note=said,
        line=lambda _edit, _view, version: AuditLine(
            page.actor.name, "catalog.translated", f"version {version}", note=said
        ),
    )
    return after.version


def _told(error: BadgesError) -> list[str]:
    faults = error.faults if isinstance(error, AuthorError) else ()
    return [fault.message for fault in faults] or [error.message]


@router.get("/catalog/translations.json")
@least(Role.READER)
async def export(page: Opened) -> Response:
    """All translations as a file."""
    found = {} if page.catalog is None else wording.exported(page.catalog.document)
    headers = {"Content-Disposition": 'attachment; filename="translations.json"'}
    return Response(as_json(found), media_type="application/json", headers=headers)


@router.post("/catalog/translations/import")
@least(Role.AUTHOR, accepts=FORM)
async def take(page: Opened, file: Annotated[UploadFile, File()]) -> Response:
    """A file as it was exported: what it changes is shown before anything is."""
    refuse_managed(page)
    if page.catalog is None:
        return page.go("/catalog")
    data = await file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        return await _table(page, "", missing=False, after=0, wrong=["The file is larger than 4 MiB."])
    try:
        texts, wrong = wording.imported(json_text.loads(data))
    except ValueError:
        return await _table(
            page, "", missing=False, after=0, wrong=["The file is no JSON. Export one to see the form."]
        )
    document, more = wording.changed(page.catalog.document, texts)
    if wrong or more:
        return await _table(page, "", missing=False, after=0, wrong=[*wrong, *more][:50])
    made = await page.desk.propose(document, actor=page.actor.name, back="/catalog/translations")
    return page.go(f"/catalog/proposals/{made.id}")


async def _table(page: Page, lang: str, *, missing: bool, after: int, wrong: list[str] | None = None) -> Response:
    document = {} if page.catalog is None else page.catalog.document
    known = wording.languages(document)
    added = lang if wording.LANGUAGE.fullmatch(lang) else ""
    shown = [added] if added else known[:_MOST_SHOWN]
    found = wording.lines(document, shown, missing=missing)
    start = max(0, after)
    return await page.show(
        "translations.html",
        title="Translations",
        section="Catalog",
        faults=[Wrong(one) for one in wrong or ()],
        languages=sorted({*known, *shown}),
        shown=shown,
        given={"lang": added, "missing": missing},
        lines=found[start : start + PAGE],
        total=len(found),
        lacking=sum(line.missing for line in found),
        older=start + PAGE if len(found) > start + PAGE else None,
        undo=_number(page.request.query_params.get("undo", "")),
    )


def _texts(page: Page) -> dict[tuple[str, ...], str]:
    document = {} if page.catalog is None else page.catalog.document
    known = wording.languages(document)
    return {
        (line.key, line.field, name): text
        for line in wording.lines(document, known)
        for name, text in line.texts.items()
    }


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
