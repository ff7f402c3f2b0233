"""What `badges admin` counts of its requests: by method, route template and status, and how long answers took."""

from __future__ import annotations

from time import monotonic
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.metrics import HttpMetrics

#: Where an address leads to no route.
NO_ROUTE: Final = "none"
#: The methods that are told apart; a client may send any word as one.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def counted(metrics: HttpMetrics, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an application answer a request, and count it when the head of the answer goes out.

    A request whose client went away before is not counted.
    """
    began = monotonic()

    async def answered(message: Message) -> None:
        if message["type"] == "http.response.start":
            route = getattr(scope.get("route"), "path_format", NO_ROUTE)
            method = scope["method"]
            metrics.requests.labels(method if method in _METHODS else "other", route, str(message["status"])).inc()
            metrics.request_seconds.labels(route).observe(monotonic() - began)
        await send(message)

    metrics.requests_running.inc()
    try:
        await app(scope, receive, answered)
    finally:
        metrics.requests_running.dec()
