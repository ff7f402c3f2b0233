"""One request for a page: who asks, the catalog that rules, and what every page shows around its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, Banner, Wrong, render
from worker.admin.panel.needs import Desk
from worker.admin.panel.notes import notes_of
from worker.admin.panel.phrasing import many
from worker.admin.roles import Actor, Role
from worker.admin.routes import actor_of
from worker.events.instants import DAY
from worker.rules.catalog.definitions import Badge, Catalog

#: Rows of a list.
PAGE: Final = 50
#: What stands above every page is looked up so seldom, seconds.
_ALARM_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Alarms:
    """The worst thing there is, and dead letters within 24 hours."""

    banner: Banner | None
    letters: int


class Page:
    """What a page's endpoint works with."""

    def __init__(self, request: Request, desk: Desk, actor: Actor, catalog: Catalog | None) -> None:
        self.request = request
        self.desk = desk
        self.actor = actor
        self.catalog = catalog
        self.badges: Mapping[str, Badge] = {} if catalog is None else {one.key: one for one in catalog.badges}

    def may(self, role: Role) -> bool:
        """Whether who asks has a role."""
        return self.actor.may(role)

    async def show(
        self,
        template: str,
        *,
        title: str,
        section: str,
        status: int | None = None,
        faults: Sequence[Wrong] | None = None,
        **values: Any,
    ) -> Response:
        """The page, with its frame; `faults` are what is in the way of its form, which makes it 422 by itself."""
        alarms = await _alarms(self.request, self.desk, self.badges)
        return render(
            self.request,
            template,
            actor=self.actor,
            status=status or (422 if faults else 200),
            title=title,
            section=section,
            banner=alarms.banner,
            letters=alarms.letters,
            catalog_version=None if self.catalog is None else self.catalog.version,
            badges=self.badges,
            managed=self.desk.managed_by_file,
            managed_file=self.desk.catalog_file,
            faults=faults or (),
            **values,
        )

    def part(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A part of a page, for one that is open."""
        return render(
            self.request,
            template,
            actor=self.actor,
            status=status,
            badges=self.badges,
            managed=self.desk.managed_by_file,
            managed_file=self.desk.catalog_file,
            **values,
        )

    def go(self, path: str, said: str = "") -> Response:
        """On to another page after a change, which says what was done."""
        return go(self.request, path, said, actor=self.actor)

    async def missing(self, what: str, help: str, *, section: str, link: str = "/", act: str = "Home") -> Response:
        """404 as a page: what is not there, and where to go."""
        return await self.show(
            "message.html", title=what, section=section, status=404, text=help, link=ROOT + link, act=act
        )


def triggers_of(page: Page) -> list[str]:
    """The event types that some badge listens to, by name."""
    return sorted({name for one in page.badges.values() for name in one.triggers if name != "*"})


def go(request: Request, path: str, said: str = "", *, actor: Actor | None) -> Response:
    """On to another page after a change, which says to who made it what was done."""
    note = f"{'&' if '?' in path else '?'}{urlencode({'said': notes_of(request).seal(said, actor)})}" if said else ""
    return RedirectResponse(f"{ROOT}{path}{note}", 303)


def slug(text: str) -> str:
    """A part of an address."""
    return quote(text, safe="")


def desk_of(request: Request) -> Desk:
    """The desk of the app that serves a request."""
    found: Desk = request.app.state.desk
    return found


async def open_page(request: Request) -> Page:
    """The page of a request."""
    desk = desk_of(request)
    return Page(request, desk, actor_of(request), await desk.catalog())


#: What endpoints write: `async def home(page: Opened)`.
Opened = Annotated[Page, Depends(open_page)]


async def _alarms(request: Request, desk: Desk, badges: Mapping[str, Badge]) -> Alarms:
    """As of some seconds ago: the pages of one process share them."""
    kept: tuple[float, Alarms] | None = getattr(request.app.state, "panel_alarms", None)
    now = monotonic()
    if kept is not None and now - kept[0] < _ALARM_SECONDS:
        return kept[1]
    letters = await desk.reads.panel_count_letters(desk.now() - DAY)
    banner = None
    held = await desk.reads.panel_held_back()
    if held:
        first = held[0]
        badge = badges.get(first.badge_key)
        label = first.badge_key if badge is None else badge.label or badge.key
        counted = "1 award" if first.awards == 1 else f"{many(first.awards)} awards"
        text = f"{counted} of {label} {'is' if first.awards == 1 else 'are'} held back."
        banner = Banner("held", "held", text, f"/awards/quarantine?badge={slug(first.badge_key)}", "Review")
    found = Alarms(banner, letters)
    request.app.state.panel_alarms = (now, found)
    return found
