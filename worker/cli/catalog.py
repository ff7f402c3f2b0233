"""`badges catalog`: check a catalog, show what it makes of events, compare it, put it in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from worker.cli.catalog_apply import apply, rollback, versions
from worker.cli.catalog_coverage import coverage
from worker.cli.catalog_diff import diff
from worker.cli.catalog_smoke import smoke
from worker.cli.catalog_translate import translate
from worker.cli.connections import catalog_store
from worker.cli.output import Column, Format, emit, format_option
from worker.errors import OperatorError
from worker.printable import printable

if TYPE_CHECKING:
    from worker.errors import Fault
    from worker.rules.catalog.definitions import Catalog
    from worker.rules.catalog.document import Document
    from worker.rules.catalog.load import Reading

#: How much of a long source line is shown around what is wrong.
_MOST_SOURCE = 110
_COUNTED = (
    ("badges", "badge"),
    ("ladders", "ladder"),
    ("tenures", "tenure"),
    ("milestones", "milestone"),
    ("events", "event type"),
)


@click.group()
def catalog() -> None:
    """Check, compare and apply the catalog of badges: a YAML or JSON file, or a folder of them.

    \b
    Example:
      badges catalog lint catalog/
    """


@catalog.command()
@click.argument("path", type=click.Path())
@click.option("--strict", is_flag=True, help="Let warnings fail as well.")
@click.option(
    "--format",
    type=click.Choice(["table", "json", "github"]),
    default="table",
    show_default=True,
    help="How to print the faults; github annotates a pull request.",
)
@click.option(
    "--against", type=click.Path(), metavar="OLD", help="Warn of badges whose test differs from this catalog's."
)
@click.pass_context
def lint(ctx: click.Context, path: str, strict: bool, format: str, against: str | None) -> None:
    """Report everything that is wrong with a catalog, each fault with its place and what to write instead.

    \b
    Example:
      badges catalog lint catalog/ --strict
    """
    from worker.files import read_sources
    from worker.rules.catalog.load import read

    reading = _held_against(_sound(read(read_sources(path))), against)
    if format == "json":
        emit([_row(fault) for fault in reading.faults], [], "json")
    elif format == "github":
        for fault in reading.faults:
            click.echo(_annotation(fault, reading.document))
    else:
        for fault in reading.faults:
            for line in _shown(fault, reading.document):
                click.echo(line)
        click.echo(_sum(reading))
    errors = sum(fault.severity == "error" for fault in reading.faults)
    if errors or (strict and reading.faults):
        ctx.exit(1)


@catalog.command()
@click.argument("path", type=click.Path(), required=False)
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="A version of the database, not a file.")
@format_option()
def show(path: str | None, version: int | None, format: Format) -> None:
    """List the badges of a catalog: what each takes, which event types make it look. Without a file, the one in force.

    \b
    Example:
      badges catalog show catalog/
    """
    from worker.files import read_sources
    from worker.rules.catalog.load import load_catalog
    from worker.rules.takes import Takes

    if path is not None and version is not None:
        raise click.UsageError("Name a file or a version, not both.")
    found = _stored(version) if path is None else load_catalog(read_sources(path))
    takes = Takes(found)
    rows = [
        {
            "key": badge.key,
            "label": badge.label,
            "takes": takes.of(badge),
            "triggers": sorted(badge.triggers),
            "status": badge.status,
            "family": badge.family,
            "tier": badge.tier,
            "per": badge.per,
            "sort_score": badge.sort_score,
            "kind": badge.kind,
        }
        for badge in found.badges
    ]
    columns: list[Column | str] = [
        Column("key", "badge", whole=True),
        "takes",
        Column("triggers", show=", ".join),
        Column("status"),
    ]
    emit(rows, columns, format)
    if format == "table":
        per_trigger = Counter(name for badge in found.badges for name in badge.triggers)
        click.echo()
        emit(
            [{"trigger": name, "badges": count} for name, count in sorted(per_trigger.items())],
            [Column("trigger", whole=True), "badges"],
            "table",
        )
        click.echo(f"{_counts(found.document)}.")


def _sound(reading: Reading) -> Reading:
    """The reading with what the engine finds in the sources of condition types, where conditions may run."""
    if not reading.document.data.get("condition_types"):
        return reading
    import asyncio
    from dataclasses import replace

    from worker.app import source_faults
    from worker.config import load_settings

    if load_settings().js == "off":
        return reading
    found = [reading.document.placed(fault) for fault in asyncio.run(source_faults(reading.document.data))]
    return replace(reading, faults=[*reading.faults, *found], catalog=None if found else reading.catalog)


def _held_against(reading: Reading, against: str | None) -> Reading:
    """The reading with warnings of what it changes in place, where it is clean. Raises AuthorError for a faulty OLD."""
    if against is None or reading.catalog is None:
        return reading
    from dataclasses import replace

    from worker.files import read_sources
    from worker.rules.catalog.load import load_catalog
    from worker.rules.compare import changed_in_place

    edited = changed_in_place(load_catalog(read_sources(against)), reading.catalog)
    return replace(reading, faults=[*reading.faults, *map(reading.document.placed, edited)])


def _stored(version: int | None) -> Catalog:
    """A version of the database; the one that rules where none is named."""
    import asyncio

    from worker.app import readable
    from worker.config import load_settings

    async def read() -> Catalog:
        async with catalog_store(load_settings(), writes=False) as store:
            found = await (store.catalog_head() if version is None else store.catalog_stored(version))
        if found is None:
            missing = "The database holds no catalog." if version is None else f"There is no version {version}."
            raise OperatorError(missing, help="badges catalog versions lists them; badges catalog apply FILE makes one")
        return await asyncio.to_thread(readable, found)

    return asyncio.run(read())


def _row(fault: Fault) -> dict[str, Any]:
    names = ("code", "path", "message", "file", "line", "column", "severity", "help")
    return {name: getattr(fault, name) for name in names}


def _shown(fault: Fault, document: Document) -> Iterator[str]:
    """One fault as lines: place, code, pointer; the sentence; the source line, underlined; the remedy."""
    place = f"{fault.file}:{fault.line}:{fault.column}  " if fault.file is not None else ""
    color = "red" if fault.severity == "error" else "yellow"
    word = "" if fault.severity == "error" else click.style("warning", fg=color) + " "
    code = click.style(fault.code, fg=color, bold=True)
    yield f"{click.style(printable(place), bold=True)}{word}{code}  {printable(fault.path)}".rstrip()
    yield f"  {printable(fault.message)}"
    if fault.file is not None and fault.line is not None and fault.column is not None:
        text, end = document.line(fault.file, fault.line), document.end(fault)
        first = max(0, fault.column - 1 - _MOST_SOURCE // 2) if len(text) > _MOST_SOURCE else 0
        text = text[first : first + _MOST_SOURCE]
        # Every character takes one column, so that the marks below stand where they belong.
        text = "".join(char if char.isprintable() else " " for char in text)
        number = str(fault.line)
        marks = "^" * max(1, min(end - fault.column, first + len(text) - fault.column + 1))
        yield f"  {click.style(number + ' |', dim=True)} {text.rstrip()}"
        yield f"  {' ' * len(number)} {click.style('|', dim=True)} {' ' * (fault.column - 1 - first)}" + click.style(
            marks, fg=color
        )
    if fault.help:
        yield f"  help: {printable(_remedy(fault.help))}"


def _remedy(text: str) -> str:
    """The remedy as it reads after `help:`: one sentence begins small and ends without a stop."""
    if ". " not in text.rstrip("."):
        text = text.removesuffix(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _annotation(fault: Fault, document: Document) -> str:
    """One workflow command of GitHub Actions."""
    kind = "error" if fault.severity == "error" else "warning"
    parts: dict[str, Any] = {"file": fault.file, "line": fault.line, "col": fault.column, "title": fault.code}
    if fault.column is not None:
        parts["endColumn"] = document.end(fault)
    listed = ",".join(f"{name}={_escaped(str(value), ':,')}" for name, value in parts.items() if value is not None)
    text = fault.message + (f"\nhelp: {fault.help}" if fault.help else "") + (f"\n{fault.path}" if fault.path else "")
    return f"::{kind} {listed}::{_escaped(text)}"


def _escaped(text: str, also: str = "") -> str:
    return "".join(f"%{ord(char):02X}" if char in "%\r\n" + also else printable(char) for char in text)


def _sum(reading: Reading) -> str:
    """The last line: how many faults in how much, and what that means."""
    errors = sum(fault.severity == "error" for fault in reading.faults)
    warned = len(reading.faults) - errors
    said = " and ".join(
        text for count, text in ((errors, _plural(errors, "fault")), (warned, _plural(warned, "warning"))) if count
    )
    data = reading.document.data
    within = f" in {_counts(data)}" if data or not errors else ""
    if errors:
        return f"{said}{within}. A worker would refuse to start."
    return f"{said or 'No fault'}{within}."


def _counts(data: Mapping[str, Any]) -> str:
    found = [(len(data.get(section) or ()), word) for section, word in _COUNTED if _sized(data.get(section))]
    return ", ".join(_plural(count, word) for count, word in found if count) or "an empty catalog"


def _sized(section: Any) -> bool:
    return isinstance(section, list | dict)


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


for command in (diff, apply, versions, rollback, translate, smoke, coverage):
    catalog.add_command(command)
