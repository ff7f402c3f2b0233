"""What commands that only ask a service share: the service's client keeps still, the command says what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_clients() -> Iterator[None]:
    """Keep aiokafka's own lines off standard error: each failure is told once, as a sentence."""
    logger = logging.getLogger("aiokafka")
    handler, before = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
