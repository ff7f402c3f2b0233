"""YAML as JSON data: scalars as JSON has them, no tags, no repeated keys, aliases counted where they are used.

Dates, times, `yes`, `no` and `0x10` are strings; only what JSON calls a number is one (and `~` or nothing is null).
The C parser's events are composed here, since PyYAML's own composer neither refuses repeated keys nor bounds aliases.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import yaml
from yaml import events
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from worker.rules.catalog.places import MAX_DEPTH, MAX_VALUES, NUMBER_RULE, Problem, Spot, exact, place_at

_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBER_STARTS = frozenset("-0123456789")


class _Refused(Exception):
    """Carries the problem out of the loop over events."""

    def __init__(self, message: str, mark: Any, *, help: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem("invalid_syntax", message, mark.line + 1, mark.column + 1, help=help)


def read(text: str) -> tuple[Any, list[Problem]]:
    """The data of a YAML text and what is wrong with it; after a syntax fault there is no data."""
    problems: list[Problem] = []
    try:
        return _Composer(text, problems).compose(), problems
    except _Refused as refused:
        return None, [*problems, refused.problem]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = " ".join(part for part in (error.problem, error.context) if part)
        return None, [*problems, Problem("invalid_syntax", f"This is no YAML: {said}.", line, column, help=_hint(said))]
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        at = getattr(error, "position", None) or getattr(error, "start", 0) or 0
        place = place_at(text, (at, at))
        message = "There is a character here that YAML does not allow."
        return None, [*problems, Problem("invalid_syntax", message, place.line, place.column, help="delete it")]


def spots(text: str) -> Spot | None:
    """Where each key and value stands; None when the text cannot be read."""
    try:
        return _SpotComposer(text).compose()
    except (_Refused, yaml.YAMLError, UnicodeEncodeError):
        return None


def scalar(event: Any) -> Any:
    """The JSON value of a scalar event; a quoted or a block scalar is always a string."""
    value = event.value
    if not event.implicit[0]:
        return value
    if value in _WORDS:
        return _WORDS[value]
    if value[0] in _NUMBER_STARTS:
        match = _NUMBER.fullmatch(value)
        if match is not None:
            return _number(value, event, whole=match[1] is None and match[2] is None)
    return value


def _number(value: str, event: Any, *, whole: bool) -> int | Decimal:
    if whole and len(value) <= 15:
        return int(value)
    number = exact(value)
    if number is None:
        raise _Refused(NUMBER_RULE, event.start_mark)
    return int(value) if whole else number


class _Composer:
    """Events to data, on a stack of its own, so that depth is a limit and never a crash."""

    def __init__(self, text: str, problems: list[Problem]) -> None:
        self._next = CParser(text.removeprefix("﻿")).get_event
        self._problems = problems
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        # One open container each: itself, its anchor, the values counted before it, and a map's pending key.
        self._stack: list[list[Any]] = []

    def compose(self) -> Any:
        """The one document of the text, None when there is none."""
        result: Any = None
        documents = 0
        while True:
            event: Any = self._next()
            kind = event.__class__
            if kind is events.ScalarEvent:
                if event.tag is not None and event.tag != "!":
                    raise _tag(event)
                value = self._key_or_value(event)
                if value is _KEY:
                    continue
                self._count(event)
                if event.anchor is not None:
                    self._anchors[event.anchor] = (value, 1)
            elif kind is events.MappingStartEvent or kind is events.SequenceStartEvent:
                self._open(event, {} if kind is events.MappingStartEvent else [])
                continue
            elif kind is events.MappingEndEvent or kind is events.SequenceEndEvent:
                value = self._close()
            elif kind is events.AliasEvent:
                value = self._alias(event)
            elif kind is events.StreamEndEvent:
                return result
            else:
                documents += kind is events.DocumentStartEvent
                if documents > 1:
                    raise _Refused(
                        "A source holds one document; a second one begins here.", event.start_mark,
                        help="delete the `---`, or put the second document into a file of its own",
                    )  # fmt: skip
                continue
            if not self._stack:
                result = value
                continue
            frame = self._stack[-1]
            if frame[3] is None:
                frame[0].append(value)
            else:
                frame[0][frame[3]] = value
                frame[3] = _KEY

    def _key_or_value(self, event: Any) -> Any:
        """Takes a scalar as the pending key where one is due; else gives its value."""
        if self._stack and self._stack[-1][3] is _KEY:
            frame = self._stack[-1]
            key = event.value
            if key in frame[0]:
                self._problems.append(
                    Problem(
                        "duplicate_key", f'"{key}" stands here twice.', event.start_mark.line + 1,
                        event.start_mark.column + 1, (*self._tokens(), key), "keep one of the two",
                    )
                )  # fmt: skip
            if "\0" in key:
                raise _nul(event)
            frame[3] = key
            return _KEY
        value = scalar(event)
        if value.__class__ is str and event.style == '"' and "\0" in value:
            raise _nul(event)
        return value

    def _open(self, event: Any, container: Any) -> None:
        if event.tag is not None and event.tag != "!":
            raise _tag(event)
        if self._stack and self._stack[-1][3] is _KEY:
            raise _Refused("A key is a word, not a map or a list.", event.start_mark)
        if len(self._stack) >= MAX_DEPTH:
            raise _Refused(f"Maps and lists lie more than {MAX_DEPTH} deep here.", event.start_mark)
        self._count(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (None, -1)
        self._stack.append([container, event.anchor, self._values, None if container.__class__ is list else _KEY])

    def _close(self) -> Any:
        container, anchor, before, _ = self._stack.pop()
        if anchor is not None:
            self._anchors[anchor] = (container, self._values - before + 1)
        return container

    def _alias(self, event: Any) -> Any:
        if self._stack and self._stack[-1][3] is _KEY:
            raise _Refused("A key is a word, not an alias.", event.start_mark, help="write the key out")
        value, size = self._anchors.get(event.anchor, (None, 0))
        if size <= 0:
            when = "inside itself" if size < 0 else f"before &{event.anchor} is set"
            raise _Refused(f"*{event.anchor} is used {when}.", event.start_mark)
        self._count(event, size)
        return value

    def _count(self, event: Any, size: int = 1) -> None:
        self._values += size
        if self._values > MAX_VALUES:
            raise _Refused(f"The source holds more than {MAX_VALUES:,} values.", event.start_mark)

    def _tokens(self) -> tuple[str, ...]:
        """The pointer to the innermost open container."""
        parts = []
        for container, _, _, key in self._stack[:-1]:
            parts.append(str(len(container)) if key is None else key)
        return tuple(parts)


#: Stands where a map's key is due, and for "that was a key".
_KEY = object()


class _SpotComposer:
    """Events to spots. Only run when a fault must be shown, over a text that was read before."""

    def __init__(self, text: str) -> None:
        bom = len(text) - len(text.removeprefix("﻿"))
        self._next: Any = CParser(text.removeprefix("﻿")).get_event
        self._shift = bom
        self._anchors: dict[str, Spot] = {}

    def compose(self) -> Spot | None:
        stack: list[tuple[Spot, bool]] = []
        keys: list[tuple[str, tuple[int, int]] | None] = []
        root: Spot | None = None
        while not isinstance(event := self._next(), events.StreamEndEvent):
            span = (event.start_mark.index + self._shift, event.end_mark.index + self._shift)
            if isinstance(event, events.ScalarEvent | events.AliasEvent):
                if stack and stack[-1][1] and keys[-1] is None:
                    keys[-1] = (getattr(event, "value", ""), span)
                    continue
                spot = Spot(span)
                if isinstance(event, events.AliasEvent):
                    named = self._anchors.get(str(event.anchor))  # None: the very fault that is to be shown
                    spot.children = named.children if named is not None else None
            elif isinstance(event, events.MappingStartEvent | events.SequenceStartEvent):
                spot = Spot(span, children={})
                stack.append((spot, isinstance(event, events.MappingStartEvent)))
                keys.append(None)
                if event.anchor:
                    self._anchors[event.anchor] = spot
                continue
            elif isinstance(event, events.MappingEndEvent | events.SequenceEndEvent):
                spot = stack.pop()[0]
                keys.pop()
                spot.span = (spot.span[0], span[1])
            else:
                continue
            if isinstance(event, events.ScalarEvent) and event.anchor:
                self._anchors[event.anchor] = spot
            if not stack:
                root = spot
                continue
            children = stack[-1][0].children or {}
            stack[-1][0].children = children
            if not stack[-1][1]:
                children[str(len(children))] = spot
            elif (key := keys[-1]) is not None:
                spot.key = key[1]
                children[key[0]] = spot
                keys[-1] = None
        return root


def _tag(event: Any) -> _Refused:
    return _Refused(f"The tag {event.tag} has no meaning in a catalog.", event.start_mark, help="delete the tag")


def _nul(event: Any) -> _Refused:
    return _Refused("A text holds no NUL character.", event.start_mark, help="delete the \\0")


def _hint(said: str) -> str | None:
    """A remedy for the two mistakes people make most."""
    if "cannot start any token" in said:
        return "indent with spaces; put a text that begins with % @ ` or a tab in quotes"
    if "mapping values are not allowed" in said:
        return "put a text that holds a colon in quotes"
    return None
