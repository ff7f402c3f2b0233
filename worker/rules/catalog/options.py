"""The sections that other rooms live by: zones of users, schedules, retention, the breaker, condition types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.errors import Fault
from worker.rules.catalog.document import escape
from worker.rules.catalog.names import CatalogNames

_PLAIN = ("catch_up_on_login", "active_days", "breaker")
_LISTS = ("schedules", "condition_types")


def read_options(data: Mapping[str, Any], names: CatalogNames) -> dict[str, Any]:
    """What was written of these sections, event types by their canonical names; names that nothing defines are faults.

    Keys: `catch_up_on_login`, `active_days`, `breaker`, `schedules`, `condition_types`, `user_timezone`, `retention`;
    one that is absent or empty is absent here.
    """
    found: dict[str, Any] = {name: data[name] for name in _PLAIN if data.get(name) is not None}
    found |= {name: tuple(data[name]) for name in _LISTS if isinstance(data.get(name), list) and data[name]}
    zone = data.get("user_timezone")
    if isinstance(zone, Mapping):
        found["user_timezone"] = _zone(zone, names)
    kept = data.get("retention")
    if isinstance(kept, Mapping):
        resolved = {
            names.event_type(name, f"/retention/{escape(name)}"): length for name, length in kept.items() if name
        }
        found["retention"] = {name: length for name, length in resolved.items() if name is not None}
    return found


def _zone(zone: Mapping[str, Any], names: CatalogNames) -> dict[str, Any]:
    event, field = zone.get("event"), zone.get("field")
    kind = names.event_type(event, "/user_timezone/event") if isinstance(event, str) and event else None
    if kind is not None and isinstance(field, str):
        names.field((kind,), field, "/user_timezone/field")
        if not names.may_be_text(kind, field):
            message = f"By its schema {kind} has no text in {field[:60]}, so no user ever has a zone of their own."
            remedy = "Name a field whose type is string."
            names.faults.append(Fault("no_effect", "/user_timezone/field", message, remedy, "warning"))
    return {"event": kind, "field": field}
