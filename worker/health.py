"""Serves `/metrics`, `/livez` and `/readyz` from a thread: a busy loop still answers, a dead one is noticed."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from worker.errors import OperatorError

#: Says why something is not well; None where it is.
Check = Callable[[], str | None]


class HealthServer:
    """A small HTTP server on a thread of its own; `port` is the one taken where 0 was asked for."""

    def __init__(self, host: str, port: int, *, registry: CollectorRegistry, live: Check, ready: Check) -> None:
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(registry, live, ready))
        except OSError as error:
            raise OperatorError(
                f"Metrics and health cannot listen on {host}:{port}: {error.strerror or error}.",
                help="set BADGES_METRICS_PORT to a free port (0 takes any) or BADGES_METRICS_HOST to an own address",
            ) from None
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(registry: CollectorRegistry, live: Check, ready: Check) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "badgestream"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif path == "/livez":
                self._say(live())
            elif path == "/readyz":
                self._say(ready())
            else:
                self._answer(404, b"not found: /metrics, /livez and /readyz are here\n")

        def _say(self, fault: str | None) -> None:
            self._answer(200 if fault is None else 503, f"{fault or 'ok'}\n".encode())

        def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds; they are not logged."""

    return Handler
