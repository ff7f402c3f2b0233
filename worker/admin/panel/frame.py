"""Renders pages: the templates, what every page shows around its own content, and the headers it goes out with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from worker.admin.panel import addresses, drawing, phrasing
from worker.admin.panel.notes import notes_of
from worker.admin.roles import Actor, Role
from worker.admin.sessions import CSRF_FIELD, csrf_token
from worker.events import json_text

ROOT: Final = "/panel"
SECTIONS: Final = (
    ("Home", "/"),
    ("Catalog", "/catalog"),
    ("Users", "/users"),
    ("Awards", "/awards"),
    ("Jobs", "/jobs"),
    ("Dead letters", "/dead-letters"),
    ("Diagnostics", "/diagnostics"),
    ("Settings", "/settings"),
)
#: What a browser may load and do on a page of the panel; nothing inline, nothing from elsewhere but https pictures.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; media-src 'self' https:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: So many pages before it an address of a list remembers.
_BACK: Final = 20
FOLDER: Final = Path(str(files("worker.admin.panel")))


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is in the way of a form; `field` is the id of what to mend."""

    message: str
    field: str = ""
    help: str = ""


@dataclass(frozen=True, slots=True)
class Banner:
    """The worst thing there is, above every page."""

    word: str
    kind: str
    text: str
    path: str
    act: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The other pages of a list, as queries: the first, the one before and the one behind; None where there is none.

    `first` is None, too, where the page before is the first.
    """

    first: str | None
    newer: str | None
    older: str | None


def zone_of(request: Request) -> ZoneInfo | None:
    """The reader's zone, by the cookie that the browser set; None before, and where it names none."""
    return zone_named(unquote(request.cookies.get("tz", ""))[:64])


def zone_named(name: str) -> ZoneInfo | None:
    """A zone of the IANA database; None where it has none of the name."""
    return ZoneInfo(name) if name in _zones() else None


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def render(
    request: Request,
    template: str,
    *,
    actor: Actor | None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """A page, or a part of one, as HTML; every value is escaped unless it was drawn here."""
    zone = zone_of(request)
    defaults: dict[str, Any] = {
        "root": ROOT,
        "sections": SECTIONS,
        "section": "",
        "title": "",
        "faults": (),
        "said": notes_of(request).read(request.query_params.get("said", ""), actor),
        "banner": None,
        "live": False,
        "letters": 0,
        "catalog_version": None,
        "program_version": _program_version(),
        "zone_name": "UTC" if zone is None else zone.key,
        "visitor": actor,
        "may": lambda *roles: actor is not None and any(actor.may(Role(one)) for one in roles),
        "csrf_field": lambda: _csrf_field(request),
        "when": lambda us, ago=True: phrasing.time_tag(us, zone, ago=ago),
        "query": _query(request),
        "turn": _turned(request),
    }
    text = environment().get_template(template).render({**defaults, **values})
    return HTMLResponse(text, status, headers={**_HEADERS, **(headers or {})})


def inside(address: str) -> str:
    """An address of the panel; everything else, what is no address too, leads home."""
    given = address[:2000]
    try:
        parts = urlsplit(given)
    except ValueError:
        return f"{ROOT}/"
    safe = not parts.scheme and not parts.netloc and parts.path.startswith(f"{ROOT}/") and "\\" not in given
    return given if safe and not given.startswith("//") else f"{ROOT}/"


def is_fragment(request: Request) -> bool:
    """Whether the page asks for a part of itself; who opens its address gets the whole page."""
    return request.headers.get("HX-Request") == "true"


def _csrf_field(request: Request) -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, csrf_token(request))


def _query(request: Request) -> Any:
    """Makes this page's address with some parameters changed; those set to None or "" go away."""

    def changed(**values: Any) -> str:
        left = {name: value for name, value in request.query_params.items() if name not in {*values, "said", "back"}}
        left.update({name: str(value) for name, value in values.items() if value not in (None, "")})
        return "?" + urlencode(left)

    return changed


def _turned(request: Request) -> Any:
    """Makes the addresses of a list's pages, which begin at a key; each says, in `back`, how those before it began."""

    def turned(name: str, older: object = None, **more: str) -> Turn:
        given = request.query_params
        left = {key: value for key, value in given.items() if key not in {name, "said", "back"}} | more

        def at(place: str, behind: Sequence[str]) -> str:
            begins = [(name, place)] if place else []
            return "?" + urlencode([*left.items(), *begins, *(("back", one) for one in behind)])

        here, back = given.get(name, ""), given.getlist("back")[-_BACK:]
        newer = at(back[-1], back[:-1]) if here and back else None
        first = at("", []) if here else None
        return Turn(
            None if first == newer else first,
            newer,
            None if older in (None, "") else at(str(older), [*back, here][-_BACK:]),
        )

    return turned


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates: autoescaped, a name that is missing is a fault."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        number=phrasing.number,
        many=phrasing.many,
        plural=phrasing.plural,
        span=phrasing.span,
        size=phrasing.size,
        json=json_text.dumps,
    )
    made.globals.update(
        static=static_address,
        draw_tag=drawing.tag,
        spark=drawing.spark,
        tile=drawing.tile,
        tile_of=tile_of,
        user_at=_user_at,
        user_field=addresses.user_field,
        percent=phrasing.percent,
    )
    return made


def warm() -> None:
    """Compile every template, which the first page of a process would wait for."""
    for name in environment().list_templates():
        environment().get_template(name)


def _user_at(user_id: str, *steps: str, part: bool = False, **asked: Any) -> str:
    """The address of a user's page, of one below it, or of the part that follows it."""
    return f"{ROOT}{'/_' if part else ''}{addresses.user_address(user_id, *steps, **asked)}"


def tile_of(badge: Any, size: int, share: float | None = None) -> Markup:
    """The tile of a badge of the catalog."""
    return drawing.tile(
        size,
        label=badge.label or badge.key,
        icon=badge.icon,
        colour=badge.color,
        tier=badge.tier,
        image_url=badge.image_url,
        status=badge.status,
        share=share,
    )


def static_address(name: str) -> str:
    """The address of a static file, which changes when the file does."""
    return f"{ROOT}/static/{name}?v={_digest(name)}"


@lru_cache(maxsize=64)
def _digest(name: str) -> str:
    return hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:12]


@lru_cache(maxsize=1)
def _program_version() -> str:
    return metadata.version("badgestream")


def in_script(data: Any) -> Markup:
    """JSON that can stand in an element of the page: nothing in it ends the element."""
    return Markup(json_text.dumps(data).replace("<", "\\u003c"))  # noqa: S704 (no "<" is left)
