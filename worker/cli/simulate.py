"""`badges simulate`: play a file of events against a catalog; no services, nothing written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import Column, Format, emit, notice, span
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.events import Event
    from worker.rules.catalog.definitions import Catalog, Metric
    from worker.rules.plan import Plan


def _time(text: str) -> str:
    from worker.events import parse_instant
    from worker.rules.phrases import moment

    return moment(parse_instant(text))


_COLUMNS: list[Column | str] = [
    Column("awarded_at", whole=True, show=_time),
    Column("user_id", whole=True),
    Column("badge_key", whole=True),
    Column("context"),
    Column("why"),
]


@click.command()
@click.option("--catalog", "catalog_path", required=True, type=click.Path(), help="A catalog file or its folder.")
@click.option(
    "--events", "events_path", required=True, type=click.Path(), help="Events, one JSON object a line; .gz, or - ."
)
@click.option("--until", metavar="TIME", help="Leave out the events after this instant (RFC 3339).")
@click.option("--set", "settings", metavar="METRIC=VALUE", multiple=True, help="Give a metric a value of your own.")
@click.option("--steps", is_flag=True, help="Say of each event what it earned and what it brought nearer.")
@click.option("--at", metavar="TIME", help="Travel to this instant: say how far everybody is then, in place of awards.")
@click.option("--jobs", is_flag=True, help="Let anniversaries and schedules come by themselves, up to --until.")
@click.option("--user", "user_id", metavar="U", help="Play this user's events only.")
@click.option(
    "--format",
    type=click.Choice(["table", "json", "jsonl"]),
    help="How to print the awards; a table on a terminal, else JSON lines.",
)
def simulate(
    catalog_path: str,
    events_path: str,
    until: str | None,
    settings: tuple[str, ...],
    steps: bool,
    at: str | None,
    jobs: bool,
    user_id: str | None,
    format: Format | None,
) -> None:
    """Say which badges a file of events would earn, when, and why. No services are needed; nothing is written.

    \b
    Example:
      badges simulate --catalog catalog/ --events events.jsonl.gz --until 2026-03-01T00:00:00Z
    """
    import time

    from worker.files import read_sources
    from worker.rules.catalog.load import load_catalog
    from worker.rules.plan import compile_plan

    started = time.monotonic()
    if steps and at is not None:
        raise click.UsageError("--steps says what each event changed, --at how far everybody is: ask for one of them.")
    at_us = None if at is None else instant(at, "--at")
    ends = [end for end in (at_us, None if until is None else instant(until, "--until")) if end is not None]
    catalog = load_catalog(read_sources(catalog_path))
    overrides = _values(settings, catalog)
    plan = compile_plan(catalog, overrides=overrides)
    events = _read(plan, events_path, user_id, min(ends, default=None), jobs=jobs)
    shown = format or ("table" if sys.stdout.isatty() else "jsonl")
    if steps or at_us is not None:
        from worker.cli.player import emit_played

        given, users = emit_played(catalog, events, overrides, shown, steps=steps, at_us=at_us)
    else:
        given, users = _emit_awards(plan, events, shown)
    notice(_sum(given, users, events, time.monotonic() - started))


def _read(plan: Plan, path: str, user_id: str | None, end_us: int | None, *, jobs: bool) -> list[Event]:
    """The events to play, with those of `jobs` among them, each with the answers of the catalog's conditions."""
    from worker.cli.histories import asked, read_events
    from worker.jobs.simulated import with_jobs

    events = _chosen(read_events(path, plan.catalog.dictionary), user_id, end_us)
    if jobs:
        events = with_jobs(plan.catalog, events, end_us)
    return events if plan.conditions is None else asked(plan.conditions, events)


def _emit_awards(plan: Plan, events: list[Event], shown: Format) -> tuple[int, int]:
    """Print what the events earn; how many awards, and how many users have them."""
    from worker.rules.rehearse import outcomes

    found = sorted(outcomes(plan, events), key=lambda one: one.place)
    emit([one.as_json() for one in found], _COLUMNS, shown)
    return len(found), len({one.award.user_id for one in found})


def _chosen(events: list[Event], user_id: str | None, end_us: int | None) -> list[Event]:
    """The events up to an instant, of one user where one is named. Raises OperatorError where there is no such user."""
    if user_id is not None:
        events = [event for event in events if event.user_id == user_id]
        if not events:
            raise OperatorError(f"The file has no event of {user_id}.", help="ids are exact; look at the file")
    return [event for event in events if end_us is None or event.occurred_us <= end_us]


def _sum(awards: int, holders: int, events: list[Event], seconds: float) -> str:
    from worker.rules.phrases import plural

    given = f"{plural(awards, 'award')} to {plural(holders, 'user')}"
    read = f"{plural(len(events), 'event')} of {plural(len({event.user_id for event in events}), 'user')}"
    return f"{given} from {read} in {span(seconds)}. Nothing was written."


def instant(text: str, option: str) -> int:
    """An instant given as an option; wrong usage where it is none."""
    from worker.events import parse_instant

    try:
        return parse_instant(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint=option) from None


def _values(settings: tuple[str, ...], catalog: Catalog) -> dict[str, Any]:
    """What `--set` says, by metric; wrong usage where there is no such metric or the value does not suit it."""
    from worker.rules.catalog.nearest import nearest

    found = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"{setting} is not of the form METRIC=VALUE.", param_hint="--set")
        metric = catalog.metrics.get(name)
        if metric is None:
            near = nearest(name, catalog.metrics.keys())
            remedy = f" Did you mean {near}?" if near else ""
            raise click.BadParameter(f"the catalog has no metric {name}.{remedy}", param_hint="--set")
        found[name] = _value(metric, text)
    return found


def _value(metric: Metric, text: str) -> Any:
    from worker.events import json_text
    from worker.rules.operators.values import is_number

    if metric.instant:
        return instant(text, f"--set {metric.name}")
    try:
        value = json_text.loads(text)
    except json_text.JsonFault:
        value = None
    if not is_number(value):
        raise click.BadParameter(f"{metric.name} is a number; {text} is none.", param_hint="--set")
    return value
