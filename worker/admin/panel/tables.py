"""Lists as CSV for spreadsheets, in which nothing can act as a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Final

from starlette.responses import Response

#: What a spreadsheet takes as the beginning of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_answer(name: str, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> Response:
    """A file to save: every cell quoted, UTF-8, instants in UTC."""
    return Response(
        as_csv(columns, lines),
        media_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


def as_csv(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """The text of a CSV by RFC 4180; a cell that a spreadsheet would compute begins with an apostrophe."""
    text = StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    for line in lines:
        writer.writerow([guarded(cell) for cell in line])
    return text.getvalue()


def guarded(cell: object) -> str:
    """A cell's text; with an apostrophe before it where it would be a formula. Numbers stay numbers."""
    if isinstance(cell, int | float):
        return str(cell)
    text = str(cell).replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA) else text
