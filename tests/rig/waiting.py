"""Waiting for a condition, with a deadline that says what was waited for; and for processes to be up, and gone."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


async def until(
    condition: Callable[[], object], what: str | Callable[[], str], *, seconds: float = 30.0, every: float = 0.005
) -> Any:
    """What `condition()` gives, awaited where it is to be, once it is true; AssertionError with `what` after `seconds`.

    A condition that asks a service gives `every` a greater value, seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() >= deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"{said} did not happen within {seconds:g} s")
        await asyncio.sleep(every)


def came(condition: Callable[[], object], *, seconds: float) -> bool:
    """Whether a condition came true within `seconds`, for who has no loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def until_up(process: subprocess.Popen[Any], answers: Callable[[], bool], log: Path, *, seconds: float = 60.0) -> None:
    """Return once a program that was started answers; AssertionError with the end of its log if it ends or is late."""
    in_time = came(lambda: process.poll() is not None or answers(), seconds=seconds)
    assert process.poll() is None, log.read_text()[-4000:]
    assert in_time, f"no answer within {seconds:g} s: {log.read_text()[-4000:]}"


def serve_until_ready(command: Sequence[str], folder: Path, environ: Mapping[str, str], address: str) -> None:
    """Start a program, wait until it says at `address` that it is ready, stop it as an orchestrator would."""
    # Its log is a file and no pipe: what nobody reads while it runs must not hold it up.
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(command, cwd=folder, env=environ, stderr=log) as process,
    ):
        try:
            until_up(process, lambda: says_ready(address), Path(log.name))
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=25) == 0, Path(log.name).read_text()[-4000:]
        finally:
            process.kill()


def says_ready(address: str) -> bool:
    """Whether a service says that it is ready."""
    with suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def alive(pid: int) -> bool:
    """Whether a process runs (one that only waits to be reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
