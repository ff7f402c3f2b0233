"""Coverage: does each trigger arrive, and does any badge listen? The worst first; of one type a sample, too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from worker.admin.panel.frame import ROOT
from worker.admin.panel.page import Opened, Page
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
    """One event type: who listens, when it was seen last, and what that means.

    `letters` are dead letters by the name of it that they say, None while they are counted first.
    """

    name: str
    description: str
    aliases: tuple[str, ...]
    badges: tuple[Badge, ...]
    last_us: int | None
    day: int
    usual: float | None
    letters: Mapping[str, int] | None
    word: str
    kind: str
    sentence: str


@router.get("/catalog/coverage")
@least(Role.READER)
async def coverage(page: Opened, type: str = "") -> Response:
    """The list; or one type, with its newest event."""
    found, counted = await page.desk.coverage()
    lines = await _lines(page, [one for one in found if not type or one.type == type])
    known = page.catalog is not None and type in page.catalog.dictionary.types
    if type and not lines and not known:
        return await page.missing(
            f"No event type is called {type[:200]}",
            "It stands neither in the catalog nor among the types that badges listen to.",
            section="Catalog",
            link="/catalog/coverage",
            act="All event types",
        )
    upto = await page.desk.reads.arrivals_counted() if counted else None
    sample = await _sample(page, lines[0]) if lines and type and page.may(Role.SUPPORT) else None
    return await page.show(
        "coverage.html", title=f"Coverage of {type}" if type else "Coverage", section="Catalog", lines=lines,
        counted=upto, chosen=type, sample=sample,
    )  # fmt: skip


async def _lines(page: Page, found: Sequence[Any]) -> list[Line]:
    types = {} if page.catalog is None else page.catalog.dictionary.types
    written = {} if page.catalog is None else page.catalog.document.get("events") or {}
    seen = await page.desk.reads.trigger_days(list(types))
    letters = await page.desk.letters_by_type()
    now = page.desk.now()
    lines = []
    for one in found:
        entry, days = written.get(one.type) or {}, seen.get(one.type)
        day = days.last_events if days is not None and now - days.last_us < DAY else 0
        badges = tuple(page.badges[key] for key in one.badges if key in page.badges)
        word, kind = _WORDS[one.state]
        aliases = tuple(entry.get("aliases") or ())
        said = None if letters is None else {name: letters[name] for name in (one.type, *aliases) if name in letters}
        lines.append(
            Line(
                one.type, entry.get("description") or "", aliases, badges, one.last_us, day, one.usual, said, word,
                kind, one.sentence,
            )
        )  # fmt: skip
    return lines


async def _sample(page: Page, line: Line) -> tuple[Any, str] | None:
    """The newest event of a type as it is logged, and its payload as text; None where there is none."""
    if line.last_us is None:
        return None
    found = await page.desk.reads.panel_sample(line.name, line.last_us)
    return None if found is None else (found, json.dumps(json.loads(found.payload), indent=2, ensure_ascii=False))
