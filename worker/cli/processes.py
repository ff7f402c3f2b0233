"""What commands that run until told to stop share: their loop, their signals, a look at the settings' names."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable


def warn_unknown(names: list[tuple[str, str | None]]) -> None:
    """Say which settings are none, each with the nearest that is one."""
    import structlog

    for name, nearest in names:
        structlog.get_logger(__name__).warning("setting_unknown", name=name, nearest=nearest)


def on_signals(stop: Callable[[], None], kill: Callable[[], None]) -> None:
    """The first SIGTERM or SIGINT asks for the end; a second one ends at once."""
    asked = 0

    def asked_once_more() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            kill()
            os._exit(1)  # asked twice: ending at once is always safe, the database holds the truth
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_once_more)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster loop, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
