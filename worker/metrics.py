"""Every metric: declared, typed and explained here, on one registry; labels are bounded and never hold a user id."""

from __future__ import annotations

from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: A label that follows the catalog takes at most this many values, then `other` (decisions 35).
LABEL_VALUES = 1000
OTHER = "other"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DELAY_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)
_ANSWER_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class BoundedLabel:
    """Lets the first `limit` values of a label through for good; every further one reads `other`."""

    def __init__(self, limit: int = LABEL_VALUES) -> None:
        self._limit = limit
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value to use as the label."""
        if value in self._values:
            return value
        if len(self._values) >= self._limit:
            return OTHER
        self._values.add(value)
        return value


class Metrics:
    """The metrics of one process, on a registry of their own.

    The modes of the gauges say how the parent of several processes adds theirs up. Use `badge` and `event_type` for
    every value of a label of that name. `shared`: kept in files that a parent adds up, and that forget nothing.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, shared: bool = False) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.shared = shared
        self.badge = BoundedLabel()
        self.event_type = BoundedLabel()
        self.condition = BoundedLabel()
        self._declare_stream()
        self._declare_awards()
        self._declare_outbox()
        self._declare_conditions()
        self._declare_jobs()

    def _declare_stream(self) -> None:
        self.records = self._counter("records", "Records read, by topic, whatever became of them", "topic")
        self.tombstones = self._counter("tombstones", "Records without a value, skipped")
        self.batches = self._counter("batches", "Batches committed")
        self.batch_seconds = self._histogram(
            "batch_seconds", "From the first decode to the commit of a batch", _SECONDS
        )
        self.batch_events = self._histogram("batch_events", "Records in a committed batch", _SIZES)
        self.fenced_batches = self._counter(
            "fenced_batches", "Batches rolled back because the partition had moved to another worker"
        )
        self.retries = self._counter(
            "retries", "Times that work was done again because a service could not answer, by part", "part"
        )
        self.rebalances = self._counter("rebalances", "Times that the group dealt its partitions again")
        self.consumer_lag = self._gauge(
            "consumer_lag",
            "Records of an own partition that are not applied yet",
            "livemostrecent",
            "topic",
            "partition",
        )
        self.partitions_halted = self._gauge(
            "partitions_halted", "Own partitions that stand still until a person acts", "livesum"
        )
        self.db_pool_in_use = self._gauge("db_pool_in_use", "Connections to PostgreSQL at work", "livesum")

    def _declare_awards(self) -> None:
        self.events = self._counter(
            "events", "Events by type and outcome: applied, or duplicate of one that was logged", "type", "outcome"
        )
        self.dead_letters = self._counter(
            "dead_letters", "Records that could not be processed, by reason code", "reason"
        )
        self.evaluations = self._counter(
            "evaluations", "Tests run: for each event those that it can change, of a badge or of a ladder's next level"
        )
        self.trigger_silent = self._gauge(
            "trigger_silent",
            "1 where a type that badges listen to is silent by its own rhythm, or was never seen, by `badges schedule`",
            "livemax",
            "type",
        )
        self.trigger_silent_seconds = self._gauge(
            "trigger_silent_seconds",
            "Since an event of a type that badges listen to last came: in a worker since its start at most",
            "livemin",
            "type",
        )
        self.trigger_usual_per_day = self._gauge(
            "trigger_usual_per_day",
            "How many events of a type were usual a day before the last one came, by `badges schedule`",
            "livemax",
            "type",
        )
        self.data_problems = self._counter(
            "data_problems", "Values of events that criteria looked at and could not use, by kind", "kind"
        )
        self.late_users = self._counter("late_users", "Times that a late event made a user's log be read again")
        self.users_built = self._counter(
            "users_built", "Users brought to a new version of the catalog in the background"
        )
        self.cache_hits = self._counter("cache_hits", "Users of a batch whose memory the worker had")
        self.cache_misses = self._counter("cache_misses", "Users of a batch whose memory had to be read, or was new")
        self.cache_bytes = self._gauge("cache_bytes", "Memory kept of users between batches, about", "livesum")
        self.awards = self._counter("awards", "Awards granted, by badge and origin", "badge", "origin")
        self.revocations = self._counter(
            "revocations", "Awards taken back, by badge and origin: manual, or by themselves", "badge", "origin"
        )
        self.awards_held_back = self._counter("awards_held_back", "Awards that a breaker held back, by badge", "badge")
        self.quarantined = self._gauge("quarantined", "Awards that wait to be released or dropped", "livemostrecent")
        self.event_to_award_seconds = self._histogram(
            "event_to_award_seconds",
            "From the Kafka timestamp of a batch's oldest record to the commit, where the batch granted awards",
            _DELAY_SECONDS,
        )
        self.users_recounted = self._counter(
            "users_recounted", "Users held against their logs by sweep, recompute or backfill", "job"
        )
        self.differences = self._counter(
            "differences", "What users' logs showed to be missing or other: memory and awards, by kind", "kind"
        )
        self.sweep_differences = self._gauge(
            "sweep_differences",
            "Differences that the newest sweep found and put right, whoever made it",
            "livemostrecent",
        )
        self.catalog_version = self._gauge("catalog_version", "Version of the catalog in use", "livemin")

    def forget(self, gauge: Gauge, *labels: str) -> None:
        """Serve a series no longer. The parent of several processes leaves out what is no number."""
        if self.shared:
            gauge.labels(*labels).set(nan)
        else:
            gauge.remove(*labels)

    def _declare_outbox(self) -> None:
        self.published = self._counter("published", "Messages that the broker has acknowledged, by topic", "topic")
        self.outbox_parked = self._counter(
            "outbox_parked", "Messages of the outbox set aside: no producer can send them"
        )
        self.outbox_pending = self._gauge(
            "outbox_pending", "Rows of the outbox that wait to be published", "livemostrecent"
        )
        self.outbox_oldest_seconds = self._gauge(
            "outbox_oldest_seconds", "Age of the oldest row that waits to be published", "livemostrecent"
        )

    def _declare_conditions(self) -> None:
        self.condition_verdicts = self._counter(
            "condition_verdicts",
            "Answers of conditions in JavaScript: yes, no, error for a fault, or parked: the type is asked no more",
            "verdict",
        )
        self.condition_faults = self._counter(
            "condition_faults", "Faults of conditions in JavaScript, by condition type", "condition"
        )
        self.condition_starts = self._counter(
            "condition_starts",
            "Starts of the process that runs conditions in JavaScript: the first, and after each end",
        )
        self.conditions_parked = self._gauge(
            "conditions_parked", "Condition types that are asked no more: they fail whoever it is about", "livemax"
        )
        self.condition_cuts = self._counter(
            "condition_cuts", "Batches that were cut short because conditions in JavaScript took their time"
        )

    def _declare_jobs(self) -> None:
        self.job_runs = self._counter(
            "job_runs", "Runs of scheduled jobs, by outcome: done, waiting, failed", "job", "outcome"
        )
        self.job_last_success_timestamp = self._gauge(
            "job_last_success_timestamp",
            "When a run of a job last ended well, whoever made it, seconds since 1970",
            "livemax",
            "job",
        )
        self.job_overdue_seconds = self._gauge(
            "job_overdue_seconds", "How long the oldest tick of a job that is not done has been due", "livemax", "job"
        )
        self.job_seconds = self._last_run("seconds", "How long the last run of a job took that ended well")
        self.job_users = self._last_run("users", "Users whom the last run of a job looked at")
        self.job_events = self._last_run("events", "Events that the last run of a job sent, read or removed")
        self.job_awards = self._last_run(
            "awards", "Awards that the last run of a job gave, put back or counted; none of jobs that only send events"
        )
        self.job_counts = self._last_run("counts", "Counts that the last run of a job wrote")
        self.holders = self._gauge("holders", "Users who hold a badge, as last counted", "livemax", "badge")
        self.holders_change_ratio = self._gauge(
            "holders_change_ratio",
            "Awards of a badge in the last 24 hours, as a multiple of what is usual in a day and its spread",
            "livemax",
            "badge",
        )
        self.holders_share = self._gauge(
            "holders_share", "Which part of the active users hold a badge, 0 to 1", "livemax", "badge"
        )
        self.active_users = self._gauge("active_users", "Users with an event in the last `active_days`", "livemax")

    def _last_run(self, figure: str, explained: str) -> Gauge:
        return self._gauge(f"job_{figure}", explained, "livemax", "job")

    def _counter(self, name: str, explained: str, *labels: str) -> Counter:
        return Counter(f"badges_{name}", explained, labels, registry=self.registry)

    def _gauge(self, name: str, explained: str, mode: str, *labels: str) -> Gauge:
        return Gauge(
            f"badges_{name}",
            explained,
            labels,
            registry=self.registry,
            multiprocess_mode=mode,  # type: ignore[arg-type]
        )

    def _histogram(self, name: str, explained: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"badges_{name}", explained, registry=self.registry, buckets=buckets)


class SupervisorMetrics:
    """The metrics of the parent of several processes, beside those of its children."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ready = Gauge(
            "badges_processes_ready", "Processes that are ready, of those of `--processes`", registry=registry
        )
        self.restarts = Counter(
            "badges_process_restarts",
            "Times that a process of `--processes` ended and was started again",
            registry=registry,
        )


class HttpMetrics:
    """The metrics of `badges admin`; a route is its template, and what leads to none has the route `none`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.requests = Counter(
            "badges_http_requests",
            "HTTP requests answered, by method, route and status",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "badges_http_request_seconds",
            "From a request's headers to those of its answer, by route",
            ("route",),
            registry=self.registry,
            buckets=_ANSWER_SECONDS,
        )
        self.requests_running = Gauge(
            "badges_http_requests_running",
            "HTTP requests that are being answered, listeners to the feed among them",
            registry=self.registry,
        )
        self.listeners = Gauge("badges_http_listeners", "Who listens to the feed of awards", registry=self.registry)
        self.refused = Counter(
            "badges_http_refused",
            "Requests and connections refused or ended by a limit, by limit",
            ("limit",),
            registry=self.registry,
        )
