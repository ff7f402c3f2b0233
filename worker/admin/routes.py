"""Routes that are served to nobody by default: each asks its gate, bounds its body and checks its type first."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.admin.admission import Gate, check_room
from worker.admin.limits import Crowd
from worker.admin.problems import Problem
from worker.admin.roles import Actor, Admission, Endpoint, admission_of

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

#: Set to bytes by an endpoint's `@body_limit`; else the app's own limit holds.
_limits: Final[dict[Callable[..., Any], int | None]] = {}


def body_limit(size: int | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give an endpoint a limit of its own for bodies, in bytes; None: it counts by itself while it reads."""

    def declare(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        _limits[endpoint] = size
        return endpoint

    return declare


def few(crowd: Crowd) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let only so many requests run an endpoint at once: for answers that take memory and time."""

    def declare(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        _crowds[endpoint] = crowd
        return endpoint

    return declare


def direct(endpoint: Endpoint) -> Endpoint:
    """Call an endpoint past the framework, with the request as its only argument: for what is asked most.

    It reads its parameters itself, and says in `openapi_extra` what they are.
    """
    _direct.add(endpoint)
    return endpoint


_direct: Final[set[Callable[..., Any]]] = set()
_crowds: Final[dict[Callable[..., Any], Crowd]] = {}


class Guarded(APIRoute):
    """A route that admits before it reads: role and rate first, then the body's type and size."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.admission: Admission = admission_of(endpoint)
        super().__init__(path, endpoint, **options)
        #: The handler of a `@direct` endpoint, with its guard before it.
        self.direct: Handler | None = None
        if endpoint in _direct:
            self.direct = self._guarded(endpoint)
            self.app = _answering(self.direct)

    def get_route_handler(self) -> Handler:
        """The handler with its guard before it."""
        return self._guarded(super().get_route_handler())

    def _guarded(self, handle: Handler) -> Handler:
        admission = self.admission
        own = self.endpoint in _limits
        limit = _limits.get(self.endpoint)
        crowd = _crowds.get(self.endpoint)

        async def guarded(request: Request) -> Response:
            gate: Gate = request.app.state.gate
            most = limit if own else request.app.state.settings.max_body
            if most is not None and has_body(request):
                request = Request(request.scope, _bounded(request, most), request._send)  # noqa: SLF001
            actor = request.state.actor = await gate.admit(request, admission)
            check_type(request, admission.accepts)
            if crowd is None or actor is None:
                return await handle(request)
            check_room(crowd, actor)
            with crowd.joined(actor.key):
                return await handle(request)

        return guarded


def _answering(handle: Handler) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def guarded_router(**options: Any) -> APIRouter:
    """A router whose every route declares who may use it, by `@least` or `@anybody`."""
    return APIRouter(route_class=Guarded, **options)


def actor_of(request: Request) -> Actor:
    """Who asks; only on routes that ask for a role."""
    found: Actor = request.state.actor
    return found


async def _actor(request: Request) -> Actor:
    return actor_of(request)


#: What endpoints write: `async def change(actor: By, …)`.
By = Annotated[Actor, Depends(_actor)]


def has_body(request: Request) -> bool:
    """Whether a request brings a body."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def media_type(request: Request) -> str:
    """The body's media type without parameters, in small letters; empty where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_type(request: Request, accepts: tuple[str, ...]) -> None:
    """Refuse a body of another type (415). One without a type is taken as the first of them."""
    given = media_type(request)
    if has_body(request) and given and given not in accepts:
        raise Problem(415, f"A body of type {given[:100]} is not taken here; send {' or '.join(accepts)}.")


def too_large(most: int) -> Problem:
    """413 for a body above the limit."""
    return Problem(413, f"The body is larger than {most:,} bytes.", limit="body")


def _bounded(request: Request, most: int) -> Receive:
    """The request's body, up to `most` bytes; Problem 413 beyond."""
    receive, read = request.receive, 0
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isascii() and length.isdigit() else 0

    async def bounded() -> Message:
        nonlocal read
        if announced > most:
            raise too_large(most)
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > most:
                raise too_large(most)
        return message

    return bounded
