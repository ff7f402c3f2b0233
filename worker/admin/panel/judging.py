"""A badge's form judged while it is written: what the engine reads, and each fault at its place in the flow's text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from worker.admin.panel.needs import Desk
from worker.errors import AuthorError, BadgesError, Fault
from worker.events import json_text
from worker.rules.catalog import json_source
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.catalog.document import KEY_CODES, pointer_tokens
from worker.rules.catalog.edits import Edit, badge_added, badge_changed
from worker.rules.catalog.places import Lines
from worker.rules.takes import Takes

#: What the form holds beside the flow, all of it text; an empty one says nothing.
FIELDS: Final = (
    "label", "description", "family", "icon", "color", "image_url", "sort_score", "per", "status", "revocable",
    "animation", "key",
)  # fmt: skip
_LONGEST: Final = 200_000
_WHOLE: Final = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Mark:
    """A fault with its place in a text: character offsets, and line and column from 1; 0 where it has none.

    `part` names the form's field that holds the text: the flow, or another one of JSON.
    """

    code: str
    path: str
    message: str
    help: str
    severity: str = "error"
    start: int = 0
    end: int = 0
    line: int = 0
    column: int = 0
    part: str = "flow"

    @property
    def field(self) -> str:
        """The id of what to mend: the field that the pointer names, else the one with the text."""
        name = self.path.split("/")[1] if self.path.count("/") else ""
        return f"f-{name}" if name in FIELDS else f"f-{self.part}"


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a form: the document it makes and its badge where it is clean, all that is wrong, its words."""

    values: Mapping[str, str]
    marks: tuple[Mark, ...] = ()
    edit: Edit | None = None
    badge: Badge | None = None
    takes: str = ""
    lines: tuple[tuple[int, str, str, str], ...] = field(default=())

    @property
    def clean(self) -> bool:
        """Whether nothing but warnings was found."""
        return not any(mark.severity == "error" for mark in self.marks)


async def judge(desk: Desk, catalog: Catalog | None, badge: Badge | None, values: Mapping[str, str]) -> Judged:
    """Judge a form for a badge of the catalog, or for a new one."""
    text = values.get("flow", "")[:_LONGEST]
    document: Mapping[str, Any] = {"version": 1} if catalog is None else catalog.document
    flow, marks = json_of(text)
    if marks:
        return Judged(values, tuple(marks), lines=_lines(text, marks))
    try:
        body = _body(values, flow, new=badge is None)
        if badge is not None and body.get("animation") == {"kind": (badge.animation or {}).get("kind")}:
            del body["animation"]  # its other keys stay
        edit = badge_added(document, body) if badge is None else badge_changed(document, badge, body, whole=False)
    except AuthorError as error:
        marks = [mark_of(fault, {"flow": text}) for fault in error.faults]
        return Judged(values, tuple(marks), lines=_lines(text, marks))
    except BadgesError as error:
        return Judged(values, (Mark("refused", "/label", error.message, error.help or ""),), lines=_lines(text, []))
    reading = await desk.read("catalog.json", json_text.dumps(edit.document))
    marks = marks_of(edit, reading.faults, {"flow": text})
    made = None
    if reading.catalog is not None:
        made = next((one for one in reading.catalog.badges if one.key == edit.key), None)
    takes = Takes(reading.catalog).of(made) if made is not None and reading.catalog is not None else ""
    return Judged(values, tuple(marks), edit, made, takes, _lines(text, marks))


def json_of(text: str, part: str = "flow") -> tuple[Any, list[Mark]]:
    """A field's text as data, or what keeps it from being JSON."""
    data, problems = json_source.read(text)
    marks = []
    for one in problems:
        start = _offset(text, one.line, one.column)
        marks.append(
            Mark(
                one.code, f"/{part}", one.message, one.help or "", "error", start, start + 1, one.line, one.column, part
            )
        )
    return data, marks


def marks_of(edit: Edit, faults: Sequence[Fault], texts: Mapping[str, str]) -> list[Mark]:
    """All that is wrong with an edit's document, marked in the form's texts where it lies in one of them."""
    inside, outside = edit.told(faults)
    marks = [mark_of(fault, texts) for fault in [*inside, *_warnings(edit, faults)]]
    return marks + [Mark(one.code, "", f"{one.path}: {one.message}", one.help or "") for one in outside]


def _offset(text: str, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
        if start == 0:
            return len(text)
    return min(len(text), start + column - 1)


def _body(values: Mapping[str, str], flow: Any, *, new: bool) -> dict[str, Any]:
    """The form as a badge's entry. In a change an empty field takes its key away, but for those that must stay."""
    body: dict[str, Any] = {"flow": flow}
    for name in FIELDS:
        given = values.get(name, "").strip()
        if name == "key" and (not new or not given):
            continue
        if name == "sort_score" and given:
            if not _WHOLE.fullmatch(given):
                raise AuthorError(
                    [Fault("bad_operand", "/sort_score", f"{given[:40]!r} is no whole number.", "Write 40.")]
                )
            body[name] = int(given)
        elif name == "animation":
            body[name] = {"kind": given} if given and given != "none" else None
        elif name in ("status", "revocable") and not given:
            continue
        elif given or not new:
            body[name] = given or None
    if new:
        body = {name: value for name, value in body.items() if value is not None}
    return body


def _warnings(edit: Edit, faults: Sequence[Fault]) -> list[Fault]:
    start = len(edit.entry)
    return [
        Fault(fault.code, fault.path[start:], fault.message, fault.help, fault.severity)
        for fault in faults
        if fault.severity != "error" and fault.path.startswith(f"{edit.entry}/")
    ]


def mark_of(fault: Fault, texts: Mapping[str, str]) -> Mark:
    """A fault of the entry; where it lies in one of the texts (by the name of its field), with its place there."""
    tokens = pointer_tokens(fault.path)
    part = tokens[0] if tokens else ""
    base = Mark(fault.code, fault.path, fault.message, fault.help or "", fault.severity)
    if part not in texts:
        return base
    text = texts[part]
    root = json_source.spots(text)
    if root is None:
        return base
    spot, used = root.descend(tokens[1:])
    whole = used == len(tokens) - 1
    named = whole and spot.key is not None and (fault.code in KEY_CODES or f'"{tokens[-1]}"' in fault.message)
    span = spot.key if named and spot.key is not None else spot.span
    place = Lines(text).place(span)
    end = min(span[1], span[0] + place.end - place.column)
    return replace(base, start=span[0], end=end, line=place.line, column=place.column, part=part)


def _lines(text: str, marks: Sequence[Mark]) -> tuple[tuple[int, str, str, str], ...]:
    """The text line by line where something is marked: number, and what stands before, in and behind the mark."""
    first = {mark.line: mark for mark in reversed(marks) if mark.line}
    if not first:
        return ()
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        mark = first.get(number)
        if mark is None:
            found.append((number, line, "", ""))
        else:
            start, end = mark.column - 1, mark.column - 1 + max(1, mark.end - mark.start)
            found.append((number, line[:start], line[start:end] or " ", line[end:]))
    return tuple(found)
