"""`badges grants`: badges given and taken back by hand, through the control topic."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Final

import click

from worker.cli.signing import actor_option, note_option
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.control import ControlEvent
    from worker.exchange import AuditLine
    from worker.store.postgres import PostgresStore

_MOST_USER_ID: Final = 200


@click.group()
def grants() -> None:
    """Give a badge by hand, or take one back. Automatic work leaves either alone.

    \b
    Example:
      badges grants add u9299 --badge early_bird --note "Was there before we counted"
    """


_user = click.argument("user_id", metavar="U")
_badge = click.option("--badge", "badge_key", metavar="K", required=True, help="The key of the badge.")
_context = click.option("--context", metavar="C", default="", help="For a badge given per payload value: which value.")


@grants.command()
@_user
@_badge
@_context
@note_option
@actor_option
@click.option("--since", metavar="TIME", help="Since when it counts as earned (RFC 3339). Default: now.")
def add(user_id: str, badge_key: str, context: str, note: str, actor: str, since: str | None) -> None:
    """Give a badge by hand; also one that was revoked, dropped or held back.

    \b
    Example:
      badges grants add u9299 --badge early_bird --note "Was there before we counted"
    """
    from worker.auditing import award_line
    from worker.cli.simulate import instant
    from worker.control import grant_added

    now_us = time.time_ns() // 1000
    awarded_us = None if since is None else instant(since, "--since")
    if awarded_us is not None and awarded_us > now_us:
        raise click.UsageError("--since lies in the future.")
    number = str(uuid.uuid4())
    event = grant_added(
        user_id,
        badge_key,
        context=context,
        note=note,
        actor=actor,
        id=number,
        at_us=now_us,
        awarded_us=awarded_us,
    )
    line = award_line(actor, "grant.added", user_id, badge_key, context, note)
    asyncio.run(_send(event, line, user_id, badge_key, context, note, gives=True))


@grants.command()
@_user
@_badge
@_context
@note_option
@actor_option
def revoke(user_id: str, badge_key: str, context: str, note: str, actor: str) -> None:
    """Take a badge back by hand; it is not given again but by hand.

    \b
    Example:
      badges grants revoke u9299 --badge early_bird --note "The wrong user"
    """
    from worker.auditing import award_line
    from worker.control import grant_revoked

    event = grant_revoked(
        user_id,
        badge_key,
        context=context,
        note=note,
        actor=actor,
        id=str(uuid.uuid4()),
        at_us=time.time_ns() // 1000,
    )
    line = award_line(actor, "grant.revoked", user_id, badge_key, context, note)
    asyncio.run(_send(event, line, user_id, badge_key, context, note, gives=False))


async def _send(
    event: ControlEvent, line: AuditLine, user_id: str, badge_key: str, context: str, note: str, *, gives: bool
) -> None:
    from worker import logs
    from worker.app import open_store, until_schema
    from worker.app.control import send_control
    from worker.auditing import noted
    from worker.cli.connections import quiet_clients
    from worker.config import load_settings

    settings = load_settings()
    logs.configure(settings)
    shown = f"{badge_key} ({context})" if context else badge_key
    async with open_store(settings, name="badges grants", connections=1) as store:
        await until_schema(store, seconds=0)
        await _check(store, user_id, badge_key, context, note, gives=gives)
        stands = await store.standing(user_id, badge_key, context)
        state = None if stands is None else stands[0]
        if gives and state == "given":
            click.echo(f"{user_id} holds {shown} already; nothing was sent.")
            return
        if not gives and state is None:
            raise OperatorError(
                f"{user_id} does not hold {shown}; nothing was sent.", help=f"badges users show {user_id}"
            )
        if not gives and state == "revoked":
            click.echo(f"{shown} was taken from {user_id} already; nothing was sent.")
            return
        async with noted(store, line):
            with quiet_clients():
                await send_control(settings, [event])
    done = "is given to" if gives else "is taken from"
    click.echo(f"Sent to {settings.control_topic}: {shown} {done} {user_id} as soon as a worker reads it.")


async def _check(store: PostgresStore, user_id: str, badge_key: str, context: str, note: str, *, gives: bool) -> None:
    """Refuse what cannot be before it is sent. Raises OperatorError."""
    from worker.app.catalog import stored_catalog
    from worker.rules.by_hand import act_faults

    head = await store.catalog_head()
    if head is None:
        raise OperatorError("The database holds no catalog.", help="badges catalog apply FILE")
    badges = {badge.key: badge for badge in (await asyncio.to_thread(stored_catalog, head)).badges}
    known = 0 < len(user_id) <= _MOST_USER_ID and await store.knows_user(user_id)
    shown = user_id[:_MOST_USER_ID]
    for fault in act_faults(badges, shown, badge_key, context, note, gives=gives, known=known):
        raise OperatorError(f"{fault.message} Nothing was sent.", help=fault.help)
