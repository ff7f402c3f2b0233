"""JSON as a catalog's source: data fast, and the place of every key and value when a fault must be shown."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from worker.rules.catalog.places import MAX_DEPTH, MAX_VALUES, NUMBER_RULE, Lines, Problem, Spot, exact

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r"[-+.0-9A-Za-z]+")


def looks_like(text: str) -> bool:
    """True where a text without a telling name is JSON: it begins as an object and can be read as one."""
    if not text.lstrip("﻿ \t\r\n").startswith("{"):
        return False
    try:
        json.loads(text.removeprefix("﻿"))
    except (ValueError, RecursionError):
        return False
    return True


def read(text: str) -> tuple[Any, list[Problem]]:
    """The data of a JSON text and what is wrong with it; after a syntax fault there is no data."""
    body = text.removeprefix("﻿")
    repeated = False
    values = 0

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated, values
        found = dict(items)
        repeated = repeated or len(found) != len(items)
        values += len(items)
        return found

    try:
        data = json.loads(
            body, object_pairs_hook=pairs, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        return None, [Problem("invalid_syntax", f"This is no JSON: {error.msg}.", error.lineno, error.colno)]
    except RecursionError:
        return None, [Problem("invalid_syntax", f"Objects and arrays lie more than {MAX_DEPTH} deep.", 1, 1)]
    except ValueError as error:
        return None, [Problem("invalid_syntax", str(error), 1, 1)]
    problem = _bounds(data, check_text="\\u" in body)
    if problem or values > MAX_VALUES:
        return None, [Problem("invalid_syntax", problem or f"The source holds more than {MAX_VALUES:,} values.", 1, 1)]
    return data, _repeated_keys(text) if repeated else []


def spots(text: str) -> Spot | None:
    """Where each key and value stands, in a text that `read` took; None when it cannot be read."""
    try:
        return _Scanner(text).value(_skip(text, len(text) - len(text.removeprefix("﻿"))), ())[0]
    except (ValueError, IndexError, RecursionError):
        return None


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > 38:
        raise ValueError(NUMBER_RULE)
    return int(text)


def _decimal(text: str) -> Decimal:
    number = exact(text)
    if number is None:
        raise ValueError(NUMBER_RULE)
    return number


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number.")


def _bounds(data: Any, *, check_text: bool) -> str | None:
    """Too deep, or (where escapes make it possible) a NUL or half a surrogate pair in a text."""
    level = [data]
    depth = 0
    while level:
        if depth > MAX_DEPTH:
            return f"Objects and arrays lie more than {MAX_DEPTH} deep."
        below: list[Any] = []
        for item in level:
            if item.__class__ is dict:
                below += item.values()
                if check_text and not all(_storable(key) for key in item):
                    return "A key holds a NUL character or half a surrogate pair."
            elif item.__class__ is list:
                below += item
            elif check_text and item.__class__ is str and not _storable(item):
                return "A text holds a NUL character or half a surrogate pair."
        level = below
        depth += 1
    return None


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _repeated_keys(text: str) -> list[Problem]:
    scanner = _Scanner(text)
    scanner.value(_skip(text, len(text) - len(text.removeprefix("﻿"))), ())
    return scanner.repeated


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


#: As many repeated keys of one text are told of: who has more made one mistake, not many.
MOST_REPEATED = 1_000


class _Scanner:
    """Walks JSON that is known to be well-formed and shallow, noting spans and repeated keys."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.repeated: list[Problem] = []
        self._lines: Lines | None = None

    def value(self, at: int, tokens: tuple[str, ...]) -> tuple[Spot, int]:
        """The spot of the value that begins at an offset, and the offset after it."""
        first = self._text[at]
        if first == "{" or first == "[":
            return self._container(at, tokens, is_map=first == "{")
        if first == '"':
            end = scanstring(self._text, at + 1, False)[1]  # noqa: FBT003 - a positional-only C function
        else:
            match = _PLAIN.match(self._text, at)
            if match is None:
                raise ValueError("no JSON value")
            end = match.end()
        return Spot((at, end)), end

    def _container(self, start: int, tokens: tuple[str, ...], *, is_map: bool) -> tuple[Spot, int]:
        text = self._text
        children: dict[str, Spot] = {}
        at = _skip(text, start + 1)
        while text[at] not in "}]":
            key, span = str(len(children)), None
            if is_map:
                key, end = scanstring(text, at + 1, False)  # noqa: FBT003
                span = (at, end)
                if key in children:
                    self._repeat(key, at, tokens)
                at = _skip(text, _skip(text, end) + 1)
            child, at = self.value(at, (*tokens, key))
            child.key = span
            children[key] = child
            at = _skip(text, at)
            if text[at] == ",":
                at = _skip(text, at + 1)
        return Spot((start, at + 1), None, children), at + 1

    def _repeat(self, key: str, at: int, tokens: tuple[str, ...]) -> None:
        if len(self.repeated) >= MOST_REPEATED:
            return
        if self._lines is None:
            self._lines = Lines(self._text)
        place = self._lines.place((at, at))
        self.repeated.append(
            Problem(
                "duplicate_key", f'"{key}" stands here twice.', place.line, place.column, (*tokens, key),
                "keep one of the two",
            )
        )  # fmt: skip
