"""Connections of the HTTP server: their number, their headers, the pace of bodies and answers are bounded."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from worker.admin.answers import as_json
from worker.admin.headers import ALWAYS
from worker.admin.joined import JoinedProtocol
from worker.admin.problems import Problem, unavailable
from worker.metrics import HttpMetrics

#: Address and headers of a request have so many bytes at most.
MOST_HEAD_BYTES: Final = 64 * 1024
#: The headers of a request are here so long after their first byte, those of the first so long after the connection.
HEAD_SECONDS: Final = 15.0
#: In each such time, seconds, so many bytes of a body that is awaited come at least: 1 KiB a second.
BODY_SECONDS: Final = 15.0
LEAST_BODY_BYTES: Final = 15 * 1024
#: In each such time, seconds, so many bytes of an answer that waits in our memory are taken at least.
ANSWER_SECONDS: Final = 15.0
LEAST_ANSWER_BYTES: Final = 15 * 1024
#: So many connections are open at once.
MOST_CONNECTIONS: Final = 1_000


class BoundedConnection(JoinedProtocol):
    """A connection that ends where headers or a body go on and on, or do not come. The parser itself knows no limit."""

    def __init__(self, *args: Any, metrics: HttpMetrics, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refused = metrics.refused
        #: What is not here yet: `head`, `body`, or nothing; each is told from the one before by its number.
        self._awaited: str | None = "head"
        self._number = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._timed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request; say no to one connection too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refused.labels("connections").inc()
            self.transport.write(_FULL)
            self.transport.close()
        else:
            self._await("head")
            self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._await(None)
        self._set_timer()
        self._stop_unread()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, up to the bound while they are headers."""
        if self._awaited == "body":
            self._body_bytes += len(data)
        elif self._awaited is None:
            self._await("head")  # what comes between two requests is the beginning of one
        if self._awaited == "head":
            self._head_bytes += len(data)
            # what was read at once may hold a body too: one piece of the socket is let pass
            if self._head_bytes > MOST_HEAD_BYTES + len(data):
                self._end("head")
                return
        super().data_received(data)
        self._set_timer()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._awaited != "head":
            self._await("head")

    def on_headers_complete(self) -> None:
        """Its headers are here."""
        super().on_headers_complete()
        self._await("body")

    def on_message_complete(self) -> None:
        """All of it is here."""
        super().on_message_complete()
        self._await(None)

    def pause_writing(self) -> None:
        """More of an answer waits than the transport likes: look whether the client takes it."""
        super().pause_writing()
        self._look_at_unread(first=True)

    def resume_writing(self) -> None:
        """It was taken."""
        self._stop_unread()
        super().resume_writing()

    def _look_at_unread(self, *, first: bool = False) -> None:
        size = self.transport.get_write_buffer_size()
        if not first and self._unread_bytes - size < LEAST_ANSWER_BYTES:
            self._refused.labels("slow_reader").inc()
            self.transport.abort()  # to close it would wait until all is taken
            return
        self._unread_bytes = size
        self._unread_timer = self.loop.call_later(ANSWER_SECONDS, self._look_at_unread)

    def _stop_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (says the same of all)
        """Refuse what is no HTTP, in the shape of all refusals."""
        self._refused.labels("not_http").inc()
        self.transport.write(_told(Problem(400, "This is no request as RFC 9112 has it.")))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """A wish for another protocol is passed over, as RFC 9110 has it; it is worth no line in the log."""

    def _await(self, part: str | None) -> None:
        self._awaited = part
        self._number += 1
        self._head_bytes = self._body_bytes = 0

    def _set_timer(self) -> None:
        """Time what is awaited now, once: most requests come whole, and cost no timer."""
        if self._timer is not None:
            if self._timed == self._number:
                return
            self._timer.cancel()
            self._timer = None
        if self._awaited is not None and not self.transport.is_closing():
            self._timed = self._number
            seconds = HEAD_SECONDS if self._awaited == "head" else BODY_SECONDS
            self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """End what did not come; go on where a body came fast enough, or where we are the ones who are slow."""
        self._timer = None
        if self._awaited == "body":
            ours = self.flow.read_paused or self.cycle.waiting_for_100_continue
            if ours or self._body_bytes >= LEAST_BODY_BYTES:
                self._body_bytes = 0
                self._set_timer()
                return
        self._end(f"slow_{self._awaited}")

    def _end(self, limit: str) -> None:
        self._refused.labels(limit).inc()
        self.transport.close()


def _told(problem: Problem) -> bytes:
    """A refusal past the application, as the last bytes of a connection."""
    body, status = as_json(problem.body()), HTTPStatus(problem.status_code)
    headers = {**ALWAYS, **(problem.headers or {}), "content-type": "application/json", "connection": "close"}
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body


_FULL: Final = _told(unavailable("Too many connections are open.", seconds=5))
