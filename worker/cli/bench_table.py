"""How `badges bench` shows its figures to people: the verdict, what it was held against, growth, where time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from worker.cli.output import Column, span, table

Figures = dict[str, Any]


def lines(figures: Figures) -> Iterator[str]:
    """The whole report, line by line."""
    yield (
        f"{figures['worker_events_per_s']:,.0f} events/s, {figures['ratio']:.2f} of the durable floor of "
        f"{figures['floor_events_per_s']:,.0f} events/s"
    )
    yield from table(_rows(figures), (Column("what", ""), Column("figure", "")), width=None)[1:]
    for name, title, head, show in _GROWTH:
        if rows := figures["growth"][name]:
            yield ""
            yield title
            yield from table(rows, (head, *show), width=None)
    if figures["profile"]:
        yield from _profile(figures["profile"])
    yield ""
    yield (
        f"All {figures['awards_checked']:,} awards were those of brute force. {_machine(figures['machine'])}; "
        f"{span(figures['seconds'])}. Nothing of it was left behind."
    )


def operator_lines(figures: Figures) -> Iterator[str]:
    """The report of `--scenario operators`."""
    few, many = figures["history"]
    grown = f"from {few:,} events of a user to {many:,} over {figures['days']} days"
    yield f"{figures['steepest']:.2f} times at most, {grown}"
    rows = [{**row, "few": row["us"][0], "many": row["us"][1], "held": row["bytes"][1]} for row in figures["operators"]]
    columns = (
        "operator", "means", _figure("few", f"us at {few:,}"), _figure("many", f"us at {many:,}"),
        _figure("ratio", "times"), Column("held", f"bytes at {many:,}"),
    )  # fmt: skip
    yield from table(rows, columns, width=None)
    machine = figures["machine"]
    yield ""
    yield f"{machine['cpus']} cores of {machine['cpu']}; {span(figures['seconds'])}. No service was needed."


def backfill_lines(figures: Figures) -> Iterator[str]:
    """The report of `--scenario backfill`."""
    delay = figures["latency_ms"]
    yield (
        f"backfill {figures['backfill_events_per_s']:,.0f} events/s, {figures['ratio']:.2f} times the live "
        f"{figures['worker_events_per_s']:,.0f} events/s; {figures['backfill_awards']:,} awards granted"
    )
    yield (
        f"event to award message at {delay['events_per_s']:,} events/s: p99 {delay['without']['p99']} ms, beside a "
        f"backfill {delay['beside']['p99']} ms, {delay['ratio']:.2f} times; it read {figures['read_beside']:,} events"
    )
    machine = figures["machine"]
    yield f"{machine['cpus']} cores of {machine['cpu']}; {span(figures['seconds'])}. Nothing of it was left behind."


def jobs_lines(figures: Figures) -> Iterator[str]:
    """The report of `--scenario jobs`."""
    served, held, bounds = figures["anniversaries"], figures["holders"], figures["bounds"]
    yield (
        f"anniversaries: {served['due']:,} of {served['users']:,} users found and sent in {served['seconds']:.3f} s "
        f"(at most {bounds['anniversaries']:g} s), {served['seconds_without']:.3f} s where no day begins"
    )
    yield (
        f"holders: {held['awards_per_day']:,.0f} awards of a day beside {held['awards']:,} counted in "
        f"{held['seconds_per_day']:.3f} s (at most {bounds['holders']:g} s), as a count of everything gives"
    )
    machine = figures["machine"]
    yield f"{machine['cpus']} cores of {machine['cpu']}; {span(figures['seconds'])}. Nothing of it was left behind."


#: The parts of `--scenario api`: what each is, and of what it counts so many in a second.
_PARTS = {
    "read": ("a user's badges", "requests"),
    "read_etag": ("the same, answered by ETag", "requests"),
    "send": ("one event a request", "events"),
    "stream": ("streams of events", "events"),
}


def api_lines(figures: Figures) -> Iterator[str]:
    """The report of `--scenario api`."""
    bounds = figures["bounds"]
    rows = [{"part": words, "of": of, "bound": bounds[name], **figures[name]} for name, (words, of) in _PARTS.items()]
    users = f"{figures['users']:,} users with {figures['badges_per_user']} badges each"
    yield f"{figures['connections']} connections, {users}"
    yield from table(
        rows,
        (
            "part", _figure("per_second", "a second", 0), "of", _figure("bound", "at least", 0),
            _figure("p50_ms", "p50 ms"), _figure("p99_ms", "p99 ms"), _figure("cpu_us", "us of CPU each", 1),
        ),
        width=None,
    )  # fmt: skip
    machine = figures["machine"]
    yield ""
    yield f"{machine['cpus']} cores of {machine['cpu']}; {span(figures['seconds'])}"


def _rows(figures: Figures) -> list[dict[str, str]]:
    cpu, delay, again = figures["cpu_us_per_event"], figures["latency_ms"], figures["repeats"]
    naive = figures["naive_events_per_s"]
    sent = f"{figures['events']:,} events, {figures['users']:,} users, {figures['awards']:,} awards"
    found = [
        ("scenario", f"{figures['scenario']}: {sent}"),
        ("CPU per event", f"worker {_us(cpu['worker'])}, PostgreSQL {_us(cpu['postgresql'])}"),
        ("one event in a transaction",
         naive and f"{naive:,.0f} events/s; batches are {figures['worker_events_per_s'] / naive:,.0f} times as fast"),
        ("event to award message", delay and f"p50 {delay['p50']} ms, p99 {delay['p99']} ms at "
                                             f"{delay['events_per_s']:,} events/s ({delay['awards']:,} awards)"),
        ("memory of the worker", f"{figures['rss_mb']:,.0f} MB at its peak"),
        ("repeats", again and f"{again['share']:.0%} repeated events: {again['ratio']:.2f} times per event"),
        ("processes, while events are sent", figures["processes"] and
         ", ".join(f"{count}: {speed:,.0f} events/s" for count, speed in figures["processes"].items())),
        ("hand-over after SIGKILL", figures["handover_s"] and
         f"{figures['handover_s']:.1f} s with a session timeout of {figures['session_timeout_s']:g} s"),
    ]  # fmt: skip
    return [{"what": what, "figure": figure} for what, figure in found if figure]


def _machine(machine: Figures) -> str:
    durable = "" if machine["fsync"] == "on" else ", fsync off"
    return f"{machine['cpus']} cores of {machine['cpu']}, PostgreSQL {machine['postgresql'].split()[0]}{durable}"


def _profile(profile: Figures) -> Iterator[str]:
    """Python by function, statements by name, PostgreSQL by statement; microseconds per event."""
    events = profile["events"]
    yield ""
    yield f"Python by function, us per event under the profiler ({profile['python_us'] / events:.1f} in all)"
    functions = [
        {"own": row["own_us"] / events, "with_callees": row["total_us"] / events, "calls": row["calls"] / events,
         "function": row["function"]}
        for row in profile["python"]
    ]  # fmt: skip
    yield from table(
        functions, (_figure("own"), _figure("with_callees", "with callees"), _figure("calls"), "function"), width=None
    )
    yield ""
    yield "Statements as the worker waited for them, us per event; several wait at a time"
    waits = [
        {"waited": row["waited_us"] / events, "calls": row["calls"], "statement": row["statement"]}
        for row in profile["statements"]
    ]
    yield from table(waits, (_figure("waited"), "calls", "statement"), width=None)
    yield ""
    if profile["postgresql"] is None:
        yield "PostgreSQL by statement: not known, the database has no pg_stat_statements."
        return
    yield "PostgreSQL by statement, us per event"
    yield from table(
        profile["postgresql"],
        (_figure("us_per_event", "us"), "calls", _figure("rows_per_event", "rows"),
         _figure("blocks_per_event", "blocks"), "statement"),
        width=None,
    )  # fmt: skip


def _us(value: float | None) -> str:
    return "not known (on another machine)" if value is None else f"{value:.1f} us"


def _decimals(places: int) -> Callable[[Any], str]:
    return lambda value: "" if value is None else f"{value:,.{places}f}"


def _figure(name: str, title: str | None = None, places: int = 2) -> Column:
    return Column(name, title or name, show=_decimals(places))


_COST = (
    _figure("cpu_us_per_event", "us of CPU an event", 1),
    _figure("worker_us", "worker", 1),
    _figure("postgresql_us", "PostgreSQL", 1),
    _figure("ratio", "times"),
)
_GROWTH = (
    ("catalog", "Badges that match no event", "badges", (*_COST, _figure("plan_s", "plan built in s", 1))),
    ("history", "Events that a user had before", Column("events_per_user", "events a user"), ("users", *_COST)),
    ("users", "Users who are active", "users", (*_COST, _figure("rss_mb", "peak MB", 0))),
)
