"""What a backfill costs: how fast it is when nothing else runs, and how much it delays live awards while it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import monotonic
from typing import Any, Final

from worker.app import open_store
from worker.bench.awards import Published
from worker.bench.cpu import machine
from worker.bench.ground import Ground
from worker.bench.load import counts, pace
from worker.bench.measures import LATENCY_PER_SECOND, Said, share
from worker.bench.runs import Bench, between
from worker.bench.sizes import Sizes
from worker.bench.streams import PARTITIONS, WINDOW, Stream, ladder
from worker.errors import OperatorError
from worker.pipeline.driving import DEFAULT_RATE
from worker.store.pool import quote

#: The first seconds of a paced stretch are not counted: connections open, the database's caches fill.
_WARM: Final = 2 * LATENCY_PER_SECOND


@dataclass(frozen=True, slots=True)
class Round:
    """One worker's live rate, and a backfill of the same events with nothing beside it: events a second, awards."""

    live: float
    alone: float
    awards: int


@dataclass(frozen=True, slots=True)
class Delays:
    """Live delays without and beside a backfill, and how many events that had read."""

    without: dict[str, float]
    beside: dict[str, float]
    read: int

    @property
    def ratio(self) -> float:
        """How many times as long the longest of a hundred takes beside a backfill."""
        return self.beside["p99"] / max(1, self.without["p99"])


async def run(settings: Any, sizes: Sizes, *, said: Said, name: str | None = None) -> dict[str, Any]:
    """Measure; nothing is left on the services. Raises OperatorError where they are not fit, or an award is wrong."""
    ground = Ground(settings, name=name)
    await ground.inspect()
    begun, left = monotonic(), []
    try:
        bench = Bench(ground)
        await bench.prepare()
        figures = await _measure(bench, sizes, said)
    finally:
        left += await ground.clear()
        if left:
            said(f"left behind: {', '.join(left)}; remove them once the services are back")
    return {**figures, "machine": machine(), "seconds": monotonic() - begun}


async def _measure(bench: Bench, sizes: Sizes, said: Said) -> dict[str, Any]:
    """Live events and a backfill of them in turns, each time with nothing else; then what a backfill costs live ones.

    In turns, because a machine that is slower for some seconds would else be slow for one of them alone.
    """
    stream = ladder(sizes.events)
    async with bench.filled(stream.records) as topic:
        rounds = [await _round(bench, topic, stream, said) for _ in range(sizes.rounds)]
    delays = await _delayed(bench, sizes, said)
    live, alone = median(one.live for one in rounds), median(one.alone for one in rounds)
    return {
        "scenario": "backfill",
        "mode": sizes.mode,
        "events": sizes.events,
        "users": stream.users,
        "worker_events_per_s": live,
        "backfill_events_per_s": alone,
        "ratio": alone / live,
        "rounds": [{"worker_events_per_s": one.live, "backfill_events_per_s": one.alone} for one in rounds],
        "backfill_awards": rounds[-1].awards,
        "latency_ms": {
            "without": delays.without,
            "beside": delays.beside,
            "ratio": delays.ratio,
            "events_per_s": LATENCY_PER_SECOND,
        },
        "default_rate": DEFAULT_RATE,
        "read_beside": delays.read,
    }


async def _round(bench: Bench, topic: str, stream: Stream, said: Said) -> Round:
    """A backlog worked through by a worker that begins with nothing, then a backfill of it; the awards are checked."""
    async with bench.schema(stream) as schema:
        before = await bench.award_topic.ends()
        async with bench.worker(topic, schema, [counts(stream.records, PARTITIONS)]) as worker:
            first = await worker.expect("claimed")
            live = between(first, await worker.expect("mark")).per_second
            alone, awards = await _alone(bench, topic, schema)
            await worker.expect("done")
        await bench.check(stream, schema, before)
    said(f"live: {live:,.0f} events/s; backfill alone: {alone:,.0f} events/s, {awards:,} awards")
    return Round(live, alone, awards)


async def _delayed(bench: Bench, sizes: Sizes, said: Said) -> Delays:
    """Live events at a pace, upon a backlog, without and beside a backfill in turns: one worker throughout."""
    paced = sizes.latency_seconds * LATENCY_PER_SECOND
    places = [sizes.events + paced * number for number in range(2 * sizes.latency_rounds + 1)]
    stream = ladder(places[-1])
    marks = [counts(stream.records[:place], PARTITIONS) for place in places]
    stamps: dict[str, int] = {}
    read = 0
    async with bench.filled(stream.records[: sizes.events]) as topic, bench.schema(stream) as schema:
        before = await bench.award_topic.ends()
        async with bench.worker(topic, schema, marks) as worker:
            await worker.expect("claimed")
            await worker.expect("mark")
            for number, (start, end) in enumerate(pairwise(places)):
                job = await _waiting(bench, schema) if number % 2 else None
                await _paced(bench, topic, stream, start, end, stamps)
                if job is not None:
                    read += await _stopped(bench, schema, job)
                await worker.expect("mark")
            await worker.expect("done")
        messages = await bench.check(stream, schema, before)
    ids = [json.loads(value)["id"] for _, value in stream.records]
    found = [_delays(messages, stamps, set(ids[start + _WARM : end])) for start, end in pairwise(places)]
    delays = Delays(_medians(found[::2]), _medians(found[1::2]), read)
    said(f"p99 from event to award message: {delays.without['p99']} ms, beside a backfill {delays.beside['p99']} ms")
    return delays


async def _alone(bench: Bench, topic: str, schema: str) -> tuple[float, int]:
    """Forget that a badge was ever given, and give it its past with nothing else running: events a second, awards.

    What was forgotten is cleared away before, and written out: else that would be measured.
    """
    await _forget(bench, schema)
    cost = await bench.backfill(topic, schema)
    async with open_store(bench.ground.settings, name=bench.ground.name, schema=schema) as store:
        (job,) = await store.user_jobs(kind="backfill")
        while (await store.outbox_figures())[0]:  # noqa: ASYNC110 (the relay's doing)
            await asyncio.sleep(0.01)
    return cost.per_second, job.awards


async def _forget(bench: Bench, schema: str) -> None:
    name = quote(schema)
    await bench.ground.ask(
        f"""DO $$ BEGIN
        SET LOCAL badges.removal = 'on';
        UPDATE {name}.users SET home = NULL
        WHERE user_id IN (SELECT user_id FROM {name}.user_badges WHERE badge_key = '{WINDOW.key}');
        DELETE FROM {name}.badge_awards_log WHERE badge_key = '{WINDOW.key}';
        DELETE FROM {name}.user_badges WHERE badge_key = '{WINDOW.key}';
        END $$"""  # noqa: S608 (our own names)
    )
    await bench.ground.ask(f"VACUUM {name}.users, {name}.badge_awards_log, {name}.user_badges")
    await bench.ground.settle()


async def _waiting(bench: Bench, schema: str) -> int:
    """A backfill of everything that the measured worker finds and does, at the pace it keeps by itself."""
    async with open_store(bench.ground.settings, name=bench.ground.name, schema=schema) as store:
        return await store.create_user_job("backfill", {})


async def _stopped(bench: Bench, schema: str, number: int) -> int:
    """End it; how many events it had read."""
    async with open_store(bench.ground.settings, name=bench.ground.name, schema=schema) as store:
        await store.cancel_user_job(number)
        job = await store.user_job(number)
    return 0 if job is None else job.events


async def _paced(bench: Bench, topic: str, stream: Stream, first: int, last: int, stamps: dict[str, int]) -> None:
    ids = [json.loads(value)["id"] for _, value in stream.records[first:last]]

    def sent(index: int, stamp: int) -> None:
        stamps[ids[index]] = stamp

    await pace(
        bench.ground.settings,
        topic,
        stream.records[first:last],
        partitions=PARTITIONS,
        per_second=LATENCY_PER_SECOND,
        sent=sent,
    )


def _delays(messages: list[Published], stamps: dict[str, int], wanted: set[str]) -> dict[str, int]:
    """From the records' timestamps to those of the first messages about their awards, milliseconds."""
    first: dict[str, int] = {}
    for at, body in messages:
        trigger = body["trigger"]["id"]
        if trigger in wanted:
            delay = at - stamps[trigger]
            first[body["id"]] = min(delay, first.get(body["id"], delay))
    found = sorted(first.values())
    if not found:
        raise OperatorError("No award was made while the delay was measured.", help="leave --events out")
    return {"p50": share(found, 0.50), "p99": share(found, 0.99), "max": found[-1], "awards": len(found)}


def _medians(rounds: Sequence[dict[str, int]]) -> dict[str, float]:
    """The medians of some rounds; the longest of all, and how many there were."""
    return {
        "p50": median(one["p50"] for one in rounds),
        "p99": median(one["p99"] for one in rounds),
        "max": max(one["max"] for one in rounds),
        "awards": sum(one["awards"] for one in rounds),
    }
