"""`badges dlq replay`: try dead letters again, after what was wrong is mended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import Format, as_json, format_option
from worker.cli.places import instant_option, place
from worker.cli.signing import whoever

if TYPE_CHECKING:
    from worker.pipeline.redrive import Redriven
    from worker.store.dead_letters import LetterFilter


@click.command()
@click.argument("records", nargs=-1, metavar="[[TOPIC:]PARTITION:OFFSET]...")
@click.option("--reason", help="Letters with this reason, as `unknown_event_type`.")
@click.option("--type", "event_type", metavar="TYPE", help="Records that say they are of this event type.")
@click.option("--topic", help="Letters from this topic.")
@click.option("--since", callback=instant_option, metavar="T", help="Letters that came since this instant.")
@click.option("--all", "whole", is_flag=True, help="Every letter that was not applied yet.")
@click.option("--dry-run", is_flag=True, help="Say what would become of them; nothing is changed.")
@format_option("table", "json")
def replay(
    records: tuple[str, ...],
    reason: str | None,
    event_type: str | None,
    topic: str | None,
    since: int | None,
    whole: bool,
    dry_run: bool,
    format: Format,
) -> None:
    """Try dead letters again, after a fix: those that are events now are applied, the rest says why it is not.

    They go the way of every event: one that came in meanwhile is a duplicate, what is earned is given at the instant it
    was earned, quietly. What is longer than 64 KiB is read from its topic again.

    \b
    Example:
      badges dlq replay --reason unknown_event_type --since 2026-11-20T00:00:00Z --dry-run
    """
    from worker.store.dead_letters import LetterFilter

    if not whole and not records and all(one is None for one in (reason, event_type, topic, since)):
        raise click.UsageError("Say which: --reason, --type, --topic, --since, [TOPIC:]PARTITION:OFFSET, or --all.")
    wanted = LetterFilter(reason, topic, since, tuple(map(place, records)), event_type)
    found = asyncio.run(_replay(wanted, dry=dry_run))
    if format == "json":
        click.echo(as_json(_figures(found)))
    else:
        click.echo(_sentence(found, dry=dry_run))


async def _replay(wanted: LetterFilter, *, dry: bool) -> Redriven:
    from worker.app.dead_letters import redrive_letters
    from worker.auditing import letters_line, noted
    from worker.cli.connections import catalog_store, quiet_clients
    from worker.cli.progress import Progress
    from worker.config import load_settings

    settings, progress = load_settings(), Progress()
    with quiet_clients():
        async with catalog_store(settings, writes=not dry) as store:
            line = None
            if not dry:
                count, _ = await store.count_letters(wanted)
                line = letters_line(whoever(), letters=count, chosen=wanted.as_json())
            async with noted(store, line):
                try:
                    return await redrive_letters(
                        store,
                        settings,
                        wanted,
                        dry=dry,
                        told=lambda facts, total: progress.say(f"  {facts.tried:,} of {total:,} letters"),
                    )
                finally:
                    progress.close()


def _sentence(found: Redriven, *, dry: bool) -> str:
    if not found.tried and not found.lost:
        return "No such dead letters wait."
    words = ("would pass now", "would be given quietly") if dry else ("passed", "given quietly")
    awards = found.awards.total()
    parts = [f"{found.passed:,} of {found.tried:,} {words[0]}"]
    if found.known:
        parts.append(f"{found.known:,} of them logged already")
    if awards:
        parts.append(f"{awards:,} award{'' if awards == 1 else 's'} {words[1]}")
    stay = ", ".join(f"{reason} {count:,}" for reason, count in found.kept.most_common())
    lost = f" Of {found.lost:,} the topic no longer holds the whole record." if found.lost else ""
    return f"{'; '.join(parts)}." + (f" Stay: {stay}." if stay else "") + lost


def _figures(found: Redriven) -> dict[str, Any]:
    return {
        "tried": found.tried,
        "passed": found.passed,
        "already_logged": found.known,
        "stay": dict(found.kept),
        "lost": found.lost,
        "awards": found.awards.total(),
    }
