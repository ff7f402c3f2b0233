"""Coverage: does each trigger arrive, and does any badge listen? The worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from worker.admin.panel.frame import ROOT
from worker.admin.panel.page import Opened
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.events.instants import DAY
from worker.rules.catalog.definitions import Badge

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: What the states of a trigger are called here, and their kinds.
_WORDS: Final = {
    "silent": ("silent", "warn"),
    "never_seen": ("never seen", "warn"),
    "empty": ("no badge listens", "off"),
    "ok": ("seen", "ok"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One event type: who listens, when it was seen last, and what that means."""

    name: str
    description: str
    aliases: tuple[str, ...]
    badges: tuple[Badge, ...]
    last_us: int | None
    day: int
    usual: float | None
    word: str
    kind: str
    sentence: str


@router.get("/catalog/coverage")
@least(Role.READER)
async def coverage(page: Opened) -> Response:
    """The list."""
    found, counted = await page.desk.coverage()
    types = {} if page.catalog is None else page.catalog.dictionary.types
    written = {} if page.catalog is None else page.catalog.document.get("events") or {}
    seen = await page.desk.reads.trigger_days(list(types))
    now = page.desk.now()
    lines = []
    for one in found:
        entry, days = written.get(one.type) or {}, seen.get(one.type)
        day = days.last_events if days is not None and now - days.last_us < DAY else 0
        badges = tuple(page.badges[key] for key in one.badges if key in page.badges)
        word, kind = _WORDS[one.state]
        aliases = tuple(entry.get("aliases") or ())
        lines.append(
            Line(
                one.type, entry.get("description") or "", aliases, badges, one.last_us, day, one.usual, word, kind,
                one.sentence,
            )
        )  # fmt: skip
    upto = await page.desk.reads.arrivals_counted() if counted else None
    return await page.show("coverage.html", title="Coverage", section="Catalog", lines=lines, counted=upto)
