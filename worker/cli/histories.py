"""Events for commands that play them, from a file or the log: in order, each once, what is wrong said on the way."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import click

from worker.errors import OperatorError
from worker.events import Dictionary, Event, decode_line
from worker.files import open_lines
from worker.printable import printable
from worker.rules.catalog.definitions import Condition
from worker.rules.phrases import plural
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


def by_user(events: Sequence[Event]) -> Mapping[str, Sequence[Event]]:
    """The events of each user, in the order given."""
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.user_id].append(event)
    return found


def asked(conditions: Mapping[str, Sequence[Condition]], events: Sequence[Event]) -> list[Event]:
    """The events with what conditions in JavaScript say of them; faults are warnings. Refused where none may run."""
    from worker.app import judged
    from worker.config import load_settings

    faults: Counter[tuple[str, str]] = Counter()
    parked: dict[str, int] = {}

    def tell(name: str, message: str, lately: int) -> None:
        faults[name, message] += 1
        if lately:
            parked[name] = lately

    found = judged(conditions, events, load_settings(), tell=tell)
    warnings = Warnings()
    for (name, message), count in faults.items():
        warnings.say(f"the condition {name} gave no answer to {plural(count, 'event')}: {message}")
    for name, count in parked.items():
        warnings.say(f"the condition {name} is parked after {plural(count, 'fault')}: it is asked about no later event")
    warnings.close()
    return found


def logged(users: Collection[str]) -> Mapping[str, Sequence[Event]]:
    """What the database's log holds of these users, in order. Nobody is locked, nothing is written."""
    from worker.config import load_settings
    from worker.store.histories import HistoryTable
    from worker.store.pool import close_pool, create_pool

    async def read() -> dict[str, Sequence[Event]]:
        pool = await create_pool(load_settings().dsn, application_name="badges-dry-run", max_size=1)
        try:
            table = HistoryTable(pool)
            return {user_id: await table.history(user_id) for user_id in users}
        finally:
            await close_pool(pool)

    return asyncio.run(read())
