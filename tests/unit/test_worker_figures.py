"""What a worker's metrics say, each against what it means."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.rig.waiting import until
from worker.app import Worker, observe_batch
from worker.app.observing import observe_conditions
from worker.app.schedule import Scheduler
from worker.app.silence import Silence
from worker.app.user_jobs import told_by
from worker.conditions.door import Told
from worker.config import load_settings
from worker.exchange import UserJob
from worker.jobs.base import Figures
from worker.jobs.runner import Told as Ran
from worker.metrics import Metrics
from worker.pipeline.facts import BatchFacts, BuildFacts
from worker.pipeline.found import SliceFacts
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import compile_plan

CATALOG = """
version: 1
events:
  comment.posted: {description: A comment.}
  comment.liked: {description: A like.}
badges:
  - {key: liked, label: Liked, description: Liked, flow: {event: comment.liked}}
"""
PLAN = compile_plan(load_catalog([Source("catalog.yaml", CATALOG)]))


@pytest.fixture
def worker() -> Worker:
    """A worker that was not started."""
    return Worker(load_settings(database_url="postgresql://badges@localhost/badges"))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample."""
    found: float | None = metrics.registry.get_sample_value(name, labels)
    return found


def test_a_batch_is_counted() -> None:
    """Each figure of a committed batch goes into its metric."""
    metrics = Metrics()
    facts = BatchFacts("t", 0, 10, records=9, tombstones=1, late_users=2, users=3, evaluations=17)
    facts.types = Counter({("comment.posted", "applied"): 4, ("comment.posted", "duplicate"): 3})
    facts.dead_letters = Counter({"not_json": 1})
    facts.awards = Counter({("liked", "live"): 2, ("liked", "late"): 1})
    facts.oldest_record_ms, facts.decode_seconds, facts.transaction_seconds = 1_000_000, 0.25, 0.5
    observe_batch(metrics, facts, now=1003.0)
    assert value(metrics, "badges_batches_total") == 1
    assert value(metrics, "badges_records_total", topic="t") == 9
    assert value(metrics, "badges_tombstones_total") == 1
    assert value(metrics, "badges_late_users_total") == 2
    assert value(metrics, "badges_evaluations_total") == 17
    assert value(metrics, "badges_events_total", type="comment.posted", outcome="applied") == 4
    assert value(metrics, "badges_events_total", type="comment.posted", outcome="duplicate") == 3
    assert value(metrics, "badges_dead_letters_total", reason="not_json") == 1
    assert value(metrics, "badges_awards_total", badge="liked", origin="live") == 2
    assert value(metrics, "badges_awards_total", badge="liked", origin="late") == 1
    assert value(metrics, "badges_batch_events_sum") == 9
    assert value(metrics, "badges_batch_seconds_sum") == 0.75
    assert value(metrics, "badges_event_to_award_seconds_sum") == 3.0


def test_a_build_is_counted(worker: Worker) -> None:
    """A slice of a build counts its users and what became of their awards."""
    facts = BuildFacts(3, users=5)
    facts.awards = Counter({("liked", "backfill"): 4})
    facts.revoked = Counter({("liked", "backfill"): 2})
    facts.held_back = Counter({"liked": 1})
    worker._built(facts)
    assert value(worker.metrics, "badges_users_built_total") == 5
    assert value(worker.metrics, "badges_awards_total", badge="liked", origin="backfill") == 4
    assert value(worker.metrics, "badges_revocations_total", badge="liked", origin="backfill") == 2
    assert value(worker.metrics, "badges_awards_held_back_total", badge="liked") == 1


def test_a_slice_of_a_job_is_counted() -> None:
    """Who was held against the log is counted by the job, what was found by its kind."""
    metrics, woken = Metrics(), []
    job = UserJob(1, "sweep", {}, "running", "", 0, 9, 0, 0, {}, "", 0, 0, 0, None, "")
    facts = SliceFacts(job, users=7, kinds=Counter(award_missing=2, fold_other=1))
    facts.awards, facts.revoked = Counter({("liked", "backfill"): 2}), Counter({("liked", "backfill"): 1})
    told = told_by(metrics, lambda: woken.append(True))
    told(facts, 0.0)
    told(None, 9.0)
    told(SliceFacts(job, users=1), 0.0)
    assert value(metrics, "badges_users_recounted_total", job="sweep") == 8
    assert value(metrics, "badges_differences_total", kind="award_missing") == 2
    assert value(metrics, "badges_differences_total", kind="fold_other") == 1
    assert value(metrics, "badges_awards_total", badge="liked", origin="backfill") == 2
    assert value(metrics, "badges_revocations_total", badge="liked", origin="backfill") == 1
    assert woken == [True]


def test_conditions_are_counted() -> None:
    """What was asked in JavaScript, what failed, and how often the rest had to wait, since the last look."""
    metrics = Metrics()
    told = Told(Counter(yes=3, error=1), Counter(big_order=1), starts=2, cut=4)
    door: Any = SimpleNamespace(told=lambda: told, parked=["big_order"])
    observe_conditions(metrics, door)
    assert value(metrics, "badges_condition_verdicts_total", verdict="yes") == 3
    assert value(metrics, "badges_condition_verdicts_total", verdict="error") == 1
    assert value(metrics, "badges_condition_faults_total", condition="big_order") == 1
    assert value(metrics, "badges_condition_starts_total") == 2
    assert value(metrics, "badges_condition_cuts_total") == 4
    assert value(metrics, "badges_conditions_parked") == 1


def test_the_cache_is_measured(worker: Worker) -> None:
    """Hits and misses add up, what memory is held is what it is now."""
    counted = iter([(3, 1), (2, 0)])
    cache = SimpleNamespace(counted=lambda: next(counted), taken_bytes=2048)
    member: Any = SimpleNamespace(applier=SimpleNamespace(cache=cache))
    worker.member = member
    worker._observe_cache()
    worker._observe_cache()
    assert value(worker.metrics, "badges_cache_hits_total") == 5
    assert value(worker.metrics, "badges_cache_misses_total") == 1
    assert value(worker.metrics, "badges_cache_bytes") == 2048


def test_runs_of_jobs_are_counted(worker: Worker) -> None:
    """Each run that ended counts by its job and by what came of it."""
    scheduler = Scheduler(worker.settings)
    for outcome in ("failed", "failed", "done"):
        scheduler.tell(Ran("holders", 0, outcome, Figures(users=3), 0.5))
    assert value(scheduler.metrics, "badges_job_runs_total", job="holders", outcome="failed") == 2
    assert value(scheduler.metrics, "badges_job_runs_total", job="holders", outcome="done") == 1


def test_only_awards_are_timed() -> None:
    """A batch without awards says nothing of the time to an award, and a clock that is behind makes no negative one."""
    metrics = Metrics()
    facts = BatchFacts("t", 0, 10, records=1, oldest_record_ms=5_000_000)
    observe_batch(metrics, facts, now=9000.0)
    assert value(metrics, "badges_event_to_award_seconds_count") == 0
    facts.awards["liked", "live"] += 1
    observe_batch(metrics, facts, now=4000.0)
    assert value(metrics, "badges_event_to_award_seconds_sum") == 0


def test_lag_is_of_own_partitions(worker: Worker) -> None:
    """The lag is what lies between the next offset and the end, never negative, and goes with the partition."""
    offsets = {("t", 0): 7, ("t", 1): 9, ("t", 2): 5}
    ends = {("t", 0): 17, ("t", 1): 8}
    member: Any = SimpleNamespace(offsets=lambda: offsets, halted=lambda: {("t", 1): "why"})
    consumer: Any = SimpleNamespace(highwater=ends.get)
    worker.member, worker._consumer = member, consumer
    worker._gauge_lag()
    assert value(worker.metrics, "badges_consumer_lag", topic="t", partition="0") == 10
    assert value(worker.metrics, "badges_consumer_lag", topic="t", partition="1") == 0
    assert value(worker.metrics, "badges_consumer_lag", topic="t", partition="2") is None
    assert value(worker.metrics, "badges_partitions_halted") == 1
    del offsets["t", 0]
    worker._gauge_lag()
    assert value(worker.metrics, "badges_consumer_lag", topic="t", partition="0") is None
    assert value(worker.metrics, "badges_consumer_lag", topic="t", partition="1") == 0


async def test_outbox_and_pool(worker: Worker) -> None:
    """Waiting rows and the age of the oldest are the database's words; connections at work are those not idle."""

    async def outbox_figures() -> tuple[int, float]:
        return 3, 1.5

    async def quarantine_size() -> int:
        return 2

    pool = SimpleNamespace(get_size=lambda: 8, get_idle_size=lambda: 5)
    store: Any = SimpleNamespace(outbox_figures=outbox_figures, quarantine_size=quarantine_size, pool=pool)
    gauging = asyncio.create_task(worker._keep_gauges(store))
    await until(lambda: value(worker.metrics, "badges_db_pool_in_use") == 3, "the gauges")
    gauging.cancel()
    assert value(worker.metrics, "badges_outbox_pending") == 3
    assert value(worker.metrics, "badges_outbox_oldest_seconds") == 1.5
    assert value(worker.metrics, "badges_quarantined") == 2


def test_hooks_are_tied(worker: Worker) -> None:
    """A fenced batch, a retry, an assignment, messages published and rows set aside are counted each."""
    nothing: Any = None
    hooks = worker._build_member(nothing, nothing, nothing)._hooks
    hooks.fenced()
    hooks.retried("poll")
    worker._assigned({})
    relay = worker._relay_hooks()
    relay.published("badges.awards", 4)
    relay.parked(2)
    assert value(worker.metrics, "badges_fenced_batches_total") == 1
    assert value(worker.metrics, "badges_retries_total", part="poll") == 1
    assert value(worker.metrics, "badges_rebalances_total") == 1
    assert value(worker.metrics, "badges_published_total", topic="badges.awards") == 4
    assert value(worker.metrics, "badges_outbox_parked_total") == 2


def test_a_plan_is_announced(worker: Worker) -> None:
    """The version in use is the plan's, and the silence of what its badges listen to is served from then on."""
    worker._announce(PLAN)
    worker._gauge_silence()
    assert value(worker.metrics, "badges_catalog_version") == PLAN.version
    silent = value(worker.metrics, "badges_trigger_silent_seconds", type="comment.liked")
    assert silent is not None
    assert 0 <= silent < 60
    assert value(worker.metrics, "badges_trigger_silent_seconds", type="comment.posted") is None
    worker._announce(
        compile_plan(
            load_catalog([Source("catalog.yaml", CATALOG.replace("event: comment.liked", "event: comment.posted"))])
        )
    )
    worker._gauge_silence()
    assert value(worker.metrics, "badges_trigger_silent_seconds", type="comment.liked") is None
    assert value(worker.metrics, "badges_trigger_silent_seconds", type="comment.posted") is not None


def test_silence() -> None:
    """Only an applied event of the type breaks its silence; a new version of the catalog goes on with what it keeps."""
    silence = Silence()
    assert silence.listen(["a", "b", "*"], 100.0) == set()
    assert silence.seconds(110.0) == {"a": 10.0, "b": 10.0}
    silence.applied({("a", "applied"): 3, ("b", "duplicate"): 1, ("c", "applied"): 1}, 120.0)
    assert silence.seconds(125.0) == {"a": 5.0, "b": 25.0}
    assert silence.listen(["a", "c"], 130.0) == {"b"}
    assert silence.seconds(130.0) == {"a": 10.0, "c": 0.0}
