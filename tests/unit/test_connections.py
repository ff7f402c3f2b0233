"""Connections of the HTTP server: headers without an end, and headers that do not come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from tests.rig.waiting import until
from tests.unit.serving import fakes
from worker.app import admin, connections
from worker.config import load_settings
from worker.metrics import HttpMetrics

MOST = 32 * 1024 * 1024
REQUEST = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    """The API on services in memory, on the server as it is run."""
    desk: Any = None
    server = uvicorn.Server(admin._config(fakes(), load_settings(), desk, HttpMetrics()))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(admin._serve(server, listening))
        await until(lambda: server.started, "serving")
        yield listening.getsockname()
        server.should_exit = True
        await serving


async def _endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Send headers until the connection is closed, or too many are taken: the bytes sent."""
    sent = 0
    writer.write(REQUEST[:-2])
    try:
        while sent < MOST:
            writer.write(b"x: " + b"a" * 60_000 + b"\r\n")
            await writer.drain()
            sent += 60_000
    except ConnectionError:
        pass
    return sent


async def test_headers_have_an_end(address: tuple[str, int]) -> None:
    """Some 40 KiB of headers are taken, one request after the other; a connection that sends on and on is closed."""
    reader, writer = await asyncio.open_connection(*address)
    long = REQUEST[:-2] + b"".join(b"x%d: %s\r\n" % (number, b"a" * 4_000) for number in range(10)) + b"\r\n"
    for request in (REQUEST, long, long, REQUEST):
        writer.write(request)
        assert b"200 OK" in await reader.readuntil(b"}")
    sent = await _endless(reader, writer)
    assert sent < MOST
    writer.close()


async def test_who_sends_no_headers_is_sent_away(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose first request does not come is closed after a while."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(REQUEST[:20])
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
