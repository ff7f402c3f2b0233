"""The options of what people decide about other people's awards: why, and who."""

from __future__ import annotations

import getpass

import click

from worker.control import ACTOR_CHARACTERS, NOTE_CHARACTERS


def _note(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.strip() or len(value) > NOTE_CHARACTERS or not value.isprintable():
        raise click.BadParameter(f"one line of 1 to {NOTE_CHARACTERS:,} characters is taken.")
    return value


def _actor(_: click.Context, __: click.Parameter, value: str | None) -> str:
    if value is None:
        try:
            value = getpass.getuser()
        except (KeyError, OSError):
            raise click.BadParameter("this machine does not say who you are: name yourself.") from None
    if not value.strip() or len(value) > ACTOR_CHARACTERS or not value.isprintable():
        raise click.BadParameter(f"one line of 1 to {ACTOR_CHARACTERS} characters is taken.")
    return value


def whoever() -> str:
    """Who runs a command, for the log of changes."""
    try:
        return f"{getpass.getuser()} (command)"
    except (KeyError, OSError):
        return "command"


note_option = click.option("--note", metavar="TEXT", required=True, callback=_note, help="Why; kept with the award.")
actor_option = click.option(
    "--actor", metavar="NAME", callback=_actor, help="Who decides it. Default: the user of the machine."
)
