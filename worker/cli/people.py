"""`badges users export` and `badges users erase`: what is held about one person, and its end."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from worker.cli.output import Format, as_json, format_option
from worker.cli.signing import whoever
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.store.people import Erased

_MOST_NOTE = 1_000
#: What the rows of each table are to people; tables whose names say it are left out.
_WORDS = {
    "user_badges": "awards",
    "badge_awards_log": "entries of the log of awards",
    "withheld_awards": "awards not given",
    "user_scopes": "memories of payload values",
    "sealed_states": "memories of events that retention removed",
    "recompute_queue": "recomputes that waited",
    "user_activity": "date of the last activity",
    "user_tenures": "days of joining",
    "user_jobs": "jobs",
    "outbox": "messages that waited",
    "audit_log": "entries of the audit log",
    "users": "memory",
}


@click.command()
@click.argument("user_id", metavar="U")
def export(user_id: str) -> None:
    """Write everything that is held about a user as one JSON object on standard output.

    The log of changes says who did so.

    \b
    Example:
      badges users export u9299 > u9299.json
    """
    asyncio.run(_export(user_id))


async def _export(user_id: str) -> None:
    from worker.app.erasure import export_user
    from worker.cli.connections import catalog_store
    from worker.config import load_settings

    async with catalog_store(load_settings()) as store:
        async for piece in export_user(store, user_id, actor=whoever()):
            click.echo(piece, nl=False)


@click.command()
@click.argument("user_id", metavar="U")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--confirm", metavar="U", help="The id once more, in place of the question.")
@click.option("--note", default="", metavar="TEXT", help="Why; kept with the erasure, so it should name nobody.")
@format_option("table", "json")
def erase(user_id: str, yes: bool, confirm: str | None, note: str, format: Format) -> None:
    """Remove everything held about a user, for good; no replay brings it back.

    Events, awards, memory, dead letters and what waits to be published go at once; `user.erased` tells those who read
    the awards topic. What the topics hold goes with their retention. Events of later instants begin a new person.

    \b
    Example:
      badges users erase u9299 --confirm u9299 --note "request 4711"
    """
    if len(note) > _MOST_NOTE or not note.isprintable():
        raise click.BadParameter(f"--note is one line of at most {_MOST_NOTE:,} characters.")
    if confirm is not None and confirm != user_id:
        raise click.BadParameter(f"--confirm says {confirm!r}, and the user is {user_id!r}.")
    if not yes and confirm is None:
        _ask(user_id)
    found = asyncio.run(_erase(user_id, note))
    if format == "json":
        click.echo(as_json({"user_id": user_id, "erased_at": _instant(found), "rows": dict(found.rows)}))
    else:
        click.echo(_sentence(user_id, found))


def _ask(user_id: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"An erasure cannot be undone: write --confirm {user_id}, or --yes.")
    typed = click.prompt(f"Everything about {user_id} will be removed for good. Type the id to go on", err=True)
    if typed != user_id:
        raise OperatorError("That is another id; nothing was changed.")


async def _erase(user_id: str, note: str) -> Erased:
    from worker.app.erasure import erase_user
    from worker.cli.connections import catalog_store
    from worker.config import load_settings

    settings = load_settings()
    async with catalog_store(settings) as store:
        return await erase_user(store, settings, user_id, actor=whoever(), note=note)


def _instant(found: Erased) -> str:
    from worker.events import format_instant

    return format_instant(found.at_us)


def _sentence(user_id: str, found: Erased) -> str:
    parts = [f"{count:,} {_WORDS.get(name, name.replace('_', ' '))}" for name, count in found.rows.items() if count]
    return f"{user_id} is erased up to {_instant(found)}: {', '.join(parts)}."
