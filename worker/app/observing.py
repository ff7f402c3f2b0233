"""Counts what batches, builds and conditions did, in the metrics."""

from __future__ import annotations

from worker.conditions import Door
from worker.metrics import Metrics
from worker.pipeline.facts import AwardFacts, BatchFacts
from worker.rules.operators import problems


def observe_conditions(metrics: Metrics, door: Door) -> None:
    """Count what was asked since this was last done."""
    told = door.told()
    metrics.condition_starts.inc(told.starts)
    metrics.condition_cuts.inc(told.cut)
    metrics.conditions_parked.set(len(door.parked))
    for verdict, count in told.verdicts.items():
        metrics.condition_verdicts.labels(verdict).inc(count)
    for name, count in told.faults.items():
        metrics.condition_faults.labels(metrics.condition(name)).inc(count)


def observe_batch(metrics: Metrics, facts: BatchFacts, *, now: float) -> None:
    """Count one committed batch; `now` is wall-clock seconds, for the delay from record to award."""
    metrics.batches.inc()
    metrics.records.labels(facts.topic).inc(facts.records)
    metrics.tombstones.inc(facts.tombstones)
    metrics.batch_seconds.observe(facts.decode_seconds + facts.transaction_seconds)
    metrics.batch_events.observe(facts.records)
    metrics.late_users.inc(facts.late_users)
    for kind, count in problems.taken().items():
        metrics.data_problems.labels(kind).inc(count)
    metrics.evaluations.inc(facts.evaluations)
    for (event_type, outcome), count in facts.types.items():
        metrics.events.labels(metrics.event_type(event_type), outcome).inc(count)
    for reason, count in facts.dead_letters.items():
        metrics.dead_letters.labels(reason).inc(count)
    observe_awards(metrics, facts)
    if facts.awards:
        metrics.event_to_award_seconds.observe(max(0.0, now - facts.oldest_record_ms / 1000))


def observe_awards(metrics: Metrics, facts: AwardFacts) -> None:
    """Count what became of awards."""
    for (badge, origin), count in facts.awards.items():
        metrics.awards.labels(metrics.badge(badge), origin).inc(count)
    for (badge, origin), count in facts.revoked.items():
        metrics.revocations.labels(metrics.badge(badge), origin).inc(count)
    for badge, count in facts.held_back.items():
        metrics.awards_held_back.labels(metrics.badge(badge)).inc(count)
