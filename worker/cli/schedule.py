"""`badges schedule`: the jobs that run by the clock, as a service or one of them once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from worker.cli.output import Column, Format, emit, format_option

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.jobs.runner import Told

_COLUMNS: list[Column | str] = [
    Column("job", whole=True),
    Column("tick", whole=True),
    "outcome",
    "users",
    "events",
    "awards",
    "counts",
    "seconds",
    "note",
]


@click.command()
@click.option("--once", metavar="JOB", help="One of anniversaries, arrivals, holders, retention, schedules, sweep.")
@click.option("--at", metavar="TIME", help="With --once: as of this instant (RFC 3339) instead of now.")
@format_option()
def schedule(once: str | None, at: str | None, format: Format) -> None:
    """Run the jobs that are due by the clock; any number of these may run, each tick is run once.

    With --once one job's due ticks are run, the missed ones too, or its newest tick once more, which changes nothing
    that was done: for cron systems. anniversaries and schedules send events; the awards column is empty for them, for
    workers give what the events earn, a moment later (badges_awards_total of origin cron).

    \b
    Example:
      badges schedule --once anniversaries --at 2026-03-01T00:15:00Z
    """
    from worker import logs
    from worker.cli.simulate import instant
    from worker.config import load_settings
    from worker.jobs.table import NAMES

    if at is not None and once is None:
        raise click.UsageError("--at needs --once.")
    if once is not None and once not in NAMES:
        raise click.BadParameter(f"there is no job {once}; there are {', '.join(NAMES)}.", param_hint="--once")
    at_us = None if at is None else instant(at, "--at")
    settings = load_settings()
    logs.configure(settings)
    if once is None:
        _serve(settings)
        return
    from worker.app.schedule import run_once

    _report(asyncio.run(run_once(settings, once, at_us)), once, format)


def _serve(settings: Settings) -> None:
    from worker.app.schedule import Scheduler
    from worker.cli.processes import loop_factory, on_signals

    async def serve() -> None:
        running = Scheduler(settings)
        on_signals(running.stop, lambda: None)
        await running.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


def _report(told: Sequence[Told], job: str, format: Format) -> None:
    """Print the runs; it is the command's failure where the last one did not end well."""
    from worker.app.schedule import job_line
    from worker.errors import OperatorError

    emit([job_line(one) for one in told], _COLUMNS, format)
    if not told and format == "table":
        click.echo(f"Nothing of {job} is due.")
    if told and told[-1].outcome != "done":
        raise OperatorError(f"The job {job} did not end well: {told[-1].note.rstrip('.')}.", help="run it again")
