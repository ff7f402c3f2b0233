"""Lists as CSV for spreadsheets, in which nothing can act as a formula."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import chain
from typing import Final

from starlette.responses import Response

from worker.admin.limits import Crowd

#: Files that are being made: each may have 50,000 lines, all of them in memory.
EXPORTS: Final = Crowd("exports", most=4, each=2)
#: What a spreadsheet takes as the beginning of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


async def csv_answer(
    name: str, columns: Sequence[str], lines: Iterable[Sequence[object]], *, cut: str = ""
) -> Response:
    """A file to save: every cell quoted, UTF-8, instants in UTC. Written beside the loop: it may take half a second.

    `cut` says in a last line what is left out.
    """
    whole = chain(lines, [(cut,)] if cut else ())
    return Response(
        await asyncio.to_thread(as_csv, columns, whole),
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
