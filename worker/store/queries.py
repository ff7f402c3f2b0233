"""The store's statements: `sql/queries*.sql`, one file a subject, read once, each statement under its name."""

from __future__ import annotations

import re
from typing import Final

from worker.resources import resource

_NAME = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Name to statement. Each begins with `-- name: x`; the comment lines after it describe it and must be there."""
    queries: dict[str, str] = {}
    pieces = _NAME.split(text)
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if name in queries or not body.startswith("-- "):
            raise ValueError(f"sql/queries*.sql: {name} has no description or stands there twice")
        lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
        queries[name] = "\n".join(lines).rstrip(";")
    return queries


def _texts() -> list[str]:
    files = (file for file in resource("sql").iterdir() if file.name.startswith("queries"))
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name)]


QUERIES: Final = parse("\n".join(_texts()))
