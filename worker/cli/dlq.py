"""`badges dlq`: list and show dead letters, the records that could not be processed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from worker.cli.output import Column, Format, as_json, cell, emit, format_option, notice
from worker.cli.places import instant_option, place
from worker.cli.redrive import replay
from worker.errors import OperatorError
from worker.printable import printable

if TYPE_CHECKING:
    from worker.store.dead_letters import BuriedLetter, DeadLetterTable

Answer = TypeVar("Answer")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    Column("buried_at", whole=True),
    Column("record", whole=True),
    Column("reason", whole=True),
    Column("user_id"),
    Column("detail"),
)
_MOST: Final = 10_000


@click.group()
def dlq() -> None:
    """List, show and try again dead letters, the records that could not be processed.

    \b
    Example:
      badges dlq list --reason not_json
    """


@dlq.command("list")
@click.option("--reason", help="Only letters with this reason, as `not_json`.")
@click.option("--reasons", "only_reasons", is_flag=True, help="Only how many there are for each reason.")
@click.option("--type", "event_type", metavar="TYPE", help="Only records that say they are of this event type.")
@click.option("--topic", help="Only letters from this topic.")
@click.option("--since", callback=instant_option, metavar="T", help="Only letters that came since this instant.")
@click.option("--state", type=click.Choice(["new", "replayed"]), help="Only letters that wait, or that passed later.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=50, show_default=True, help="So many, newest first.")
@click.option("--before", type=click.IntRange(1), metavar="NUMBER", help="Only letters older than the one so numbered.")
@format_option()
def list_letters(
    reason: str | None,
    only_reasons: bool,
    event_type: str | None,
    topic: str | None,
    since: int | None,
    state: str | None,
    limit: int,
    before: int | None,
    format: Format,
) -> None:
    """List dead letters, newest first.

    \b
    Example:
      badges dlq list --reason payload_invalid --limit 10
    """
    if only_reasons:
        _list_reasons(format)
        return
    found = _ask(
        lambda letters: letters.dead_letters(
            reason=reason,
            before=before,
            limit=limit + 1,
            topic=topic,
            since_us=since,
            state=state,
            event_type=event_type,
        )
    )
    page = found[:limit]
    emit([_row(letter) for letter in page], _COLUMNS, format)
    if format == "table":
        click.echo(_sum(len(page)) if page or reason is None else _none_with(reason))
    if len(found) > limit:
        notice(f"There are older ones. Next: --before {page[-1].number}")


def _list_reasons(format: Format) -> None:
    counts = _ask(lambda letters: letters.dead_letter_counts())
    rows = [
        {"reason": one.reason, "letters": one.letters, "first_at": _at(one.first_us), "last_at": _at(one.last_us)}
        for one in counts
    ]
    emit(rows, [Column("reason", whole=True), "letters", Column("first_at"), Column("last_at")], format)
    if format == "table":
        click.echo(_sum(sum(one.letters for one in counts)))


@dlq.command()
@click.argument("record", metavar="[TOPIC:]PARTITION:OFFSET")
@click.option("--raw", is_flag=True, help="Write the record's bytes (the first 64 KiB) and nothing else.")
@format_option("table", "json")
def show(record: str, raw: bool, format: Format) -> None:
    """Show one dead letter, with the record as it came.

    \b
    Example:
      badges dlq show badges.events:3:1207
    """
    topic, partition, offset = place(record)
    letter = _ask(lambda letters: letters.dead_letter(topic, partition, offset))
    if letter is None:
        raise OperatorError(f"There is no dead letter for {topic}:{partition}:{offset}.", help="badges dlq list")
    body = letter.raw or b""
    if raw:
        click.echo(body, nl=False)
        return
    facts = _row(letter) | {"sha256": (letter.sha256 or b"").hex()}
    if format == "json":
        key = None if letter.key is None else base64.b64encode(letter.key).decode()
        click.echo(as_json(facts | {"key_base64": key, "raw_base64": base64.b64encode(body).decode()}))
        return
    for name, value in facts.items():
        if value not in (None, ""):
            click.echo(f"{name:<12} {cell(value, whole=True)}")
    click.echo(f"{'value':<12} {printable(body.decode('utf-8', 'backslashreplace'))}")
    if letter.length > len(body):
        notice(f"These are the first {len(body):,} of {letter.length:,} bytes.")


dlq.add_command(replay)


def _none_with(reason: str) -> str:
    """That there are none with a reason, and which reasons there are."""
    there = [one.reason for one in _ask(lambda letters: letters.dead_letter_counts()) if one.reason != reason]
    others = f"; there are {', '.join(there)}" if there else ""
    return f"No dead letters with reason {reason}{others}."


def _ask(question: Callable[[DeadLetterTable], Awaitable[Answer]]) -> Answer:
    """What the database answers, on a connection of its own."""
    from worker.cli.connections import catalog_store
    from worker.config import load_settings
    from worker.store.dead_letters import DeadLetterTable

    async def ask() -> Answer:
        async with catalog_store(load_settings(), name="badges dlq", writes=False) as store:
            return await question(DeadLetterTable(store.pool))

    return asyncio.run(ask())


def _row(letter: BuriedLetter) -> dict[str, Any]:
    return {
        "number": letter.number,
        "record": f"{letter.topic}:{letter.partition}:{letter.offset}",
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "incarnation": letter.incarnation,
        "reason": letter.reason,
        "detail": letter.detail,
        "path": letter.path,
        "user_id": letter.user_id,
        "length": letter.length,
        "recorded_at": _at(letter.recorded_us),
        "buried_at": _at(letter.buried_us),
        "state": letter.state,
    }


def _at(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _sum(letters: int) -> str:
    return "No dead letters." if not letters else f"{letters:,} dead letter{'s' if letters > 1 else ''}."
