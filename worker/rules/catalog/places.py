"""Where things stand in a text: spans of keys and values as a tree, lines and columns of a span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: From and to, as character offsets; `to` is just past the end.
Span = tuple[int, int]

#: How deep maps and lists may lie in each other.
MAX_DEPTH = 64

#: How many values a source may have, those behind aliases counted each time they appear.
MAX_VALUES = 8_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """A place for people, 1-based; `end` is the column just past what is meant, on the same line."""

    line: int
    column: int
    end: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What a reader found wrong in one text."""

    code: str
    message: str
    line: int
    column: int
    tokens: tuple[str, ...] = ()
    help: str | None = None


@dataclass(slots=True)
class Spot:
    """The span of one value, of its key where it has one, and of what lies in it."""

    span: Span
    key: Span | None = None
    children: dict[str, Spot] | None = None

    def descend(self, tokens: Sequence[str]) -> tuple[Spot, int]:
        """Follows a pointer's tokens as far as they lead; gives the spot and how many tokens led there."""
        spot = self
        for used, token in enumerate(tokens):
            below = spot.children.get(token) if spot.children is not None else None
            if below is None:
                return spot, used
            spot = below
        return spot, len(tokens)


def place_at(text: str, span: Span) -> Place:
    """Line and columns of a span; what goes on past the line's end is cut there."""
    start, end = span
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    if line_end < 0:
        line_end = len(text)
    shown = text[start : min(end, line_end)].rstrip()
    column = start - line_start + 1
    return Place(text.count("\n", 0, start) + 1, column, column + max(1, len(shown)))
