"""Events from a file for commands that play them: read, sorted, repeats dropped, and what is wrong said on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from worker.errors import OperatorError
from worker.events import Dictionary, Event, decode_line
from worker.files import open_lines
from worker.printable import printable
from worker.rules.rehearse import in_order

#: After so many warnings the rest is only counted.
MOST_WARNINGS = 100


class Warnings:
    """Warnings on standard error, counted; after the first hundred only counted."""

    def __init__(self) -> None:
        self.count = 0

    def say(self, text: str) -> None:
        """One more."""
        self.count += 1
        if self.count <= MOST_WARNINGS:
            click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {printable(text)}", err=True)

    def close(self) -> None:
        """Say how many were left out."""
        if self.count > MOST_WARNINGS:
            click.echo(f"{self.count - MOST_WARNINGS:,} more warnings like these.", err=True)


def read_events(path: str | Path, dictionary: Dictionary) -> list[Event]:
    """The events of a file in order, each once.

    Lines that hold no event are skipped with a warning that names line and code; so is the second of two events that
    share an identity but not the content. Raises OperatorError where no line can be read.
    """
    warnings = Warnings()
    lines: dict[int, int] = {}
    read = list(_read(path, dictionary, warnings, lines))
    if not read and warnings.count:
        warnings.close()
        raise OperatorError(
            f"None of the {warnings.count:,} lines of {path} can be read as an event.",
            help="write one JSON object a line: id, type, user_id, occurred_at, payload",
        )
    events, clashes = in_order(read)
    for kept, dropped in clashes:
        where = f"{path}:{lines[id(dropped)]}"
        warnings.say(
            f"{where} id_conflict: the event {dropped.id} of {dropped.user_id} was read with another content "
            f"on line {lines[id(kept)]}; this one is left out"
        )
    warnings.close()
    return events


def _read(path: str | Path, dictionary: Dictionary, warnings: Warnings, lines: dict[int, int]) -> Iterator[Event]:
    for number, line in enumerate(open_lines(path), start=1):
        if not line.strip():
            continue
        found = decode_line(line, dictionary, number=number)
        if isinstance(found, Event):
            lines[id(found)] = number
            yield found
        else:
            place = f" {found.path}" if found.path else ""
            warnings.say(f"{path}:{number} {found.code}{place}: {found.message}")
