"""The store's statements: `sql/queries.sql`, read once, each under its name."""

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
            raise ValueError(f"queries.sql: {name} has no description or stands there twice")
        lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
        queries[name] = "\n".join(lines).rstrip(";")
    return queries


QUERIES: Final = parse(resource("sql").joinpath("queries.sql").read_text("utf-8"))
