"""Health and metrics of a process: alive while its event loop turns, ready while nothing is in the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from worker.health import Check, HealthServer

log = structlog.get_logger(__name__)

#: No turn of the event loop for so long means that it hangs: `/livez` says so, seconds.
HANG_SECONDS: Final = 30.0


class Pulse:
    """When the event loop last turned."""

    def __init__(self) -> None:
        self._at = monotonic()

    def beat(self) -> None:
        """It turns."""
        self._at = monotonic()

    def fault(self) -> str | None:
        """That it hangs, in words; None where it does not."""
        silent = monotonic() - self._at
        return f"the event loop has not turned for {silent:.0f} s" if silent > HANG_SECONDS else None


@contextmanager
def vitals(host: str, port: int, *, registry: CollectorRegistry, pulse: Pulse, ready: Check) -> Iterator[int]:
    """Serve `/metrics`, `/livez` and `/readyz` beside the block; the port that is taken. Raises OperatorError."""
    server = HealthServer(host, port, registry=registry, live=pulse.fault, ready=ready)
    log.info("health_served", host=host, port=server.port)
    try:
        yield server.port
    finally:
        server.close()
