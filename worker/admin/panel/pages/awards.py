"""The feed: what was given and taken back within 24 hours, the newest first, live; and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, is_fragment
from worker.admin.panel.needs import Reads
from worker.admin.panel.page import PAGE, Opened, Page, triggers_of
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.roles import Role, least
from worker.admin.routes import few, guarded_router
from worker.events import format_instant
from worker.events.instants import DAY

router = guarded_router(prefix=ROOT, include_in_schema=False)

ORIGINS: Final = ("live", "late", "backfill", "cron", "manual")
#: Rows of a CSV; what is older is fetched by narrower filters.
_MOST_ROWS: Final = 50_000
#: So often a filter looks at the next awards of a CSV.
_MOST_LOOKS: Final = 50


@router.get("/awards")
@least(Role.READER)
async def feed(page: Opened, trigger: str = "", badge: str = "", origin: str = "", before: str = "") -> Response:
    """The list."""
    values = await _rows(page, trigger, badge, origin, before)
    return await page.show(
        "awards.html",
        title="Awards",
        section="Awards",
        live=not before,
        triggers=triggers_of(page),
        keys=sorted(page.badges),
        origins=ORIGINS,
        **values,
    )


@router.get("/_/awards")
@least(Role.READER)
async def feed_rows(request: Request, page: Opened, trigger: str = "", badge: str = "", origin: str = "") -> Response:
    """The rows alone, fetched by an open page when the stream of awards says that there is news."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/awards?{request.url.query}", 303)
    return page.part("awards_rows.html", **await _rows(page, trigger, badge, origin, ""))


@router.get("/awards.csv")
@few(EXPORTS)
@least(Role.READER)
async def feed_csv(page: Opened, trigger: str = "", badge: str = "", origin: str = "") -> Response:
    """The filtered list of 24 hours as CSV, in UTC; where older ones are left out, its last line says so."""
    asked = _Asked(page.desk.now() - DAY, trigger, badge, origin)
    found: list[Any] = []
    bound: tuple[int, str, int] | None = None
    for _ in range(_MOST_LOOKS):
        more, bound = await asked.page(page.desk.reads, bound, _MOST_ROWS + 1 - len(found))
        found += more
        if bound is None or len(found) > _MOST_ROWS:
            break
    cut = ""
    if len(found) > _MOST_ROWS:
        cut = f"More than {_MOST_ROWS:,} awards match: older ones are left out. Filter by less."
    elif bound is not None:
        cut = f"Awards before {format_instant(bound[0])} were not looked at. Filter by less."
    lines = (
        (
            format_instant(one.logged_us), one.user_id, one.badge_key, one.context, format_instant(one.awarded_us),
            one.kind, one.origin, one.trigger_type or "", one.reason or "",
        )
        for one in found[:_MOST_ROWS]
    )  # fmt: skip
    names = ("logged_at", "user_id", "badge_key", "context", "awarded_at", "kind", "origin", "trigger", "note")
    return await csv_answer("awards.csv", names, lines, cut=cut)


async def _rows(page: Page, trigger: str, badge: str, origin: str, before: str) -> dict[str, Any]:
    asked = _Asked(page.desk.now() - DAY, trigger, badge, origin)
    found, bound = await asked.page(page.desk.reads, _key(before), PAGE + 1)
    last = found[PAGE - 1] if len(found) > PAGE else None
    next_key = bound if last is None else (last.logged_us, last.user_id, last.sequence)
    return {
        "given": {"trigger": trigger, "badge": badge, "origin": origin},
        "awards": found[:PAGE],
        "older": None if next_key is None else f"{next_key[0]}~{next_key[2]}~{next_key[1]}",
        "newer": bool(before),
        "filtered": asked.filtered,
        "bound_us": None if bound is None else bound[0],
    }


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which awards a list is of; a filter "" lets all through."""

    since_us: int
    trigger: str
    badge: str
    origin: str

    @property
    def filtered(self) -> bool:
        """Whether some may be left out."""
        return bool(self.trigger or self.badge or self.origin)

    async def page(
        self, reads: Reads, before: tuple[int, str, int] | None, limit: int
    ) -> tuple[Sequence[Any], tuple[int, str, int] | None]:
        """A page; where it is not full, and older awards were not looked at, the key of the last one that was."""
        found = await reads.panel_awards(
            since_us=self.since_us,
            before=before,
            badges=[self.badge] if self.badge else None,
            trigger=self.trigger or None,
            origin=self.origin or None,
            limit=limit,
        )
        if not self.filtered or len(found) >= limit:
            return found, None
        return found, await reads.panel_awards_bound(since_us=self.since_us, before=before)


def _key(text: str) -> tuple[int, str, int] | None:
    """The key of a page; a forged one begins at the top."""
    at, _, rest = text.partition("~")
    sequence, _, user_id = rest.partition("~")
    if not (at.isascii() and at.isdigit() and sequence.isascii() and sequence.isdigit() and user_id):
        return None
    if len(at) > 17 or len(sequence) > 18 or "\0" in user_id:
        return None
    return int(at), user_id[:200], int(sequence)
