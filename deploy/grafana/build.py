"""Writes the dashboards beside it: python deploy/grafana/build.py"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
#: The workers chosen at the top of the dashboard.
CHOSEN = 'job="badges",instance=~"$instance"'
APPLIED = f'badges_events_total{{{CHOSEN},outcome="applied"}}'
HITS = "sum(rate(badges_cache_hits_total{}[$__rate_interval]))"


@dataclass(frozen=True)
class Panel:
    """A figure over time, or (`stat`) as it is now: (query, legend) pairs; `{}` in a query becomes the choice."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    stat: bool = False
    red_above: float | None = None


def quantile(share: float, metric: str) -> str:
    """A share of a histogram over all workers."""
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{}}[$__rate_interval])))"


NOW = [
    Panel("Workers", "Workers that answer.", [("sum(up{})", "")], stat=True),
    Panel("Lag", "Records that are not applied yet.", [("sum(badges_consumer_lag{})", "")], stat=True),
    Panel(
        "Halted partitions",
        "Partitions that stand still until a person acts; /readyz of their worker says why.",
        [("sum(badges_partitions_halted{})", "")],
        stat=True,
        red_above=1,
    ),
    Panel(
        "Oldest unpublished",
        "Age of the oldest message in the outbox.",
        [("max(badges_outbox_oldest_seconds{})", "")],
        "s",
        stat=True,
        red_above=60,
    ),
    Panel(
        "Catalog",
        "The version in use; two figures while workers differ.",
        [("min(badges_catalog_version{})", "lowest"), ("max(badges_catalog_version{})", "highest")],
        stat=True,
    ),
    Panel(
        "Dead letters",
        "Records of the last hour that could not be processed: badges dlq list.",
        [("sum(increase(badges_dead_letters_total{}[1h]))", "")],
        stat=True,
        red_above=1,
    ),
]
OVER_TIME = [
    Panel(
        "Events per second",
        "Events by outcome; a duplicate is a repeat of one that was logged.",
        [("sum by (outcome) (rate(badges_events_total{}[$__rate_interval]))", "{{outcome}}")],
        "ops",
    ),
    Panel(
        "Lag",
        "Records that are not applied yet, by topic.",
        [("sum by (topic) (badges_consumer_lag{})", "{{topic}}")],
    ),
    Panel(
        "Event to award",
        "From the Kafka timestamp of a batch's oldest record to the commit, where the batch granted awards.",
        [
            (quantile(0.5, "badges_event_to_award_seconds"), "p50"),
            (quantile(0.99, "badges_event_to_award_seconds"), "p99"),
        ],
        "s",
    ),
    Panel(
        "Batch duration",
        "From the first decode to the commit.",
        [(quantile(0.5, "badges_batch_seconds"), "p50"), (quantile(0.99, "badges_batch_seconds"), "p99")],
        "s",
    ),
    Panel(
        "Records per batch",
        "Batches are small when it is quiet and large under a backlog.",
        [(quantile(0.5, "badges_batch_events"), "p50"), (quantile(0.99, "badges_batch_events"), "p99")],
    ),
    Panel(
        "Evaluations per event",
        "Tests run for an applied event; it should not follow the size of the catalog.",
        [
            (
                f"sum(rate(badges_evaluations_total{{}}[$__rate_interval])) / sum(rate({APPLIED}[$__rate_interval]))",
                "tests",
            )
        ],
    ),
    Panel(
        "Awards by badge",
        "The ten badges granted most.",
        [("topk(10, sum by (badge) (increase(badges_awards_total{}[$__rate_interval])))", "{{badge}}")],
    ),
    Panel(
        "Awards by origin",
        "live, late (an event came late), backfill (a new catalog), cron, manual.",
        [("sum by (origin) (increase(badges_awards_total{}[$__rate_interval]))", "{{origin}}")],
    ),
    Panel(
        "Dead letters by reason",
        "Records that could not be processed.",
        [("sum by (reason) (increase(badges_dead_letters_total{}[$__rate_interval]))", "{{reason}}")],
    ),
    Panel(
        "Outbox",
        "Messages on their way: rows that wait, age of the oldest in seconds, messages acknowledged per second.",
        [
            ("max(badges_outbox_pending{})", "rows waiting"),
            ("max(badges_outbox_oldest_seconds{})", "oldest, seconds"),
            ("sum by (topic) (rate(badges_published_total{}[$__rate_interval]))", "{{topic}} per second"),
        ],
    ),
    Panel(
        "Unrest",
        "Rebalances of the group, fenced batches, work done again, processes started again.",
        [
            ("sum(increase(badges_rebalances_total{}[$__rate_interval]))", "rebalances"),
            ("sum(increase(badges_fenced_batches_total{}[$__rate_interval]))", "fenced batches"),
            ("sum by (part) (increase(badges_retries_total{}[$__rate_interval]))", "retries of {{part}}"),
            ("sum(increase(badges_process_restarts_total{}[$__rate_interval]))", "process restarts"),
        ],
    ),
    Panel(
        "Connections at work",
        "Connections to PostgreSQL in use, by worker.",
        [("badges_db_pool_in_use{}", "{{instance}}")],
    ),
    Panel(
        "Late users",
        "Users whose log was read again because an event came late.",
        [("sum(increase(badges_late_users_total{}[$__rate_interval]))", "users")],
    ),
    Panel(
        "Users in memory",
        "Users of a batch whose memory the worker had, as a share; those without are read from the database.",
        [
            (
                f"{HITS} / ({HITS} + sum(rate(badges_cache_misses_total{{}}[$__rate_interval])))",
                "share",
            )
        ],
        "percentunit",
    ),
    Panel(
        "Memory of users",
        "Memory kept of users between batches, by worker; BADGES_CACHE_BYTES bounds it for each process.",
        [("badges_cache_bytes{}", "{{instance}}")],
        "bytes",
    ),
    Panel(
        "Users built",
        "Users brought to a new version of the catalog in the background.",
        [("sum(increase(badges_users_built_total{}[$__rate_interval]))", "users")],
    ),
    Panel(
        "Silent triggers",
        "The event types some badge listens to that were silent longest, as far as running workers have seen.",
        [("topk(10, min by (type) (badges_trigger_silent_seconds{}))", "{{type}}")],
        "s",
    ),
    Panel(
        "Catalog version",
        "By worker; they meet soon after badges catalog apply.",
        [("badges_catalog_version{}", "{{instance}}")],
    ),
]


def query(text: str) -> str:
    """A query limited to the chosen workers."""
    return text.replace("{}", f"{{{CHOSEN}}}")


def drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """A panel as Grafana reads it."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.stat:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(65 + index), "datasource": SOURCE, "expr": query(text), "legendFormat": legend}
            for index, (text, legend) in enumerate(panel.queries)
        ],
    }


def pipeline() -> dict[str, Any]:
    """The dashboard of the pipeline: how it is now in one row, how it went below."""
    width = COLUMNS // len(NOW)
    panels = [
        drawn(panel, index + 1, {"x": index * width, "y": 0, "w": width, "h": 4}) for index, panel in enumerate(NOW)
    ]
    for index, panel in enumerate(OVER_TIME):
        place = {"x": index % 3 * 8, "y": 4 + index // 3 * 8, "w": 8, "h": 8}
        panels.append(drawn(panel, len(NOW) + index + 1, place))
    instance = {
        "name": "instance",
        "label": "Worker",
        "type": "query",
        "datasource": SOURCE,
        "query": 'label_values(up{job="badges"}, instance)',
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": "badges-pipeline",
        "title": "badgestream: pipeline",
        "tags": ["badgestream"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [instance]},
        "panels": panels,
    }


def text() -> str:
    """The file as it is kept."""
    return json.dumps(pipeline(), indent=1) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "pipeline.json").write_text(text())
