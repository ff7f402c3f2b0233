"""The parent of several worker processes: starts, watches, restarts and stops them, and answers for them over HTTP.

Theory of operation. Each child is a whole worker and a member of the consumer group; the parent holds no state and
touches neither broker nor database. A child reports every second over a socket pair. Its end (the socket closes) is
noticed at once, its silence after 30 s; what follows is decided in `policy`. The first child is up, with the catalog
applied, before the others start. A child that loses its parent stops by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

import structlog
from prometheus_client import CollectorRegistry

from worker.health import HealthServer
from worker.metrics import SupervisorMetrics
from worker.supervise.channel import METRICS_FOLDER, MOST_BYTES, STARTING, Refusal, Report, decode
from worker.supervise.figures import SharedFiles, forget_gauges
from worker.supervise.policy import HANG_SECONDS, Looks, Restarts, Watch, unready

log = structlog.get_logger(__name__)

#: How often the parent looks for children that hang, seconds.
LOOK_SECONDS = 1.0
#: Children have so long to stop (decisions 30: 25 s with a service down); then they are killed, which is safe, seconds.
STOP_SECONDS = 25.0
#: A child that has closed its socket is about to end; where it does not, it is killed, seconds.
END_SECONDS = 5.0

#: The command line of a child, from its number and the handle of its socket.
Command = Callable[[int, int], Sequence[str]]


class Child:
    """One place among the children, and the process that fills it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.watch = Watch()
        self.restarts = Restarts()
        self.process: asyncio.subprocess.Process | None = None
        self.refusal: Refusal | None = None

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the process, if one runs."""
        process = self.process
        if process is None or process.returncode is not None:
            return False
        with suppress(ProcessLookupError):
            process.send_signal(number)
        return True


class Supervisor:
    """`processes` children, each started by `command`; metrics and health of all on one port.

    `run` returns after `stop` was called and all ended, or raises what a child said a person must do.
    """

    def __init__(self, command: Command, *, processes: int, host: str, port: int) -> None:
        self.command = command
        self.host = host
        self.port = port
        self.children = [Child(number) for number in range(1, processes + 1)]
        self.registry = CollectorRegistry()
        self.metrics = SupervisorMetrics(self.registry)
        self._looks = Looks([child.watch for child in self.children])
        self._stop = asyncio.Event()
        self._first_up = asyncio.Event()
        self._worked = False
        self._clean = True
        self._folder = ""
        self._looked = monotonic()

    def stop(self) -> None:
        """Ask for the end; safe to call from a signal handler."""
        self._stop.set()

    def kill(self) -> None:
        """End all children at once; always safe, the database holds the truth."""
        for child in self.children:
            child.send(signal.SIGKILL)

    async def run(self) -> bool:
        """Serve until `stop`; whether every child then ended as asked. Health answers from the first moment on."""
        with tempfile.TemporaryDirectory(prefix="badges-metrics-", ignore_cleanup_errors=True) as folder:
            self._folder = folder
            self.registry.register(SharedFiles(folder))
            server = HealthServer(self.host, self.port, registry=self.registry, live=self._live, ready=self._ready)
            self.port = server.port
            log.info("health_served", host=self.host, port=server.port, processes=len(self.children))
            try:
                await self._serve()
            finally:
                server.close()
        return self._clean

    async def _serve(self) -> None:
        keepers = {asyncio.create_task(self._keep(child), name=f"child-{child.number}") for child in self.children}
        looking = asyncio.create_task(self._look(), name="look")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*keepers, looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(keepers)
            for task in (looking, stopping):
                task.cancel()
        failures = [task.exception() for task in (*keepers, *done - {stopping}) if task.done() and not task.cancelled()]
        for failure in filter(None, failures):
            raise failure

    async def _end(self, keepers: set[asyncio.Task[None]]) -> None:
        """Ask every child to stop, kill those that take too long, and wait until all are gone."""
        self._stop.set()
        log.info("processes_stop")
        for child in self.children:
            child.send(signal.SIGTERM)
        _, late = await asyncio.wait(keepers, timeout=STOP_SECONDS)
        for child in self.children:
            if late and child.send(signal.SIGKILL):
                self._clean = False
                log.error("process_killed", process=child.number, reason=f"it did not stop within {STOP_SECONDS:g} s")
        if late:
            await asyncio.wait(late, timeout=END_SECONDS)
        log.info("processes_stopped")

    # ---- one child --------------------------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        """Start the child, again and again, until the end; raises what only a person can mend."""
        if child is not self.children[0]:
            await self._pause(self._first_up, None)
        while not self._stop.is_set():
            code = await self._run(child)
            ended = child.watch.ended(monotonic(), refused=child.refusal is not None)
            self._worked = self._worked or ended.ready_seconds is not None
            if self._stop.is_set():
                # one that had not yet learned to stop gracefully ends by the signal itself
                self._clean = self._clean and code in (0, -signal.SIGTERM)
                return
            pause = child.restarts.pause_after(ended, worked=self._worked)
            if child.refusal is not None:
                if pause is None:
                    raise child.refusal
                log.warning("process_refused", process=child.number, reason=child.refusal.message, seconds=pause)
            else:
                log.error("process_ended", process=child.number, status=_status(code), seconds=pause)
            await self._pause(self._stop, pause)
            if not self._stop.is_set():
                self.metrics.restarts.inc()

    async def _run(self, child: Child) -> int:
        """One process from start to end; its exit status, negative for a signal."""
        child.refusal = None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child.process = process = await self._start(child, theirs.fileno())
            except OSError as error:
                # the machine is short of memory or processes: that may pass
                ours.close()
                log.warning("process_not_started", process=child.number, reason=error.strerror)
                return 1
        child.watch.begun(monotonic())
        log.info("process_started", process=child.number, pid=process.pid)
        if self._stop.is_set():
            child.send(signal.SIGTERM)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MOST_BYTES)
        try:
            await self._listen(child, reader)
            await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=END_SECONDS)
        finally:
            child.send(signal.SIGKILL)
            code = await process.wait()
            writer.close()
            forget_gauges(child.number, self._folder)
        return code

    async def _start(self, child: Child, handle: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command(child.number, handle),
            pass_fds=(handle,),
            stdin=asyncio.subprocess.DEVNULL,
            # a terminal's Ctrl-C reaches the parent alone, which then asks each child once
            start_new_session=True,
            env={**os.environ, METRICS_FOLDER: self._folder},
        )

    async def _listen(self, child: Child, reader: asyncio.StreamReader) -> None:
        """Take in what the child says until its end of the channel closes."""
        while True:
            try:
                line = await reader.readline()
                said = decode(line) if line else None
            except (ValueError, TypeError, OSError):
                log.warning("process_unclear", process=child.number)
                return
            if said is None:
                return
            if isinstance(said, Report):
                child.watch.heard(monotonic(), said.unready)
                self._worked = self._worked or said.unready is None
                if said.unready != STARTING:
                    self._first_up.set()
            else:
                child.refusal = said

    async def _pause(self, event: asyncio.Event, seconds: float | None) -> None:
        """Wait for an event or the end, at most so long."""
        waiting = {asyncio.create_task(self._stop.wait()), asyncio.create_task(event.wait())}
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    # ---- what is seen -----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            self._looked = monotonic()
            for index in self._looks.hanging(self._looked):
                child = self.children[index]
                log.error("process_hangs", process=child.number, seconds=round(self._looked - child.watch.heard_at))
                child.send(signal.SIGKILL)
            self.metrics.ready.set(sum(child.watch.unready is None for child in self.children))
            await asyncio.sleep(LOOK_SECONDS)

    def _live(self) -> str | None:
        now = monotonic()
        if now - self._looked > HANG_SECONDS:
            return f"the event loop has not turned for {now - self._looked:.0f} s"
        for child in self.children:
            if (silent := child.watch.hangs(now)) is not None:
                return f"process {child.number}: the event loop has not turned for {silent:.0f} s"
        return None

    def _ready(self) -> str | None:
        if self._stop.is_set():
            return "stopping"
        return unready([child.watch for child in self.children]) or self._live()


def _status(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
