"""`badges quarantine`: awards that a breaker holds back, to be released or dropped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from worker.cli.output import Column, Format, emit, format_option, notice
from worker.cli.signing import actor_option, note_option
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.app.quarantine import Verb
    from worker.store.quarantine import HeldBack, Quarantined

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST: Final = 10_000


@click.group()
def quarantine() -> None:
    """List, release or drop awards that were held back because more came than is usual.

    \b
    Example:
      badges quarantine list --badge nice_answer
    """


_badge = click.option("--badge", "badge_key", metavar="K", required=True, help="The badge whose awards are meant.")
_users = click.option("--user", "users", metavar="U", multiple=True, help="Only this user's; may be given again.")
_context = click.option("--context", metavar="C", help="Only the award for this payload value.")
_everyone = click.option("--all", "everyone", is_flag=True, help="All awards of the badge that are held back.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@quarantine.command("list")
@click.option("--badge", "badge_key", metavar="K", help="One by one, the awards of this badge.")
@click.option("--user", "users", metavar="U", multiple=True, help="One by one, the awards of this user.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=50, show_default=True, help="So many, by user.")
@click.option("--after", metavar="U", default="", help="Only users after this one; goes with --badge.")
@format_option()
def list_held(badge_key: str | None, users: tuple[str, ...], limit: int, after: str, format: Format) -> None:
    """List the awards that are held back: by badge, or one by one.

    \b
    Example:
      badges quarantine list --badge nice_answer
    """
    if after and badge_key is None:
        raise click.UsageError("--after goes with --badge.")
    if badge_key is None and not users:
        counts = asyncio.run(_counts())
        rows = [
            {"badge": one.badge_key, "awards": one.awards, "first_at": _at(one.first_us), "last_at": _at(one.last_us)}
            for one in counts
        ]
        emit(rows, [Column("badge", whole=True), "awards", Column("first_at"), Column("last_at")], format)
        if format == "table":
            total = sum(one.awards for one in counts)
            click.echo(f"{total:,} award{'s are' if total != 1 else ' is'} held back." if total else "Nothing is held.")
        return
    found = asyncio.run(_page(badge_key, users, after, limit + 1))
    page = found[:limit]
    emit([_row(one) for one in page], _COLUMNS, format)
    if format == "table" and not page:
        click.echo("Nothing is held.")
    if len(found) > limit:
        last = page[-1].award
        notice(f"There are more. Next: --badge {last.badge_key} --after {last.user_id}")


@quarantine.command()
@_badge
@_users
@_context
@_everyone
@note_option
@actor_option
@_yes
def release(**asked: Any) -> None:
    """Give awards that were held back: each once, with the instant at which it was earned.

    Broken off, it leaves the rest held: run it again.

    \b
    Example:
      badges quarantine release --badge nice_answer --all --note "The campaign was real"
    """
    _settle("release", **asked)


@quarantine.command()
@_badge
@_users
@_context
@_everyone
@note_option
@actor_option
@_yes
@click.option("--confirm", metavar="K", help="The badge's key once more, in place of the question.")
def drop(confirm: str | None, yes: bool, **asked: Any) -> None:
    """Drop awards that were held back, for good: they are not given again but by hand.

    Broken off, it leaves the rest held: run it again.

    \b
    Example:
      badges quarantine drop --badge nice_answer --user u9299 --confirm nice_answer --note "A bot"
    """
    if confirm is not None and confirm != asked["badge_key"]:
        raise click.BadParameter(f"--confirm says {confirm!r}, and the badge is {asked['badge_key']!r}.")
    _settle("drop", yes=yes or confirm is not None, **asked)


def _settle(
    verb: Verb,
    *,
    badge_key: str,
    users: tuple[str, ...],
    context: str | None,
    everyone: bool,
    note: str,
    actor: str,
    yes: bool,
) -> None:
    if everyone == bool(users):
        raise click.UsageError("Say whose awards: --user U, or --all.")
    quiet = yes or (verb == "release" and bool(users))
    ask = None if quiet else partial(_ask, verb, badge_key, everyone)
    count = asyncio.run(_settled(verb, badge_key, users or None, context, note=note, actor=actor, ask=ask))
    awards = f"{count:,} award{'s' if count != 1 else ''} of {badge_key}"
    if not count:
        click.echo(f"No award of {badge_key} is held that this is about; nothing was changed.")
    elif verb == "release":
        click.echo(f"Released {awards}; the worker publishes each once.")
    else:
        click.echo(f"Dropped {awards}; a record of each stays.")


async def _settled(
    verb: Verb,
    badge_key: str,
    users: tuple[str, ...] | None,
    context: str | None,
    *,
    note: str,
    actor: str,
    ask: Callable[[int], None] | None,
) -> int:
    from worker import logs
    from worker.app import open_store, until_schema, working_plan
    from worker.app.quarantine import settle_quarantine
    from worker.config import load_settings

    settings = load_settings()
    logs.configure(settings)
    async with open_store(settings, name="badges quarantine") as store:
        await until_schema(store, seconds=0)
        held = {one.badge_key: one.awards for one in await store.quarantine_counts()}
        if badge_key not in held:
            known = ", ".join(list(held)[:5]) or "none of any badge is"
            raise OperatorError(f"No award of {badge_key} is held.", help=f"held now: {known}")
        if ask is not None:
            ask(held[badge_key])
        plan = await working_plan(store)
        if plan is None:
            raise OperatorError("The database holds no catalog.", help="badges catalog apply FILE")
        parts = settle_quarantine(
            store,
            plan,
            verb,
            badge_key=badge_key,
            users=users,
            context=context,
            note=note,
            actor=actor,
            topic=settings.award_topic,
        )
        return sum([count async for count in parts])


def _ask(verb: Verb, badge_key: str, everyone: bool, count: int) -> None:
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    awards = f"{count:,} award{'s' if count != 1 else ''} of {badge_key}"
    if verb == "release":
        if not terminal:
            raise click.UsageError(
                "This is about every award that is held: answer with --yes where nobody can be asked."
            )
        click.confirm(f"Release {awards}?", abort=True, err=True)
        return
    if not terminal:
        raise click.UsageError(f"A drop cannot be undone: write --confirm {badge_key}, or --yes.")
    which = f"{awards} will" if everyone else f"Of {awards} those asked for will"
    if click.prompt(f"{which} be dropped for good. Type the badge's key to go on", err=True) != badge_key:
        raise OperatorError("That is another key; nothing was changed.")


async def _counts() -> list[HeldBack]:
    from worker.cli.connections import catalog_store
    from worker.config import load_settings
    from worker.store.quarantine import QuarantineTable

    async with catalog_store(load_settings(), name="badges quarantine", writes=False) as store:
        return await QuarantineTable(store.pool).quarantine_counts()


async def _page(badge_key: str | None, users: tuple[str, ...], after: str, limit: int) -> list[Quarantined]:
    from worker.cli.connections import catalog_store
    from worker.config import load_settings
    from worker.store.quarantine import QuarantineTable

    async with catalog_store(load_settings(), name="badges quarantine", writes=False) as store:
        return await QuarantineTable(store.pool).quarantined(
            badge_key=badge_key,
            users=users or None,
            after=(badge_key or "", after, "\U0010ffff") if after else ("", "", ""),
            limit=limit,
        )


_COLUMNS: list[Column | str] = [
    Column("badge", whole=True),
    Column("user_id", whole=True),
    Column("context"),
    Column("awarded_at", whole=True),
    Column("origin"),
    Column("withheld_at", whole=True),
    Column("reason"),
]


def _row(one: Quarantined) -> dict[str, Any]:
    award = one.award
    return {
        "badge": award.badge_key,
        "user_id": award.user_id,
        "context": award.context,
        "awarded_at": _at(award.awarded_us),
        "origin": award.origin,
        "withheld_at": _at(one.withheld_us),
        "reason": award.reason,
        "trigger_id": award.trigger_id,
        "catalog_version": award.catalog_version,
    }


def _at(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
