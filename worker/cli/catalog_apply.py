"""`badges catalog apply`, `rollback` and `versions`: which catalog rules, and which ones did."""

from __future__ import annotations

import asyncio
import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.connections import catalog_store
from worker.cli.output import Column, Format, emit, format_option, notice
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.app import Difference
    from worker.config import Settings
    from worker.store.catalog import VersionRow
    from worker.store.postgres import PostgresStore

_MOST_NOTE = 1_000


def _note(_: click.Context, __: click.Parameter, value: str) -> str:
    if len(value) > _MOST_NOTE or not value.isprintable():
        raise click.BadParameter(f"one line of at most {_MOST_NOTE:,} characters is taken.")
    return value


note_option = click.option("--note", metavar="TEXT", default="", callback=_note, help="Why; shown by `versions`.")


@click.command("apply")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--expect-version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Refuse where another version than this one rules (0: none yet).",
)
@click.option("--rebuild", is_flag=True, help="Build all users anew from their events, whatever it changes.")
@note_option
def apply(path: Path, expect_version: int | None, rebuild: bool, note: str) -> None:
    """Check a catalog and make it the one that rules; running workers take it up between two batches.

    \b
    Example:
      badges catalog apply catalog/ --expect-version 3 --note "levels by request of support"
    """
    from worker.config import load_settings

    asyncio.run(_apply(path, load_settings(), expected=expect_version, note=note, anew=rebuild))


async def _apply(path: Path, settings: Settings, *, expected: int | None, note: str, anew: bool) -> None:
    from worker.app import difference, refuse_unasked, refuse_unsound

    async with catalog_store(settings) as store:
        found = await difference(store, path, replacing=True)
        refuse_unasked(found.new, settings)
        await refuse_unsound(found.new, settings)
        await _enforce(store, found, str(path), expected=expected, note=note, anew=anew)


async def _enforce(
    store: PostgresStore, found: Difference, source: str, *, expected: int | None, note: str, anew: bool = False
) -> None:
    """Put the new catalog in force and say what that causes."""
    from worker.app import against_former, put_in_force
    from worker.store.catalog import HeadMoved

    was = 0 if found.head is None else found.head.version
    try:
        version = await put_in_force(
            store,
            found.new,
            found.document,
            found.digest,
            applied_by=_person(),
            note=note,
            expected=expected,
            anew=anew,
        )
    except HeadMoved as moved:
        raise OperatorError(
            f"Version {moved.head} rules, not version {expected}; nothing was changed.",
            help=f"look at what it changed with `badges catalog diff {source}`, then expect version {moved.head}",
        ) from None
    if version == was:
        click.echo(f"Unchanged: {source} is version {version}, which rules already.")
        return
    await _tell(store, await against_former(store, found, version), source, version, was=was, builds=anew)


async def _tell(store: PostgresStore, found: Difference, source: str, version: int, *, was: int, builds: bool) -> None:
    """Say what a version changed, against the one before it; `was` is the one that ruled when this was asked for."""
    from worker.cli.comparison import in_place_notices
    from worker.store.population import PopulationTable

    for change in found.changed.badges:
        if change.new is None:
            held = found.given.get(change.key, 0)
            notice(f"warning: {change.key} is not in {source}: deprecated, its {held:,} awards stay")
    for line in in_place_notices(found):
        notice(line)
    click.echo(f"Version {version} rules now: {len(found.new.badges):,} badges from {source}.")
    if version != was + 1:
        click.echo(f"Version {version - 1} was applied meanwhile; this one went on top of it.")
    if found.head is not None and found.old is None:
        click.echo(f"Changed: all of version {version - 1}, which this version of badgestream does not read.")
    else:
        click.echo(f"Changed: {found.changed.summary}.")
    if (builds or found.builds) and found.head is not None:
        users = await PopulationTable(store.pool).count()
        if users:
            click.echo(
                f"{users:,} user{'' if users == 1 else 's'} will be built in the background; awards come quietly."
            )


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


@click.command("rollback")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--yes", is_flag=True, help="Do not ask.")
@note_option
def rollback(version: int, yes: bool, note: str) -> None:
    """Let an earlier version rule again, as a new version with its text. What was awarded since stays.

    \b
    Example:
      badges catalog rollback 2
    """
    from worker.config import load_settings

    asyncio.run(_rollback(version, load_settings(), yes=yes, note=note))


async def _rollback(version: int, settings: Settings, *, yes: bool, note: str) -> None:
    from worker.app import against_head, readable, refuse_unasked
    from worker.cli.comparison import change_lines, plan_line

    async with catalog_store(settings) as store:
        head, stored = await store.catalog_head(), await store.catalog_stored(version)
        if stored is None or head is None:
            listed = f"there are versions 1 to {head.version}" if head is not None else "none was applied yet"
            raise OperatorError(f"There is no version {version}; {listed}.", help="badges catalog versions")
        if head.hash == stored.hash:
            same = "it" if head.version == version else f"version {head.version}, with the same text,"
            raise OperatorError(f"Version {version} needs no roll-back: {same} rules. Nothing was changed.")
        catalog = await asyncio.to_thread(readable, stored)
        refuse_unasked(catalog, settings)
        found = await against_head(store, catalog, stored.document, stored.hash, replacing=True)
        notice(f"Back to the text of version {version}, as version {head.version + 1}:")
        for line in change_lines(found, width=None):
            click.echo(line, err=True)
        notice(plan_line(found, None))
        if not yes:
            _ask(version)
        said = note or f"roll-back to version {version}"
        await _enforce(store, found, f"version {version}", expected=head.version, note=said)


def _ask(version: int) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("This changes what every user is given: answer with --yes where nobody can be asked.")
    click.confirm(f"Let the text of version {version} rule?", abort=True, err=True)


@click.command("versions")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, newest first.")
@click.option("--before", type=click.IntRange(min=1), metavar="N", help="Only versions before this one.")
@format_option()
def versions(limit: int, before: int | None, format: Format) -> None:
    """List the versions of the catalog: when and by whom each was applied, and what it changed.

    \b
    Example:
      badges catalog versions
    """
    from worker.config import load_settings

    found = asyncio.run(_versions(load_settings(), limit, before))
    emit([_row(one) for one in found], _COLUMNS, format)
    if format == "table":
        if not found:
            click.echo("No version" + (f" before {before}." if before else " yet. Next: badges catalog apply FILE"))
        elif found[-1].version > 1:
            click.echo(f"Older ones: badges catalog versions --before {found[-1].version}")


async def _versions(settings: Settings, limit: int, before: int | None) -> list[VersionRow]:
    async with catalog_store(settings, writes=False) as store:
        return await store.catalog_versions(before=before, limit=limit)


_COLUMNS: list[Column | str] = [
    Column("version", whole=True),
    Column("rules", show=lambda rules: "rules" if rules else "", title=""),
    Column("applied_at", whole=True),
    Column("applied_by"),
    Column("badges"),
    Column("changes"),
    Column("note"),
]


def _row(one: VersionRow) -> dict[str, Any]:
    return {
        "version": one.version,
        "rules": one.rules,
        "applied_at": datetime.fromtimestamp(one.applied_us / 1_000_000, UTC),
        "applied_by": one.applied_by,
        "badges": one.badges,
        "changes": one.changes,
        "note": one.note,
        "basis": one.basis,
    }
