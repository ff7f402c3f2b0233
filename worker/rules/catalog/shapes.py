"""The small vocabulary in which the catalog's format is written down: what may stand where, checked and as JSON Schema.

One table (`sections`) serves both the check that reports every fault and the schema that editors complete from, so the
two cannot drift apart.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from worker.errors import Fault
from worker.rules.catalog.document import escape
from worker.rules.catalog.nearest import nearest
from worker.rules.operators.place import described, shown


class Shape(ABC):
    """What a value may be."""

    @abstractmethod
    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        """Adds a fault for everything about the value that is not as it may be."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema (draft 2020-12), as far as JSON Schema can say it."""


def bad(faults: list[Fault], path: str, message: str, help: str, code: str = "bad_operand") -> None:
    """Adds one fault."""
    faults.append(Fault(code, path, message, help))


@dataclass(frozen=True, slots=True)
class Text(Shape):
    """A string. `example` shows a right one; `pattern` must match the whole."""

    example: str
    longest: int = 200
    pattern: re.Pattern[str] | None = None
    rule: str = ""
    code: str = "bad_operand"
    empty: bool = False

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        if not isinstance(value, str):
            remedy = f'Write "{value}" in quotes.' if isinstance(value, int | Decimal) and value is not True else None
            message = f"A text must stand here, not {described(value)}."
            bad(faults, path, message, remedy or f'Write "{self.example}", for example.')
        elif len(value) > self.longest:
            bad(faults, path, f"This text is longer than {self.longest:,} characters.", "Shorten it.", self.code)
        elif self.pattern is not None and self.pattern.fullmatch(value) is None:
            bad(faults, path, f"{shown(value)} {self.rule}", f'Write "{self.example}", for example.', self.code)
        elif not value and not self.empty:
            bad(faults, path, "A text must stand here, not an empty one.", f'Write "{self.example}", for example.')

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "string", "maxLength": self.longest, "examples": [self.example]}
        if not self.empty:
            found["minLength"] = 1
        if self.pattern is not None:
            found["pattern"] = f"^(?:{self.pattern.pattern})$"
        return found


@dataclass(frozen=True, slots=True)
class Whole(Shape):
    """A whole number between two bounds, both allowed."""

    low: int
    high: int

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        whole = isinstance(value, int | Decimal) and not isinstance(value, bool) and value == int(value)
        if not whole or not self.low <= value <= self.high:
            bad(
                faults, path, f"{described(value).capitalize()} is not taken here.",
                f"Write a whole number from {self.low:,} to {self.high:,}.",
            )  # fmt: skip

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Flag(Shape):
    """True or false."""

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        if not isinstance(value, bool):
            bad(faults, path, f"True or false must stand here, not {described(value)}.", "Write true or false.")

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice(Shape):
    """One of a few words."""

    words: tuple[str, ...]

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        if not isinstance(value, str) or value not in self.words:
            close = nearest(value, self.words) if isinstance(value, str) else None
            bad(
                faults, path, f"{_said(value)} is none of {', '.join(self.words)}.",
                f'Write "{close}".' if close else f"Write one of {', '.join(self.words)}.",
            )  # fmt: skip

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Anything(Shape):
    """Whatever JSON can say; looked at elsewhere."""

    described_by: Mapping[str, Any] = field(default_factory=dict)

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:  # noqa: ARG002 - nothing is looked at
        return

    def schema(self) -> dict[str, Any]:
        return dict(self.described_by)


@dataclass(frozen=True, slots=True)
class Items(Shape):
    """A list of one kind of thing. An absent value (null) is an empty list where `nothing` says so."""

    of: Shape
    most: int
    nothing: bool = False
    example: str = "[…]"

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        if value is None and self.nothing:
            return
        if not isinstance(value, list):
            bad(faults, path, f"A list must stand here, not {described(value)}.", f"Write {self.example}.")
        elif len(value) > self.most:
            bad(faults, path, f"This list has more than {self.most:,} entries.", "Shorten it.")
        else:
            check = self.of.check
            for index, item in enumerate(value):
                check(item, f"{path}/{index}", faults)

    def schema(self) -> dict[str, Any]:
        kind: Any = ["array", "null"] if self.nothing else "array"
        return {"type": kind, "items": self.of.schema(), "maxItems": self.most}


@dataclass(frozen=True, slots=True)
class Named(Shape):
    """A map from names to one kind of thing."""

    of: Shape
    name: re.Pattern[str]
    rule: str
    nothing: bool = False
    example: str = "a map of names"
    most: int = 100_000

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        if value is None and self.nothing:
            return
        if not isinstance(value, dict):
            bad(faults, path, f"A map must stand here, not {described(value)}.", f"Write {self.example}.")
            return
        if len(value) > self.most:
            bad(faults, path, f"This map has more than {self.most:,} names.", "Shorten it.")
            return
        for name, item in value.items():
            here = f"{path}/{escape(name)}"
            if self.name.fullmatch(name) is None:
                bad(faults, here, f"{shown(name)} {self.rule}", f"Write {self.example}.", "invalid_key")
            self.of.check(item, here, faults)

    def schema(self) -> dict[str, Any]:
        kind: Any = ["object", "null"] if self.nothing else "object"
        return {
            "type": kind,
            "propertyNames": {"pattern": f"^(?:{self.name.pattern})$"},
            "additionalProperties": self.of.schema(),
        }


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record: what it holds, what it means to an author, whether it must be there."""

    shape: Shape
    meaning: str
    required: bool = False


def need(shape: Shape, meaning: str) -> Key:
    """A key that must be there."""
    return Key(shape, meaning, required=True)


@dataclass(frozen=True, slots=True)
class Record(Shape):
    """A map with known keys. `open` lets others stand; `nothing` takes null for an empty one."""

    noun: str
    keys: Mapping[str, Key]
    open: bool = False
    nothing: bool = False
    required: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Name the keys that must be there, once for all the values that are checked."""
        object.__setattr__(self, "required", tuple(name for name, key in self.keys.items() if key.required))

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        if value is None and self.nothing:
            return
        if not isinstance(value, dict):
            bad(faults, path, f"{self.noun} is a map of keys, not {described(value)}.", f"Write {self._example()}.")
            return
        meant = set()
        for name, item in value.items():
            key = self.keys.get(name)
            if key is not None:
                key.shape.check(item, f"{path}/{name}", faults)
            elif not self.open:
                meant.add(unknown_key(self.noun, name, self.keys, path, faults))
        for name in self.required:
            if name not in value and name not in meant:
                remedy = f"Add {name}: {self.keys[name].meaning}."
                bad(faults, path, f'{self.noun} has no "{name}".', remedy, "missing_key")

    def _example(self) -> str:
        names = self.required or tuple(self.keys)[:1]
        return "{" + ", ".join(f"{name}: …" for name in names) + "}"

    def schema(self) -> dict[str, Any]:
        properties = {name: {"description": key.meaning, **key.shape.schema()} for name, key in self.keys.items()}
        kind: Any = ["object", "null"] if self.nothing else "object"
        found: dict[str, Any] = {"type": kind, "properties": properties}
        if self.required:
            found["required"] = list(self.required)
        if not self.open:
            found["additionalProperties"] = False
        return found


@dataclass(frozen=True, slots=True)
class Either(Shape):
    """One of two forms; `first` decides by a look at the value which one is meant."""

    first: Shape
    second: Shape
    is_first: Callable[[Any], bool]

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        (self.first if self.is_first(value) else self.second).check(value, path, faults)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.first.schema(), self.second.schema()]}


@dataclass(frozen=True, slots=True)
class Judged(Shape):
    """A shape and one more rule: `judge` gives None, or the sentence and the remedy."""

    of: Shape
    judge: Callable[[Any], tuple[str, str] | None]

    def check(self, value: Any, path: str, faults: list[Fault]) -> None:
        before = len(faults)
        self.of.check(value, path, faults)
        if len(faults) == before and (said := self.judge(value)) is not None:
            bad(faults, path, *said)

    def schema(self) -> dict[str, Any]:
        return self.of.schema()


def unknown_key(
    noun: str, name: str, known: Sequence[str] | Mapping[str, Any], path: str, faults: list[Fault]
) -> str | None:
    """Adds the fault for a key that means nothing here; gives the key that was probably meant."""
    close = nearest(name, known)
    remedy = f'Write "{close}".' if close else f"Delete it; the keys here are {', '.join(sorted(known))}."
    message = f"{noun} has no key {shown(name)}."
    faults.append(Fault("unknown_key", f"{path}/{escape(name)}", message, remedy))
    return close


def _said(value: Any) -> str:
    return shown(value) if isinstance(value, str) else described(value).capitalize()
