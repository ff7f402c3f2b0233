"""`badges worker`: consume, evaluate, award, publish, until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from worker.config import Settings


@click.command()
@click.option("--catalog", type=click.Path(exists=True), help="Catalog to apply where the database holds none yet.")
def worker(catalog: str | None) -> None:
    """Consume events, grant badges, publish awards.

    \b
    Example:
      badges worker --catalog catalog/
    """
    from worker import logs
    from worker.config import load_settings, unknown_names

    settings = load_settings(**({"catalog": catalog} if catalog else {}))
    logs.configure(settings)
    _warn_unknown(unknown_names(os.environ))
    _run(settings)


def _warn_unknown(names: list[tuple[str, str | None]]) -> None:
    import structlog

    for name, nearest in names:
        structlog.get_logger(__name__).warning("setting_unknown", name=name, nearest=nearest)


def _run(settings: Settings) -> None:
    from worker.app import Worker

    async def serve() -> None:
        running = Worker(settings)
        asked = 0

        def stop() -> None:
            nonlocal asked
            asked += 1
            if asked > 1:
                os._exit(1)  # asked twice: ending at once is always safe, the database holds the truth
            running.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        await running.run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
