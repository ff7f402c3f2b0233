"""`badges tokens`: make, list and end the tokens of the HTTP API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import click

from worker.cli.connections import catalog_store
from worker.cli.output import Column, Format, as_json, emit, format_option, notice
from worker.cli.signing import whoever
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.store.postgres import PostgresStore

Answer = TypeVar("Answer")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ROLES: Final = ("reader", "producer", "support", "author", "admin")
_MOST_NAME: Final = 100


@click.group()
def tokens() -> None:
    """Make, list and end the tokens of the HTTP API.

    \b
    Roles: everybody may read. A producer sends events too, support grants, revokes and asks why,
    an author changes the catalog; an admin may do all of it.

    \b
    Example:
      badges tokens create --name shop --role producer
    """


@tokens.command()
@click.option("--name", required=True, help="Who uses it; the audit log names what is done with it so.")
@click.option("--role", required=True, type=click.Choice(ROLES), help="What it may do.")
@format_option("table", "json")
def create(name: str, role: str, format: Format) -> None:
    """Make a token and show it: this once, because only its hash is kept.

    \b
    Example:
      badges tokens create --name profile-page --role reader
    """
    from worker.admin.credentials import digest, new_token

    name = name.strip()
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise click.BadParameter(f"write 1 to {_MOST_NAME} printable characters", param_hint="--name")
    token = new_token()
    number = _ask(lambda store: store.create_token(name, role, digest(token), actor=whoever()))
    if format == "json":
        click.echo(as_json({"id": number, "name": name, "role": role, "token": token}))
        return
    click.echo(token)
    notice(f"Token {number}, {name}, role {role}. It is shown only now; send it as `Authorization: Bearer TOKEN`.")


@tokens.command("list")
@format_option()
def list_tokens(format: Format) -> None:
    """List all tokens, the live ones first; their texts are not known.

    \b
    Example:
      badges tokens list --format json
    """
    rows = [
        {
            "id": row.id,
            "name": row.name,
            "role": row.role,
            "created_at": _at(row.created_us),
            "created_by": row.created_by,
            "used_at": _at(row.used_us),
            "revoked_at": _at(row.revoked_us),
        }
        for row in _ask(lambda store: store.tokens(), writes=False)
    ]
    emit(rows, [Column("id", whole=True), Column("name", whole=True), *_COLUMNS], format)
    if format == "table" and not rows:
        click.echo("No tokens.")


_COLUMNS: Final = ("role", Column("created_at", whole=True), "created_by", Column("used_at"), Column("revoked_at"))


@tokens.command()
@click.argument("token", metavar="NUMBER|NAME")
def revoke(token: str) -> None:
    """End a token, by its number or its name; it stops working within seconds.

    \b
    Example:
      badges tokens revoke shop
    """
    ended = _ask(lambda store: store.revoke_token(token, actor=whoever()))
    if ended is None:
        raise OperatorError(f"There is no live token {token}.", help="badges tokens list")
    click.echo(f"Token {ended.id}, {ended.name}, role {ended.role}, is revoked.")


def _ask(question: Callable[[PostgresStore], Awaitable[Answer]], *, writes: bool = True) -> Answer:
    from worker.config import load_settings

    async def ask() -> Answer:
        async with catalog_store(load_settings(), writes=writes) as store:
            return await question(store)

    return asyncio.run(ask())


def _at(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
