"""What a module logs, whatever another test has set logging up as: a logger that was used once keeps its set-up."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import structlog
from structlog.testing import LogCapture


@contextmanager
def log_lines(module: ModuleType) -> Iterator[list[MutableMapping[str, Any]]]:
    """The lines that a module logs in the block, each with its event and its level."""
    capture = LogCapture()
    logger = structlog.wrap_logger(None, [capture], structlog.make_filtering_bound_logger(0))
    with patch.object(module, "log", logger):
        yield capture.entries
