"""`badges catalog diff`: what a catalog file changes, and who would gain what, before anything is applied."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.connections import catalog_store
from worker.cli.output import MOST_WIDTH, Format, as_json, format_option, moment, span

if TYPE_CHECKING:
    from worker.app import Difference
    from worker.config import Settings
    from worker.rules.preview import Preview


def _samples(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "all":
        return None
    if not value.isdecimal() or len(value) > 9:
        raise click.BadParameter(f"{value} is neither a number nor all.")
    return int(value)


@click.command("diff")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--no-preview", is_flag=True, help="Compare only; read no user's log.")
@click.option(
    "--samples", metavar="N|all", default="10", show_default=True, callback=_samples, help="How many users to name."
)
@click.option("--exit-code", is_flag=True, help="Exit 1 where the catalog differs from the one that rules.")
@format_option("table", "json")
@click.pass_context
def diff(
    ctx: click.Context, path: Path, no_preview: bool, samples: int | None, exit_code: bool, format: Format
) -> None:
    """Compare a catalog with the one that rules and preview, from the log, who would gain what. Nothing is changed.

    \b
    Example:
      badges catalog diff catalog/
    """
    from worker.cli.comparison import as_data
    from worker.config import load_settings

    found, live, playing, total, seconds = asyncio.run(
        _compared(path, load_settings(), preview_too=not no_preview, samples=samples)
    )
    if format == "json":
        click.echo(as_json(as_data(found, playing, total)))
    else:
        _print(found, path, live, playing, total=total, seconds=seconds, samples=samples)
    if exit_code and not found.same:
        ctx.exit(1)


async def _compared(
    path: Path, settings: Settings, *, preview_too: bool, samples: int | None
) -> tuple[Difference, int | None, Preview | None, int, float]:
    from worker.app import difference, preview
    from worker.cli.progress import Progress

    async with catalog_store(settings, writes=False) as store:
        found = await difference(store, path)
        listed = await store.catalog_versions(before=None if found.head is None else found.head.version + 1, limit=1)
        live = listed[0].applied_us if listed else None
        if not preview_too or found.same:
            return found, live, None, 0, 0.0
        progress = Progress()

        def told(done: int, total: int, events: int) -> None:
            speed = f"{events / progress.seconds:,.0f} events/s" if progress.seconds else ""
            share = f"{100 * done / total:.1f} %" if total else ""
            progress.say(f"  {share}  {done:,} of {total:,} users, {events:,} events  {speed}")

        try:
            playing, total = await preview(store, found, samples=samples, progress=told)
        finally:
            progress.close()
        return found, live, playing, total, progress.seconds


def _print(
    found: Difference,
    path: Path,
    live: int | None,
    playing: Preview | None,
    *,
    total: int,
    seconds: float,
    samples: int | None,
) -> None:
    from worker.cli.comparison import change_lines, plan_line, population_lines

    if found.head is None:
        click.echo("Against an empty catalog: none was applied yet. Nothing is changed.")
    elif found.same:
        click.echo(f"No difference: {path} is version {found.head.version}, which rules.")
        return
    else:
        click.echo(f"Against version {found.head.version}{_since(live)}. Nothing is changed.")
    width = min(shutil.get_terminal_size().columns, MOST_WIDTH) if sys.stdout.isatty() else None
    for line in change_lines(found, width=width):
        click.echo(line)
    if not found.changed.differs:
        click.echo("Only the order in which things are written differs.")
    awards: int | None = None
    if playing is not None:
        awards = sum(gain.awards for gain in playing.gains.values())
        if playing.gains:
            for line in population_lines(found, playing, total, seconds, asked=samples, width=width):
                click.echo(line)
        else:
            click.echo(f"Population: nobody of {total:,} users gains anything by this ({span(seconds)}).")
    click.echo(plan_line(found, awards))
    click.echo(f"Next: badges catalog apply {path}")


def _since(live: int | None) -> str:
    from datetime import UTC, datetime

    return "" if live is None else f", live since {moment(datetime.fromtimestamp(live / 1_000_000, UTC))}"
