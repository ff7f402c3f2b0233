"""The measured process: a worker, the floor, a backfill, alone in one whose CPU and memory are its own.

Started by `process.child`, which writes one line of JSON (`Order`) and keeps the pipe open for as long as the process
is wanted: when it closes, the process ends. Each thing that happens is one line of JSON on standard output.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from worker.bench.cpu import memory_mb, server_cpu_us
from worker.errors import BadgesError, TransientError

#: How often the worker's position is looked at, seconds; and how often it is told to the parent.
_LOOK_SECONDS = 0.01
_TELL_SECONDS = 1.0


class Order(msgspec.Struct):
    """What a child is to do. `marks` are positions, one offset per partition; the last one is the end of the topic."""

    kind: str
    schema: str
    topic: str
    marks: list[list[int]]
    settings: dict[str, Any]
    postmaster: int | None = None
    profile: bool = False


class Moment(msgspec.Struct):
    """What a child saw at one moment: `at` is monotonic seconds, the same clock in every process of the machine."""

    event: str
    at: float = 0.0
    applied: int = 0
    worker_us: int = 0
    postgresql_us: int | None = None
    rss_mb: float = 0.0
    peak_mb: float = 0.0
    seconds: float = 0.0
    message: str = ""
    help: str | None = None
    profile: dict[str, Any] | None = None


def tell(moment: Moment) -> None:
    """One line to the parent."""
    sys.stdout.buffer.write(msgspec.json.encode(moment) + b"\n")
    sys.stdout.buffer.flush()


def look(event: str, order: Order, *, applied: int, seconds: float = 0.0) -> Moment:
    """This moment, as this process sees it."""
    now, peak = memory_mb()
    return Moment(
        event,
        at=time.monotonic(),
        applied=applied,
        worker_us=time.process_time_ns() // 1000,
        postgresql_us=None if order.postmaster is None else server_cpu_us(order.postmaster),
        rss_mb=now,
        peak_mb=peak,
        seconds=seconds,
    )


async def run_floor(order: Order) -> None:
    """Measure the floor over the whole topic."""
    from worker.bench.floor import opened
    from worker.config import load_settings

    ends = order.marks[-1]
    async with opened(
        load_settings(**order.settings), schema=order.schema, topic=order.topic, partitions=len(ends)
    ) as floor:
        tell(look("claimed", order, applied=0))
        await floor.run(sum(ends))
        tell(look("done", order, applied=sum(ends)))


async def run_backfill(order: Order) -> None:
    """Do a backfill of what is logged, and tell when it begins and when it is done."""
    from worker import logs
    from worker.bench.alone import backfill
    from worker.config import load_settings

    settings = load_settings(**order.settings)
    logs.configure(settings)
    await backfill(settings, order.schema, lambda event, events: tell(look(event, order, applied=events)))


async def run_worker(order: Order) -> None:
    """Serve as `badges worker` does, and tell when partitions are claimed, each mark is passed and all is published."""
    from worker import logs
    from worker.app import Worker
    from worker.config import load_settings

    settings = load_settings(**order.settings)
    logs.configure(settings)
    worker = Worker(settings, schema=order.schema)
    serving = asyncio.create_task(worker.run())
    parting = asyncio.create_task(_listen(worker, order))
    watching = asyncio.create_task(_watch(worker, order))
    await asyncio.wait({serving, watching, parting}, return_when=asyncio.FIRST_COMPLETED)
    if watching.done() and not watching.cancelled():
        watching.result()
        await asyncio.wait({serving, parting}, return_when=asyncio.FIRST_COMPLETED)
    watching.cancel()
    worker.stop()
    await serving


async def run_api(order: Order) -> None:
    """Serve as `badges admin` does; `applied` of the moment `serving` is the port."""
    from worker import logs
    from worker.app.admin import Admin
    from worker.config import load_settings

    settings = load_settings(**order.settings)
    logs.configure(settings)
    admin = Admin(settings, schema=order.schema)
    serving = asyncio.create_task(admin.run())
    while not admin.serving and not serving.done():  # noqa: ASYNC110 (the server's doing)
        await asyncio.sleep(_LOOK_SECONDS)
    if not serving.done():
        tell(look("serving", order, applied=admin.port))
        while await asyncio.to_thread(sys.stdin.buffer.readline):
            tell(look("asked", order, applied=0))
        admin.stop()
    await serving


async def _listen(worker: Any, order: Order) -> None:
    """Tell how things stand whenever the parent writes a line; return when the pipe closes."""
    while await asyncio.to_thread(sys.stdin.buffer.readline):
        tell(look("asked", order, applied=_applied(worker, order)))


async def _watch(worker: Any, order: Order) -> None:
    """Tell what the worker has reached."""
    from worker.app import open_store

    begun = time.monotonic()
    while not worker.metrics.catalog_version._value.get():  # noqa: ASYNC110, SLF001 (set once the plan is built)
        await asyncio.sleep(_LOOK_SECONDS)
    built = time.monotonic() - begun
    while worker.member is None or not worker.member.offsets():  # noqa: ASYNC110 (the broker's doing)
        await asyncio.sleep(_LOOK_SECONDS)
    async with open_store(worker.settings, name="badges bench watch", connections=1, schema=order.schema) as store:
        with _Profiler(order) as profiler:
            tell(look("claimed", order, applied=_applied(worker, order), seconds=built))
            for mark in order.marks:
                await _until(worker, order, mark)
                while (await store.outbox_figures())[0]:  # noqa: ASYNC110 (the relay's doing)
                    await asyncio.sleep(_LOOK_SECONDS)
                tell(look("mark", order, applied=_applied(worker, order)))
        done = look("done", order, applied=_applied(worker, order))
        done.profile = profiler.found()
        tell(done)


class _Profiler:
    """Profiles what happens inside, where the order asks for it."""

    def __init__(self, order: Order) -> None:
        self._profile: Any = None
        if order.profile:
            from worker.bench.profiling import Profile

            self._profile = Profile()

    def __enter__(self) -> Self:
        if self._profile is not None:
            self._profile.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._profile is not None:
            self._profile.stop()

    def found(self) -> dict[str, Any] | None:
        """What was found; None where nothing was asked for."""
        found: dict[str, Any] | None = self._profile.found() if self._profile is not None else None
        return found


async def _until(worker: Any, order: Order, mark: Sequence[int]) -> None:
    told = time.monotonic()
    while any(_offset(worker, order, number) < offset for number, offset in enumerate(mark)):
        await asyncio.sleep(_LOOK_SECONDS)
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            tell(Moment("progress", at=told, applied=_applied(worker, order)))


def _offset(worker: Any, order: Order, partition: int) -> int:
    return int(worker.member.offsets().get((order.topic, partition), 0))


def _applied(worker: Any, order: Order) -> int:
    return sum(_offset(worker, order, number) for number in range(len(order.marks[-1])))


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> None:
    """Read the order, do it, say why it failed."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    act = {"api": run_api, "backfill": run_backfill, "floor": run_floor, "worker": run_worker}[order.kind]
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(act(order))
    except BadgesError as error:
        tell(Moment("failed", message=error.message, help=error.help))
        sys.exit(1)
    except (OSError, TransientError) as error:
        tell(Moment("failed", message=f"{type(error).__name__}: {error}"))
        sys.exit(1)
    sys.stdout.flush()
    os._exit(0)  # a thread may still wait for the pipe to close


if __name__ == "__main__":
    main()
