"""The catalog's document: several YAML or JSON sources merged section by section, each place findable again.

Data is JSON data: dict, list, str, int, Decimal, bool, None. Sources are read for data alone; where something stands is
worked out only once a fault has to be shown, so a large catalog does not pay for positions it never shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from worker.errors import Fault
from worker.rules.catalog import json_source, yaml_source
from worker.rules.catalog.places import Lines, Place, Problem, Spot

#: The most characters of all sources together (a catalog of 100,000 badges has about 25 million).
MAX_CHARACTERS = 64 * 1024 * 1024

#: Codes that speak of a name that stands as a key, so that the key is shown and not what it holds.
KEY_CODES = frozenset({"unknown_key", "unknown_operator", "unsupported_format", "unused_metric", "name_style"})


@dataclass(frozen=True, slots=True)
class Source:
    """One file's text; `name` is the path a person knows it by, and `.json` at its end means it must be JSON."""

    name: str
    text: str


@dataclass(slots=True)
class Document:
    """The merged data and the way back from a JSON pointer into it to file, line and column."""

    data: dict[str, Any]
    sources: tuple[Source, ...] = ()
    _maps: dict[str, dict[str, int]] = field(default_factory=dict)
    _lists: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _whole: dict[str, int] = field(default_factory=dict)
    _spots: dict[int, Spot | None] = field(default_factory=dict)
    _lines: dict[int, Lines] = field(default_factory=dict)

    def placed(self, fault: Fault) -> Fault:
        """The fault with file, line and column, where its text is at hand."""
        if fault.line is not None:
            return fault
        found = self.locate(fault.path, key=fault.code in KEY_CODES, message=fault.message)
        if found is None:
            return fault
        name, place = found
        return replace(fault, file=name, line=place.line, column=place.column)

    def line(self, name: str, number: int) -> str:
        """A line of a source, 1-based, without its end."""
        for index, source in enumerate(self.sources):
            if source.name == name:
                self._root(index)
                return self._lines[index].text(number)
        return ""

    def end(self, fault: Fault) -> int:
        """The column just past what a fault that was placed speaks of, on its line."""
        found = self.locate(fault.path, key=fault.code in KEY_CODES, message=fault.message)
        same = found is not None and (found[0], found[1].line, found[1].column) == (
            fault.file,
            fault.line,
            fault.column,
        )
        return found[1].end if found is not None and same else (fault.column or 0) + 1

    def locate(self, path: str, *, key: bool = False, message: str = "") -> tuple[str, Place] | None:
        """Source name and place of the thing a pointer names, or of the nearest thing around it that exists.

        The key is shown in place of its value when `key` is set, or when `message` quotes the key's name.
        """
        tokens = pointer_tokens(path)
        home = self._home(tokens)
        if home is None:
            return None
        index, tokens = home
        root = self._root(index)
        if root is None:
            return None
        spot, used = root.descend(tokens)
        last = tokens[-1] if tokens else ""
        whole = used == len(tokens)
        named = whole and (key or f'"{last}"' in message)
        span = spot.key if named and spot.key is not None else spot.span
        return self.sources[index].name, self._lines[index].place(span)

    def add(self, index: int, part: Mapping[str, Any]) -> list[Fault]:
        """Adds one source's sections: lists are appended, maps joined, single values must agree."""
        faults: list[Fault] = []
        for section, value in part.items():
            if value is None and section in self.data:
                continue
            present = self.data.get(section)
            if isinstance(value, list) and (present is None or isinstance(present, list)):
                self._lists.setdefault(section, []).append((len(present or ()), index))
                self.data[section] = [*value] if present is None else present
                if present is not None:
                    present.extend(value)
            elif isinstance(value, dict) and (present is None or isinstance(present, dict)):
                owners = self._maps.setdefault(section, {})
                joined = self.data[section] = {} if present is None else present
                for name, inner in value.items():
                    if name in owners:
                        faults.append(self._repeated([section, name], index, owners[name]))
                    else:
                        owners[name] = index
                        joined[name] = inner
            elif present is None:
                self.data[section] = value
            elif present != value:
                faults.append(self._repeated([section], index, self._whole[section]))
            self._whole.setdefault(section, index)
        return faults

    def _repeated(self, tokens: list[str], index: int, first: int) -> Fault:
        """Two sources say something of one name; the second is the fault's place."""
        path = "".join("/" + escape(token) for token in tokens)
        source, root = self.sources[index], self._root(index)
        place = self._lines[index].place(root.descend(tokens)[0].key or (0, 0)) if root else Place(1, 1, 1)
        return Fault(
            "duplicate_key", path, f'"{tokens[-1]}" stands in {self.sources[first].name} already.',
            "keep one of the two", file=source.name, line=place.line, column=place.column,
        )  # fmt: skip

    def _root(self, index: int) -> Spot | None:
        """The spots of one source, worked out once."""
        if index not in self._spots:
            self._spots[index] = _reader(self.sources[index]).spots(self.sources[index].text)
            self._lines[index] = Lines(self.sources[index].text)
        return self._spots[index]

    def _home(self, tokens: Sequence[str]) -> tuple[int, list[str]] | None:
        """The source that holds a place, and the pointer's tokens within that source."""
        if not self.sources:
            return None
        if not tokens or len(self.sources) == 1:
            return 0, list(tokens)
        section = tokens[0]
        if len(tokens) > 1 and section in self._maps:
            owner = self._maps[section].get(tokens[1])
            if owner is not None:
                return owner, list(tokens)
        if len(tokens) > 1 and section in self._lists and tokens[1].isdecimal():
            position = int(tokens[1])
            for start, owner in reversed(self._lists[section]):
                if start <= position:
                    return owner, [section, str(position - start), *tokens[2:]]
        return self._whole.get(section, 0), list(tokens)


def read_document(sources: Sequence[Source]) -> tuple[Document | None, list[Fault]]:
    """Reads and merges the sources. No document comes back when one of them cannot be read at all."""
    if sum(len(source.text) for source in sources) > MAX_CHARACTERS:
        limit = f"{MAX_CHARACTERS // 1024 // 1024} Mi"
        return None, [Fault("invalid_syntax", "", f"The catalog is longer than {limit} characters.")]
    faults: list[Fault] = []
    read: list[dict[str, Any] | None] = []
    for source in sources:
        data, problems = _reader(source).read(source.text)
        faults += [_fault(source, problem) for problem in problems]
        if data is not None and not isinstance(data, dict):
            faults.append(
                Fault(
                    "invalid_syntax", "", "A catalog is a map of sections.", "write `badges:` and its list below it",
                    file=source.name, line=1, column=1,
                )
            )  # fmt: skip
        read.append(data if isinstance(data, dict) else None)
    if any(fault.code == "invalid_syntax" for fault in faults):
        return None, faults
    document = Document({}, tuple(sources))
    for index, part in enumerate(read):
        faults += document.add(index, part or {})
    return document, faults


def pointer_tokens(path: str) -> list[str]:
    """The parts of a JSON pointer, unescaped; none for the whole document."""
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def escape(token: str) -> str:
    """One part of a JSON pointer, escaped."""
    return token.replace("~", "~0").replace("/", "~1") if "~" in token or "/" in token else token


def _reader(source: Source) -> Any:
    """The JSON or the YAML reader: by name, else by whether the text is a JSON document."""
    if source.name.endswith(".json"):
        return json_source
    if source.name.endswith((".yaml", ".yml")):
        return yaml_source
    return json_source if json_source.looks_like(source.text) else yaml_source


def _fault(source: Source, problem: Problem) -> Fault:
    return Fault(
        problem.code, "".join("/" + escape(token) for token in problem.tokens), problem.message, problem.help,
        file=source.name, line=problem.line, column=problem.column,
    )  # fmt: skip
