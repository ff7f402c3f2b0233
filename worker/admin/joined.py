"""Connections of the HTTP server that write a whole answer at once: each write is a call of the kernel."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: So many bytes are held at most.
_MOST: Final = 64 * 1024


class JoinedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on a transport that joins the head of an answer and its body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(cast("asyncio.Transport", Joined(transport, self.loop)))


class Joined:
    """A transport that writes in one go what it is given within a turn of the loop; all else is the transport's own.

    Bytes are in the order given, and none is held back longer than until the loop's next turn. More than `_MOST` bytes
    are written at once, so that the transport's own limits hold.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write with what else comes in this turn."""
        if not data:
            return
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MOST:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            if not self._transport.is_closing():  # the client may have gone meanwhile
                self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        """Close when all is written."""
        self.flush()
        self._transport.close()
