"""The gauges of a scheduler: what every replica reads from the database alike."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from worker.app.schedule_gauges import Gauges
from worker.exchange import TypeDays
from worker.metrics import Metrics
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import compile_plan

PLAN = compile_plan(
    load_catalog(
        [
            Source(
                "catalog.yaml",
                """
version: 1
events: {comment.posted: {description: A comment.}}
badges:
  - {key: first, label: First, description: One, flow: {event: comment.posted, criteria: {}}}
""",
            )
        ]
    )
)
DAY_US = 86_400_000_000
LAST = date(2026, 3, 10)


class FakeStore:
    """What the database holds; `types` are those for which arrivals are known."""

    def __init__(self) -> None:
        self.sweeps: list[Any] = []
        counts = {LAST - timedelta(days=number): 120 for number in range(30)}
        last_us = 100 * DAY_US
        self.types = {
            "comment.posted": TypeDays("comment.posted", last_us, LAST, 120, LAST - timedelta(days=29), counts)
        }
        self.counted = last_us + 9 * DAY_US

    async def holders_counts(self) -> dict[str, int]:
        return {"first": 41}

    async def badge_baselines(self) -> dict[str, Any]:
        return {}

    async def awards_since(self, _at_us: int) -> dict[str, int]:
        return {"first": 3}

    async def active_users(self) -> tuple[date, int]:
        return LAST, 7

    async def arrivals_counted(self) -> int:
        return self.counted

    async def trigger_days(self, _types: list[str]) -> dict[str, TypeDays]:
        return self.types

    async def user_jobs(self, *, kind: str, state: str, limit: int) -> list[Any]:
        assert (kind, state) == ("sweep", "done")
        return self.sweeps[:limit]


async def shown(store: FakeStore, gauges: Gauges, registry: CollectorRegistry) -> dict[str, float]:
    await gauges.read(store, PLAN, store.counted)  # type: ignore[arg-type]
    return {
        sample.name: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.labels.get("type", sample.labels.get("badge", "")) in ("", "comment.posted", "first")
    }


async def test_every_replica_shows_what_the_database_says() -> None:
    """Holders, silence with what was usual before it, and what the newest sweep found, whoever ran it."""
    metrics, store = Metrics(), FakeStore()
    gauges = Gauges(metrics)
    store.sweeps = [SimpleNamespace(changes={"award_missing": 3})]
    found = await shown(store, gauges, metrics.registry)
    assert found["badges_holders"] == 41
    assert found["badges_trigger_silent_seconds"] == 9 * 86_400
    assert found["badges_trigger_usual_per_day"] == 120
    assert found["badges_sweep_differences"] == 3
    store.sweeps.insert(0, SimpleNamespace(changes={}))
    store.types = {}
    found = await shown(store, gauges, metrics.registry)
    assert found["badges_sweep_differences"] == 0
    assert "badges_trigger_usual_per_day" not in found
    assert "badges_trigger_silent_seconds" not in found
