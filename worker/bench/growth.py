"""What an event costs as catalog, history and users grow: CPU of worker and PostgreSQL per event, row after row."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from worker.bench.measures import Said
from worker.bench.runs import Bench, Cost
from worker.bench.sizes import Sizes
from worker.bench.streams import Stream, even, ladder, ladder_catalog, silent_badges

Row = dict[str, Any]


async def by_catalog(bench: Bench, sizes: Sizes, said: Said) -> list[Row]:
    """The same events under more and more badges that none of them matches."""
    base = ladder(sizes.catalog_events)
    streams = {
        count: Stream(f"ladder among {count:,} badges", ladder_catalog(extra=silent_badges(count)), base.records,
                      base.expected, base.users)
        for count in sizes.catalog
    }  # fmt: skip
    costs: dict[int, list[Cost]] = {count: [] for count in sizes.catalog}
    async with bench.filled(base.records) as topic:
        for number in range(sizes.growth_rounds):
            for count in sizes.catalog if number % 2 == 0 else reversed(sizes.catalog):
                cost, _ = await bench.whole(topic, streams[count])
                costs[count].append(cost)
    rows = [
        {"badges": count, **_figures(found), "plan_s": median(cost.built_seconds for cost in found)}
        for count, found in costs.items()
    ]
    return _compared(rows, "badges that match nothing", "badges", said)


async def by_history(bench: Bench, sizes: Sizes, said: Said) -> list[Row]:
    """The same number of further events of the same users, after longer and longer histories."""
    streams = [
        even(f"{row.each:,} events a user", users=row.users, warm_each=row.each, then=sizes.history_events)
        for row in sizes.history
    ]
    costs = await _in_turns(bench, streams, sizes.growth_rounds)
    rows = [
        {"events_per_user": row.each, "users": row.users, **_figures(found)}
        for row, found in zip(sizes.history, costs, strict=True)
    ]
    return _compared(rows, "events a user", "events_per_user", said, same="users")


async def by_users(bench: Bench, sizes: Sizes, said: Said) -> list[Row]:
    """The same number of events, spread evenly over more and more users, all of whom are known already."""
    streams = [even(f"{users:,} users", users=users, warm_each=1, then=sizes.users_events) for users in sizes.users]
    costs = await _in_turns(bench, streams, sizes.growth_rounds)
    rows = [
        {"users": users, **_figures(found), "rss_mb": median(cost.peak_mb for cost in found)}
        for users, found in zip(sizes.users, costs, strict=True)
    ]
    return _compared(rows, "users", "users", said)


async def _in_turns(bench: Bench, streams: Sequence[Stream], rounds: int) -> list[list[Cost]]:
    """What each stream costs, round by round in alternating order: a machine changes from minute to minute."""
    costs: list[list[Cost]] = [[] for _ in streams]
    places = range(len(streams))
    for number in range(rounds):
        for place in places if number % 2 == 0 else reversed(places):
            costs[place].append(await bench.warmed(streams[place]))
    return costs


def _figures(found: list[Cost]) -> Row:
    database = [cost.postgresql_us / cost.events for cost in found if cost.postgresql_us is not None]
    return {
        "cpu_us_per_event": median(cost.cpu_us for cost in found),
        "worker_us": median(cost.worker_us / cost.events for cost in found),
        "postgresql_us": median(database) if database else None,
    }


def _compared(rows: list[Row], what: str, by: str, said: Said, *, same: str | None = None) -> list[Row]:
    """Give each row its ratio to the first (with as many of `same`)."""
    first: dict[Any, float] = {}
    for row in rows:
        base = first.setdefault(row[same] if same else None, row["cpu_us_per_event"])
        row["ratio"] = row["cpu_us_per_event"] / base
        said(f"{row[by]:,} {what}: {row['cpu_us_per_event']:.1f} us of CPU an event, {row['ratio']:.2f} times")
    return rows
