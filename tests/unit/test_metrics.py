"""Metrics: named as the interface names them, explained, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from worker.metrics import LABEL_VALUES, OTHER, BoundedLabel, Metrics, SupervisorMetrics


def test_names_of_the_interface() -> None:
    """The metrics that dashboards hold on to have the interface's names and labels."""
    labels = {family.name: family for family in Metrics().registry.collect()}
    assert {
        "badges_events",
        "badges_awards",
        "badges_dead_letters",
        "badges_batch_seconds",
        "badges_batch_events",
        "badges_event_to_award_seconds",
        "badges_consumer_lag",
        "badges_outbox_pending",
        "badges_outbox_oldest_seconds",
        "badges_catalog_version",
        "badges_fenced_batches",
        "badges_rebalances",
        "badges_db_pool_in_use",
    } <= set(labels)


def test_labels_of_the_interface() -> None:
    """Counters show with the labels that the interface gives them."""
    metrics = Metrics()
    metrics.events.labels("question.scored", "applied").inc(2)
    metrics.awards.labels("nice_question", "live").inc()
    metrics.dead_letters.labels("not_json").inc()
    metrics.consumer_lag.labels("badges.events", "3").set(17)
    text = generate_latest(metrics.registry).decode()
    assert 'badges_events_total{outcome="applied",type="question.scored"} 2.0' in text
    assert 'badges_awards_total{badge="nice_question",origin="live"} 1.0' in text
    assert 'badges_dead_letters_total{reason="not_json"} 1.0' in text
    assert 'badges_consumer_lag{partition="3",topic="badges.events"} 17.0' in text


def test_every_metric_is_explained() -> None:
    """Every metric has the prefix and a sentence, and none carries a user."""
    for family in Metrics().registry.collect():
        assert family.name.startswith("badges_")
        assert len(family.documentation) > 15
        assert "user_id" not in str(family.samples)


def test_registries_are_apart() -> None:
    """Two sets of metrics in one process do not meet."""
    one, other = Metrics(), Metrics()
    one.rebalances.inc()
    assert other.registry.get_sample_value("badges_rebalances_total") == 0


@pytest.mark.parametrize("limit", [1, 3])
def test_labels_are_bounded(limit: int) -> None:
    """The first values of a label keep their name, later ones read `other`, and the first ones still keep theirs."""
    label = BoundedLabel(limit)
    assert [label(f"badge_{number}") for number in range(limit)] == [f"badge_{number}" for number in range(limit)]
    assert label("one_more") == OTHER
    assert label("badge_0") == "badge_0"


def test_bound_of_the_interface() -> None:
    """A badge's label takes at most 1,000 values and `other`."""
    metrics = Metrics()
    assert len({metrics.badge(f"badge_{number}") for number in range(5 * LABEL_VALUES)}) == 1001


def test_every_metric_is_kept_up() -> None:
    """No metric is declared that nothing sets."""
    code = "".join(file.read_text() for file in (Path(__file__).parents[2] / "worker").rglob("*.py"))
    every = {**vars(Metrics()), **vars(SupervisorMetrics(CollectorRegistry()))}
    declared = [name for name, value in every.items() if isinstance(value, (Counter, Gauge, Histogram))]
    assert len(declared) > 15
    assert [name for name in declared if f"metrics.{name}" not in code] == []


def test_a_lag_is_forgotten() -> None:
    """The lag of a partition that is another worker's now is served no longer."""
    metrics = Metrics()
    metrics.consumer_lag.labels("t", "0").set(5)
    metrics.forget(metrics.consumer_lag, "t", "0")
    assert metrics.registry.get_sample_value("badges_consumer_lag", {"topic": "t", "partition": "0"}) is None
