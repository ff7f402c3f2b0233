"""Answers leave whole: what is written within a turn of the loop is written at once, in order, before the end."""

from __future__ import annotations

import asyncio
from typing import Any

from worker.admin.joined import Joined


class Wire:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def joined(wire: Wire) -> Any:
    """The wire behind a joining transport, on the running loop."""
    return Joined(wire, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_a_head_and_its_body_are_one_write() -> None:
    """Two writes of one turn are one of the transport; the next turn's is another."""
    wire = Wire()
    transport = joined(wire)
    transport.write(b"head ")
    transport.write(b"")
    transport.write(b"body")
    assert wire.written == []
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.written == [b"head body", b"next"]


async def test_nothing_is_lost_at_the_end_and_nothing_written_after_it() -> None:
    """Closing writes what is held first; what is held when the client goes is let go."""
    wire, gone = Wire(), Wire()
    transport = joined(wire)
    transport.write(b"last")
    transport.close()
    left = joined(gone)
    left.write(b"late")
    gone.closed = True
    await asyncio.sleep(0)
    assert (wire.written, wire.closed, gone.written) == ([b"last"], True, [])


async def test_much_is_not_held() -> None:
    """More than 64 KiB go out at once, so that the transport can say that it is full."""
    wire = Wire()
    transport = joined(wire)
    transport.write(b"x" * 40_000)
    transport.write(b"x" * 40_000)
    assert [len(data) for data in wire.written] == [80_000]
    assert transport.closed is False
