"""`badges dry-run`: whether and why a user would earn a badge as of an instant; nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import Column, as_json, emit
from worker.cli.simulate import instant
from worker.errors import OperatorError
from worker.printable import printable

if TYPE_CHECKING:
    from worker.cli.questions import Question
    from worker.events import Event
    from worker.rules.catalog.definitions import Catalog
    from worker.rules.rehearse import Answer, DryRun

#: An answer with what it answers, and the instant it stands for.
Answered = tuple["Question", int, "Answer"]


@click.command("dry-run")
@click.option("--catalog", "catalog_path", required=True, type=click.Path(), help="A catalog file or its folder.")
@click.option("--events", "events_path", type=click.Path(), help="Events, one JSON object a line; .gz, or - .")
@click.option("--database", is_flag=True, help="Take the events from the database's log instead.")
@click.option("--user", "user_id", help="The user to answer for.")
@click.option("--badge", "badge_key", help="The badge. Default: all, or those that --event makes look.")
@click.option("--context", help="For a badge given per payload value: which value. Default: the nearest.")
@click.option("--at", metavar="TIME", help="As of this instant (RFC 3339). Default: the newest event.")
@click.option("--event", "event_text", metavar="JSON", help="One more event, as if it had happened.")
@click.option("--requests", "requests_path", type=click.Path(), help="Questions: {user_id, badge_key, at} a line.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where a badge is not earned.")
@click.option(
    "--format",
    type=click.Choice(["table", "json", "jsonl"]),
    help="How to print the answers: in words on a terminal, else JSON lines.",
)
@click.pass_context
def dry_run(
    ctx: click.Context,
    /,
    catalog_path: str,
    events_path: str | None,
    database: bool,
    requests_path: str | None,
    exit_code: bool,
    format: str | None,
    **asked: str | None,
) -> None:
    """Say whether and why a user would earn a badge. Nothing is written.

    \b
    Example:
      badges dry-run --catalog catalog/ --events events.jsonl.gz --user u9299 --badge busy_week
    """
    from worker.files import read_sources
    from worker.rules.catalog.load import load_catalog
    from worker.rules.rehearse import DryRun

    _check_usage(events_path, requests_path, asked, database=database)
    catalog = load_catalog(read_sources(catalog_path))
    questions, histories, faults = _prepared(catalog, events_path, requests_path, asked)
    if catalog.conditions:
        questions, histories = _judged(catalog, questions, histories, stored=database)
    shown = format or ("table" if sys.stdout.isatty() else "jsonl")
    answered = _answered(DryRun(catalog), questions, histories)
    all_passed = True
    if shown == "jsonl":
        for one in answered:
            all_passed &= one[2].passed
            click.echo(as_json(_row(*one)))
    else:
        found = list(answered)
        all_passed = all(answer.passed for _, _, answer in found)
        _print(found, json=shown == "json", single=asked["badge_key"] is not None)
    if faults:
        raise OperatorError(f"{faults:,} of the requests could not be read.", help="see the warnings above")
    if exit_code and not all_passed:
        ctx.exit(1)


def _check_usage(
    events_path: str | None, requests_path: str | None, asked: Mapping[str, str | None], *, database: bool
) -> None:
    if (events_path is not None) == database:
        raise click.UsageError("Say where the events are: either --events FILE or --database.")
    if (asked["user_id"] is None) == (requests_path is None):
        raise click.UsageError("Say what to answer: either --user U or --requests FILE.")
    if requests_path is not None and any(value is not None for value in asked.values()):
        raise click.UsageError("--badge, --context, --at and --event go with --user; each request names its own.")
    if events_path == "-" and requests_path == "-":
        raise click.UsageError("Only one of --events and --requests can be standard input.")


def _prepared(
    catalog: Catalog, events_path: str | None, requests_path: str | None, asked: Mapping[str, str | None]
) -> tuple[list[Question], Mapping[str, Sequence[Event]], int]:
    """The questions, the events they are about, and how many requests could not be read."""
    from worker.cli.histories import by_user, logged, read_events
    from worker.cli.questions import hypothetical, question, read_requests

    faults = 0
    user_id, at = asked["user_id"], asked["at"]
    at_us = None if at is None else instant(at, "--at")
    histories = {} if events_path is None else by_user(read_events(events_path, catalog.dictionary))
    if user_id is None:
        questions, faults = read_requests(str(requests_path), catalog)
        if events_path is None:
            histories = logged({one.user_id for one in questions})
        return questions, histories, faults
    if events_path is None:
        histories = logged({user_id})
        if not histories.get(user_id) and asked["event_text"] is None:
            raise OperatorError(f"No event of {user_id} was ever logged.", help="ids are exact")
    event = None
    if asked["event_text"] is not None:
        now_us = _newest(histories.get(user_id, ())) if at_us is None else at_us
        event = hypothetical(asked["event_text"], catalog, user_id=user_id, at_us=now_us)
    one = question(
        catalog, user_id=user_id, badge_key=asked["badge_key"], context=asked["context"], at_us=at_us, event=event
    )
    return [one], histories, 0


def _judged(
    catalog: Catalog, questions: Sequence[Question], histories: Mapping[str, Sequence[Event]], *, stored: bool
) -> tuple[list[Question], Mapping[str, Sequence[Event]]]:
    """The same with what conditions in JavaScript say of the events that matter.

    Where none may run, `stored` events stand with the answers that the log has, one more with none, which is said;
    others are refused.
    """
    from dataclasses import replace

    from worker.cli.histories import asked, by_user
    from worker.config import load_settings
    from worker.rules.plan import asked_conditions

    conditions = asked_conditions(catalog, catalog.badges)
    if conditions is None:
        return list(questions), histories
    if stored and load_settings().js == "off":
        _warn_unjudged(catalog, questions)
        return list(questions), histories
    # In the order of the questions: a condition that is parked on the way is asked about none of the later events.
    users = dict.fromkeys(one.user_id for one in questions)
    extra = [one.event for one in questions if one.event is not None]
    logged = [event for user_id in users for event in histories.get(user_id, ())]
    found = asked(conditions, [*logged, *extra])
    added = iter(found[len(logged) :])
    return (
        [one if one.event is None else replace(one, event=next(added)) for one in questions],
        by_user(found[: len(logged)]),
    )


def _warn_unjudged(catalog: Catalog, questions: Sequence[Question]) -> None:
    """Say which conditions an event that was never logged would have been asked about, where none may run."""
    from worker.cli.histories import Warnings
    from worker.rules.plan import compile_plan

    warnings = Warnings()
    for one in questions:
        if one.event is None:
            continue
        conditions = compile_plan(catalog, exact=True, only=one.keys).conditions or {}
        for name in sorted({condition.name for condition in conditions.get(one.event.type, ())}):
            warnings.say(
                f"the condition {name} gave no answer to the {one.event.type} of --event: BADGES_JS is off; set "
                "BADGES_JS=on to have it asked"
            )


def _newest(events: Sequence[Event]) -> int:
    """The instant of a user's newest event; the present where there is none."""
    import time

    return events[-1].occurred_us if events else time.time_ns() // 1000


def _answered(
    runner: DryRun, questions: Sequence[Question], histories: Mapping[str, Sequence[Event]]
) -> Iterator[Answered]:
    from worker.rules.rehearse import in_order

    for question in questions:
        events = histories.get(question.user_id, ())
        if question.event is not None:
            events, _ = in_order([*events, question.event])
        at_us = _newest(events) if question.at_us is None else question.at_us
        found = runner.answers(question.user_id, events, question.keys, at_us=at_us, context=question.context)
        yield from ((question, at_us, answer) for answer in found)


def _row(question: Question, at_us: int, answer: Answer) -> dict[str, Any]:
    from worker.rules.phrases import short_instant

    return {
        "user_id": question.user_id,
        "badge_key": answer.badge.key,
        "at": short_instant(at_us),
        **question.given,
        "context": answer.context,
        "passed": answer.passed,
        "metadata": answer.metadata,
        "explanation": answer.explanation.tree,
    }


def _print(found: Sequence[Answered], *, json: bool, single: bool) -> None:
    if json:
        rows = [_row(*one) for one in found]
        if single:
            click.echo(as_json(rows[0]))
        else:
            emit(rows, [], "json")
    elif single:
        from worker.cli.tree import told

        (question, at_us, answer) = found[0]
        for line in told(answer, user_id=question.user_id, at_us=at_us):
            click.echo(printable(line))
    else:
        emit([_line(*one) for one in found], _COLUMNS, "table")
        earned = sum(answer.passed for _, _, answer in found)
        click.echo(f"{earned:,} of {len(found):,} earned. Nothing was written.")


_COLUMNS: list[Column | str] = [
    Column("verdict"),
    Column("badge_key", "badge", whole=True),
    Column("user_id", whole=True),
    Column("context"),
    Column("why"),
]


def _line(question: Question, _at_us: int, answer: Answer) -> dict[str, Any]:
    return {
        "verdict": "earned" if answer.passed else "not yet",
        "badge_key": answer.badge.key,
        "user_id": question.user_id,
        "context": answer.context,
        "why": answer.explanation.sentence,
    }
