"""`badges db`: create and upgrade the tables in PostgreSQL, and say where they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import Column, Format, emit, format_option, notice

if TYPE_CHECKING:
    from worker.store.migrate import Status


@click.group()
def db() -> None:
    """Create and upgrade the tables in PostgreSQL.

    \b
    Example:
      badges db migrate
    """


@db.command()
@click.option("--read-role", metavar="NAME", help="Also let this role read all tables; it is created if need be.")
def migrate(read_role: str | None) -> None:
    """Bring the tables to this version; safe to run again, and from several places at once.

    \b
    Example:
      badges db migrate --read-role grafana
    """
    from worker.config import load_settings
    from worker.store import migrate as room
    from worker.store.pool import quote

    dsn = load_settings().dsn
    if read_role is not None:
        quote(read_role)  # a name that cannot be is refused before anything is done
    names = asyncio.run(room.migrate(dsn, applied=lambda migration: click.echo(f"applied {migration.name}")))
    click.echo(f"Schema {room.newest_known_version()}: " + (f"{len(names)} applied." if names else "nothing to do."))
    if read_role is not None:
        made = asyncio.run(room.grant_read_role(dsn, read_role))
        click.echo(f"Role {read_role} {'created; it' if made else ''} may read all tables.".replace("  ", " "))
        if made:
            notice(f"It has no password yet. Next: ALTER ROLE {quote(read_role)} PASSWORD '…'")


@db.command()
@format_option()
@click.option("--exit-code", is_flag=True, help="Exit 1 where migrations are missing.")
@click.pass_context
def status(ctx: click.Context, format: Format, exit_code: bool) -> None:
    """Say which migrations the database has and which it lacks.

    \b
    Example:
      badges db status
    """
    from worker.config import load_settings
    from worker.store import migrate as room

    found = asyncio.run(room.status(load_settings().dsn))
    emit(
        _rows(found), [Column("number"), Column("name", whole=True), "state", Column("applied_at", whole=True)], format
    )
    have, want = len(found.applied), len(found.applied) + len(found.pending)
    if format == "table":
        click.echo(f"Schema {have} of {want}." + (" Next: badges db migrate" if found.pending else ""))
    if exit_code and found.pending:
        ctx.exit(1)


def _rows(found: Status) -> Iterator[dict[str, Any]]:
    for row in found.applied:
        at = datetime.fromtimestamp(row.applied_us / 1_000_000, UTC)
        yield {"number": row.number, "name": row.name, "state": "applied", "applied_at": at}
    for migration in found.pending:
        yield {"number": migration.number, "name": migration.name, "state": "pending", "applied_at": None}
