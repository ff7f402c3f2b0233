"""Where the reader of a criterion stands: the pointer, the events in view, and the ways to refuse what is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Any

import msgspec

from worker.errors import Fault
from worker.rules.ir import Fold, Match, Node
from worker.rules.operators.expressions import MAX_STEPS_OF_FLOW, Steps
from worker.rules.operators.names import Names

MAX_DEPTH = 32
MAX_NODES = 1_000
MAX_TEXT = 65_536
#: Who has made so many mistakes was not helped by the nearest word.
MANY_FAULTS = 1_000
#: How many words a sentence names.
MAX_LISTED = 30
#: The types in view where the author's event type is unknown: the rest is read for its other faults only.
UNKNOWN = ("?",)
#: No window and no filter around it.
EVERYTHING = Match()


@dataclass(slots=True)
class Reading:
    """What one flow's reading shares: the names it may use, how to read a flow within it, and how much it has read.

    `expressions` counts what its expressions are compiled to. `folds` are those made so far: over one filter the parts
    of a leaf share theirs, by kind, parameters and match.
    """

    names: Names
    flow: Callable[[Any, Place], Node | None]
    nodes: int = 0
    expressions: Steps = field(default_factory=lambda: Steps("this flow", MAX_STEPS_OF_FLOW))
    folds: dict[tuple[str, tuple[tuple[str, Any], ...], int], Fold] = field(default_factory=dict)


class Place(msgspec.Struct, frozen=True):
    """One place in a flow. `match` is which events are in view here: the windows and the filter around it."""

    reading: Reading
    path: str
    match: Match = EVERYTHING
    depth: int = 0

    @property
    def names(self) -> Names:
        """The names in reach."""
        return self.reading.names

    def at(self, *keys: str | int) -> Place:
        """The place of a member or an element."""
        path = self.path
        for key in keys:
            path = f"{path}/{key}" if key.__class__ is int else f"{path}/{escape(key)}"
        return Place(self.reading, path, self.match, self.depth)

    def seeing(self, match: Match) -> Place:
        """The same place with other events in view."""
        return Place(self.reading, self.path, match, self.depth)

    def fault(self, code: str, message: str, help: str | None = None, *, severity: str = "error") -> None:
        """File a fault at this place."""
        self.names.faults.append(Fault(code, self.path, message, help, severity))

    def offer(self, word: str, known: Collection[str]) -> str:
        """The nearest of the known words; all of them where many faults were found: looking for it takes its time."""
        return offer(word, known) if len(self.names.faults) < MANY_FAULTS else f"Write one of {listed(known)}."

    def flow(self, value: Any) -> Node | None:
        """Read a flow that stands here, one level deeper."""
        return self.reading.flow(value, Place(self.reading, self.path, self.match, self.depth + 1))

    def fold(self, kind: str, params: tuple[tuple[str, Any], ...] = (), *, match: Match | None = None) -> Fold:
        """What to remember of the events in view, per context of the badge."""
        match = self.match if match is None else match
        key = (kind, params, id(match))
        fold = self.reading.folds.get(key)
        if fold is None:
            fold = self.reading.folds[key] = Fold(kind, match, params, self.names.per)
        return fold

    def counts(self) -> bool:
        """Count one more node; False, with one fault, where the flow has too many."""
        self.reading.nodes += 1
        if self.reading.nodes == MAX_NODES + 1:
            self.fault(
                "bad_operand",
                f"This criterion has more than {MAX_NODES:,} conditions.",
                "Split it into several badges, or state a long list of values with $in.",
            )
        return self.reading.nodes <= MAX_NODES

    def object(self, value: Any, example: str) -> Mapping[str, Any] | None:
        """The value where it is an object; else a fault that shows what to write."""
        if isinstance(value, Mapping):
            return value
        self.fault("bad_operand", f"{self.last()} takes an object, not {described(value)}.", f"Write {example}.")
        return None

    def last(self) -> str:
        """The last key of the pointer as written, cut to what a sentence can hold."""
        return cut(self.path.rpartition("/")[2].replace("~1", "/").replace("~0", "~"))

    def only(self, value: Mapping[str, Any], known: Collection[str]) -> None:
        """File `unknown_key` for each key that is not known here, the nearest offered."""
        for key in value:
            if key not in known:
                self.at(key).fault("unknown_key", f"{self.last()} has no key {shown(key)}.", self.offer(key, known))

    def flag(self, value: Mapping[str, Any], key: str) -> bool:
        """A key that is true, false or absent."""
        given = value.get(key, False)
        if isinstance(given, bool):
            return given
        self.at(key).fault("bad_operand", f"{key} is true or false, not {described(given)}.", "Write true or false.")
        return False

    def text(self, value: Any, example: str) -> str | None:
        """A string that is not empty, at most 64 KiB."""
        if not isinstance(value, str) or not value:
            self.fault("bad_operand", f"A text must stand here, not {described(value)}.", f"Write {example}.")
            return None
        return value if self.short(value) else None

    def known_field(self, name: str) -> None:
        """File `unknown_field` where the schemas of the events in view have no such field."""
        if self.match.types != UNKNOWN:
            self.names.field(self.match.types, name, self.path)

    def short(self, value: str) -> bool:
        """Whether a string is at most 64 KiB; else a fault."""
        if len(value.encode("utf-8", "surrogatepass")) <= MAX_TEXT:
            return True
        self.fault("bad_operand", "This text is longer than 64 KiB.", "Shorten it.")
        return False

    def choice(self, value: Any, known: Collection[str]) -> str | None:
        """One of a few words."""
        if isinstance(value, str) and value in known:
            return value
        self.fault(
            "bad_operand",
            f"{sentence(described(value))} is none of the words that may stand here.",
            offer(value, known) if isinstance(value, str) else f"Write one of {listed(known)}.",
        )
        return None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: its word, and how it is read where it may stand."""

    name: str
    read: Callable[[Any, Place], Node | None]


def escape(key: str | int) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    text = str(key)
    return text.replace("~", "~0").replace("/", "~1") if "~" in text or "/" in text else text


def described(value: Any) -> str:
    """What a value is, in a few words for a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {shown(value)}" if value else "an empty text"
    if isinstance(value, Mapping):
        return "an object" if value else "an empty object"
    if isinstance(value, list | tuple):
        return "an array" if value else "an empty array"
    text = str(value)
    return f"the number {text if len(text) <= 40 else text[:37] + '…'}"


def sentence(text: str) -> str:
    """The text with a capital at its beginning, the rest as it is."""
    return text[:1].upper() + text[1:]


def shown(text: str) -> str:
    """A text in quotes, cut to what a sentence can hold."""
    return f'"{cut(text)}"'


def cut(text: str) -> str:
    """As much of a text as a sentence can hold."""
    return text if len(text) <= 60 else text[:57] + "…"


def listed(words: Collection[str]) -> str:
    """Words for a sentence: a, b, c; of very many the first."""
    if len(words) <= MAX_LISTED:
        return ", ".join(words)
    return f"{', '.join(islice(words, MAX_LISTED))} and {len(words) - MAX_LISTED:,} more"


def offer(word: str, known: Collection[str]) -> str:
    """The nearest of the known words, or all of them."""
    nearest = get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return f"Did you mean {nearest[0]}?" if nearest else f"Write one of {listed(known)}."
