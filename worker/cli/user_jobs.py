"""`badges backfill` and `badges recompute`: users' logs held against the catalog again, and what is missing given."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import MOST_WIDTH, Format, as_json, format_option, notice, span
from worker.printable import printable

if TYPE_CHECKING:
    from worker.app.user_jobs import Asked
    from worker.exchange import UserJob
    from worker.rules.preview import Preview
    from worker.store.postgres import PostgresStore

#: What was found, in words: one of it, several of it, what was done.
_WORDS = {
    "fold_missing": ("memory was missing", "memories were missing", "restored from the log"),
    "fold_other": ("memory differed from the log", "memories differed from the log", "put right"),
    "award_missing": ("award was missing", "awards were missing", "put back as they were, not published again"),
    "award_never_given": ("award was never given", "awards were never given", "granted"),
    "award_not_taken_back": ("award no longer holds", "awards no longer hold", "taken back"),
    "award_not_in_log": ("award is not in the log", "awards are not in the log", "left as they are"),
    "left_out": ("user could not be read", "users could not be read", "left out; run it again"),
    "waiting": ("user waits in the queue", "users wait in the queue", "done there"),
}
_BAR = 10
_NAMED = 5


def _rate(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value == "off":
        return None
    if value is None or not value.isdecimal() or not 0 < int(value[:12]) <= 10_000_000:
        raise click.BadParameter(f"{value} is neither a number of events a second nor off.")
    return int(value)


def _shared(command: Any) -> Any:
    for option in (
        format_option("table", "json"),
        click.option(
            "--rate",
            metavar="N|off",
            default="20000",
            show_default=True,
            callback=_rate,
            help="Events of the log read a second, at most. While live work lags, nothing is read.",
        ),
        click.option("--preview", is_flag=True, help="Say who would gain what; nothing is changed."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--badge", "badges", metavar="K", multiple=True, help="A badge to give its past; may be given again.")
@click.option("--all", "everything", is_flag=True, help="All badges that are active or hidden.")
@click.option("--notify", is_flag=True, help="Tell users of what they get; without it the awards come quietly.")
@_shared
def backfill(
    badges: tuple[str, ...], everything: bool, notify: bool, preview: bool, rate: int | None, format: Format
) -> None:
    """Give badges to those who earned them before: from the log, each at its own instant, quietly.

    What is held stays as it is. It may be stopped at any time; what is done stays done, and run again it goes on.

    \b
    Example:
      badges backfill --badge commentator_25 --preview
    """
    if everything == bool(badges):
        raise click.UsageError(
            "Name badges with --badge, or take --all." if not badges else "--all or --badge, not both."
        )
    _run("backfill", preview=preview, rate=rate, format=format, badges=badges, notify=notify)


@click.command()
@click.option("--user", metavar="U", help="One user.")
@click.option("--badge", "badge", metavar="K", help="One badge, of every user whom it may concern.")
@click.option("--trigger", metavar="T", help="The badges that an event type may earn, of users with such events.")
@click.option("--conditions", is_flag=True, help="Ask conditions in JavaScript again, and keep what they say now.")
@_shared
def recompute(
    user: str | None,
    badge: str | None,
    trigger: str | None,
    conditions: bool,
    preview: bool,
    rate: int | None,
    format: Format,
) -> None:
    """Hold what is stored of users against the log again: memory, and awards; what is missing is put back or granted.

    Only what falls by itself (`revocable: auto`) is taken back; other awards that the log does not show are
    counted and left.

    \b
    Example:
      badges recompute --trigger comment.posted --preview
    """
    if sum(one is not None for one in (user, badge, trigger)) != 1:
        raise click.UsageError("Name one of --user, --badge and --trigger.")
    _run(
        "recompute",
        preview=preview,
        rate=rate,
        format=format,
        badges=() if badge is None else (badge,),
        user=user,
        trigger=trigger,
        conditions=conditions,
    )


def _run(kind: str, *, preview: bool, rate: int | None, format: Format, **what: Any) -> None:
    from worker.config import load_settings

    settings = load_settings()

    async def run() -> None:
        from worker.app.user_jobs import ask
        from worker.cli.connections import catalog_store

        async with catalog_store(settings, name=f"badges {kind}", writes=not preview) as store:
            asked = await ask(store, kind, **what)
            await _say_what_is_sealed(store, asked)
            if preview:
                await _preview(store, asked, format)
            else:
                await _do(store, settings, asked, rate, format)

    from worker.cli.processes import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())


async def _say_what_is_sealed(store: PostgresStore, asked: Asked) -> None:
    from worker.app.user_jobs import sealed_by_retention
    from worker.rules.phrases import short_instant

    floors, badges = await sealed_by_retention(store, asked)
    if not badges:
        return
    cut = ", ".join(f"{name} before {short_instant(at)[:10]}" for name, at in sorted(floors.items())[:_NAMED])
    notice(f"warning: retention removed {cut}: what only those events show cannot be seen.")
    notice(f"  {_listed(badges)}: nobody is given them here, and their memories stay as they are.")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


# ---- preview


async def _preview(store: PostgresStore, asked: Asked, format: Format) -> None:
    from worker.app.user_jobs import preview_of
    from worker.cli.progress import Progress

    progress = Progress()

    def told(done: int, total: int, events: int) -> None:
        share = f"{100 * done / total:.1f} %" if total else ""
        progress.say(f"  {share}  {done:,} of {total:,} users, {events:,} events")

    try:
        playing, total = await preview_of(store, asked, progress=told)
    finally:
        progress.close()
    if format == "json":
        from worker.cli.comparison import population_data

        click.echo(as_json({"kind": asked.kind, "parameters": asked.parameters, **population_data(playing, total)}))
        return
    for line in _preview_lines(playing, total, progress.seconds):
        click.echo(line)


def _preview_lines(playing: Preview, total: int, seconds: float) -> Iterator[str]:
    from worker.cli.comparison import gain_lines

    width = min(shutil.get_terminal_size().columns, MOST_WIDTH) if sys.stdout.isatty() else None
    gains = sorted(playing.gains.values(), key=lambda gain: (-gain.awards, gain.badge.key))
    if len(gains) > 1:
        gains = [gain for gain in gains if gain.awards]
    if gains:
        yield from gain_lines(playing, gains, total, seconds, asked=10, width=width)
    awards = sum(gain.awards for gain in playing.gains.values())
    yield f"{awards:,} award{'' if awards == 1 else 's'} would be given. Nothing was changed."


# ---- the job


async def _do(store: PostgresStore, settings: Any, asked: Asked, rate: int | None, format: Format) -> None:
    from worker.app.user_jobs import Foreground
    from worker.cli.progress import Progress
    from worker.errors import OperatorError

    progress = Progress()
    begun: list[tuple[float, int]] = []

    def told(job: UserJob, lag: float) -> None:
        if not begun:
            begun.append((progress.seconds, job.users_done))
            if job.users_done:
                notice(f"Job {job.id} was left at {_percent(job)}; it goes on from there.")
        progress.say(_line(job, progress.seconds - begun[0][0], job.users_done - begun[0][1], lag))

    try:
        job = await Foreground(store, settings, asked, rate=rate, told=told).run(requested_by=_person())
    finally:
        progress.close()
    if format == "json":
        click.echo(as_json(job_data(job)))
    else:
        for line in done_lines(job, progress.seconds):
            click.echo(printable(line))
    if job.state != "done":
        raise OperatorError(f"Job {job.id} was {job.state}{': ' + job.note if job.note else ''}.", help="run it again")


def _line(job: UserJob, seconds: float, users: int, lag: float) -> str:
    """`#41 backfill commentator_25  running 62.1 % [######----] 18,200 events/s · 25 s left · slowed by lag 3 s`."""
    share = job.users_done / job.users_total if job.users_total else 1.0
    full = round(share * _BAR)
    said = [f"{job.events / seconds:,.0f} events/s" if seconds > 0 else ""]
    if users and share < 1:
        said.append(f"{span(seconds * (job.users_total - job.users_done) / users)} left")
    if lag:
        said.append(f"slowed by lag {span(lag)}")
    bar = f"[{'#' * full}{'-' * (_BAR - full)}]"
    return printable(f"#{job.id} {title(job)}  {_percent(job)} {bar} " + " · ".join(text for text in said if text))


def _percent(job: UserJob) -> str:
    return f"{100 * job.users_done / job.users_total:.1f} %" if job.users_total else "100 %"


def title(job: UserJob) -> str:
    """What a job is, in a few words: `backfill commentator_25`."""
    asked = job.parameters
    what = asked.get("user") or asked.get("trigger") or _listed(asked.get("badges", ["all badges"]))
    return f"{job.kind} {what}"


def done_lines(job: UserJob, seconds: float) -> Iterator[str]:
    """What a job did and found."""
    users = f"{job.users_done:,} user{'' if job.users_done == 1 else 's'}"
    events = f"{job.events:,} event{'' if job.events == 1 else 's'}"
    yield f"Job {job.id}, {title(job)}: {job.state} in {span(seconds)}; {users} looked at, {events} read."
    found = False
    for kind, (one, several, done) in _WORDS.items():
        count = job.changes.get(kind, 0)
        if count:
            found = True
            yield f"  {count:,} {one if count == 1 else several}: {done}"
    badges: Mapping[str, int] = job.changes.get("badges", {})
    if badges:
        first = sorted(badges.items(), key=lambda item: (-item[1], item[0]))
        yield f"  Awards: {_listed([f'{key} {count:,}' for key, count in first])}"
    if not found and not badges:
        yield "  Nothing was missing."


def job_data(job: UserJob) -> dict[str, Any]:
    """A job for programs: raw figures, instants as RFC 3339."""
    from dataclasses import asdict

    from worker.rules.phrases import short_instant

    data = asdict(job)
    for name in ("requested", "started", "moved", "done"):
        at = data.pop(f"{name}_us")
        data[f"{name}_at"] = None if at is None else short_instant(at)
    return data


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
