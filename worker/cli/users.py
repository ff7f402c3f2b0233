"""`badges users`: what is known of one user, why they hold a badge, and why not."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import MOST_WIDTH, Column, Format, as_json, format_option, table
from worker.cli.people import erase, export
from worker.errors import OperatorError
from worker.printable import printable

if TYPE_CHECKING:
    from worker.app.people import People
    from worker.app.person import Overview, Step, Why

#: So many badges that are not held are listed, the nearest; `--all` lists all.
_NEAREST = 10


@click.group()
def users() -> None:
    """Look at one user: what they hold and why, how far they are, and why a badge is not theirs.

    \b
    Example:
      badges users show u9299
    """


@users.command()
@click.argument("user_id", metavar="U")
@click.option("--badge", "badge_key", metavar="K", help="Why this badge is theirs, or why not.")
@click.option("--context", metavar="C", help="For a badge given per payload value: which value. Default: the nearest.")
@click.option(
    "--at", metavar="TIME", help="As of this instant (RFC 3339). Default: now; of an award, when it was given."
)
@click.option("--all", "whole", is_flag=True, help="List every badge that is not held, not only the nearest ten.")
@format_option("table", "json")
def show(user_id: str, badge_key: str | None, context: str | None, at: str | None, whole: bool, format: Format) -> None:
    """Say what a user holds and why, how far they are, and with --badge what is in the way of one. Nothing is written.

    \b
    Example:
      badges users show u9299 --badge busy_week --at 2017-12-06T03:00:00Z
    """
    from worker.cli.simulate import instant

    if context is not None and badge_key is None:
        raise click.UsageError("--context goes with --badge.")
    at_us = None if at is None else instant(at, "--at")
    now_us = time.time_ns() // 1000
    if badge_key is not None:
        why = asyncio.run(_why(user_id, badge_key, context, at_us, now_us))
        lines = [as_json(why.as_json())] if format == "json" else list(_answer(why))
    else:
        found = asyncio.run(_overview(user_id, now_us if at_us is None else at_us))
        lines = [as_json(found.as_json())] if format == "json" else list(_shown(found, whole=whole))
    for line in lines:
        click.echo(printable(line))


async def _why(user_id: str, badge_key: str, context: str | None, at_us: int | None, now_us: int) -> Why:
    async with _people() as people:
        return await people.why(user_id, badge_key, at_us=at_us, now_us=now_us, context=context, closest=True)


async def _overview(user_id: str, at_us: int) -> Overview:
    async with _people() as people:
        return await people.overview(user_id, at_us=at_us, closest=_NEAREST)


@asynccontextmanager
async def _people() -> AsyncIterator[People]:
    """Answers for the catalog that rules. Raises OperatorError where there is none."""
    from worker.app import readable
    from worker.app.people import People
    from worker.cli.connections import catalog_store
    from worker.config import load_settings

    async with catalog_store(load_settings(), writes=False) as store:
        head = await store.catalog_head()
        if head is None:
            raise OperatorError("The database holds no catalog.", help="badges catalog apply FILE makes one")
        yield People(store, await asyncio.to_thread(readable, head))


users.add_command(export)
users.add_command(erase)


# ---- in words --------------------------------------------------------------------------------------------------------


def _shown(found: Overview, *, whole: bool) -> Iterator[str]:
    width = min(shutil.get_terminal_size().columns, MOST_WIDTH) if sys.stdout.isatty() else None
    yield _head(found)
    if found.building is not None:
        share = f"{float(found.building):.0%}".replace("%", " %")
        yield f"History behind this version of the catalog is still being built: {share} of users are done."
    if found.held:
        rows = [_award(one.as_json()) for one in found.held]
        yield from table(rows, _EARNED, width=width)
    for row in found.withheld:
        yield f"{row.state}  {row.badge_key}{f' {row.context}' if row.context else ''}  {row.reason or ''}".rstrip()
    waits = found.queued or found.building is not None
    remedy = "the build gives it" if waits else f"the log earns it: badges recompute --user {found.user_id}"
    for key, context in found.missing:
        yield f"missing  {key}{f' {context}' if context else ''}  {remedy}"
    if not found.steps:
        return
    yield f"not yet, nearest first ({len(found.steps):,})"
    steps = found.steps if whole else found.steps[:_NEAREST]
    rows = [{"badge": label_of(one), "": _step(one)} for one in steps]
    yield from table(rows, ["badge", ""], width=width)[1:]
    left = len(found.steps) - len(steps)
    if left:
        yield f"{left:,} more: --all"
    yield f"Next: badges users show {found.user_id} --badge {steps[0].progress.badge.key}"


def _head(found: Overview) -> str:
    from worker.rules.phrases import plural, short_instant

    zone = f"zone {found.zone}{'' if found.own_zone else ' (catalog default)'}"
    awards = plural(len(found.held), "award")
    if found.first_us is None or found.last_us is None:
        return f"{found.user_id}: {awards}, no event, {zone}"
    span = f"from {short_instant(found.first_us)[:10]} to {short_instant(found.last_us)[:10]}"
    return f"{found.user_id}: {awards}, {plural(found.events, 'event')} {span}, {zone}"


_EARNED: list[Column | str] = [
    Column("label", "earned", whole=True),
    Column("awarded_at", whole=True),
    Column("origin"),
    Column("why"),
]


def _award(row: dict[str, Any]) -> dict[str, Any]:
    from worker.events import parse_instant
    from worker.rules.phrases import moment

    context = f" ({row['context']})" if row["context"] else ""
    said = row["note"] if row["sentence"] is None and row["note"] else row["sentence"]
    return {
        "label": row["label"] + context,
        "awarded_at": moment(parse_instant(row["awarded_at"])),
        "origin": row["origin"],
        "why": said or "its event is not in the log",
    }


def label_of(step: Step) -> str:
    """What a badge is called."""
    return step.progress.badge.label or step.progress.badge.key


def _step(step: Step) -> str:
    found = step.progress
    context = f" ({found.badge.per} {found.context})" if found.context and found.fraction else ""
    context = "" if context in found.sentence else context
    return f"{found.sentence}{context}{_closest(step)}"


def _closest(step: Step) -> str:
    """When the user came closer than they are, in short."""
    from worker.rules.phrases import number, short_instant
    from worker.rules.standing import fraction_of, plain_figure

    best = step.closest
    if best is None or fraction_of(best.explanation) <= step.progress.fraction:
        return ""
    actual = best.explanation.tree["actual"]
    figure = f"{number(actual)} " if plain_figure(actual) else ""
    return f"; closest {figure}on {short_instant(best.at_us)[:10]}"


def _answer(why: Why) -> Iterator[str]:
    from worker.cli.tree import drawn, headed
    from worker.rules.phrases import moment

    yield headed(why.badge, why.badge_key, why.context, earned=why.earned, user_id=why.user_id, at_us=why.at_us)
    if why.award is not None:
        row = why.award.row
        note = f": {why.award.note}" if why.award.note else ""
        yield f"Held since {moment(row.awarded_us)}, {row.source}, origin {row.origin}{note}."
        if why.award.outdated:
            version = row.catalog_version
            yield f"The badge took something else in version {version} of the catalog; below is what it takes now."
    if why.blocker is not None:
        yield why.blocker.sentence
        if why.blocker.help:
            yield f"  help: {why.blocker.help}"
    if why.explanation is None:
        return
    if why.blocker is None or not why.blocker.sentence.startswith(why.sentence):
        yield f"{why.sentence}."
    yield from drawn(why.explanation.tree)
    if why.closest is not None and why.closest.explanation.nearness > why.explanation.nearness:
        yield f"Closest on {moment(why.closest.at_us)}: {why.closest.explanation.sentence}."
