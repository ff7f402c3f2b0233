"""Connections of the HTTP server: what comes before a request's body is bounded, in bytes and in time."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from worker.admin.joined import JoinedProtocol

#: Address and headers of a request have so many bytes at most.
MOST_HEAD_BYTES: Final = 64 * 1024
#: A connection's first request has its headers here within so many seconds.
HEAD_SECONDS: Final = 15.0


class BoundedConnection(JoinedProtocol):
    """A connection that ends where headers go on and on, or do not come. The parser itself knows no limit."""

    _head_bytes = 0
    _in_head = True
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, up to the bound while they are headers."""
        if self._in_head:
            self._head_bytes += len(data)
            # what was read at once may hold a body too: one piece of the socket is let pass
            if self._head_bytes > MOST_HEAD_BYTES + len(data):
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Its headers are here."""
        self._in_head = False
        if self._late is not None:
            self._late.cancel()
            self._late = None
        super().on_headers_complete()
