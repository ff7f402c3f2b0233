"""The section `events` to the event dictionary: names, aliases, payload schemas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from worker.errors import Fault
from worker.events import Dictionary, EventType
from worker.events.dictionary import NAME, built_in, is_reserved
from worker.rules.catalog.document import escape
from worker.rules.operators.place import described

_STYLE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+")


def read_events(section: Any, schedules: Any, faults: list[Fault]) -> Dictionary:
    """The dictionary; what is wrong with a type is a fault, and the type is known by its name all the same."""
    entries = section if isinstance(section, Mapping) else {}
    taken: dict[str, str] = {kind.name: "a built-in event type" for kind in built_in()}
    types = []
    for name in entries:
        path = f"/events/{escape(name)}"
        if is_reserved(name):
            message = f'"{name[:60]}" is a name of the system\'s own events.'
            faults.append(Fault("invalid_key", path, message, "Choose another noun."))
        elif NAME.fullmatch(name) is not None:
            taken[name] = name
            _style(name, path, faults)
    for name, entry in entries.items():
        if taken.get(name) == name:
            path = f"/events/{escape(name)}"
            types.append(_event_type(name, entry if isinstance(entry, Mapping) else {}, path, taken, faults))
    return Dictionary(types, schedules=_schedule_names(schedules))


def _event_type(
    name: str, entry: Mapping[str, Any], path: str, taken: dict[str, str], faults: list[Fault]
) -> EventType:
    aliases = []
    listed = entry.get("aliases")
    for index, alias in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(alias, str) or NAME.fullmatch(alias) is None:
            continue
        if is_reserved(alias) or alias in taken:
            message = f'"{alias}" is the name of {taken.get(alias, "a built-in event type")} already.'
            faults.append(Fault("duplicate_key", f"{path}/aliases/{index}", message, "Delete one of the two."))
            continue
        taken[alias] = name
        aliases.append(alias)
    parts: dict[str, Any] = {
        "description": _text(entry.get("description")),
        "aliases": tuple(aliases),
        "login": entry.get("login") is True,
        "noun": _noun(entry.get("noun")),
    }
    schema = entry.get("schema")
    if "schema" in entry and not isinstance(schema, dict):
        message = f"A JSON Schema must stand here, not {described(schema)}."
        faults.append(Fault("invalid_schema", f"{path}/schema", message, "Write {type: object, properties: {…}}."))
    elif schema is not None:
        try:
            return EventType(name, schema=schema, **parts)
        except ValueError as error:
            said = str(error)
            message = f"{said[:1].upper()}{said[1:]}."
            faults.append(Fault("invalid_schema", f"{path}/schema", message, "Write {type: object, properties: {…}}."))
    return EventType(name, **parts)


def _style(name: str, path: str, faults: list[Fault]) -> None:
    if _STYLE.fullmatch(name) is not None:
        return
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[0-9]+", name)
    better = f"{words[0]}.{'_'.join(words[1:])}".lower() if len(words) > 1 else f"{name.lower()}.done"
    remedy = f"Write {better}, for example, and keep {name} as an alias."
    faults.append(Fault("name_style", path, f'"{name}" is not in the form noun.verb.', remedy, "warning"))


def _schedule_names(schedules: Any) -> Iterable[str]:
    for entry in schedules if isinstance(schedules, list) else ():
        name = entry.get("event") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and name.startswith("cron.") and NAME.fullmatch(name) is not None:
            yield name


def _noun(value: Any) -> str | None:
    """The plural, where singular and plural are given; sentences that know plurals read the document."""
    if isinstance(value, Mapping):
        value = value.get("other")
    return value if isinstance(value, str) and value else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
