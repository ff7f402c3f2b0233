"""Everything in one run: the figures of interfaces.md section 7, as one JSON-ready object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any

from worker.bench.cpu import machine
from worker.bench.ground import Ground
from worker.bench.growth import by_catalog, by_history, by_users
from worker.bench.measures import LATENCY_PER_SECOND, Said, handover, latency, naive, profiled, repeats, speed
from worker.bench.process import vanished
from worker.bench.runs import Bench, Cost
from worker.bench.scaling import scaling
from worker.bench.sizes import Sizes
from worker.bench.streams import Stream, ladder
from worker.config import Settings
from worker.errors import BadgesError, OperatorError

#: How many workers share the stream where scaling is measured.
PROCESSES = (1, 2)
#: Records of the paced stream that the hand-over needs beside its first ones.
_HANDOVER_TAIL = 90 * 200


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    scenario: str
    sizes: Sizes
    profile: bool = False
    only: frozenset[str] = frozenset()


def stream_of(scenario: str, events: int) -> Stream:
    """The scenario's stream of so many events."""
    if scenario == "community":
        from worker.bench.community import community

        return community(events)
    return ladder(events)


async def run(settings: Settings, options: Options, *, said: Said, name: str | None = None) -> dict[str, Any]:
    """Measure everything; nothing of it is left on the services, whatever happens.

    Raises OperatorError where services are not fit or vanish, or an award is wrong; what could not be removed is named.
    """
    ground = Ground(settings, name=name)
    others = await ground.inspect()
    if others:
        said(f"note: of another bench, running or killed, there are {', '.join(others)}")
    left: list[str] = []
    try:
        figures = await _measure(Bench(ground), options, said)
    except BadgesError:
        # Whatever failed first: that a service is away says more.
        await vanished(ground)
        raise
    finally:
        left += await ground.clear()
        if left:
            said(f"left behind: {', '.join(left)}; remove them once the services are back")
    if left:
        raise OperatorError("Everything was measured, but not everything could be removed.")
    return figures


async def _measure(bench: Bench, options: Options, said: Said) -> dict[str, Any]:
    sizes, begun = options.sizes, monotonic()
    await bench.prepare()
    stream = stream_of(options.scenario, sizes.events)
    said(
        f"{options.scenario}: {len(stream.records):,} events of {stream.users:,} users, {len(stream.expected):,} awards"
    )

    async def part(name: str, wanted: object, measure: Callable[[], Awaitable[Any]]) -> Any:
        return await measure() if wanted and (not options.only or name in options.only) else None

    def first(events: int) -> Stream:
        return stream_of(options.scenario, events)

    measured = await speed(bench, stream, sizes.rounds, said)
    one_by_one = await part("naive", sizes.naive_events, lambda: naive(bench, first(sizes.naive_events), said))
    delays = await part(
        "latency",
        sizes.latency_seconds,
        lambda: latency(bench, first(sizes.latency_seconds * LATENCY_PER_SECOND), sizes.latency_rounds, said),
    )
    again = await part(
        "repeats", sizes.repeat_events, lambda: repeats(bench, first(sizes.repeat_events), sizes.repeat_rounds, said)
    )
    handed = await part(
        "handover",
        sizes.handover_events,
        lambda: handover(bench, first(sizes.handover_events + _HANDOVER_TAIL), sizes, said),
    )
    shared = await part(
        "processes", sizes.scaling_events, lambda: scaling(bench, first(sizes.scaling_events), PROCESSES, said)
    )
    growth = {
        "catalog": await part("catalog", sizes.catalog, lambda: by_catalog(bench, sizes, said)),
        "history": await part("history", sizes.history, lambda: by_history(bench, sizes, said)),
        "users": await part("users", sizes.users, lambda: by_users(bench, sizes, said)),
    }
    profile = await profiled(bench, stream, said) if options.profile else None
    return {
        "scenario": options.scenario,
        "mode": sizes.mode,
        "events": len(stream.records),
        "users": stream.users,
        "awards": len(stream.expected),
        "floor_events_per_s": measured.floor_per_second,
        "worker_events_per_s": measured.worker_per_second,
        "ratio": measured.worker_per_second / measured.floor_per_second,
        "naive_events_per_s": one_by_one,
        "cpu_us_per_event": _cpu(measured.worker),
        "floor_cpu_us_per_event": _cpu(measured.floor),
        "latency_ms": delays,
        "rss_mb": _memory(growth["users"], measured.worker),
        "repeats": again,
        "handover_s": handed and handed["handover_s"],
        "session_timeout_s": handed and handed["session_timeout_s"],
        "processes": shared,
        "growth": growth,
        "runs": {
            "floor_events_per_s": [cost.per_second for cost in measured.floor],
            "worker_events_per_s": [cost.per_second for cost in measured.worker],
        },
        "awards_checked": bench.awards_seen,
        "profile": profile,
        "machine": {**machine(), **await _services(bench)},
        "seconds": monotonic() - begun,
    }


def _cpu(costs: list[Cost]) -> dict[str, float | None]:
    database = [cost.postgresql_us / cost.events for cost in costs if cost.postgresql_us is not None]
    return {
        "worker": median(cost.worker_us / cost.events for cost in costs),
        "postgresql": median(database) if database else None,
    }


def _memory(rows: list[dict[str, Any]] | None, costs: list[Cost]) -> float:
    """The worker's peak with 100,000 active users, where those were measured."""
    wanted = [row["rss_mb"] for row in rows or () if row["users"] == 100_000]
    return float(wanted[0]) if wanted else max(cost.peak_mb for cost in costs)


async def _services(bench: Bench) -> dict[str, Any]:
    rows = await bench.ground.ask(
        "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')"
    )
    version, fsync, synchronous = rows[0]
    return {
        "postgresql": version,
        "fsync": fsync,
        "synchronous_commit": synchronous,
        "postgresql_cpu_seen": bench.postmaster is not None,
    }
