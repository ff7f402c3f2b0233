"""How owners of partitions go about it: how large batches grow, how long they wait, whom they tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from worker.pipeline.facts import BatchFacts


@dataclass(frozen=True, slots=True)
class Pace:
    """How large batches grow and how long they may wait to; how many records, and bytes, may wait for their batch."""

    max_events: int = 5000
    max_seconds: float = 0.05
    queue_records: int = 10_000
    queue_bytes: int = 32 * 1024 * 1024
    start: str = "beginning"


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the owner tells its surroundings: a batch was applied, fenced, tried again (by part), the catalog moved."""

    applied: Callable[[BatchFacts], None]
    fenced: Callable[[], None]
    retried: Callable[[str], None]
    catalog_moved: Callable[[int], Awaitable[None]]
