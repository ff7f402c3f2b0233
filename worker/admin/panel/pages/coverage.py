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

_ORDER: Final = ("never seen", "silent", "no badge listens", "seen")
_SILENT_US: Final = 7 * DAY
#: Days of which the usual number is the mean.
_DAYS: Final = 28


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


@router.get("/catalog/coverage")
@least(Role.READER)
async def coverage(page: Opened) -> Response:
    """The list."""
    catalog = page.catalog
    lines: list[Line] = []
    if catalog is not None:
        seen = await page.desk.reads.trigger_days(list(catalog.dictionary.types))
        now = page.desk.now()
        written = catalog.document.get("events") or {}
        for name in catalog.dictionary.types:
            badges = tuple(one for one in catalog.badges if name in one.triggers)
            entry = written.get(name) or {}
            if not badges and name not in written:
                continue
            found = seen.get(name)
            last = None if found is None else found.last_us
            usual = None if found is None or not found.counts else sum(found.counts.values()) / _DAYS
            day = found.last_events if found is not None and now - found.last_us < DAY else 0
            word, kind = _state(last, now, listened=bool(badges))
            aliases = tuple(entry.get("aliases") or ())
            lines.append(Line(name, entry.get("description") or "", aliases, badges, last, day, usual, word, kind))
    lines.sort(key=lambda line: (_ORDER.index(line.word), line.name))
    counted = await page.desk.reads.arrivals_counted()
    return await page.show("coverage.html", title="Coverage", section="Catalog", lines=lines, counted=counted)


def _state(last_us: int | None, now_us: int, *, listened: bool) -> tuple[str, str]:
    if not listened:
        return "no badge listens", "off"
    if last_us is None:
        return "never seen", "warn"
    return ("silent", "warn") if now_us - last_us > _SILENT_US else ("seen", "ok")
