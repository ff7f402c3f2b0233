"""Event types and condition types written anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.rules.catalog.document import escape
from worker.rules.catalog.edits.edit import (
    ANSWERS,
    Document,
    Edit,
    Entry,
    Taken,
    keeps_name,
    name_of,
    object_of,
    with_entry,
)
from worker.rules.operators.place import shown


def event_type_added(document: Document, body: Any) -> Edit:
    """The document with one event type more. Raises AuthorError, and Taken where there is one of this name."""
    sent = object_of(body, "An event type")
    name = name_of(sent, "An event type", "comment.posted")
    types = document.get("events") or {}
    if name in types:
        raise Taken(f"There is an event type {shown(name)} already.", help="choose another name, or change that one")
    for other, entry in types.items():
        if isinstance(entry, Mapping) and name in (entry.get("aliases") or ()):
            raise Taken(f"{shown(name)} is an alias of the event type {other}.", help="choose another name")
    return _with_type(document, name, _type_entry(sent))


def event_type_changed(document: Document, name: str, body: Any, *, whole: bool) -> Edit:
    """The document with one event type changed: replaced, or by the keys sent, where null takes one away."""
    sent = object_of(body, "An event type")
    keeps_name(sent, name, "An event type")
    entry = _type_entry(sent)
    if not whole:
        old = (document.get("events") or {}).get(name) or {}
        entry = {key: value for key, value in old.items() if key not in sent or sent[key] is not None} | entry
    return _with_type(document, name, entry)


def event_type_removed(document: Document, name: str) -> Edit:
    """The document without an event type; the faults it then has say what still names it."""
    types = {key: entry for key, entry in (document.get("events") or {}).items() if key != name}
    return Edit({**document, "events": types}, "", name)


def _type_entry(sent: Entry) -> dict[str, Any]:
    return {key: value for key, value in sent.items() if key != "name" and key not in ANSWERS and value is not None}


def _with_type(document: Document, name: str, entry: Entry) -> Edit:
    return Edit(
        {**document, "events": {**(document.get("events") or {}), name: entry}}, f"/events/{escape(name)}", name
    )


def condition_type_added(document: Document, body: Any) -> Edit:
    """The document with one condition type more. Raises AuthorError, and Taken where there is one of this name."""
    sent = object_of(body, "A condition type")
    name = name_of(sent, "A condition type", "big_order")
    listed = document.get("condition_types") or []
    if any(entry["name"] == name for entry in listed):
        raise Taken(f"There is a condition type {shown(name)} already.", help="choose another name, or change that one")
    entry = {"name": name, **_type_entry(sent)}
    return Edit({**document, "condition_types": [*listed, entry]}, f"/condition_types/{len(listed)}", name)


def condition_type_changed(document: Document, name: str, body: Any, *, whole: bool) -> Edit:
    """The document with one condition type changed, as `event_type_changed`."""
    sent = object_of(body, "A condition type")
    keeps_name(sent, name, "A condition type")
    index = _condition_index(document, name)
    old: Entry = {} if whole else document["condition_types"][index]
    kept = {key: value for key, value in old.items() if key not in sent or sent[key] is not None}
    return with_entry(document, "condition_types", index, {"name": name, **kept, **_type_entry(sent)}, name, {})


def condition_type_removed(document: Document, name: str) -> Edit:
    """The document without a condition type; the faults it then has say what still asks it."""
    index = _condition_index(document, name)
    listed = document["condition_types"]
    return Edit({**document, "condition_types": [*listed[:index], *listed[index + 1 :]]}, "", name)


def _condition_index(document: Document, name: str) -> int:
    return next(index for index, entry in enumerate(document["condition_types"]) if entry["name"] == name)
