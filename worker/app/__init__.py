"""The one place where things are built and tied together: settings to pool, plan, consumer, relay and health."""

from __future__ import annotations

from worker.app.catalog import apply_catalog, first_plan, head_plan, read_catalog
from worker.app.services import open_store, until_schema
from worker.app.worker import Worker, observe_batch

__all__ = [
    "Worker",
    "apply_catalog",
    "first_plan",
    "head_plan",
    "observe_batch",
    "open_store",
    "read_catalog",
    "until_schema",
]
