"""Forms of ladders, tenures, milestones, event types and condition types: to entries and back, judged as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from worker.admin.panel.judging import Judged, Mark, json_of, mark_of, marks_of
from worker.admin.panel.kinds import Field, Kind
from worker.admin.panel.needs import Desk
from worker.errors import AuthorError, BadgesError
from worker.events import json_text
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.catalog.document import pointer_tokens
from worker.rules.takes import Takes

_LONGEST: Final = 100_000
#: So many of an entry's badges are told in words.
_TOLD: Final = 6

Values = Mapping[str, str]


def entry_of(catalog: Catalog | None, kind: Kind, name: str) -> Mapping[str, Any] | None:
    """An entry of the catalog as it is written; None where there is none."""
    return dict(entries_of(catalog, kind)).get(name)


def entries_of(catalog: Catalog | None, kind: Kind) -> list[tuple[str, Mapping[str, Any]]]:
    """All entries of a kind by name, in the catalog's order."""
    listed = {} if catalog is None else catalog.document.get(kind.section) or {}
    if isinstance(listed, Mapping):
        return [(str(name), entry or {}) for name, entry in listed.items()]
    return [(str(entry.get(kind.own) or ""), entry) for entry in listed]


def badges_of(catalog: Catalog | None, kind: Kind, index: int) -> list[Badge]:
    """The badges that an entry makes, by its place in its section."""
    start = f"/{kind.section}/{index}/"
    found = () if catalog is None else catalog.badges
    return [badge for badge in found if f"{badge.path}/".startswith(start)]


def values_of(kind: Kind, name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """An entry as its form's texts."""
    return {
        field.name: _text(field, name if field.name == kind.own else entry.get(field.name)) for field in kind.fields
    }


async def judge_entry(desk: Desk, catalog: Catalog | None, kind: Kind, name: str | None, values: Values) -> Judged:
    """Judge the form of an entry of the catalog, or of a new one where `name` is None."""
    document: Mapping[str, Any] = {"version": 1} if catalog is None else catalog.document
    old = None if name is None else entry_of(catalog, kind, name)
    body, marks = _body(kind, values, old)
    if marks:
        return Judged(values, tuple(marks))
    texts = {field.name: values.get(field.name, "") for field in kind.fields if field.form == "json"}
    try:
        edit = kind.add(document, body) if name is None else kind.change(document, name, body)
    except AuthorError as error:
        return Judged(values, tuple(_placed(kind, mark_of(fault, texts)) for fault in error.faults))
    except BadgesError as error:
        return Judged(values, (Mark("refused", f"/{kind.own}", error.message, error.help or "", part=kind.own),))
    reading = await desk.read("catalog.json", json_text.dumps(edit.document))
    marks = [_placed(kind, mark) for mark in marks_of(edit, reading.faults, texts)]
    return Judged(values, tuple(marks), edit, takes=_takes(reading.catalog, edit.entry))


def _takes(catalog: Catalog | None, entry: str) -> str:
    """What the badges of an entry take, in words."""
    if catalog is None:
        return ""
    made = [badge for badge in catalog.badges if f"{badge.path}/".startswith(f"{entry}/")]
    if not made:
        return "The catalog can be read with it."
    takes = Takes(catalog)
    told = [f"{badge.label or badge.key}: {takes.of(badge)}." for badge in made[:_TOLD]]
    return " ".join([*told, *([f"{len(made) - _TOLD} more."] if len(made) > _TOLD else [])])


def _placed(kind: Kind, mark: Mark) -> Mark:
    """The mark with the field of the form that it is about."""
    tokens = pointer_tokens(mark.path)
    known = {field.name for field in kind.fields}
    return replace(mark, part=tokens[0] if tokens and tokens[0] in known else kind.own)


def _body(kind: Kind, values: Values, old: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[Mark]]:
    """The form as an entry. In a change an emptied field takes its key away; the entry's name stays."""
    body: dict[str, Any] = {}
    wrong: list[Mark] = []
    for field in kind.fields:
        given = values.get(field.name, "").strip()[:_LONGEST]
        if field.name == kind.own:
            if old is None and given:
                body[field.name] = given
            continue
        try:
            value = _value(field, given, old, wrong)
        except ValueError as error:
            wrong.append(Mark("bad_operand", f"/{field.name}", f"{error}.", field.hint, part=field.name))
            continue
        if field.form in ("choice", "flag") and value in ("", None) and not (old or {}).get(field.name):
            continue
        if old is not None or value is not None:
            body[field.name] = value
    return body, wrong


def _value(field: Field, given: str, old: Mapping[str, Any] | None, wrong: list[Mark]) -> Any:
    """A field's text as the entry has it; None for none. Raises ValueError with what is wrong."""
    if field.form == "flag":
        return True if given else None
    if not given:
        return None
    match field.form:
        case "whole" | "figures":
            found = [_number(part) for part in given.split(",") if part.strip()]
            return found if field.form == "figures" else found[0]
        case "names":
            return [part.strip() for part in given.split(",") if part.strip()]
        case "json":
            value, marks = json_of(given, field.name)
            wrong += marks
            return value
        case "animation":
            before = (old or {}).get(field.name) or {}
            return before if before.get("kind") == given else None if given == "none" else {"kind": given}
    return given


def _number(text: str) -> int | float:
    try:
        value = Decimal(text.strip()[:40])
    except ArithmeticError:
        raise ValueError(f'"{text.strip()[:40]}" is no number') from None
    if not value.is_finite():
        raise ValueError(f'"{text.strip()[:40]}" is no number')
    return int(value) if value == int(value) else float(value)


def _text(field: Field, value: Any) -> str:
    if value is None:
        return "none" if field.form == "animation" else ""
    if field.form == "animation":
        return str(value.get("kind", "none"))
    if field.form == "flag":
        return "1" if value else ""
    if field.form in ("figures", "names") and isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    if field.form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return int(value) if isinstance(value, Decimal) and value == int(value) else str(value)
