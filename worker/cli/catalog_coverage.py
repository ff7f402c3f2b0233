"""`badges catalog coverage`: which event types badges listen to, and whether they come."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from worker.cli.connections import catalog_store
from worker.cli.output import Column, Format, emit, format_option, notice
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.app.coverage import Trigger
    from worker.rules.catalog.definitions import Catalog

_WORDS = {"silent": "silent", "never_seen": "never seen", "empty": "empty", "ok": "ok"}


@click.command()
@click.argument("path", type=click.Path(), required=False)
@click.option("--no-database", is_flag=True, help="Look at the file alone: what came is not known then.")
@click.option(
    "--exit-code", is_flag=True, help="Exit 1 where a type that badges listen to is silent or was never seen."
)
@format_option()
@click.pass_context
def coverage(ctx: click.Context, path: str | None, no_database: bool, exit_code: bool, format: Format) -> None:
    """List event types with the badges that listen to them, and say which are silent, never seen, or empty.

    Without a file it is the catalog in force. Without BADGES_DATABASE_URL, or with --no-database, nothing is known of
    what came.

    \b
    Example:
      badges catalog coverage catalog/
    """
    if path is None and no_database:
        raise click.UsageError("Name a file, or leave --no-database out.")
    from worker.app.coverage import SILENT

    found, known = asyncio.run(_covered(path, no_database=no_database))
    emit([_row(trigger) for trigger in found], _columns(known=known), format)
    if format == "table":
        states = Counter(_WORDS[trigger.state] for trigger in found)
        wrong = [f"{states[word]:,} {word}" for word in _WORDS.values() if states[word] and word != "ok"]
        click.echo(f"{len(found):,} event types: {', '.join(wrong) or 'each has a badge'}.")
    if exit_code and any(trigger.state in SILENT for trigger in found):
        ctx.exit(1)


async def _covered(path: str | None, *, no_database: bool) -> tuple[list[Trigger], bool]:
    """The coverage, and whether it is known what came."""
    from worker.app.coverage import coverage as alone
    from worker.app.coverage import logged_coverage
    from worker.config import load_settings

    given = None if path is None else _read(path)
    settings = load_settings()
    if given is not None and (no_database or settings.database_url is None):
        return alone(given), False
    async with catalog_store(settings, writes=False) as store:
        found, known = await logged_coverage(store, given if given is not None else await _head(store))
    if not known:
        notice("What arrived is not counted yet. Next: badges schedule --once arrivals")
    return found, known


def _read(path: str) -> Catalog:
    from worker.files import read_sources
    from worker.rules.catalog.load import load_catalog

    return load_catalog(read_sources(path))


async def _head(store: Any) -> Catalog:
    from worker.app import readable

    head = await store.catalog_head()
    if head is None:
        raise OperatorError("The database holds no catalog.", help="name a file, or run badges catalog apply FILE")
    return await asyncio.to_thread(readable, head)


def _row(trigger: Trigger) -> dict[str, Any]:
    from worker.rules.phrases import short_instant

    return {
        "type": trigger.type,
        "badges": len(trigger.badges),
        "listening": list(trigger.badges),
        "last": None if trigger.last_us is None else short_instant(trigger.last_us),
        "usual": None if trigger.usual is None else round(trigger.usual, 2),
        "state": trigger.state,
        "why": trigger.sentence,
    }


def _columns(*, known: bool) -> list[Column | str]:
    last: list[Column | str] = [Column("last", whole=True), Column("usual", "a day")] if known else []
    return [
        Column("type", whole=True),
        "badges",
        *last,
        Column("state", whole=True, show=lambda state: _WORDS[state]),
        "why",
    ]
