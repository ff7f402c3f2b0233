"""The gauges of a scheduler: what every replica reads from the database alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from worker.app.coverage import counted_coverage
from worker.app.schedule_gauges import Gauges
from worker.exchange import Baseline, Message, Ran, TypeDays
from worker.jobs.schedules import Schedules
from worker.metrics import Metrics
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import compile_plan
from worker.store.holders import Share
from worker.store.jobs import JobRun

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


class Nobody:
    """No users."""

    async def next_users(self, _after: str, _limit: int) -> list[str]:
        return []


async def send(_messages: Sequence[Message]) -> None:
    """To nobody."""


JOB = Schedules(Nobody(), send, [{"event": "cron.monthly", "cron": "0 9 1 * *"}], "UTC")
LAST = date(2026, 3, 10)


class FakeStore:
    """What the database holds; `types` are those for which arrivals are known."""

    def __init__(self) -> None:
        self.sweeps: list[Any] = []
        self.runs: list[JobRun] = []
        self.ran = Ran()
        counts = {LAST - timedelta(days=number): 120 for number in range(30)}
        last_us = 100 * DAY_US
        self.types = {
            "comment.posted": TypeDays("comment.posted", last_us, LAST, 120, LAST - timedelta(days=29), counts)
        }
        self.counted = last_us + 9 * DAY_US
        self.uncounted = False

    async def holder_counts(self) -> dict[str, int]:
        return {"first": 41}

    async def badge_shares(self) -> dict[str, Share]:
        return {"first": Share(30, 120, 30, 0)}

    async def badge_baselines(self) -> dict[str, Baseline]:
        return {"first": Baseline(1.5, 0.5, 28)}

    async def awards_since(self, _at_us: int) -> dict[str, int]:
        return {"first": 3}

    async def active_users(self) -> tuple[date, int]:
        return LAST, 7

    async def arrivals_counted(self) -> int | None:
        return None if self.uncounted else self.counted

    async def trigger_days(self, _types: list[str]) -> dict[str, TypeDays]:
        return self.types

    async def last_runs(self, jobs: list[str], **_: Any) -> dict[str, Ran]:
        assert jobs == ["schedules"]
        return {"schedules": self.ran}

    async def last_successes(self, _jobs: list[str]) -> list[JobRun]:
        return self.runs

    async def user_jobs(self, *, kind: str, state: str, limit: int) -> list[Any]:
        assert (kind, state) == ("sweep", "done")
        return self.sweeps[:limit]


async def shown(store: FakeStore, gauges: Gauges, registry: CollectorRegistry) -> dict[str, float]:
    await gauges.read(store, PLAN, [JOB], store.counted)  # type: ignore[arg-type]
    return {
        sample.name: sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.labels or set(sample.labels.values()) & {"comment.posted", "first", "schedules"}
    }


async def test_every_replica_shows_what_the_database_says() -> None:
    """Holders, silence with what was usual before it, and what the newest sweep found, whoever ran it."""
    metrics, store = Metrics(), FakeStore()
    gauges = Gauges(metrics)
    store.sweeps = [SimpleNamespace(changes={"award_missing": 3})]
    found = await shown(store, gauges, metrics.registry)
    assert found["badges_holders"] == 41
    assert found["badges_holders_change_ratio"] == 1.5
    assert found["badges_holders_share"] == 0.25
    assert found["badges_active_users"] == 7
    assert found["badges_catalog_version"] == PLAN.version
    assert found["badges_trigger_silent_seconds"] == 9 * 86_400
    assert found["badges_trigger_usual_per_day"] == 120
    assert found["badges_trigger_silent"] == 1
    assert found["badges_sweep_differences"] == 3
    store.sweeps.insert(0, SimpleNamespace(changes={}))
    store.types = {}
    found = await shown(store, gauges, metrics.registry)
    assert found["badges_sweep_differences"] == 0
    assert found["badges_trigger_silent"] == 1, "it was never seen"
    assert "badges_trigger_usual_per_day" not in found
    assert "badges_trigger_silent_seconds" not in found


async def test_silence_is_what_coverage_says() -> None:
    """A type is called silent by its own rhythm, however few or many come; one that nobody listens to is not shown."""
    metrics, store = Metrics(), FakeStore()
    gauges = Gauges(metrics)
    (days,) = store.types.values()
    weekdays = {day: 120 for day in days.counts if day.weekday() < 5}
    for counts, silence, silent in (
        (dict.fromkeys(days.counts, 10), 30, 1),
        (weekdays, 2.9, 0),
        (weekdays, 3.1, 1),
        (dict.fromkeys(days.counts, 10), 0.9, 0),
    ):
        store.types = {days.type: replace(days, counts=counts), "nobody.listens": replace(days, type="nobody.listens")}
        store.counted = days.last_us + int(silence * DAY_US)
        found = await shown(store, gauges, metrics.registry)
        assert (found["badges_trigger_silent"], silence) == (silent, silence)
        said = await counted_coverage(store, PLAN.catalog, store.counted)  # type: ignore[arg-type]
        assert {one.state for one in said if one.badges} == {"silent" if silent else "ok"}
    store.uncounted = True
    assert "badges_trigger_silent" not in await shown(store, gauges, metrics.registry)


async def test_a_replica_that_just_started_shows_what_jobs_did() -> None:
    """When a job last ended well and what it did are those of its newest good run, whichever process made it."""
    metrics, store = Metrics(), FakeStore()
    store.runs = [JobRun("schedules", 7, "done", "elsewhere", 1, {"users": 3, "seconds": 0.25}, "", 8, 9_500_000)]
    found = await shown(store, Gauges(metrics), metrics.registry)
    assert found["badges_job_last_success_timestamp"] == 9.5
    figures = {name: found[f"badges_job_{name}"] for name in ("seconds", "users", "events", "awards", "counts")}
    assert figures == {"seconds": 0.25, "users": 3, "events": 0, "awards": 0, "counts": 0}
    store.runs = [replace(store.runs[0], figures={"users": 3, "awards": None})]
    metrics = Metrics()
    found = await shown(store, Gauges(metrics), metrics.registry)
    assert (found["badges_job_users"], "badges_job_awards" in found) == (3, False)


async def test_a_job_is_overdue_by_its_own_clock() -> None:
    """A monthly schedule is not late between two months; it is from its tick on, until that is done."""
    metrics, store = Metrics(), FakeStore()
    gauges = Gauges(metrics)
    month = 90 * DAY_US + 9 * 3_600_000_000  # the first of April 1970, at nine
    store.ran = Ran(month, month)
    store.counted = month + 20 * DAY_US
    assert (await shown(store, gauges, metrics.registry))["badges_job_overdue_seconds"] == 0
    store.ran = Ran(month, None, (month,))
    assert (await shown(store, gauges, metrics.registry))["badges_job_overdue_seconds"] == 20 * 86_400
    store.ran, store.counted = Ran(month, month), month + 30 * DAY_US + 60_000_000
    assert (await shown(store, gauges, metrics.registry))["badges_job_overdue_seconds"] == 60
