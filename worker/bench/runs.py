"""One measured run: a topic filled, a child that works through it, its awards held against brute force."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from worker.app import open_store
from worker.bench.awards import AwardTopic, Published, check
from worker.bench.child import Moment, Order
from worker.bench.ground import Ground
from worker.bench.load import counts, fill
from worker.bench.process import Child, child
from worker.bench.profiling import statements_before, statements_since
from worker.bench.streams import PARTITIONS, Record, Stream
from worker.errors import BadgesError, OperatorError
from worker.events import json_text
from worker.rules.catalog.load import catalog_from_document

#: The broker's clock stamps awards, so that the delay to an award is measured by what a reader could see.
STAMPED = {"message.timestamp.type": "LogAppendTime"}

#: A worker that stands still while its backlog is sent must not lose its partitions by that.
_PATIENT_MS = 120_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stretch of a run took; `postgresql_us` is None where PostgreSQL is on another machine."""

    events: int
    seconds: float
    worker_us: int
    postgresql_us: int | None
    rss_mb: float
    peak_mb: float
    built_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Events in a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU per event, of everything that is known, in microseconds."""
        return (self.worker_us + (self.postgresql_us or 0)) / self.events


def between(first: Moment, last: Moment, *, built: float = 0.0) -> Cost:
    """What happened from one moment to another."""
    return Cost(
        events=max(1, last.applied - first.applied),
        seconds=max(1e-6, last.at - first.at),
        worker_us=last.worker_us - first.worker_us,
        postgresql_us=None
        if last.postgresql_us is None or first.postgresql_us is None
        else last.postgresql_us - first.postgresql_us,
        rss_mb=last.rss_mb,
        peak_mb=last.peak_mb,
        built_seconds=built,
    )


class Bench:
    """The ground, the topics of awards, and how many runs there were: everything a measure needs."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.postmaster: int | None = None
        self.awards_seen = 0
        self.award_topic = AwardTopic(ground.settings, "")
        self._topics: dict[str, str] = {}
        self._runs = 0

    async def prepare(self) -> None:
        """Make the topics that every run shares."""
        self._topics = {
            "award_topic": await self.ground.topic("awards", PARTITIONS, config=STAMPED),
            "dead_letter_topic": await self.ground.topic("dead-letters", 1),
            "control_topic": await self.ground.topic("control", 1),
        }
        self.award_topic = AwardTopic(self.ground.settings, self._topics["award_topic"])
        self.postmaster = await self.ground.postmaster()

    @asynccontextmanager
    async def filled(self, records: Sequence[Record]) -> AsyncIterator[str]:
        """A topic that holds these records; removed on leaving."""
        self._runs += 1
        topic = await self.ground.topic(f"events-{self._runs}", PARTITIONS)
        try:
            await fill(self.ground.settings, topic, records, PARTITIONS)
            yield topic
        finally:
            # What cannot be removed now is tried again, and named, by `Ground.clear`.
            with suppress(BadgesError):
                await self.ground.remove_topics(topic)

    @asynccontextmanager
    async def schema(self, stream: Stream) -> AsyncIterator[str]:
        """A schema whose catalog is the stream's."""
        self._runs += 1
        async with self.ground.schema(f"run_{self._runs}") as schema:
            document = json_text.dumps(stream.catalog)
            catalog = catalog_from_document(stream.catalog, 1)
            async with open_store(self.ground.settings, name=self.ground.name, schema=schema) as store:
                await store.apply_catalog(
                    document,
                    hashlib.sha256(document.encode()).hexdigest(),
                    badges=catalog.badges,
                    event_types=list(catalog.dictionary.types),
                    applied_by="bench",
                )
            yield schema

    def overrides(self, topic: str, schema: str, **more: Any) -> dict[str, Any]:
        """The settings of a measured worker that are not the user's."""
        return {
            **self._topics,
            "event_topics": topic,
            "group_id": schema,
            "start": "beginning",
            "catalog_managed": "database",
            "metrics_host": "127.0.0.1",
            "metrics_port": 0,
            "log_format": "json",
            "log_level": "info",
            **more,
        }

    @asynccontextmanager
    async def worker(
        self, topic: str, schema: str, marks: list[list[int]], *, profile: bool = False, **more: Any
    ) -> AsyncIterator[Child]:
        """A worker in a process of its own."""
        order = Order(
            "worker", schema, topic, marks, self.overrides(topic, schema, **more), self.postmaster, profile=profile
        )
        async with child(self.ground, order) as running:
            yield running

    async def floor(self, topic: str, stream: Stream) -> Cost:
        """One run of the floor over a filled topic."""
        self._runs += 1
        async with self.ground.schema(f"run_{self._runs}") as schema:
            ends = counts(stream.records, PARTITIONS)
            order = Order("floor", schema, topic, [ends], self.overrides(topic, schema), self.postmaster)
            async with child(self.ground, order) as running:
                cost = between(await running.expect("claimed"), await running.expect("done"))
            (stored,) = await self.ground.ask(f'SELECT count(*) FROM "{schema}".events')  # noqa: S608 (our own name)
            if stored[0] != len(stream.records):
                raise OperatorError(f"The floor stored {stored[0]:,} events of {len(stream.records):,}.")
            return cost

    async def backfill(self, topic: str, schema: str) -> Cost:
        """A backfill of what a worker has logged, in a process of its own."""
        order = Order("backfill", schema, topic, [], self.overrides(topic, schema), self.postmaster)
        async with child(self.ground, order) as running:
            return between(await running.expect("claimed"), await running.expect("done"))

    async def whole(
        self, topic: str, stream: Stream, *, profile: bool = False, **more: Any
    ) -> tuple[Cost, dict[str, Any] | None]:
        """One run of the worker over a filled topic: what it cost, awards checked; and its profile."""
        async with self.schema(stream) as schema:
            before = await self.award_topic.ends()
            marks = [counts(stream.records, PARTITIONS)]
            async with self.worker(topic, schema, marks, profile=profile, **more) as running:
                first = await running.expect("claimed")
                counted = await statements_before(self.ground) if profile else None
                last = await running.expect("mark")
                done = await running.expect("done")
            if done.profile is not None:
                done.profile["postgresql"] = await statements_since(self.ground, counted, len(stream.records))
            await self.check(stream, schema, before)
        return between(first, last, built=first.seconds), done.profile

    async def warmed(self, stream: Stream) -> Cost:
        """One run in two parts: the stream's warm records, then the measured rest by the same worker as one backlog."""
        marks = [counts(stream.records[:size], PARTITIONS) for size in (stream.warm, len(stream.records))]
        async with self.filled(stream.records[: stream.warm]) as topic, self.schema(stream) as schema:
            before = await self.award_topic.ends()
            async with self.worker(topic, schema, marks, session_timeout_ms=_PATIENT_MS) as running:
                await running.expect("claimed")
                await running.expect("mark")
                async with running.frozen():
                    await fill(self.ground.settings, topic, stream.records[stream.warm :], PARTITIONS)
                    await self.ground.settle()
                first = await running.ask()
                last = await running.expect("mark")
                await running.expect("done")
            await self.check(stream, schema, before)
        return between(first, last)

    async def check(self, stream: Stream, schema: str, before: Mapping[int, int]) -> list[Published]:
        """Hold a run's awards against brute force; what was published since `before` comes back."""
        published = await self.award_topic.since(before)
        self.awards_seen += await check(self.ground, stream, schema, published)
        return published
