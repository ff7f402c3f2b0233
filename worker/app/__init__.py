"""The one place where things are built and tied together: settings to pool, plan, consumer, relay and health."""

from __future__ import annotations

from worker.app.catalog import apply_catalog, first_plan, head_plan, put_in_force, read_catalog, working_plan
from worker.app.comparing import Difference, against_former, against_head, difference, preview, readable
from worker.app.conditions import judged, refuse_unasked, refuse_unsound, source_faults
from worker.app.observing import observe_batch
from worker.app.ranges import Asked
from worker.app.replay import replay
from worker.app.services import open_store, until_schema
from worker.app.worker import Worker

__all__ = [
    "Asked",
    "Difference",
    "Worker",
    "against_former",
    "against_head",
    "apply_catalog",
    "difference",
    "first_plan",
    "head_plan",
    "judged",
    "observe_batch",
    "open_store",
    "preview",
    "put_in_force",
    "read_catalog",
    "readable",
    "refuse_unasked",
    "refuse_unsound",
    "replay",
    "source_faults",
    "until_schema",
    "working_plan",
]
