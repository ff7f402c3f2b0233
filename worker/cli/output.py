"""What commands print: rows as a table, one JSON array or JSON lines; figures and times as people read them."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar

import click

from worker.printable import printable

Format = Literal["table", "json", "jsonl"]
_Command = TypeVar("_Command", bound=Callable[..., Any])

#: A table on a terminal is never wider than this, nor a shortened column narrower than that.
MOST_WIDTH = 110
_LEAST_COLUMN = 12
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the row's key it shows, and its title where that is not the key.

    A column with `whole` (keys, ids, times) is never shortened or left out, and its numbers are not grouped. `show`
    says how the table writes a value where `cell` does not suit.
    """

    name: str
    title: str | None = None
    whole: bool = False
    show: Callable[[Any], str] | None = None


def format_option(*formats: str) -> Callable[[_Command], _Command]:
    """The option `--format`, handed on as `format`: table (the default), json, jsonl, or those named."""
    choices = formats or ("table", "json", "jsonl")
    return click.option(
        "--format", type=click.Choice(choices), default=choices[0], show_default=True, help="How to print the result."
    )


def emit(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column | str], format: Format) -> None:
    """Print rows on standard output: `columns` of them as a table, all of them as JSON.

    JSON lines are written as they come. On a terminal a table is cut to its width; piped, nothing is.
    """
    if format == "table":
        width = min(shutil.get_terminal_size().columns, MOST_WIDTH) if sys.stdout.isatty() else None
        for line in table(rows, columns, width=width):
            click.echo(line)
    elif format == "jsonl":
        for row in rows:
            click.echo(as_json(row))
    else:
        opening = "["
        for row in rows:
            click.echo(f"{opening}{as_json(row)}", nl=False)
            opening = ",\n "
        click.echo("]" if opening != "[" else "[]")


def notice(text: str) -> None:
    """Say something beside the result: on standard error, where no program reads it."""
    click.echo(printable(text, keep="\n"), err=True)


def verdict(word: str) -> str:
    """A word of judgement in its colour, which only repeats it (`ok`, `warn`, `FAIL`, `skip` …)."""
    colors = {"ok": "green", "warn": "yellow", "warning": "yellow", "FAIL": "red", "error": "red"}
    return click.style(word, fg=colors.get(word), dim=word == "skip" or None, bold=word in {"FAIL", "error"} or None)


def as_json(value: object) -> str:
    """JSON text: Decimals as the numbers they are, times as RFC 3339."""
    import msgspec

    return msgspec.json.Encoder(enc_hook=_plain, decimal_format="number").encode(value).decode()


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column | str], *, width: int | None) -> list[str]:
    """Aligned lines with a head; nothing where there are no rows. Numbers stand right.

    Where `width` is too small, columns are shortened (and, once too narrow to say anything, left out), the last first.
    """
    kept = [Column(column) if isinstance(column, str) else column for column in columns]
    found = list(rows)
    if not found:
        return []
    cells = [[_shown(row.get(column.name), column) for column in kept] for row in found]
    right = [
        all(isinstance(row.get(column.name), (int, float, Decimal, type(None))) for row in found)
        and not all(row.get(column.name) is None for row in found)
        for column in kept
    ]
    heads = [column.title if column.title is not None else column.name for column in kept]
    lines = [heads, *cells]
    widths = _fitted([max(map(_width, texts)) for texts in zip(*lines, strict=True)], kept, width)
    return [
        _GAP.join(
            _set(text, room, right=stands_right)
            for text, room, stands_right in zip(line, widths, right, strict=True)
            if room
        ).rstrip()
        for line in lines
    ]


def cell(value: object, *, whole: bool = False) -> str:
    """A value as a table shows it: `1,269`, `2017-12-06 02:56:18Z`, nothing for None; it never breaks the line."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value) if whole else f"{value:,}"
        case datetime():
            return moment(value)
        case Mapping() | list() | tuple():
            return printable(as_json(value))
        case _:
            return printable(str(value))


def moment(at: datetime) -> str:
    """An aware time to the second, in UTC: `2017-12-06 02:56:18Z`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def span(seconds: float) -> str:
    """A length of time with two units at most: `0.4 s`, `41 s`, `4 min 10 s`, `2 h 5 min`, `9 d 3 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, below, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            left = whole % size // below
            return f"{whole // size:,} {name}" + (f" {left} {rest}" if left else "")
    return f"{whole} s"


def _shown(value: object, column: Column) -> str:
    return printable(column.show(value)) if column.show is not None else cell(value, whole=column.whole)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _fitted(widths: list[int], columns: Sequence[Column], limit: int | None) -> list[int]:
    if limit is None:
        return widths
    for index in reversed(range(len(widths))):
        shown = [width for width in widths if width]
        excess = sum(shown) + len(_GAP) * (len(shown) - 1) - limit
        if excess <= 0:
            break
        if columns[index].whole:
            continue
        left = widths[index] - excess
        widths[index] = left if left >= _LEAST_COLUMN else 0
    return widths


def _set(text: str, room: int, *, right: bool) -> str:
    wide = _width(text)
    if wide > room:
        while text and _width(text) > room - 1:
            text = text[:-1]
        text, wide = f"{text}…", _width(text) + 1
    padding = " " * (room - wide)
    return padding + text if right else text + padding


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
