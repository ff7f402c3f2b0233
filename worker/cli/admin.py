"""`badges admin`: the HTTP API and the panel, until told to stop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click

from worker.cli.processes import loop_factory, on_signals, warn_unknown

if TYPE_CHECKING:
    from worker.config import Settings


@click.command()
def admin() -> None:
    """Serve the HTTP API and the panel on BADGES_ADMIN_HOST and BADGES_ADMIN_PORT.

    \b
    Example:
      badges tokens create --name me --role admin
      badges admin
    """
    from worker import logs
    from worker.config import load_settings, unknown_names

    settings = load_settings()
    logs.configure(settings)
    warn_unknown(unknown_names(os.environ))
    _run(settings)


def _run(settings: Settings) -> None:
    from worker.app.admin import Admin

    async def serve() -> None:
        running = Admin(settings)
        on_signals(running.stop, lambda: None)
        await running.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())
