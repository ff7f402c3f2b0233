"""The child process as its parent sees it: started when it is asked, killed at its deadline, asked in batches."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

from worker.errors import OperatorError, TransientError
from worker.events import json_text

#: A call is stopped in the child after 0.25 s; a child that says nothing for so long hangs in one step of the engine.
KILL_SECONDS: Final = 1.0
START_SECONDS: Final = 30.0
#: Who was silent without computing for half of the time had no processor: it is waited for, so many times as long.
PATIENCE: Final = 10

_SCRIPT: Final = Path(__file__).with_name("child.py")
_LENGTH: Final = struct.Struct(">I")
_READ_BYTES: Final = 64 * 1024
_WORDS: Final = {b"true": True, b"false": False}


class Died(Exception):
    """The child ended, or was killed because it hung, before it gave its next reply."""


def check_engine() -> None:
    """Raises OperatorError where the engine is not installed."""
    if importlib.util.find_spec("jsbox") is None:
        raise OperatorError(
            "Conditions in JavaScript need the package jsbox, which is not installed.",
            help="install badgestream with its extra: pip install 'badgestream[js]'",
        )


class Child:
    """One process that runs conditions; `request` starts it where there is none. One request at a time.

    `known` are the hashes of the conditions that it was given; they are gone with the process.
    """

    def __init__(self, *, kill_seconds: float = KILL_SECONDS) -> None:
        self.known: set[str] = set()
        self.starts = 0
        self._kill_seconds = kill_seconds
        self._process: Process | None = None
        self._ready = False

    @property
    def pid(self) -> int | None:
        """The number of the process; None where there is none that is ready."""
        return self._process.pid if self._process is not None and self._ready else None

    async def request(self, request: Mapping[str, Any], count: int) -> AsyncGenerator[list[bool | str | None], None]:
        """The replies, in bundles as they come; None where the child had no time. Raises Died where the next does not
        come in time, though the child had a processor; TransientError where no child can be started.

        Who does not take all replies must `stop` the child.
        """
        process = self._process or await self._started()
        body = json_text.dumps(request).encode()
        assert process.stdin is not None  # noqa: S101 (PIPE)
        try:
            process.stdin.write(_LENGTH.pack(len(body)) + body)
            await process.stdin.drain()
        except (ConnectionError, BrokenPipeError):
            await self.stop()
            raise Died from None
        buffer, left = b"", count
        while left:
            buffer += await self._read(process, self._kill_seconds)
            bundle, buffer = _replies(buffer)
            left -= len(bundle)
            yield bundle

    async def _started(self) -> Process:
        check_engine()
        self.starts += 1
        try:
            # Isolated, and with no environment: neither secrets nor settings are within reach.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(_SCRIPT), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}
            )
        except OSError as error:
            raise TransientError(f"the process for conditions cannot be started: {error}") from None
        self._process = process
        try:
            ready = await self._read(process, START_SECONDS)
        except Died:
            ready = b""
        if ready != _LENGTH.pack(4) + b"true":
            await self.stop()
            raise TransientError("the process for conditions ended before it was ready")
        self._ready = True
        return process

    async def _read(self, process: Process, seconds: float) -> bytes:
        assert process.stdout is not None  # noqa: S101 (PIPE)
        data, spent = b"", processor_seconds(process.pid)
        for _ in range(PATIENCE):
            try:
                async with asyncio.timeout(seconds):
                    data = await process.stdout.read(_READ_BYTES)
                break
            except TimeoutError:
                now = processor_seconds(process.pid)
                if spent is None or now is None or now - spent >= seconds / 2:
                    break
        if not data:
            await self.stop()
            raise Died
        return data

    async def stop(self) -> None:
        """Kill the process, if there is one, and wait for its end."""
        process, self._process, self._ready = self._process, None, False
        self.known.clear()
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        assert process.stdin is not None  # noqa: S101 (PIPE)
        process.stdin.close()
        await process.wait()
        with contextlib.suppress(ConnectionError):
            await process.stdin.wait_closed()


def processor_seconds(pid: int) -> float | None:
    """The processor time that a process has taken so far; None where the system does not tell."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        user, system = told.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


def _replies(buffer: bytes) -> tuple[list[bool | str | None], bytes]:
    """The whole frames at the beginning of what was read, and the rest."""
    found: list[bool | str | None] = []
    at, end = 0, len(buffer)
    while end - at >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer, at)
        if end - at < _LENGTH.size + length:
            break
        text = buffer[at + _LENGTH.size : at + _LENGTH.size + length]
        found.append(_WORDS[text] if text in _WORDS else json.loads(text))
        at += _LENGTH.size + length
    return found, buffer[at:]
