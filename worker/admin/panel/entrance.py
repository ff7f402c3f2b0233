"""The way in and out of the panel, its static files, and refusals as pages."""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePosixPath
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Form, Request
from starlette.responses import RedirectResponse, Response

from worker.admin import sessions
from worker.admin.admission import Gate, check_origin
from worker.admin.panel.frame import FOLDER, ROOT, Wrong, inside, is_fragment, render
from worker.admin.panel.page import go
from worker.admin.problems import Problem, request_id
from worker.admin.roles import FORM, Actor, Role, anybody, least
from worker.admin.routes import By, guarded_router
from worker.admin.services import Asked, note_login, settings_of
from worker.exchange import AuditLine

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: Refusals that pass: the same request may be answered a moment later.
_PASSING: Final = frozenset({429, 500, 503})
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webm": "video/webm",
}


@router.get("")
@anybody()
async def root() -> Response:
    """The panel's address as people type it."""
    return RedirectResponse(f"{ROOT}/", 307)


@router.get("/static/{path:path}")
@anybody()
async def static(path: str) -> Response:
    """A file of the panel; its address changes when it does, so that browsers may keep it."""
    found = _files().get(path)
    if found is None:
        raise Problem(404, "There is no such file.")
    kept = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(found, media_type=_TYPES[PurePosixPath(path).suffix], headers=kept)


@lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    top = FOLDER / "static"
    return {file.relative_to(top).as_posix(): file.read_bytes() for file in top.rglob("*") if file.suffix in _TYPES}


@router.get("/login")
@anybody()
async def login_page(request: Request, next: str = "") -> Response:
    """The form."""
    return _form(request, next)


@router.post("/login")
@anybody(accepts=FORM)
async def login(
    request: Request, services: Asked, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = ""
) -> Response:
    """Begin a session for who has a token."""
    check_origin(request)
    gate: Gate = request.app.state.gate
    actor = await gate.by_token(request, token.strip())
    if actor is None:
        wrong = Wrong("This token is not known, or was revoked.", "f-token", "badges tokens create makes one.")
        return _form(request, next, wrong=wrong)
    await note_login(services, actor, "token")
    sessions.begin(request, actor, at=services.now())
    return RedirectResponse(inside(next), 303)


@router.post("/logout")
@least(Role.READER, accepts=FORM)
async def logout(request: Request, actor: By) -> Response:
    """End the session."""
    if actor.via == "session":
        gate: Gate = request.app.state.gate
        await gate.ended.end(request, AuditLine(actor.name, "session.ended", "panel"))
    return go(request, "/login", "Logged out", actor=None)


def _form(request: Request, next: str, *, wrong: Wrong | None = None) -> Response:
    oidc = settings_of(request).oidc_issuer
    return render(
        request,
        "login.html",
        actor=None,
        status=200 if wrong is None else 401,
        title="Log in",
        next=inside(next),
        oidc=oidc,
        faults=() if wrong is None else (wrong,),
    )


def page_problem(request: Request, problem: Problem) -> Response | None:
    """A refusal below `/panel` as a page, as a note for an open one, or as the way in; None elsewhere."""
    path = request.scope["path"]
    if not path.startswith(f"{ROOT}/"):
        return None
    asked = request.scope["query_string"].decode("latin-1")
    to = f"{ROOT}/login?next={quote(quote(path) + (f'?{asked}' if asked else ''))}"
    headers = dict(problem.headers or {})
    if problem.status_code == 401:
        if is_fragment(request):
            return Response(status_code=401, headers={"HX-Redirect": to})
        return RedirectResponse(to if request.method == "GET" else f"{ROOT}/login", 303)
    found = getattr(request.state, "actor", None)
    actor = found if isinstance(found, Actor) else None
    if is_fragment(request):
        headers |= {"HX-Retarget": "#notice", "HX-Reswap": "innerHTML"}
        template = "notice.html"
    else:
        template = "problem.html"
    return render(
        request, template, actor=actor, status=problem.status_code, headers=headers, title=_title(problem),
        problem=problem, request_id=request_id(request), again=_again(request, problem, asked),
    )  # fmt: skip


def _again(request: Request, problem: Problem, asked: str) -> str | None:
    """The address to ask once more where that may help: of a page that was only looked at. "" : by who sent a form."""
    if problem.status_code not in _PASSING:
        return None
    path = quote(request.scope["path"])
    return inside(path + (f"?{asked}" if asked else "")) if request.method == "GET" else ""


def _title(problem: Problem) -> str:
    return {
        403: "Not allowed",
        404: "Nothing here",
        409: "Somebody else was faster",
        413: "Too large",
        422: "Something is not as it must be",
        429: "Too many requests",
        503: "A service is away",
    }.get(problem.status_code, "This did not work")
