"""The demo: embedded PostgreSQL and Kafka protocol, a real community's events, the real worker, awards as they come."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from worker.app import Worker, open_store
from worker.app.admin import Admin
from worker.config import Settings, load_settings
from worker.errors import OperatorError
from worker.events import format_instant, parse_instant
from worker.store.migrate import migrate
from worker.store.postgres import PostgresStore

#: How fast the events are produced, per second: a busy community, not a flood.
EVENTS_PER_SECOND = 2000
#: How long everything may take before the demo says that it does not work here, seconds.
PATIENCE_SECONDS = 180.0

Award = tuple[str, str, str, str]


@dataclass(slots=True)
class Outcome:
    """What the demo saw: awards as published, and how long each took from its event."""

    events: int = 0
    seconds: float = 0.0
    awards: dict[str, dict[str, Any]] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    expected: set[Award] = field(default_factory=set)

    def published(self) -> set[Award]:
        """(user, badge, context, awarded_at) of every award on the topic."""
        return {award_key(body) for body in self.awards.values()}

    def right(self) -> int:
        """How many of the expected awards were published, each at its right instant."""
        return len(self.published() & self.expected)

    @property
    def exact(self) -> bool:
        """Every expected award, no other one, each published under one id."""
        return self.published() == self.expected and len(self.awards) == len(self.expected)

    def delay_ms(self, share: float) -> float:
        """The delay that this share of the awards did not exceed, milliseconds."""
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


def award_key(body: dict[str, Any]) -> Award:
    """What makes two awards the same; instants by value, however they are spelled."""
    awarded_at = format_instant(parse_instant(body["awarded_at"]))
    return (body["user_id"], body["badge_key"], body["context"], awarded_at)


def demo_file(name: str) -> Path:
    """A file of the demo's data, as a path."""
    with as_file(files("worker.demo") / name) as path:
        return path


def demo_settings(dsn: str, bootstrap_servers: str, *, port: int) -> Settings:
    """Settings of the demo's worker and panel: loopback only, its own catalog, whatever the environment says.

    `port` is the panel's; metrics take any free one.
    """
    return load_settings(
        database_url=dsn,
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_security_protocol="PLAINTEXT",
        catalog=demo_file("catalog.yaml"),
        catalog_managed="database",
        event_topics="badges.events",
        session_timeout_ms=6000,
        metrics_host="127.0.0.1",
        metrics_port=0,
        admin_metrics_port=0,
        admin_host="127.0.0.1",
        admin_port=port,
    )


def events() -> list[tuple[str, str, bytes]]:
    """(event id, user id, line) of every event, in order."""
    with gzip.open(demo_file("events.jsonl.gz"), "rb") as lines:
        read = [line.strip() for line in lines]
    parsed = ((json.loads(line), line) for line in read if line)
    return [(event["id"], event["user_id"], line) for event, line in parsed]


def expected_awards() -> set[Award]:
    """The awards that brute force over each user's history gives."""
    return {award_key(json.loads(line)) for line in demo_file("expected.jsonl").read_text().splitlines() if line}


class Demo:
    """One run against services that are up; `said` is called with every award as it comes."""

    def __init__(self, settings: Settings, *, said: Callable[[dict[str, Any]], None]) -> None:
        self.settings = settings
        self.outcome = Outcome(expected=expected_awards())
        self._said = said
        self._sent: dict[str, float] = {}
        self._worker = Worker(settings)
        self._serving: asyncio.Task[None] | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: Admin | None = None
        self._serving_panel: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where metrics and health are served."""
        return self._worker.health_port

    async def start(self) -> None:
        """Make the schema, start the worker, wait until it owns partitions."""
        await migrate(self.settings.dsn)
        self._serving = asyncio.create_task(self._worker.run())
        await self._first_of(asyncio.create_task(self._until_owning()))

    async def play(self) -> Outcome:
        """Produce all events, wait until every one is applied and every award is published."""
        assert self._serving is not None  # noqa: S101 (started before)
        producing = asyncio.create_task(self._produce(events()))
        listening = asyncio.create_task(self._listen())
        begun = monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                targets = await self._first_of(producing)
                await self._first_of(asyncio.create_task(self._until_applied(targets)))
        except TimeoutError:
            raise OperatorError(
                f"The demo did not end within {PATIENCE_SECONDS:.0f} s.", help="run it again; see the lines above"
            ) from None
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
        self.outcome.seconds = monotonic() - begun
        return self.outcome

    async def serve(self) -> str:
        """Serve panel and API on what was played, open to this machine alone; the panel's address."""
        admin = self._admin = Admin(self.settings)
        self._serving_panel = asyncio.create_task(admin.run())
        while not (admin.serving or self._serving_panel.done()):  # noqa: ASYNC110 (uvicorn tells nobody)
            await asyncio.sleep(0.05)
        if self._serving_panel.done():
            self._serving_panel.result()
        return f"http://127.0.0.1:{admin.port}/panel/"

    async def served(self) -> None:
        """Return when the panel ends, raise when the worker does."""
        assert self._serving_panel is not None  # noqa: S101 (served before)
        await self._first_of(self._serving_panel)

    async def stop(self) -> None:
        """Stop panel and worker as SIGTERM would."""
        if self._admin is not None and self._serving_panel is not None:
            self._admin.stop()
            with suppress(asyncio.CancelledError):
                await self._serving_panel
        self._worker.stop()
        if self._serving is not None:
            await self._serving

    async def _first_of(self, task: asyncio.Task[Any]) -> Any:
        """The task's result, or the reason why the worker ended before."""
        assert self._serving is not None  # noqa: S101 (started before)
        await asyncio.wait({task, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            self._serving.result()
        return task.result()

    async def _produce(self, lines: Iterable[tuple[str, str, bytes]]) -> dict[tuple[str, int], int]:
        """Send the events at an even pace; returns the end of every partition."""
        topic = self.settings.event_topics.names[0]
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers, enable_idempotence=True, acks="all", linger_ms=5
        )
        await producer.start()
        sent = []
        try:
            begun = monotonic()
            for number, (event_id, user_id, line) in enumerate(lines):
                self._sent[event_id] = monotonic()
                sent.append(await producer.send(topic, line, key=user_id.encode()))
                ahead = begun + number / EVENTS_PER_SECOND - monotonic()
                if ahead > 0:
                    await asyncio.sleep(ahead)
            stored = await asyncio.gather(*sent)
        finally:
            await producer.stop()
        self.outcome.events = len(stored)
        ends: dict[tuple[str, int], int] = {}
        for at in stored:
            ends[at.topic, at.partition] = max(ends.get((at.topic, at.partition), 0), at.offset + 1)
        return ends

    async def _listen(self) -> None:
        """Read the awards topic as any service would: dropping what has an id it has seen."""
        consumer = AIOKafkaConsumer(
            self.settings.award_topic,
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        await consumer.start()
        self._consumer = consumer
        try:
            async for message in consumer:
                body = json.loads(message.value or b"{}")
                if body["id"] in self.outcome.awards:
                    continue
                self.outcome.awards[body["id"]] = body
                self.outcome.delays.append(monotonic() - self._sent[body["trigger"]["id"]])
                self._said(body)
        finally:
            await consumer.stop()

    async def _until_owning(self) -> None:
        while self._worker.member is None or not self._worker.member.offsets():  # noqa: ASYNC110 (the broker's doing)
            await asyncio.sleep(0.05)

    async def _until_applied(self, targets: dict[tuple[str, int], int]) -> None:
        async with open_store(self.settings, name="badges demo") as store:
            while not await self._is_applied(store, targets):  # noqa: ASYNC110 (it lies in other processes)
                await asyncio.sleep(0.05)

    async def _is_applied(self, store: PostgresStore, targets: dict[tuple[str, int], int]) -> bool:
        member = self._worker.member
        offsets = member.offsets() if member is not None else {}
        if any(offsets.get(partition, 0) < end for partition, end in targets.items()):
            return False
        waiting, _ = await store.outbox_figures()
        return waiting == 0 and await self._is_heard()

    async def _is_heard(self) -> bool:
        """Whether everything on the awards topic was read."""
        consumer = self._consumer
        if consumer is None or not consumer.assignment():
            return False
        ends = await consumer.end_offsets(list(consumer.assignment()))
        return all([await consumer.position(partition) >= end for partition, end in ends.items()])
