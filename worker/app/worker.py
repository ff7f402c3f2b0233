"""One worker process: plan, pool, consumer, relay and health tied together, served until told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import monotonic, time

import structlog

from worker.app.catalog import first_plan, ruling_plan, unreadable
from worker.app.conditions import FaultLog, refuse_unasked
from worker.app.live_lag import LiveLag
from worker.app.observing import observe_awards, observe_batch, observe_conditions
from worker.app.programs import OtherMemories
from worker.app.services import (
    WAIT_SECONDS,
    check_surroundings,
    limits_of,
    open_store,
    subscription,
    until_schema,
)
from worker.app.silence import Silence
from worker.app.user_jobs import driver_of, told_by
from worker.app.vitals import Pulse, vitals
from worker.conditions import Door
from worker.config import Settings
from worker.errors import AuthorError, OperatorError, TransientError
from worker.metrics import OTHER, Metrics
from worker.outbox import Relay, RelayHooks
from worker.pipeline.batch import Applier
from worker.pipeline.brake import Brake
from worker.pipeline.build import Build
from worker.pipeline.cache import Cache
from worker.pipeline.driving import Waiting
from worker.pipeline.facts import BatchFacts, BuildFacts
from worker.pipeline.group import Member, batch_line
from worker.pipeline.pace import Hooks, Pace
from worker.rules.plan import Plan
from worker.store.pool import SCHEMA
from worker.store.postgres import PostgresStore
from worker.stream import Consumer, check_topics, open_publisher
from worker.supervise import STARTING

log = structlog.get_logger(__name__)

#: Transactions at a time: two keep two cores busy (costs.md), four hide the waits between statements.
PARALLEL_BATCHES = 4
#: Connections beside those: the relay, claims, gauges.
SPARE_CONNECTIONS = 6
#: Running transactions may end within this once the worker must stop (decisions 30), seconds.
FINISH_SECONDS = 8.0
#: How often gauges that need a question to a service are asked for, seconds.
GAUGE_SECONDS = 5.0
#: How often rows that were published a week ago are removed, seconds.
PRUNE_SECONDS = 600.0


class Worker:
    """One process: a member of the consumer group, a relay, health and metrics.

    `run` returns after `stop` was called and everything ended, or raises what made it end. `schema` is where its tables
    are. Where `report` is given it is told each second why the worker is not ready (None: it is), and health is served
    by whoever asked for that.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: Metrics | None = None,
        report: Callable[[str | None], None] | None = None,
        schema: str = SCHEMA,
    ) -> None:
        self.settings = settings
        self.schema = schema
        self.metrics = metrics or Metrics()
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.health_port = 0
        self.member: Member | None = None
        self._consumer: Consumer | None = None
        self._relay: Relay | None = None
        self._door: Door | None = None
        self._stop = asyncio.Event()
        self._pulse = Pulse()
        self._unready: str | None = STARTING
        self._refused: str | None = None
        self._refused_version = 0
        self._report = report
        self._lagging: set[tuple[str, str]] = set()
        self._silence = Silence()

    def stop(self) -> None:
        """Ask for the end; safe to call from a signal handler."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Health answers from the first moment on."""
        check_surroundings(self.settings)
        # What lives long here is the users' memory, a million objects and no cycle among them: looking through it again
        # and again took a quarter of the processor. Young garbage is looked for seldom, all of it every few minutes.
        gc.set_threshold(200_000, 50, 1_000_000)
        with self._health():
            beating = asyncio.create_task(self._keep_beating())
            try:
                await self._serve()
            finally:
                beating.cancel()

    async def _serve(self) -> None:
        connections = PARALLEL_BATCHES + SPARE_CONNECTIONS
        name = f"badges {self.name}"
        async with open_store(self.settings, name=name, connections=connections, schema=self.schema) as store:
            plan = await self._prepared(store)
            if plan is None:
                return
            self._announce(plan)
            self._unready = "joining the consumer group"
            seconds = self.settings.js_batch_seconds
            self._door = Door(tell=FaultLog(), seconds=seconds) if self.settings.js == "on" else None
            applier = Applier(
                store,
                plan,
                limits_of(self.settings),
                cache=Cache(self.settings.cache_bytes),
                judge=None if self._door is None else self._door.judge,
            )
            moved = self._reloading(store, applier)
            self.member = member = self._build_member(store, applier, moved)
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
            lag = LiveLag(store, self.settings)
            jobs = self._waiting_jobs(store, applier, moved, lag)
            try:
                await self._until_end(store, consumer, member, Build(applier, self._built, moved, jobs))
            finally:
                await lag.close()

    def _waiting_jobs(
        self, store: PostgresStore, applier: Applier, moved: Callable[[int], Awaitable[None]], lag: LiveLag
    ) -> Waiting:
        """What does the jobs over users that wait, beside live events."""
        assert self._relay is not None  # noqa: S101 (made just before)
        told = told_by(self.metrics, self._relay.wake)
        judge = applier.judge
        return Waiting(
            driver_of(
                store, lambda: applier.plan, self.settings, moved=moved, told=told, judge=judge, behind=lag.seconds
            )
        )

    async def _prepared(self, store: PostgresStore) -> Plan | None:
        """The plan to start with; None where the end was asked for first. Schema and catalog are awaited a minute."""

        async def prepare() -> Plan:
            await until_schema(store)
            return await first_plan(store, self.settings, seconds=WAIT_SECONDS)

        preparing, stopping = asyncio.create_task(prepare()), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return preparing.result() if preparing.done() else None
        finally:
            for task in (preparing, stopping):
                task.cancel()
            await asyncio.wait({preparing, stopping})

    async def _until_end(self, store: PostgresStore, consumer: Consumer, member: Member, build: Build) -> None:
        assert self._relay is not None  # noqa: S101 (made just before)
        self._unready = None
        relay_stop = asyncio.Event()
        polling = asyncio.create_task(member.run(consumer), name="poll")
        relaying = asyncio.create_task(self._relay.run(relay_stop), name="relay")
        gauging = asyncio.create_task(self._keep_gauges(store), name="gauges")
        building = asyncio.create_task(build.run(), name="build")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        tasks = {polling, relaying, gauging, building, stopping}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._unready = "stopping"
            log.info("worker_stops")
            for task in done - {stopping}:
                task.result()
        finally:
            member.stop()
            building.cancel()
            await member.finish(FINISH_SECONDS)
            await consumer.commit_hint(member.offsets(), wait_seconds=2.0)
            relay_stop.set()
            await consumer.stop()
            await asyncio.wait({relaying}, timeout=3.0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=2.0)
            if self._door is not None:
                await self._door.close()
            log.info("worker_stopped")

    def _reloading(self, store: PostgresStore, applier: Applier) -> Callable[[int], Awaitable[None]]:
        """What is done when the catalog's head has moved: the plan is compiled once, off the loop, and swapped.

        A version that cannot be read or may not run here is left alone: nothing is applied until another one rules.
        """
        loading = asyncio.Lock()

        async def moved(head: int) -> None:
            async with loading:
                if head not in (applier.plan.version, self._refused_version):
                    plan = await self._usable(store, head)
                    if plan is not None:
                        applier.use(plan)
                        self._announce(plan)
            if applier.plan.version != head:
                await asyncio.sleep(1.0)  # moved again meanwhile, or there is none: who asked looks again

        return moved

    async def _usable(self, store: PostgresStore, head: int) -> Plan | None:
        """The plan of the head; None where it cannot be used here: once the log says why, then readiness does."""
        try:
            plan = await ruling_plan(store)
        except AuthorError as error:
            self._refuse("catalog_unreadable", head, unreadable(head, error))
            return None
        except OtherMemories as error:
            self._refuse("catalog_refused", error.head.version, error)
            return None
        if plan is None:
            return None
        try:
            refuse_unasked(plan.catalog, self.settings)
        except OperatorError as error:
            self._refuse("catalog_refused", plan.version, error)
            return None
        self._refused, self._refused_version = None, 0
        return plan

    def _refuse(self, event: str, version: int, error: OperatorError) -> None:
        self._refused, self._refused_version = error.message, version
        log.error(event, version=version, reason=error.message, help=error.help)

    def _build_member(self, store: PostgresStore, applier: Applier, moved: Callable[[int], Awaitable[None]]) -> Member:
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
                catalog_moved=moved,
            ),
            parallel=PARALLEL_BATCHES,
        )

    def _relay_hooks(self) -> RelayHooks:
        def published(topic: str, count: int) -> None:
            self.metrics.published.labels(topic).inc(count)

        return RelayHooks(published=published, parked=self.metrics.outbox_parked.inc)

    # ---- what is seen ---------------------------------------------------------------------------------------------

    def _announce(self, plan: Plan) -> None:
        self.metrics.catalog_version.set(plan.version)
        for gone in self._silence.listen(plan.counts, monotonic()):
            self.metrics.forget(self.metrics.trigger_silent_seconds, self.metrics.event_type(gone))
        log.info("catalog_loaded", version=plan.version, badges=len(plan.badges), badges_per_trigger=dict(plan.counts))

    def _assigned(self, generations: Mapping[tuple[str, int], int]) -> None:
        self.metrics.rebalances.inc()
        if self.member is not None:
            self.member.assigned(generations)

    def _applied(self, facts: BatchFacts) -> None:
        observe_batch(self.metrics, facts, now=time())
        self._silence.applied(facts.types, monotonic())
        self._observe_cache()
        log.info("batch_processed", **batch_line(facts))
        if self._relay is not None and (facts.publishes or facts.dead_letters):
            self._relay.wake()

    def _built(self, facts: BuildFacts) -> None:
        self.metrics.users_built.inc(facts.users)
        observe_awards(self.metrics, facts)
        log.info("users_built", version=facts.version, users=facts.users, events=facts.events, done=facts.done)
        if self._relay is not None and facts.publishes:
            self._relay.wake()

    async def _keep_beating(self) -> None:
        while True:
            self._pulse.beat()
            if self._report is not None:
                self._report(self._ready())
            await asyncio.sleep(1.0)

    def _observe_cache(self) -> None:
        if self.member is not None:
            cache = self.member.applier.cache
            hits, misses = cache.counted()
            self.metrics.cache_hits.inc(hits)
            self.metrics.cache_misses.inc(misses)
            self.metrics.cache_bytes.set(cache.taken_bytes)

    async def _keep_gauges(self, store: PostgresStore) -> None:
        prune_at = monotonic() + PRUNE_SECONDS
        while True:
            try:
                pending, oldest = await store.outbox_figures()
                self.metrics.outbox_pending.set(pending)
                self.metrics.outbox_oldest_seconds.set(oldest)
                self.metrics.quarantined.set(await store.quarantine_size())
                if monotonic() > prune_at:
                    prune_at = monotonic() + PRUNE_SECONDS
                    gc.collect()
                    log.info("outbox_pruned", rows=await store.prune_outbox())
            except TransientError as error:
                log.info("gauges_missed", reason=error.message)
            self.metrics.db_pool_in_use.set(store.pool.get_size() - store.pool.get_idle_size())
            self._gauge_lag()
            self._gauge_silence()
            if self._door is not None:
                observe_conditions(self.metrics, self._door)
            await asyncio.sleep(GAUGE_SECONDS)

    def _gauge_lag(self) -> None:
        if self.member is None or self._consumer is None:
            return
        self.metrics.partitions_halted.set(len(self.member.halted()))
        lagging: set[tuple[str, str]] = set()
        for (topic, partition), offset in self.member.offsets().items():
            end = self._consumer.highwater((topic, partition))
            if end is not None:
                lagging.add((topic, str(partition)))
                self.metrics.consumer_lag.labels(topic, str(partition)).set(max(0, end - offset))
        for place in self._lagging - lagging:
            self.metrics.forget(self.metrics.consumer_lag, *place)
        self._lagging = lagging

    def _gauge_silence(self) -> None:
        for event_type, seconds in self._silence.seconds(monotonic()).items():
            if (label := self.metrics.event_type(event_type)) != OTHER:
                self.metrics.trigger_silent_seconds.labels(label).set(seconds)

    @contextmanager
    def _health(self) -> Iterator[None]:
        if self._report is not None:
            yield
            return
        where = self.settings.metrics_host, self.settings.metrics_port
        with vitals(*where, registry=self.metrics.registry, pulse=self._pulse, ready=self._ready) as self.health_port:
            yield

    def _ready(self) -> str | None:
        if (reason := self._unready or self._refused) is not None:
            return reason
        if self.member is not None and (tripped := self.member.brake.tripped) is not None:
            return f"{tripped.message} What to do: {tripped.help}."
        halted = self.member.halted() if self.member is not None else {}
        return next(iter(halted.values()), None) or self._pulse.fault()
