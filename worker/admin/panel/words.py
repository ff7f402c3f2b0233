"""The words that may stand in a flow, with what each means: operators from the format, names from the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.flow_schema import definitions

#: A word and its meaning in one line.
Word = list[str]
_LONGEST: Final = 120
_MOST: Final = 2_000


def words(catalog: Catalog | None) -> dict[str, Any]:
    """What the flow's editor completes: the keys of each place of a flow, and the names of the catalog that rules.

    `inside` has the keys of each operator that takes an object; `events` the fields that their schemas declare. At
    most 2,000 names of a kind.
    """
    shapes = definitions()
    event, flows = (one["properties"] for one in shapes["flow"]["anyOf"])
    criteria = shapes["criteria"]["properties"]
    document: Mapping[str, Any] = {} if catalog is None else catalog.document
    return {
        "flow": _listed(event) + _listed(flows),
        "criteria": _listed(criteria),
        "field": _listed(shapes["condition"]["anyOf"][0]["properties"]),
        "inside": {name: found for name, form in {**flows, **criteria}.items() if (found := _keys(form))},
        "events": {name: _event(entry or {}) for name, entry in list((document.get("events") or {}).items())[:_MOST]},
        "metrics": [[name, "a metric"] for name in (document.get("metrics") or {})][:_MOST],
        "badges": [] if catalog is None else [[one.key, one.label or "a badge"] for one in catalog.badges[:_MOST]],
    }


def _listed(properties: Mapping[str, Any]) -> list[Word]:
    return [[name, _short(str(form.get("description", "")))] for name, form in properties.items()]


def _keys(form: Mapping[str, Any]) -> list[Word]:
    """The keys of an operator's object, those of all its spellings."""
    found = _listed(form.get("properties") or {})
    for other in form.get("anyOf") or ():
        found += _listed(other.get("properties") or {})
    return found


def _event(entry: Mapping[str, Any]) -> dict[str, Any]:
    schema = entry.get("schema")
    fields = schema.get("properties") if isinstance(schema, Mapping) else None
    return {
        "meaning": _short(str(entry.get("description") or "an event type")),
        "fields": [[name, _field(form)] for name, form in (fields if isinstance(fields, Mapping) else {}).items()],
    }


def _field(form: Any) -> str:
    if not isinstance(form, Mapping):
        return "a field"
    return _short(str(form.get("description") or form.get("type") or "a field"))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
