"""`badges replay`: read a part of the topics again, outside the group; what is logged changes nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import Format, as_json, format_option, notice, span
from worker.cli.places import instant, instant_option, place
from worker.cli.signing import whoever

if TYPE_CHECKING:
    from worker.app.ranges import Asked
    from worker.app.replay import Outcome
    from worker.cli.progress import Progress
    from worker.pipeline.replay import Range, ReplayFacts

#: What must not come back, in words.
_REMOVED = {"too_old": "older than is kept", "erased": "of erased users"}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d")


@click.command()
@click.argument("places", nargs=-1, metavar="[[TOPIC:]PARTITION:OFFSET]...")
@click.option("--from-time", callback=instant_option, metavar="T", help="From the records stamped at T or later.")
@click.option(
    "--from-offset",
    type=click.IntRange(0, 2**63 - 1),
    metavar="O",
    help="From this offset of every partition of events; the control topic whole.",
)
@click.option(
    "--until",
    multiple=True,
    metavar="T|O|[TOPIC:]P:O",
    help="Up to the records stamped at T or later, or up to an offset, which is not read itself; with a partition, "
    "where that one ends. Without it, up to where the partitions end now.",
)
@click.option("--allow-gaps", is_flag=True, help="Where records have expired, read what is left.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N records a second.")
@format_option("table", "json")
def replay(
    places: tuple[str, ...],
    from_time: int | None,
    from_offset: int | None,
    until: tuple[str, ...],
    allow_gaps: bool,
    rate: float | None,
    format: Format,
) -> None:
    """Read a part of the topics again: what is logged changes nothing, what is missing is applied.

    Live workers go on meanwhile; their offsets are not moved. What is earned is given at the instant it was earned, and
    quietly. Interrupted, the same command goes on from where it stopped. Into an empty database it rebuilds all that
    the topics still hold.

    \b
    Example:
      badges replay --from-time 2026-11-20T00:00:00Z --rate 5000
      badges replay badges.events:3:1200 --until 3:1300
    """
    asked = _asked(places, from_time, from_offset, until, allow_gaps)
    outcome, seconds = _run(asked, rate)
    if format == "json":
        click.echo(as_json(_figures(outcome, seconds)))
    else:
        click.echo(_sentence(outcome, seconds))


def _asked(
    places: Sequence[str], from_time: int | None, from_offset: int | None, until: Sequence[str], allow_gaps: bool
) -> Asked:
    from worker.app.ranges import Asked

    if sum((bool(places), from_time is not None, from_offset is not None)) != 1:
        raise click.UsageError(
            "Say where to start, in one way: --from-time T, --from-offset O, or [TOPIC:]PARTITION:OFFSET."
        )
    until_us, until_offset, until_places = _ends(until)
    starts = {(topic, partition): offset for topic, partition, offset in map(place, places)}
    if len(starts) < len(places):
        raise click.UsageError("One partition is named twice.")
    return Asked(
        from_us=from_time,
        from_offset=from_offset,
        places=starts,
        until_us=until_us,
        until_offset=until_offset,
        until_places=until_places,
        allow_gaps=allow_gaps,
    )


def _ends(until: Sequence[str]) -> tuple[int | None, int | None, dict[tuple[str, int], int]]:
    """The instant, the offset or the places at which to end."""
    if len(until) == 1 and until[0].isascii() and until[0].isdigit():
        if int(until[0]) >= 2**63:
            raise click.BadParameter("--until: no offset is so large")
        return None, int(until[0]), {}
    if len(until) == 1 and _INSTANT.match(until[0]):
        return instant(until[0]), None, {}
    ends = {(topic, partition): offset for topic, partition, offset in map(place, until)}
    if len(ends) < len(until):
        raise click.UsageError("--until names one partition twice.")
    return None, None, ends


def _run(asked: Asked, rate: float | None) -> tuple[Outcome, float]:
    from worker import logs
    from worker.app import replay as run
    from worker.cli.connections import quiet_clients
    from worker.cli.progress import Progress
    from worker.config import load_settings

    settings = load_settings()
    logs.configure(settings.model_copy(update={"log_level": "warning"}))
    progress = Progress()
    try:
        with quiet_clients():
            outcome = asyncio.run(
                run(
                    settings,
                    asked,
                    actor=whoever(),
                    begins=_announce,
                    told=lambda facts: _show(progress, facts),
                    rate=rate,
                )
            )
    except KeyboardInterrupt:
        progress.close()
        notice("What was read is committed; the same command goes on from there.")
        raise
    finally:
        progress.close()
    return outcome, progress.seconds


def _announce(ranges: Sequence[Range]) -> None:
    if not ranges:
        return
    topics = ", ".join(sorted({one.topic for one in ranges}))
    total, parts = sum(one.length for one in ranges), len(ranges)
    notice(
        f"{topics}, {parts} partition{'s' if parts > 1 else ''}: {total:,} record{'s' if total > 1 else ''} to read "
        "again; what is already logged changes nothing."
    )


def _show(progress: Progress, facts: ReplayFacts) -> None:
    seconds = progress.seconds
    speed = (facts.offsets - facts.resumed) / seconds if seconds else 0.0
    left = f"   {span((facts.total - facts.offsets) / speed)} left" if speed else ""
    share = 100 * facts.offsets / facts.total if facts.total else 100.0
    progress.say(
        f"  {share:.1f} %  {facts.offsets:,} of {facts.total:,}   {speed:,.0f} records/s{left}   added {facts.added:,}"
    )


def _sentence(outcome: Outcome, seconds: float) -> str:
    facts = outcome.facts
    if not outcome.ranges:
        return "There is nothing to read again there."
    parts = [f"{facts.read:,} read", f"{facts.known:,} already logged", f"{facts.added:,} added"]
    if letters := facts.letters.total():
        parts.append(f"{letters:,} new dead letter{'s' if letters > 1 else ''}")
    parts += [f"{facts.removed[code]:,} {said}" for code, said in _REMOVED.items() if facts.removed[code]]
    if known := facts.known_letters:
        parts.append(f"{known:,} dead letter{'s' if known > 1 else ''} known already")
    if facts.tombstones:
        parts.append(f"{facts.tombstones:,} empty")
    awards = facts.awards.total()
    parts.append(f"{awards:,} award{'' if awards == 1 else 's'} given quietly")
    if facts.resumed:
        parts.append(f"{facts.resumed:,} records were read by an earlier run")
    return f"Done in {span(seconds)}: {', '.join(parts)}."


def _figures(outcome: Outcome, seconds: float) -> dict[str, Any]:
    facts = outcome.facts
    return {
        "ranges": [one.as_json() for one in outcome.ranges],
        "read": facts.read,
        "already_logged": facts.known,
        "added": facts.added,
        "dead_letters": facts.letters.total(),
        "dead_letters_known": facts.known_letters,
        **{code: facts.removed[code] for code in _REMOVED},
        "tombstones": facts.tombstones,
        "awards": facts.awards.total(),
        "resumed": facts.resumed,
        "seconds": round(seconds, 3),
    }
