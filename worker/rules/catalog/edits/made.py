"""Ladders, tenures and milestones written anew: entries that are badges, or make some."""

from __future__ import annotations

from typing import Any

from worker.errors import AuthorError, Fault
from worker.rules.catalog.edits.edit import Document, Edit, Fixed, Taken, object_of, with_entry
from worker.rules.operators.place import shown


def made_added(document: Document, section: str, body: Any) -> Edit:
    """The document with one ladder, tenure or milestone more. Raises AuthorError, and Taken where the key is taken."""
    sent, own = object_of(body, f"A {section.removesuffix('s')}"), _own_key(section)
    key = sent.get(own)
    if not isinstance(key, str) or not key:
        message = f'A {section.removesuffix("s")} has no "{own}".'
        raise AuthorError([Fault("missing_key", f"/{own}", message, f'Write "{own}": "commentator".')])
    listed = document.get(section) or []
    if any(entry.get(own) == key for entry in listed):
        raise Taken(f"There is a {section.removesuffix('s')} {shown(key)} already.", help="choose another key")
    entry = {name: value for name, value in sent.items() if value is not None}
    return Edit({**document, section: [*listed, entry]}, f"/{section}/{len(listed)}", key)


def made_changed(document: Document, section: str, key: str, body: Any) -> Edit:
    """The document with one of them changed by the keys sent; null takes one away. Raises Fixed where there is none."""
    sent, own = object_of(body, f"A {section.removesuffix('s')}"), _own_key(section)
    listed = document.get(section) or []
    index = next((place for place, entry in enumerate(listed) if entry.get(own) == key), None)
    if index is None:
        raise Fixed(f"The catalog has no {section.removesuffix('s')} {shown(key)}.", help="look at the catalog again")
    gone = {*sent, "is_active"} if sent.get("status") else sent.keys()
    kept = {name: value for name, value in listed[index].items() if name not in gone or name == own}
    new = {name: value for name, value in sent.items() if value is not None and name != own}
    return with_entry(document, section, index, {**kept, **new}, key, {})


def _own_key(section: str) -> str:
    return "code" if section == "milestones" else "key"
