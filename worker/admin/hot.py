"""The application with a short way for what is asked most: programs with a token go past the framework's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from worker.admin.figures import Figures
from worker.admin.headers import add_safe
from worker.admin.problems import Problem, answer, foreseen, shaped
from worker.admin.routes import Guarded, Handler

#: The address of a request has so many parameters at most.
MOST_PARAMETERS: Final = 200


class Application(FastAPI):
    """FastAPI that answers `@direct` endpoints itself where a request brings `Authorization`.

    The same guard, handler, headers and refusals as on the long way; what is left out is the search for the route,
    the session, which such a request does not have, and the framework's own layers.
    """

    def __init__(self, figures: Figures, **options: Any) -> None:
        super().__init__(**options)
        self._figures = figures
        self._short: Sequence[tuple[Guarded, Handler]] = ()

    def shorten(self) -> None:
        """Find the short way of every `@direct` route; call it when all routes are added.

        A route before them that takes the same addresses would be passed over: put direct routes first.
        """
        found = [route for route in self.routes if isinstance(route, Guarded)]
        self._short = [(route, route.direct) for route in found if route.direct is not None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await self._figures.count(self._answer, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it by the short way, or by the long one."""
        if (fault := _strange(scope)) is not None:
            await _send(answer(Problem(400, fault)), scope, send)
            return
        if not scope.get("root_path"):
            method, path = scope["method"], scope["path"]
            for route, handle in self._short:
                if method in (route.methods or ()) and (found := route.path_regex.match(path)) is not None:
                    headers = _Looked(scope)
                    if "authorization" not in headers:
                        break
                    scope["app"], scope["route"] = self, route
                    scope["path_params"] = found.groupdict()
                    request = Request(scope, receive, send)
                    request._headers = headers  # noqa: SLF001 (where starlette keeps them)
                    await _serve(request, handle, send)
                    return
        await super().__call__(scope, receive, send)


async def _serve(request: Request, handle: Handler, send: Send) -> None:
    """Answer a request; what was not foreseen is answered too, and goes on to the server, which logs it."""
    fault: Exception | None = None
    try:
        response = await handle(request)
    except Exception as error:  # noqa: BLE001 (raised again below where it is a fault)
        response = await shaped(request, error)
        fault = None if foreseen(error) else error
    await _send(response, request.scope, send)
    if fault is not None:
        raise fault


async def _send(response: Response, scope: Scope, send: Send) -> None:
    """Send an answer that is at hand, with the headers of all."""
    raw = response.raw_headers
    add_safe(raw, secure=scope.get("scheme") == "https")
    start: Message = {"type": "http.response.start", "status": response.status_code, "headers": raw}
    await send(start)
    await send({"type": "http.response.body", "body": response.body})


def _strange(scope: Scope) -> str | None:
    """Why a request is refused whatever it asks: no one host that it is for, or parameters beyond all use."""
    hosts = sum(name == b"host" for name, _ in scope["headers"])
    if hosts != 1 and (hosts > 1 or scope.get("http_version") != "1.0"):
        return "A request names one Host."  # a proxy before us may go by another one than we
    if scope["query_string"].count(b"&") >= MOST_PARAMETERS:
        return f"The address has more than {MOST_PARAMETERS} parameters."
    return None


class _Looked(Headers):
    """A request's headers, decoded once: a handful of them is asked for by every guard and handler."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._found: dict[str, str] = {}
        for name, value in self._list:
            self._found.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    def __getitem__(self, key: str) -> str:
        return self._found[key.lower()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._found

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a header."""
        return self._found.get(key.lower(), default)
