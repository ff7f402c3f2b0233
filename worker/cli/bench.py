"""`badges bench`: measure the worker against the durable floor, on the services that are configured."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import as_json, notice

if TYPE_CHECKING:
    from worker.bench.sizes import Sizes


@click.command()
@click.option("--json", "json_", is_flag=True, help="Print one JSON object with every figure.")
@click.option("--quick", is_flag=True, help="A look within 90 s; figures are coarse.")
@click.option("--full", is_flag=True, help="Also 100,000 badges, 100,000 events a user, a million users.")
@click.option(
    "--scenario",
    type=click.Choice(["ladder", "community", "operators", "backfill", "api", "jobs"]),
    default="ladder",
    show_default=True,
    help="Zipf-like users and a ladder, a real community's events, each operator by itself (without services), a "
    "backfill, alone and beside live events, the HTTP API, or scheduled jobs among a million users.",
)
@click.option("--profile", is_flag=True, help="Also say where time goes, by function and by statement.")
@click.option("--events", type=click.IntRange(1_000, 20_000_000), help="Events of the scenario.")
@click.option(
    "--only",
    type=click.Choice(["speed", "naive", "latency", "repeats", "handover", "processes", "catalog", "history", "users"]),
    multiple=True,
    help="Measure these besides floor and worker, and leave the others out.",
)
def bench(
    json_: bool, quick: bool, full: bool, scenario: str, profile: bool, events: int | None, only: tuple[str, ...]
) -> None:
    """Measure this worker on your Kafka and PostgreSQL, in a schema and topics of its own.

    \b
    Example:
      badges bench --quick
    """
    if quick and full:
        raise click.UsageError("--quick and --full do not go together.")
    if scenario in {"operators", "api", "jobs"}:
        if full or profile or events is not None or only:
            raise click.UsageError(f"--scenario {scenario} goes with --quick and --json only.")
        {"operators": _operators, "api": _api, "jobs": _jobs}[scenario](json_=json_, quick=quick)
        return
    if scenario == "backfill":
        if full or profile or only:
            raise click.UsageError("--scenario backfill goes with --quick, --events and --json only.")
        _backfill(_sizes(quick=quick, full=False, events=events), json_=json_)
        return
    from worker import logs
    from worker.bench.report import Options, run
    from worker.cli.connections import quiet_clients
    from worker.config import load_settings

    settings = load_settings()
    logs.configure(load_settings(log_level="error"))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    options = Options(scenario, _sizes(quick=quick, full=full, events=events), profile=profile, only=frozenset(only))
    with quiet_clients():
        try:
            figures = asyncio.run(_until_told(run(settings, options, said=notice)))
        except asyncio.CancelledError:
            raise click.Abort from None
    if json_:
        click.echo(as_json(figures))
        return
    from worker.cli.bench_table import lines

    for line in lines(figures):
        click.echo(line)


def _operators(*, json_: bool, quick: bool) -> None:
    """The cost of each operator after a short and after a long history."""
    from worker.bench.operators import NORMAL, QUICK, measure
    from worker.cli.bench_table import operator_lines

    figures = measure(QUICK if quick else NORMAL, notice)
    for line in [as_json(figures)] if json_ else operator_lines(figures):
        click.echo(line)


def _backfill(sizes: Sizes, *, json_: bool) -> None:
    """How fast a backfill is by itself, and what it costs live events."""
    from worker.bench.backfill import run
    from worker.cli.bench_table import backfill_lines
    from worker.config import load_settings

    _report(run(load_settings(), sizes, said=notice), backfill_lines, json_=json_)


def _api(*, json_: bool, quick: bool) -> None:
    """What the HTTP API bears."""
    from worker.bench.api import NORMAL, QUICK, run
    from worker.cli.bench_table import api_lines
    from worker.config import load_settings

    _report(run(load_settings(), QUICK if quick else NORMAL, said=notice), api_lines, json_=json_)


def _jobs(*, json_: bool, quick: bool) -> None:
    """What scheduled jobs cost the database."""
    from worker.bench.jobs import NORMAL, QUICK, run
    from worker.cli.bench_table import jobs_lines
    from worker.config import load_settings

    _report(run(load_settings(), QUICK if quick else NORMAL, said=notice), jobs_lines, json_=json_)


def _report(
    measuring: Coroutine[Any, Any, dict[str, Any]], lines: Callable[[dict[str, Any]], Iterator[str]], *, json_: bool
) -> None:
    """Measure on the services, and print what was found."""
    from worker import logs
    from worker.cli.connections import quiet_clients
    from worker.config import load_settings

    logs.configure(load_settings(log_level="error"))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with quiet_clients():
        try:
            figures = asyncio.run(_until_told(measuring))
        except asyncio.CancelledError:
            raise click.Abort from None
    for line in [as_json(figures)] if json_ else lines(figures):
        click.echo(line)


async def _until_told(measuring: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """SIGTERM ends the bench as Ctrl-C does: what it made is removed first."""
    task = asyncio.ensure_future(measuring)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _sizes(*, quick: bool, full: bool, events: int | None) -> Sizes:
    from dataclasses import replace

    from worker.bench.sizes import FULL, NORMAL, QUICK

    sizes = QUICK if quick else FULL if full else NORMAL
    return sizes if events is None else replace(sizes, events=events)
