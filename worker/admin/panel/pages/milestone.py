"""The milestone preview: how completing a badge looks for a user, in any language; nothing is granted."""

from __future__ import annotations

from starlette.responses import Response

from worker.admin.panel.animations import KINDS, shown
from worker.admin.panel.frame import ROOT
from worker.admin.panel.page import Opened
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.events import json_text

router = guarded_router(prefix=ROOT, include_in_schema=False)


@router.get("/diagnostics/milestone")
@least(Role.READER)
async def milestone(page: Opened, badge: str = "", user: str = "", lang: str = "", kind: str = "") -> Response:
    """The stage, and what it shows."""
    found = page.badges.get(badge)
    languages = sorted({language for one in page.badges.values() for language in one.translations})
    words = {} if found is None else found.translations.get(lang, {})
    played = shown(None if found is None else found.animation, kind)
    return await page.show(
        "milestone.html",
        title="Milestone preview",
        section="Diagnostics",
        badge=found,
        given={"badge": badge, "user": user[:200], "lang": lang, "kind": kind},
        keys=sorted(page.badges),
        languages=languages,
        kinds=KINDS,
        played=played,
        played_json=json_text.dumps(played),
        label="" if found is None else words.get("label") or found.label or found.key,
        description="" if found is None else words.get("description") or found.description,
        untranslated=bool(lang) and found is not None and lang not in found.translations,
    )
