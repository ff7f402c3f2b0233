"""Where things stand in a text: spans of keys and values as a tree, lines and columns of a span."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

#: From and to, as character offsets; `to` is just past the end.
Span = tuple[int, int]

#: How deep maps and lists may lie in each other.
MAX_DEPTH = 64

#: How many values a source may have, those behind aliases counted each time they appear.
MAX_VALUES = 8_000_000

#: What is said of a number that `exact` does not take.
NUMBER_RULE = "A number has at most 38 digits and an exponent up to 308."


def exact(text: str) -> Decimal | None:
    """The number that a JSON or YAML numeral names; None beyond 38 digits or an exponent of 308."""
    digits = len(text.lower().partition("e")[0].replace(".", "").lstrip("-0"))
    if digits > 38 or len(text) > 400:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond even those of Decimal
        return None
    return number if abs(number.adjusted()) <= 308 else None


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


class Lines:
    """Lines and columns of one text; finding a place costs a bisection, however long the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, span: Span) -> Place:
        """Line and columns of a span; what goes on past the line's end is cut there."""
        start, end = span
        line = bisect_right(self._starts, start)
        shown = self._text[start : min(end, self._end(line))].rstrip()
        column = start - self._starts[line - 1] + 1
        return Place(line, column, column + max(1, len(shown)))

    def text(self, line: int) -> str:
        """A line, 1-based, without its end."""
        return self._text[self._starts[line - 1] : self._end(line)] if 0 < line <= len(self._starts) else ""

    def _end(self, line: int) -> int:
        end = self._starts[line] - 1 if line < len(self._starts) else len(self._text)
        return end - 1 if self._text[end - 1 : end] == "\r" else end


def place_at(text: str, span: Span) -> Place:
    """One place of a text."""
    return Lines(text).place(span)
