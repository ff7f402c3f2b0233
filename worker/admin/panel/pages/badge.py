"""One badge: what it takes and shows, who was given it last, how its entry in the catalog changed over the versions."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from starlette.responses import Response

from worker.admin.panel.frame import ROOT
from worker.admin.panel.page import Opened, Page
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.rules.catalog.definitions import Badge
from worker.rules.plan import prerequisites
from worker.rules.takes import Takes

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: So many of the newest versions are looked through for changes of one badge.
_VERSIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Change:
    """A version that changed a badge's entry: the version's row, and the lines that differ."""

    version: Any
    lines: tuple[str, ...]


@router.get("/badges/{key}")
@least(Role.READER)
async def badge(page: Opened, key: str) -> Response:
    """Overview of a badge."""
    found = page.badges.get(key)
    if found is None or page.catalog is None:
        return await no_badge(page, key)
    desk = page.desk
    counts = await desk.counts()
    newest = await desk.reads.panel_awards(since_us=0, badges=[key], limit=10)
    held = [one for one in await desk.reads.panel_held_back() if one.badge_key == key]
    return await page.show(
        "badge.html",
        title=found.label or key,
        section="Catalog",
        badge=found,
        tab="overview",
        takes=Takes(page.catalog).of(found),
        count=None if counts is None else counts.get(key),
        counted=counts is not None,
        newest=newest,
        held=held[0] if held else None,
        askers=_askers(page, key),
        flow_text=flow_text,
    )


@router.get("/badges/{key}/versions")
@least(Role.READER)
async def versions(page: Opened, key: str) -> Response:
    """Which versions of the catalog changed the badge's entry, and how."""
    found = page.badges.get(key)
    if found is None or page.catalog is None:
        return await no_badge(page, key)
    return await page.show(
        "badge_versions.html",
        title=found.label or key,
        section="Catalog",
        badge=found,
        tab="versions",
        changes=await _changes(page, found),
        looked=_VERSIONS,
    )


async def no_badge(page: Page, key: str) -> Response:
    """404: the catalog that rules has no badge of this key."""
    return await page.missing(
        f"There is no badge {key[:100]}",
        "The catalog that rules has none of this key; it may have been left out by a version.",
        section="Catalog",
        link="/catalog",
        act="All badges",
    )


def entry_of(document: Any, badge: Badge) -> tuple[str, Any, Any] | None:
    """The section, key and entry of a badge in its catalog's document; a ladder's badges share one."""
    section, place = badge.path.split("/")[1:3]
    entry = document[section][int(place)]
    return section, entry.get("key", entry.get("code")), entry


async def _changes(page: Page, badge: Badge) -> list[Change]:
    assert page.catalog is not None  # noqa: S101 (asked before)
    home = entry_of(page.catalog.document, badge)
    if home is None:
        return []
    section, own, _ = home
    listed = await page.desk.reads.catalog_versions(limit=_VERSIONS)
    texts = [await page.desk.entry_text(one.version, section, own) for one in listed]
    found = []
    for index, one in enumerate(listed):
        known = index + 1 < len(listed) or one.version == 1
        before = texts[index + 1] if index + 1 < len(texts) else ""
        if known and texts[index] != before:
            lines = difflib.unified_diff(before.splitlines(), texts[index].splitlines(), lineterm="", n=2)
            found.append(Change(one, tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))))
    return found


def _askers(page: Page, key: str) -> list[Badge]:
    """The badges that ask for this one."""
    return [one for one in page.badges.values() if key in prerequisites(one.formula)]


def flow_text(flow: Any) -> str:
    """A flow as JSON over several lines, as authors write it."""

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal):
            return int(value) if value == int(value) else float(value)
        return str(value)

    return json.dumps(flow, indent=2, ensure_ascii=False, default=plain)
