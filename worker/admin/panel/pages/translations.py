"""Translations: texts × languages, missing ones first, written in their cells; import with a look before, export."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import File, Request, UploadFile
from starlette.responses import Response

from worker.admin.answers import as_json
from worker.admin.panel import wording
from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.page import PAGE, Opened, Page, slug
from worker.admin.panel.pages.editing import refuse_managed
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.events import json_text

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
    form = await request.form()
    known = _texts(page)
    texts = {}
    for name, value in form.multi_items():
        place = tuple(name.split("|"))
        if len(place) == 3 and isinstance(value, str) and value.strip() != known.get(place, ""):
            texts[place[0], place[1], place[2]] = value
    if not texts:
        return page.go(f"/catalog/translations?lang={slug(lang)}", "Nothing was changed.")
    document, wrong = wording.changed(page.catalog.document, texts)
    if wrong:
        return await _table(page, lang, missing=bool(missing), after=0, wrong=wrong)
    made = await page.desk.propose(document, actor=page.actor.name, back="/catalog/translations")
    said = f"{len(texts)} {'text' if len(texts) == 1 else 'texts'} translated"
    version = await page.desk.apply(made, actor=page.actor.name, note=said)
    await services.store.audit(page.actor.name, "catalog.translated", f"version {version}", note=said)
    return page.go(f"/catalog/translations?lang={slug(lang)}&undo={version - 1}", f"{said}: version {version} rules.")


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
        status=422 if wrong else 200,
        faults=[Wrong(one) for one in wrong or ()],
        languages=sorted({*known, *shown}),
        shown=shown,
        given={"lang": added, "missing": missing},
        lines=found[start : start + PAGE],
        total=len(found),
        lacking=sum(line.missing for line in found),
        older=start + PAGE if len(found) > start + PAGE else None,
        newer=start > 0,
        undo=page.request.query_params.get("undo", ""),
    )


def _texts(page: Page) -> dict[tuple[str, ...], str]:
    document = {} if page.catalog is None else page.catalog.document
    known = wording.languages(document)
    return {
        (line.key, line.field, name): text
        for line in wording.lines(document, known)
        for name, text in line.texts.items()
    }
