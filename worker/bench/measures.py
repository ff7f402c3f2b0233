"""The figures of one scenario: floor and worker in turn, one event at a time, delay, repeats, hand-over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any

from worker.bench.load import counts, fill, pace
from worker.bench.runs import Bench, Cost
from worker.bench.sizes import Sizes
from worker.bench.streams import PARTITIONS, Stream, repeated
from worker.errors import OperatorError

#: The share of records that say again what one before them said (costs.md).
REPEATED_SHARE = 0.07
LATENCY_PER_SECOND = 1_000
#: The first seconds of the paced stream are not counted: caches fill, connections open.
_WARM_SECONDS = 1
_HANDOVER_PER_SECOND = 200
_HANDOVER_SECONDS = 90.0

Said = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Speed:
    """Floor and worker over the same topic, run after run."""

    floor: list[Cost]
    worker: list[Cost]

    @property
    def floor_per_second(self) -> float:
        """The median."""
        return median(cost.per_second for cost in self.floor)

    @property
    def worker_per_second(self) -> float:
        """The median."""
        return median(cost.per_second for cost in self.worker)


async def speed(bench: Bench, stream: Stream, rounds: int, said: Said) -> Speed:
    """Floor and worker in turn, the order swapped each round."""
    found = Speed([], [])

    async def floor(topic: str, place: str) -> None:
        found.floor.append(cost := await bench.floor(topic, stream))
        said(f"floor, {place}: {cost.per_second:,.0f} events/s")

    async def worker(topic: str, place: str) -> None:
        cost, _ = await bench.whole(topic, stream)
        found.worker.append(cost)
        said(f"worker, {place}: {cost.per_second:,.0f} events/s, {len(stream.expected):,} awards right")

    async with bench.filled(stream.records) as topic:
        for number in range(rounds):
            for act in (floor, worker) if number % 2 == 0 else (worker, floor):
                await act(topic, f"round {number + 1} of {rounds}")
    return found


async def naive(bench: Bench, stream: Stream, said: Said) -> float:
    """The same worker, one event in a transaction; events per second."""
    async with bench.filled(stream.records) as topic:
        cost, _ = await bench.whole(topic, stream, batch_max_events=1)
    said(f"one event in a transaction: {cost.per_second:,.0f} events/s")
    return cost.per_second


async def profiled(bench: Bench, stream: Stream, said: Said) -> dict[str, Any]:
    """Where the time of one run goes."""
    async with bench.filled(stream.records) as topic:
        cost, found = await bench.whole(topic, stream, profile=True)
    said(f"profile: {cost.events:,} events at {cost.per_second:,.0f} events/s under the profiler")
    return {"events": cost.events, **(found or {})}


async def repeats(bench: Bench, stream: Stream, rounds: int, said: Said) -> dict[str, Any]:
    """What a record costs where 7 % of them are repeats, against the same stream without, in turn."""
    twice = repeated(stream, REPEATED_SHARE)
    plain: list[float] = []
    mixed: list[float] = []
    async with bench.filled(stream.records) as once, bench.filled(twice.records) as again:
        for number in range(rounds):
            pairs = [(plain, once, stream), (mixed, again, twice)]
            for into, topic, sent in pairs if number % 2 == 0 else reversed(pairs):
                cost, _ = await bench.whole(topic, sent)
                into.append(cost.cpu_us)
    ratio = median(mixed) / median(plain)
    said(f"{REPEATED_SHARE:.0%} repeats: {ratio:.2f} times the cost of a record")
    return {
        "share": REPEATED_SHARE,
        "cpu_us_per_event": median(mixed),
        "cpu_us_per_event_without": median(plain),
        "ratio": ratio,
    }


async def latency(bench: Bench, stream: Stream, rounds: int, said: Said) -> dict[str, Any]:
    """From a record's timestamp to the broker's timestamp on the message of the award it led to; medians of rounds."""
    found = []
    for number in range(1, rounds + 1):
        delays = await _delays(bench, stream)
        found.append((share(delays, 0.50), share(delays, 0.99), delays[-1], len(delays)))
        said(
            f"event to award message at 1,000 events/s, round {number} of {rounds}: "
            f"p50 {found[-1][0]} ms, p99 {found[-1][1]} ms"
        )
    halves, most, longest, awards = zip(*found, strict=True)
    return {
        "p50": median(halves),
        "p99": median(most),
        "max": max(longest),
        "awards": sum(awards),
        "events_per_s": LATENCY_PER_SECOND,
    }


async def _delays(bench: Bench, stream: Stream) -> list[int]:
    """The delays of one round in milliseconds, shortest first, without those of its first seconds."""
    stamps: dict[str, int] = {}
    ids = [json.loads(value)["id"] for _, value in stream.records]

    def sent(index: int, stamp: int) -> None:
        stamps[ids[index]] = stamp

    async with bench.filled(()) as topic, bench.schema(stream) as schema:
        before = await bench.award_topic.ends()
        ends = counts(stream.records, PARTITIONS)
        async with bench.worker(topic, schema, [ends]) as running:
            await running.expect("claimed")
            done = asyncio.create_task(running.expect("done"))
            await pace(
                bench.ground.settings,
                topic,
                stream.records,
                partitions=PARTITIONS,
                per_second=LATENCY_PER_SECOND,
                sent=sent,
            )
            await done
        messages = await bench.check(stream, schema, before)
    late = set(ids[: _WARM_SECONDS * LATENCY_PER_SECOND])
    delays = sorted(at - stamps[body["trigger"]["id"]] for at, body in messages if body["trigger"]["id"] not in late)
    if not delays:
        raise OperatorError("No award was made while the delay was measured.", help="give more --events")
    return delays


def share(ordered: list[int], part: float) -> int:
    """The value that this part of them does not exceed."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


async def handover(bench: Bench, stream: Stream, sizes: Sizes, said: Said) -> dict[str, Any]:
    """Two workers, one killed: until everything it owned is the other's and all that was sent before is applied."""
    head = len(stream.records) - round(_HANDOVER_SECONDS * _HANDOVER_PER_SECOND)
    warm = stream.records[: max(head, 0)]
    timeout_ms = sizes.session_timeout_ms or bench.ground.settings.session_timeout_ms
    timeout = timeout_ms / 1000
    async with bench.filled(()) as topic, bench.schema(stream) as schema:
        await fill(bench.ground.settings, topic, warm, PARTITIONS)
        before = await bench.award_topic.ends()
        ends = counts(stream.records, PARTITIONS)
        async with (
            bench.worker(topic, schema, [ends], session_timeout_ms=timeout_ms) as victim,
            bench.worker(topic, schema, [ends], session_timeout_ms=timeout_ms) as heir,
        ):
            await asyncio.gather(victim.expect("claimed"), heir.expect("claimed"))
            seconds = await _kill(bench, stream, topic, schema, len(warm), victim, heir)
            await heir.expect("done")
        await bench.check(stream, schema, before)
    said(f"hand-over after SIGKILL: {seconds:.1f} s with a session timeout of {timeout:g} s")
    return {"handover_s": seconds, "session_timeout_s": timeout}


async def _kill(bench: Bench, stream: Stream, topic: str, schema: str, begun: int, victim: Any, heir: Any) -> float:
    """Send at an even pace, kill one worker on the way; seconds until the other has caught up with that moment."""
    reached = begun
    over = asyncio.Event()

    def sent(index: int, _: int) -> None:
        nonlocal reached
        reached = begun + index + 1

    async def positions() -> dict[int, tuple[str, int]]:
        rows = await bench.ground.ask(
            f'SELECT partition, owner, next_offset FROM "{schema}".partitions WHERE topic = $1',  # noqa: S608
            topic,
        )
        return {row[0]: (row[1] or "", row[2]) for row in rows}

    def owns(found: dict[int, tuple[str, int]], pid: int) -> int:
        return sum(owner.endswith(f"-{pid}") for owner, _ in found.values())

    async def shared() -> bool:
        found = await positions()
        applied = all(
            found.get(n, ("", 0))[1] >= end for n, end in enumerate(counts(stream.records[:begun], PARTITIONS))
        )
        return applied and bool(owns(found, victim.process.pid)) and bool(owns(found, heir.process.pid))

    async def inherited(ends: list[int]) -> bool:
        found = await positions()
        return owns(found, heir.process.pid) == PARTITIONS and all(found[n][1] >= end for n, end in enumerate(ends))

    rest = stream.records[begun:]
    settings = bench.ground.settings
    flowing = asyncio.create_task(
        pace(
            settings, topic, rest, partitions=PARTITIONS, per_second=_HANDOVER_PER_SECOND, sent=sent, until=over.is_set
        )
    )
    try:
        await _until(shared, "both workers own partitions")
        await asyncio.sleep(2.0)
        victim.kill()
        at = monotonic()
        ends = counts(stream.records[:reached], PARTITIONS)
        await _until(lambda: inherited(ends), "the other worker owns everything")
        seconds = monotonic() - at
    finally:
        over.set()
        done = await flowing
    await fill(settings, topic, rest[done:], PARTITIONS)
    return seconds


async def _until(condition: Callable[[], Any], what: str) -> None:
    deadline = monotonic() + _HANDOVER_SECONDS
    while not await condition():
        if monotonic() > deadline:
            raise OperatorError(f"Not within {_HANDOVER_SECONDS:.0f} s: {what}.")
        await asyncio.sleep(0.05)
