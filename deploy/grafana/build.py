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
UNREAD = f'badges_dead_letters_total{{{CHOSEN},reason=~"unknown_event_type|payload_invalid|invalid_field"}}'
APPLIED = f'badges_events_total{{{CHOSEN},outcome="applied"}}'
ANSWERED = "rate(badges_http_request_seconds_bucket[$__rate_interval])"
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
        "HTTP requests",
        "Requests to the API and the panel by status, and what limits refused.",
        [
            ("sum by (status) (rate(badges_http_requests_total[$__rate_interval]))", "{{status}}"),
            ("sum by (limit) (rate(badges_http_refused_total[$__rate_interval]))", "refused: {{limit}}"),
        ],
        "reqps",
    ),
    Panel(
        "HTTP answers",
        "From a request's headers to those of its answer, 99 of 100; the ten slowest routes.",
        [
            (
                f"topk(10, histogram_quantile(0.99, sum by (le, route) ({ANSWERED})))",
                "{{route}}",
            ),
        ],
        "s",
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

USUAL = "avg_over_time(badge:badges_awards:increase1h[7d] offset 2h)"
AGE = "time() - max by (exported_job) (badges_job_last_success_timestamp)"
SPIKES_NOW = [
    Panel("Awards", "Awards of the last 24 hours.", [("sum(increase(badges_awards_total{}[24h]))", "")], stat=True),
    Panel(
        "Badges given",
        "Badges that were given to somebody in the last 24 hours.",
        [("count(sum by (badge) (increase(badges_awards_total{}[24h])) > 0)", "")],
        stat=True,
    ),
    Panel(
        "Largest spike",
        "The badge that is given most beyond its usual hour of the last seven days, as a multiple of that.",
        [(f"max(badge:badges_awards:increase1h / ({USUAL} > 1))", "")],
        stat=True,
        red_above=10,
    ),
    Panel(
        "Held back",
        "Awards that a breaker held and that wait for a person: badges quarantine list.",
        [("max(badges_quarantined{})", "")],
        stat=True,
        red_above=1,
    ),
    Panel(
        "Failed runs",
        "Runs of scheduled jobs that failed in the last 24 hours.",
        [('sum(increase(badges_job_runs_total{outcome="failed"}[24h]))', "")],
        stat=True,
        red_above=1,
    ),
]
SPIKES = [
    Panel(
        "Holders",
        "Users who hold a badge, as last counted; the twenty badges held most.",
        [("topk(20, max by (badge) (badges_holders))", "{{badge}}")],
    ),
    Panel(
        "Share of active users",
        "Of the users with an event in the last active_days, those who hold a badge; the twenty badges held most.",
        [("topk(20, max by (badge) (badges_holders_share))", "{{badge}}")],
        "percentunit",
    ),
    Panel(
        "A day against the usual",
        "Awards of the last 24 hours as a multiple of the median of four weeks and its spread; above 10 is an alert.",
        [("topk(10, max by (badge) (badges_holders_change_ratio))", "{{badge}}")],
    ),
    Panel(
        "Awards an hour",
        "The ten badges given most, without what a new catalog or a person gave.",
        [("topk(10, badge:badges_awards:increase1h)", "{{badge}}")],
    ),
    Panel(
        "Beyond what is usual",
        "Awards of an hour as a multiple of the badge's usual hour of the last seven days; above 10 is an alert.",
        [(f"topk(10, badge:badges_awards:increase1h / ({USUAL} > 1))", "{{badge}}")],
    ),
    Panel(
        "Awards by origin",
        "live, late (an event came late), backfill (a new catalog), cron, manual.",
        [("sum by (origin) (increase(badges_awards_total{}[1h]))", "{{origin}}")],
    ),
    Panel(
        "Held back by breakers",
        "Awards that were earned while more of the badge came than is usual.",
        [("sum by (badge) (increase(badges_awards_held_back_total{}[1h]))", "{{badge}}")],
    ),
    Panel(
        "Taken back",
        "Awards taken back, by hand or as what they stand for fell.",
        [("sum by (badge, origin) (increase(badges_revocations_total{}[1h]))", "{{badge}} {{origin}}")],
    ),
    Panel(
        "Scheduled jobs: since the last good run",
        "Each tick is run by one of the schedulers; schedules of the catalog may be rare by themselves.",
        [(AGE, "{{exported_job}}")],
        "s",
    ),
    Panel(
        "Scheduled jobs: overdue",
        "How long the oldest tick of each job that is not done has been due; above two hours, or twelve, is an alert.",
        [("max by (exported_job) (badges_job_overdue_seconds)", "{{exported_job}}")],
        "s",
    ),
    Panel(
        "Scheduled jobs: duration",
        "How long the last run of each job took that ended well.",
        [("max by (exported_job) (badges_job_seconds)", "{{exported_job}}")],
        "s",
    ),
    Panel(
        "Scheduled jobs: the last run",
        "Users looked at, events sent, awards and counts written by the last run of each job that ended well.",
        [
            (f"max by (exported_job) (badges_job_{figure})", f"{{{{exported_job}}}} {figure}")
            for figure in ("users", "events", "awards", "counts")
        ],
    ),
    Panel(
        "Drift",
        "What sweeps, recomputes and backfills found missing or other than the log, and put right, by kind.",
        [("sum by (kind) (increase(badges_differences_total[1h]))", "{{kind}}")],
    ),
    Panel(
        "Users held against their logs",
        "By the job that did it.",
        [("sum by (exported_job) (increase(badges_users_recounted_total[1h]))", "{{exported_job}}")],
    ),
    Panel(
        "Scheduled jobs: runs",
        "Runs by outcome.",
        [("sum by (exported_job, outcome) (increase(badges_job_runs_total[1h]))", "{{exported_job}} {{outcome}}")],
    ),
]
CATALOG_NOW = [
    Panel(
        "Catalog",
        "The version in use; two figures while workers differ.",
        [("min(badges_catalog_version{})", "lowest"), ("max(badges_catalog_version{})", "highest")],
        stat=True,
    ),
    Panel(
        "Types that do not come",
        "Event types some badge listens to silent by their own rhythm, or never seen: badges catalog coverage.",
        [("sum(max by (type) (badges_trigger_silent)) or vector(0)", "")],
        stat=True,
    ),
    Panel(
        "Conditions parked",
        "Condition types in JavaScript that are asked no more: they fail whoever it is about.",
        [("max(badges_conditions_parked{})", "")],
        stat=True,
        red_above=1,
    ),
    Panel(
        "Users built",
        "Users brought to a new version of the catalog in the last hour.",
        [("sum(increase(badges_users_built_total{}[1h]))", "")],
        stat=True,
    ),
]
CATALOG = [
    Panel(
        "Silent triggers",
        "The event types some badge listens to that were silent longest.",
        [("topk(20, min by (type) (badges_trigger_silent_seconds))", "{{type}}")],
        "s",
    ),
    Panel(
        "Events by type",
        "Events a day of each type, the twenty most frequent.",
        [("topk(20, type:badges_events:increase1d)", "{{type}}")],
    ),
    Panel(
        "Awards by badge",
        "Awards a day, the twenty badges given most.",
        [("topk(20, sum by (badge) (increase(badges_awards_total{}[1d])))", "{{badge}}")],
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
        "Values that could not be used",
        "Values of events that criteria looked at: missing, null, of the wrong type, no time zone.",
        [("sum by (kind) (increase(badges_data_problems_total{}[$__rate_interval]))", "{{kind}}")],
    ),
    Panel(
        "Unknown and invalid events",
        "Dead letters whose type no catalog knows, or whose payload its schema refuses.",
        [
            (f"sum by (reason) (increase({UNREAD}[$__rate_interval]))", "{{reason}}"),
        ],
    ),
    Panel(
        "Conditions in JavaScript",
        "Answers by verdict; errors are faults of the condition.",
        [("sum by (verdict) (increase(badges_condition_verdicts_total{}[$__rate_interval]))", "{{verdict}}")],
    ),
    Panel(
        "Faults of conditions",
        "By condition type; where half of the calls fail it is parked.",
        [("sum by (condition) (increase(badges_condition_faults_total{}[$__rate_interval]))", "{{condition}}")],
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


@dataclass(frozen=True)
class Board:
    """A dashboard: figures as they are now in one row, figures over time below."""

    name: str
    title: str
    now: Sequence[Panel]
    over_time: Sequence[Panel]
    span: str = "now-1h"
    refresh: str = "10s"


BOARDS = (
    Board("pipeline", "badgestream: pipeline", NOW, OVER_TIME),
    Board("holders", "badgestream: holders and spikes", SPIKES_NOW, SPIKES, span="now-7d", refresh="1m"),
    Board("catalog", "badgestream: catalog", CATALOG_NOW, CATALOG, span="now-7d", refresh="1m"),
)


def dashboard(board: Board) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    width = COLUMNS // len(board.now)
    panels = [
        drawn(panel, index + 1, {"x": index * width, "y": 0, "w": width, "h": 4})
        for index, panel in enumerate(board.now)
    ]
    for index, panel in enumerate(board.over_time):
        place = {"x": index % 3 * 8, "y": 4 + index // 3 * 8, "w": 8, "h": 8}
        panels.append(drawn(panel, len(board.now) + index + 1, place))
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
        "uid": f"badges-{board.name}",
        "title": board.title,
        "tags": ["badgestream"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": board.refresh,
        "time": {"from": board.span, "to": "now"},
        "templating": {"list": [instance]},
        "links": [{"type": "dashboards", "tags": ["badgestream"], "title": "badgestream", "asDropdown": False}],
        "panels": panels,
    }


def texts() -> dict[str, str]:
    """The files as they are kept, by name."""
    return {f"{board.name}.json": json.dumps(dashboard(board), indent=1) + "\n" for board in BOARDS}


if __name__ == "__main__":
    for name, text in texts().items():
        (Path(__file__).parent / name).write_text(text)
