"""Connections of the HTTP server: too many, and headers and bodies without an end or that do not come."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import uvicorn

from tests.rig.waiting import until
from tests.unit.serving import TOKENS, fakes
from worker.admin.roles import Role
from worker.app import admin, connections
from worker.config import load_settings
from worker.metrics import HttpMetrics

METRICS = HttpMetrics()
MOST = 32 * 1024 * 1024
REQUEST = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    """The API on services in memory, on the server as it is run."""
    desk: Any = None
    server = uvicorn.Server(admin._config(fakes(), load_settings(), desk, METRICS))
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


@pytest.mark.parametrize(("begun", "drop"), [(b"GET /health HTTP/1.1\r\nx: ", b"a"), (b"", b"\r\n")])
async def test_later_headers_come_in_time_too(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, begun: bytes, drop: bytes
) -> None:
    """After an answer the next request has the same time, however often a byte of it comes."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(REQUEST)
    assert b"200 OK" in await reader.readuntil(b"}")
    writer.write(begun)
    assert await asyncio.wait_for(_dripped(reader, writer, drop), 10) == b""
    writer.close()


async def _dripped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drop: bytes) -> bytes:
    """What is answered while drops go out, until the connection ends."""
    answered = b""
    with suppress(ConnectionError):
        while True:
            writer.write(drop)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    part = await reader.read(65_536)
                    if not part:
                        break
                    answered += part
    return answered


def _sending(length: int) -> bytes:
    token = TOKENS[Role.PRODUCER]
    return (
        f"POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/x-ndjson\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


async def test_a_body_that_drips_is_cut_off(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that comes byte by byte ends with its connection, is counted, and is no fault of ours in the log."""
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(_sending(100_000))
    assert await asyncio.wait_for(_dripped(reader, writer, b"\n"), 10) == b""
    writer.close()
    assert METRICS.registry.get_sample_value("badges_http_refused_total", {"limit": "slow_body"}) == 1
    assert caplog.text == ""


async def test_a_body_that_keeps_pace_is_taken(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A long body that comes fast enough may take many times that long."""
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(connections, "LEAST_BODY_BYTES", 20)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(_sending(1_000))
    for _ in range(20):
        writer.write(b"\n" * 50)
        await asyncio.sleep(0.01)
    assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()


async def test_one_connection_too_many(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many connections the next is told when to come again; those that are open go on."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(REQUEST)
    assert b"200 OK" in await reader.readuntil(b"}")
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 1)
    other, others = await asyncio.open_connection(*address)
    told = await asyncio.wait_for(other.read(), 10)
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5" in told
    assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]["code"] == "unavailable"
    others.close()
    writer.write(REQUEST)
    assert b"200 OK" in await reader.readuntil(b"}")
    writer.close()


_FLAWED = {
    "length and chunks": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    "chunks and more": b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "another coding": b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}abc",
    "a signed length": b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\n{}",
    "a space before the colon": b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"GET /health HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
    "a chunk of no size": b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("sent", _FLAWED.values(), ids=_FLAWED)
async def test_what_two_readers_may_read_differently(address: tuple[str, int], sent: bytes) -> None:
    """A request whose end is not certain is refused in the shape of all refusals, and its connection ends there."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent + REQUEST)
    told = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    *_, last = told.split(b"HTTP/1.1 ")
    assert last.startswith(b"400 ")
    assert b"200 OK" not in told
    assert json.loads(last.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    assert b"x-content-type-options: nosniff" in last


async def test_a_wish_for_another_protocol_is_passed_over(
    address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Who asks for web sockets gets the answer to the request, and no line of the log."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(REQUEST[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"}")
    writer.close()
    assert [line.message for line in caplog.records if line.levelno > logging.INFO] == []


async def test_an_answer_that_nobody_takes(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for much and does not read it is cut off: the answers would stay in our memory as long as they like."""
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.3)
    counted = partial(METRICS.registry.get_sample_value, "badges_http_refused_total", {"limit": "slow_reader"})
    token = f"authorization: Bearer {TOKENS[Role.READER]}\r\n\r\n".encode()
    asked = REQUEST.replace(b"/health", b"/openapi.json")[:-2] + token
    with socket.create_connection(address) as client:
        client.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, asked * 300)
        await until(counted, "the connection cut off")
        with suppress(ConnectionError):
            while await loop.sock_recv(client, 1 << 20):
                pass
    assert counted() == 1
