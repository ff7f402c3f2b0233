"""The catalog: which badges there are, what they take, who has them; its versions and what each changed."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel import wording
from worker.admin.panel.entries import SORTS, Entry, chosen, entries, rows
from worker.admin.panel.frame import ROOT, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.rules.compare import Comparison, Phrases, compare

router = guarded_router(prefix=ROOT, include_in_schema=False)

STATUSES = ("active", "draft", "hidden", "locked", "deprecated")


@router.get("/catalog")
@least(Role.READER)
async def catalog(
    page: Opened, q: str = "", family: str = "", trigger: str = "", status: str = "", sort: str = "", after: int = 0
) -> Response:
    """The list."""
    given = {"q": q[:200], "family": family, "trigger": trigger, "status": status, "sort": sort}
    values = await _list(page, given, after)
    found = page.catalog
    return await page.show(
        "catalog.html",
        title="Catalog",
        section="Catalog",
        families=sorted({badge.family for badge in page.badges.values()}),
        triggers=sorted({name for badge in page.badges.values() for name in badge.triggers}),
        statuses=STATUSES,
        sorts=SORTS,
        any=found is not None and bool(found.badges),
        **values,
    )


@router.get("/_/catalog")
@least(Role.READER)
async def catalog_rows(
    request: Request,
    page: Opened,
    q: str = "",
    family: str = "",
    trigger: str = "",
    status: str = "",
    sort: str = "",
) -> Response:
    """The rows alone, while somebody types."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/catalog?{request.url.query}", 303)
    given = {"q": q[:200], "family": family, "trigger": trigger, "status": status, "sort": sort}
    return page.part("catalog_rows.html", any=True, **await _list(page, given, 0))


async def _list(page: Page, given: dict[str, str], after: int) -> dict[str, Any]:
    if page.catalog is None:
        return {"given": given, "rows": [], "total": 0, "older": None, "users": 0}
    counts = await page.desk.counts()
    found = chosen(
        entries(page.catalog),
        text=given["q"],
        family=given["family"],
        trigger=given["trigger"],
        status=given["status"],
        sort=given["sort"],
        counts=counts,
    )
    start = max(0, after)
    shown: list[Entry] = found[start : start + PAGE]
    return {
        "given": given,
        "rows": rows(shown, page.catalog, counts),
        "total": len(found),
        "older": start + PAGE if len(found) > start + PAGE else None,
    }


@router.get("/catalog/versions")
@least(Role.READER)
async def versions(page: Opened, before: int | None = None) -> Response:
    """Who changed the catalog, when, and what."""
    found = await page.desk.reads.catalog_versions(before=before, limit=PAGE + 1)
    older = found[PAGE - 1].version if len(found) > PAGE else None
    return await page.show(
        "versions.html", title="Versions of the catalog", section="Catalog", versions=found[:PAGE], older=older,
    )  # fmt: skip


@router.get("/catalog/versions/{old}..{new}")
@least(Role.READER)
async def difference(page: Opened, old: int, new: int) -> Response:
    """What one version changed against another."""
    before = await page.desk.version(old) if old else None
    after = await page.desk.version(new)
    if after is None or (before is None and old):
        number = new if after is None else old
        return await page.missing(
            f"There is no version {number}", "Versions are numbered from 1.", section="Catalog",
            link="/catalog/versions", act="All versions",
        )  # fmt: skip
    changed = compare(before, after)
    return await page.show(
        "difference.html",
        title=f"Version {old} to {new}" if old else f"Version {new}",
        section="Catalog",
        old=old,
        new=new,
        changed=changed,
        lines=change_lines(changed, Phrases(before, after)),
        texts=wording.differences({} if before is None else before.document, after.document),
    )


def change_lines(changed: Comparison, phrases: Phrases) -> list[dict[str, Any]]:
    """The badges that changed, as rows: sign, key, label, and what changed in words."""
    found = []
    for change in changed.badges:
        old, new = phrases.changed(change)
        if change.kind == "added":
            text = new
        elif change.kind == "test":
            text = f"{old} → {new}"
        elif change.kind in ("status", "deprecated"):
            was = change.old.status if change.old is not None else "none"
            text = f"{was} → {'deprecated' if change.new is None else change.new.status}"
        else:
            text = ", ".join(change.display)
        sign = "+" if change.kind == "added" else "−" if change.kind == "deprecated" else "~"
        found.append({"sign": sign, "key": change.key, "label": change.label, "kind": change.kind, "text": text})
    return found
