"""What `badges admin` counts of its requests: by method, route template and status, and how long answers took."""

from __future__ import annotations

from time import monotonic
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.metrics import HttpMetrics

#: Where an address leads to no route.
NO_ROUTE: Final = "none"
#: The methods that are told apart; a client may send any word as one.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Figures:
    """Counts the requests of one application. Series are looked up once: that takes longer than to count."""

    def __init__(self, metrics: HttpMetrics) -> None:
        self._metrics = metrics
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._running = 0
        metrics.requests_running.set_function(lambda: self._running)

    async def count(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an application answer a request, and count it when the head of the answer goes out.

        A request whose client went away before is not counted.
        """
        began = monotonic()

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                requests, seconds = self._series(scope, message["status"])
                requests.inc()
                seconds.observe(monotonic() - began)
            await send(message)

        self._running += 1
        try:
            await app(scope, receive, answered)
        finally:
            self._running -= 1

    def _series(self, scope: Scope, status: int) -> tuple[Counter, Histogram]:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        key = method, getattr(scope.get("route"), "path_format", NO_ROUTE), status
        found = self._answered.get(key)
        if found is None:
            requests = self._metrics.requests.labels(method, key[1], str(status))
            found = self._answered[key] = requests, self._metrics.request_seconds.labels(key[1])
        return found
