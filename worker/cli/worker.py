"""`badges worker`: consume, evaluate, award, publish, until told to stop; in one process or several."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.processes import loop_factory, on_signals, warn_unknown
from worker.errors import AuthorError, OperatorError

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.supervise import Tether

#: More processes than this on one machine are more than any machine's cores are worth.
MOST_PROCESSES = 64


@click.command()
@click.option("--catalog", type=click.Path(exists=True), help="Catalog to apply where the database holds none yet.")
@click.option(
    "--processes",
    type=click.IntRange(1, MOST_PROCESSES),
    default=1,
    show_default=True,
    help="Processes to share the partitions: supervised, with one port for metrics and health.",
)
@click.option("--child", hidden=True, help="The place that a parent gives one of its processes.")
@click.pass_context
def worker(ctx: click.Context, catalog: str | None, processes: int, child: str | None) -> None:
    """Consume events, grant badges, publish awards.

    \b
    Examples:
      badges worker --catalog catalog/
      badges worker --processes 2
    """
    from worker import logs
    from worker.config import load_settings, unknown_names

    if child is not None:
        ctx.exit(_be_child(child, catalog))
    settings = load_settings(**({"catalog": catalog} if catalog else {}))
    logs.configure(settings)
    warn_unknown(unknown_names(os.environ))
    if processes > 1:
        ctx.exit(_supervise(settings, processes, catalog))
    _run(settings)


def _run(settings: Settings) -> None:
    from worker.app import Worker

    async def serve() -> None:
        running = Worker(settings)
        on_signals(running.stop, lambda: None)
        await running.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(call)


# ---- several processes ----------------------------------------------------------------------------------------------


def _supervise(settings: Settings, processes: int, catalog: str | None) -> int:
    """Be the parent; the exit status."""
    from worker.supervise import Supervisor

    async def serve() -> bool:
        parent = Supervisor(
            lambda number, handle: _command(number, handle, catalog),
            processes=processes,
            host=settings.metrics_host,
            port=settings.metrics_port,
        )
        on_signals(parent.stop, parent.kill)
        return await parent.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return 0 if runner.run(serve()) else 1


def _command(number: int, handle: int, catalog: str | None) -> Sequence[str]:
    """How a child is started: with this Python, and with what is importable for this process."""
    # `python -m` puts the working folder first, where an unrelated folder `worker` may lie
    safe = [] if sys.path[:1] == [str(Path.cwd())] else ["-P"]
    given = ["--catalog", catalog] if catalog else []
    return [sys.executable, *safe, "-m", "worker", "worker", "--child", f"{number}:{handle}", *given]


def _be_child(place: str, catalog: str | None) -> int:
    """Be one of several; what only a person can mend is handed to the parent, which says it. The exit status."""
    from worker.supervise import Tether

    tether = Tether(place)
    try:
        _serve_child(tether, catalog)
    except (AuthorError, OperatorError) as refusal:
        tether.refuse(refusal)
        return 1
    finally:
        tether.close()
    return 0


def _serve_child(tether: Tether, catalog: str | None) -> None:
    import structlog

    from worker import logs
    from worker.config import load_settings
    from worker.supervise.figures import share_files

    settings = load_settings(**({"catalog": catalog} if catalog else {}))
    logs.configure(settings)
    structlog.contextvars.bind_contextvars(process=tether.number)
    share_files(tether.number)
    from worker.app import Worker
    from worker.metrics import Metrics

    async def serve() -> None:
        running = Worker(settings, metrics=Metrics(shared=True), report=tether.report)
        loop = asyncio.get_running_loop()
        tether.watch(lambda: _call_in(loop, running.stop))
        for number in (signal.SIGTERM, signal.SIGINT):
            # some supervisors signal every process of a group: a second signal here is not a second wish
            loop.add_signal_handler(number, running.stop)
        await running.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())
