"""The handle on a measured process: started, listened to, stopped; a service that vanishes is told from a slow one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Final

import msgspec

from worker.bench.child import Moment, Order
from worker.bench.ground import Ground
from worker.errors import BadgesError, OperatorError
from worker.stream.topics import look

#: Nothing moved for so long: the services are asked whether they are there, seconds.
_QUIET_SECONDS: Final = 5.0
#: Nothing moved for so long although they are: the run is given up, seconds.
_STUCK_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 15.0
_AGAIN: Final = "no figure of this run counts; see to the service and start again"
#: Settings of the surroundings that would make the measured worker another one than asked for.
_NOT_HANDED_ON: Final = ("BADGES_CATALOG", "BADGES_CATALOG_MANAGED", "BADGES_LOG_FORMAT")


class Child:
    """One running child; `expect` waits for what it tells."""

    def __init__(self, process: asyncio.subprocess.Process, ground: Ground, log: Any) -> None:
        self.process = process
        self._ground = ground
        self._log = log

    async def expect(self, event: str) -> Moment:
        """The next moment of this kind; OperatorError where the child fails, a service vanishes or nothing moves."""
        since, applied = monotonic(), -1
        while True:
            moment = await self._next()
            if moment is not None and moment.event == "failed":
                raise OperatorError(moment.message, help=moment.help)
            if moment is not None and moment.event == event:
                return moment
            if moment is not None and moment.applied > applied:
                since, applied = monotonic(), moment.applied
            if monotonic() - since > _QUIET_SECONDS:
                await vanished(self._ground)
            if monotonic() - since > _STUCK_SECONDS:
                raise OperatorError(
                    f"Nothing was applied for {_STUCK_SECONDS:.0f} s although both services answer.",
                    help="see whether another process keeps the machine, the broker or the database busy",
                )

    async def _next(self) -> Moment | None:
        """The next line; None where none came for a while."""
        assert self.process.stdout is not None  # noqa: S101 (opened with a pipe)
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), _QUIET_SECONDS)
        except TimeoutError:
            return None
        if not line:
            await self.process.wait()
            await vanished(self._ground)
            raise OperatorError(f"The measured process ended with {self.process.returncode}: {self._last_words()}")
        return msgspec.json.decode(line, type=Moment)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:500] if lines else "it said nothing"

    async def ask(self) -> Moment:
        """How things stand in the child now."""
        assert self.process.stdin is not None  # noqa: S101 (opened with a pipe)
        self.process.stdin.write(b"\n")
        return await self.expect("asked")

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """The child stands still inside, so that what is sent meanwhile is a backlog."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    async def stop(self) -> None:
        """Close the pipe, which ends the child; by force if that takes too long."""
        if self.process.returncode is not None:
            return
        with suppress(OSError, BrokenPipeError):
            assert self.process.stdin is not None  # noqa: S101 (opened with a pipe)
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self._drained(), _STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _drained(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 (opened with a pipe)
        while await self.process.stdout.readline():
            pass
        await self.process.wait()


@asynccontextmanager
async def child(ground: Ground, order: Order) -> AsyncIterator[Child]:
    """A child at work; ended on leaving, however that comes about."""
    with tempfile.TemporaryFile(prefix="badges-bench-") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker.bench.child",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            env={name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON},
            limit=16 * 1024 * 1024,
            # Ctrl-C is for the command, which then ends its children.
            start_new_session=True,
        )  # fmt: skip
        running = Child(process, ground, log)
        assert process.stdin is not None  # noqa: S101 (opened with a pipe)
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        try:
            await process.stdin.drain()
            yield running
            await running.stop()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                await asyncio.shield(process.wait())


async def vanished(ground: Ground) -> None:
    """Raise OperatorError where one of the services does not answer any more."""
    try:
        await ground.ask("SELECT 1")
    except BadgesError as error:
        raise OperatorError(f"PostgreSQL went away during the bench: {error.message}.", help=_AGAIN) from None
    try:
        await look(ground.settings, (), seconds=10.0)
    except BadgesError as error:
        raise OperatorError(f"Kafka went away during the bench: {error.message}", help=_AGAIN) from None
