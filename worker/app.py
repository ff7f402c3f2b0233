"""The one place where things are built and tied together: settings to pool, plan, consumer, relay and health."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic, time

import structlog

from worker.config import Settings, Topics, shown_address, transport_refusals
from worker.errors import AuthorError, OperatorError, TransientError
from worker.events import json_text
from worker.files import read_sources
from worker.health import HealthServer
from worker.metrics import Metrics
from worker.outbox import Relay, RelayHooks
from worker.pipeline.batch import Applier, BatchFacts, Limits
from worker.pipeline.group import Brake, Member, batch_line
from worker.pipeline.partition import Hooks, Pace
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source, read_document
from worker.rules.catalog.load import catalog_from_document, load_catalog
from worker.rules.plan import Plan, compile_plan
from worker.store.migrate import newest_known_version, schema_version
from worker.store.pool import check_server, close_pool, create_pool
from worker.store.postgres import PostgresStore
from worker.stream import Consumer, check_topics, open_publisher

log = structlog.get_logger(__name__)

#: Transactions at a time: two keep two cores busy (costs.md), four hide the waits between statements.
PARALLEL_BATCHES = 4
#: Connections beside those: the relay, claims, gauges.
SPARE_CONNECTIONS = 4
#: How long a worker waits, unready, for a database that is away or whose schema is behind (decisions 32), seconds.
WAIT_SECONDS = 60.0
#: Running transactions may end within this once the worker must stop (decisions 30), seconds.
FINISH_SECONDS = 8.0
#: How often gauges that need a question to a service are asked for, seconds.
GAUGE_SECONDS = 5.0
#: How often rows that were published a week ago are removed, seconds.
PRUNE_SECONDS = 600.0
#: No turn of the event loop for so long means that it hangs: `/livez` says so, seconds.
HANG_SECONDS = 30.0


# ---- catalog --------------------------------------------------------------------------------------------------------


def read_catalog(path: Path) -> tuple[Catalog, str, str]:
    """A catalog file or folder, its whole document as JSON text, and the hash that names it. Raises AuthorError."""
    catalog = load_catalog(read_sources(path))
    document = json_text.dumps(catalog.document)
    return catalog, document, sha256(document.encode()).hexdigest()


async def apply_catalog(store: PostgresStore, path: Path, *, applied_by: str) -> tuple[int, Catalog]:
    """Make a catalog file the head in the database; an unchanged one gives the version that is there."""
    catalog, document, digest = await asyncio.to_thread(read_catalog, path)
    version = await store.apply_catalog(
        document, digest, badges=catalog.badges, event_types=list(catalog.dictionary.types), applied_by=applied_by
    )
    return version, catalog


async def head_plan(store: PostgresStore) -> Plan | None:
    """The compiled plan of the catalog's head; None where no catalog was applied yet. Compiled off the loop."""
    head = await store.catalog_head()
    if head is None:
        return None

    def compiled() -> Plan:
        document, faults = read_document([Source(f"catalog version {head.version}", head.document)])
        if document is None:
            raise AuthorError(faults)
        plan = compile_plan(catalog_from_document(document.data, version=head.version))
        # a large plan is millions of objects that all stay: the collector need not look at them again and again
        gc.collect()
        gc.freeze()
        return plan

    return await asyncio.to_thread(compiled)


async def first_plan(store: PostgresStore, settings: Settings) -> Plan:
    """The plan to start with; a catalog file is applied only where the head and `CATALOG_MANAGED` let it."""
    if settings.catalog is not None:
        _, _, digest = await asyncio.to_thread(read_catalog, settings.catalog)
        head = await store.catalog_head()
        managed_here = settings.catalog_managed == "file" and not await store.catalog_knows(digest)
        if head is None or managed_here:
            version, _ = await apply_catalog(store, settings.catalog, applied_by="worker")
            log.info("catalog_applied", version=version, path=str(settings.catalog))
    plan = await head_plan(store)
    if plan is None:
        raise OperatorError(
            "The database holds no catalog.",
            help="run `badges catalog apply FILE`, or set BADGES_CATALOG to a catalog file for the first start",
        )
    return plan


# ---- services -------------------------------------------------------------------------------------------------------


def subscription(settings: Settings) -> Topics:
    """What a worker reads: the event topics, and the control topic beside them."""
    given = settings.event_topics
    return Topics(names=(*given.names, settings.control_topic), pattern=given.pattern)


def check_surroundings(settings: Settings) -> None:
    """Refuse what would put data at risk before anything is opened; say what was allowed all the same."""
    refusals = transport_refusals(settings)
    if refusals:
        raise OperatorError(refusals[0])
    for allowance in sorted(settings.allow_insecure):
        log.warning("insecure_allowed", what=allowance)


@asynccontextmanager
async def open_store(settings: Settings, *, name: str, connections: int = 2) -> AsyncIterator[PostgresStore]:
    """A store on a pool of its own, on a server worth trusting; closed within seconds whatever happens."""
    try:
        pool = await create_pool(settings.dsn, application_name=name, max_size=connections)
    except TransientError as error:
        raise OperatorError(
            f"The database {shown_address(settings.dsn)} cannot be used now: {error.message}.",
            help="start it, or set BADGES_DATABASE_URL",
        ) from None
    try:
        for sentence in await check_server(pool, allow_insecure=settings.allow_insecure):
            log.warning("durability_lifted", what=sentence)
        yield PostgresStore(pool, group_id=settings.group_id)
    finally:
        await close_pool(pool)


async def until_schema(store: PostgresStore, *, seconds: float = WAIT_SECONDS) -> None:
    """Wait for the schema this version needs; a worker never migrates (decisions 32)."""
    deadline = monotonic() + seconds
    while (found := await schema_version(store.pool)) < newest_known_version():
        if monotonic() > deadline:
            raise OperatorError(
                f"The database has schema {found}, this version needs {newest_known_version()}.",
                help="run `badges db migrate`",
            )
        log.info("schema_awaited", found=found, needed=newest_known_version())
        await asyncio.sleep(1.0)


# ---- the worker -----------------------------------------------------------------------------------------------------


class Worker:
    """One process: a member of the consumer group, a relay, health and metrics.

    `run` returns after `stop` was called and everything ended, or raises what made it end.
    """

    def __init__(self, settings: Settings, *, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.health_port = 0
        self.member: Member | None = None
        self._consumer: Consumer | None = None
        self._relay: Relay | None = None
        self._stop = asyncio.Event()
        self._beat = monotonic()
        self._unready: str | None = "starting"

    def stop(self) -> None:
        """Ask for the end; safe to call from a signal handler."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Health answers from the first moment on."""
        check_surroundings(self.settings)
        with self._health():
            beating = asyncio.create_task(self._keep_beating())
            try:
                await self._serve()
            finally:
                beating.cancel()

    async def _serve(self) -> None:
        connections = PARALLEL_BATCHES + SPARE_CONNECTIONS
        async with open_store(self.settings, name=f"badges {self.name}", connections=connections) as store:
            await until_schema(store)
            plan = await first_plan(store, self.settings)
            self._announce(plan)
            applier = Applier(store, plan, self._limits())
            self.member = member = self._build_member(store, applier)
            await check_topics(self.settings, (self.settings.award_topic, self.settings.dead_letter_topic))
            self._relay = Relay(
                store, partial(open_publisher, self.settings), owner=self.name, hooks=self._relay_hooks()
            )
            self._consumer = consumer = Consumer(
                settings=self.settings,
                topics=subscription(self.settings),
                on_assigned=self._assigned,
                on_revoked=member.revoked,
            )
            member.use_stream(consumer)
            await consumer.start()
            await self._until_end(store, consumer, member)

    async def _until_end(self, store: PostgresStore, consumer: Consumer, member: Member) -> None:
        assert self._relay is not None  # noqa: S101 (made just before)
        self._unready = None
        relay_stop = asyncio.Event()
        polling = asyncio.create_task(member.run(consumer), name="poll")
        relaying = asyncio.create_task(self._relay.run(relay_stop), name="relay")
        gauging = asyncio.create_task(self._keep_gauges(store), name="gauges")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        tasks = {polling, relaying, gauging, stopping}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._unready = "stopping"
            log.info("worker_stops")
            for task in done - {stopping}:
                task.result()
        finally:
            member.stop()
            await member.finish(FINISH_SECONDS)
            await consumer.commit_hint(member.offsets(), wait_seconds=2.0)
            relay_stop.set()
            await consumer.stop()
            await asyncio.wait({relaying}, timeout=3.0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=2.0)
            log.info("worker_stopped")

    def _build_member(self, store: PostgresStore, applier: Applier) -> Member:
        loading = asyncio.Lock()

        async def catalog_moved(head: int) -> None:
            async with loading:
                if applier.plan.version < head and (plan := await head_plan(store)) is not None:
                    applier.use(plan)
                    self._announce(plan)

        settings = self.settings
        return Member(
            name=self.name,
            store=store,
            applier=applier,
            pace=Pace(
                max_events=settings.batch_max_events,
                max_seconds=settings.batch_max_ms / 1000,
                queue_records=2 * settings.batch_max_events,
                start=settings.start,
            ),
            brake=Brake(settings.dead_letter_limit),
            hooks=Hooks(
                applied=self._applied,
                fenced=self.metrics.fenced_batches.inc,
                retried=lambda part: self.metrics.retries.labels(part).inc(),
                catalog_moved=catalog_moved,
            ),
            parallel=PARALLEL_BATCHES,
        )

    def _relay_hooks(self) -> RelayHooks:
        def published(topic: str, count: int) -> None:
            self.metrics.published.labels(topic).inc(count)

        return RelayHooks(published=published, parked=self.metrics.outbox_parked.inc)

    def _limits(self) -> Limits:
        return Limits(
            award_topic=self.settings.award_topic,
            dead_letter_topic=self.settings.dead_letter_topic,
            control_topic=self.settings.control_topic,
            max_future_us=self.settings.max_future_us,
        )

    # ---- what is seen ---------------------------------------------------------------------------------------------

    def _announce(self, plan: Plan) -> None:
        self.metrics.catalog_version.set(plan.version)
        log.info("catalog_loaded", version=plan.version, badges=len(plan.badges), badges_per_trigger=dict(plan.counts))

    def _assigned(self, generations: Mapping[tuple[str, int], int]) -> None:
        self.metrics.rebalances.inc()
        if self.member is not None:
            self.member.assigned(generations)

    def _applied(self, facts: BatchFacts) -> None:
        observe_batch(self.metrics, facts, now=time())
        log.info("batch_processed", **batch_line(facts))
        if self._relay is not None and (facts.awards or facts.dead_letters):
            self._relay.wake()

    async def _keep_beating(self) -> None:
        while True:
            self._beat = monotonic()
            await asyncio.sleep(1.0)

    async def _keep_gauges(self, store: PostgresStore) -> None:
        prune_at = monotonic() + PRUNE_SECONDS
        while True:
            try:
                pending, oldest = await store.outbox_figures()
                self.metrics.outbox_pending.set(pending)
                self.metrics.outbox_oldest_seconds.set(oldest)
                if monotonic() > prune_at:
                    prune_at = monotonic() + PRUNE_SECONDS
                    log.info("outbox_pruned", rows=await store.prune_outbox())
            except TransientError as error:
                log.info("gauges_missed", reason=error.message)
            self.metrics.db_pool_in_use.set(store.pool.get_size() - store.pool.get_idle_size())
            self._gauge_lag()
            await asyncio.sleep(GAUGE_SECONDS)

    def _gauge_lag(self) -> None:
        if self.member is None or self._consumer is None:
            return
        self.metrics.partitions_halted.set(len(self.member.halted()))
        self.metrics.consumer_lag.clear()
        for (topic, partition), offset in self.member.offsets().items():
            end = self._consumer.highwater((topic, partition))
            if end is not None:
                self.metrics.consumer_lag.labels(topic, str(partition)).set(max(0, end - offset))

    @contextmanager
    def _health(self) -> Iterator[None]:
        server = HealthServer(
            self.settings.metrics_host,
            self.settings.metrics_port,
            registry=self.metrics.registry,
            live=self._live,
            ready=self._ready,
        )
        self.health_port = server.port
        log.info("health_served", host=self.settings.metrics_host, port=server.port)
        try:
            yield
        finally:
            server.close()

    def _live(self) -> str | None:
        silent = monotonic() - self._beat
        return f"the event loop has not turned for {silent:.0f} s" if silent > HANG_SECONDS else None

    def _ready(self) -> str | None:
        if self._unready is not None:
            return self._unready
        halted = self.member.halted() if self.member is not None else {}
        return next(iter(halted.values()), None) or self._live()


def observe_batch(metrics: Metrics, facts: BatchFacts, *, now: float) -> None:
    """Count one committed batch; `now` is wall-clock seconds, for the delay from record to award."""
    metrics.batches.inc()
    metrics.records.labels(facts.topic).inc(facts.records)
    metrics.tombstones.inc(facts.tombstones)
    metrics.batch_seconds.observe(facts.decode_seconds + facts.transaction_seconds)
    metrics.batch_events.observe(facts.records)
    metrics.late_users.inc(facts.late_users)
    for (event_type, outcome), count in facts.types.items():
        metrics.events.labels(metrics.event_type(event_type), outcome).inc(count)
    for reason, count in facts.dead_letters.items():
        metrics.dead_letters.labels(reason).inc(count)
    for (badge, origin), count in facts.awards.items():
        metrics.awards.labels(metrics.badge(badge), origin).inc(count)
    if facts.awards:
        metrics.event_to_award_seconds.observe(max(0.0, now - facts.oldest_record_ms / 1000))
