"""The section `metrics` to named figures: counts, gauges, sums, first and last times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.errors import Fault
from worker.rules.catalog.definitions import Metric
from worker.rules.catalog.document import escape
from worker.rules.catalog.names import CatalogNames
from worker.rules.catalog.nearest import nearest
from worker.rules.catalog.sections import METRIC
from worker.rules.ir import Fold, Match
from worker.rules.operators.filters import intersect, read_fields
from worker.rules.operators.place import Place, Reading, described

_FORMS = ("count", "sum", "first", "last")
_EXAMPLE = "Write {count: comment.posted}, {sum: amount, event: order.paid}, {first: user.registered} or {last: …}."


def read_metrics(section: Any, names: CatalogNames) -> None:
    """Fills `names.metrics`; a metric with a fault is left out."""
    for name, entry in section.items() if isinstance(section, Mapping) else ():
        if not isinstance(entry, Mapping) or METRIC.fullmatch(name) is None:
            continue
        metric = _metric(name, entry, f"/metrics/{escape(name)}", names)
        if metric is not None:
            names.metrics[name] = metric


def _metric(name: str, entry: Mapping[str, Any], path: str, names: CatalogNames) -> Metric | None:
    faults = names.faults
    before = len(faults)
    forms = [form for form in _FORMS if form in entry]
    if not forms:
        if any(nearest(key, _FORMS) for key in entry):
            return None  # an unknown key was named, with the form that was meant
        faults.append(Fault("missing_key", path, "A metric has one of count, sum, first and last.", _EXAMPLE))
        return None
    if len(forms) > 1:
        faults.append(Fault("bad_operand", path, f"A metric is one figure; this has {' and '.join(forms)}.", _EXAMPLE))
        return None
    form = forms[0]
    for key, needed in (("less", "count"), ("event", "sum")):
        if key in entry and form != needed:
            message = f'"{key}" has no meaning beside {form}.'
            faults.append(Fault("bad_operand", f"{path}/{key}", message, f"Delete it, or write {needed}."))
    types = _types(entry, form, path, names)
    per = _per(entry, path, faults)
    if types is None or len(faults) > before:
        return None
    match = _where(entry, Match(types=tuple(sorted(set(types)))), path, names)
    if per is not None:
        names.field(match.types, per, f"{path}/{'per' if 'per' in entry else 'by'}")
    if form == "sum" and isinstance(entry["sum"], str):
        names.field(match.types, entry["sum"], f"{path}/sum")
    if any(fault.severity == "error" for fault in faults[before:]):
        return None
    if form == "sum":
        return Metric(name, Fold("number", match, (("field", entry["sum"]),), per), "total")
    if form != "count":
        return Metric(name, Fold(form, match, (), per), "at_us", instant=True)
    if "less" in entry:
        return Metric(name, Fold("gauge", match, (("less", (types[1],)),), per), "value")
    return Metric(name, Fold("count", match, (), per), "event_count")


def _types(entry: Mapping[str, Any], form: str, path: str, names: CatalogNames) -> list[str] | None:
    """The canonical types a metric reads, in the order written; none for `*`, None where there was a fault."""
    if form == "sum" and "event" not in entry:
        message = "A sum names the event type whose payloads it adds up."
        names.faults.append(Fault("missing_key", path, message, "Add event: order.paid, for example."))
        return None
    if entry[form] == "*":
        return []
    found: list[str] | None = []
    for key in ("event",) if form == "sum" else ("count", "less") if form == "count" else (form,):
        if key not in entry:
            continue
        name = entry[key]
        canonical = names.event_type(name, f"{path}/{key}") if isinstance(name, str) and name else None
        if canonical is None:
            found = None
        elif found is not None and canonical in found:
            message = f"{canonical} cannot both add one and take one away."
            names.faults.append(Fault("bad_operand", f"{path}/less", message, "Name another event type."))
            found = None
        elif found is not None:
            found.append(canonical)
    return found


def _per(entry: Mapping[str, Any], path: str, faults: list[Fault]) -> str | None:
    per, by = entry.get("per"), entry.get("by")
    if per is not None and by is not None and per != by:
        faults.append(Fault("bad_operand", f"{path}/by", '"by" means the same as "per".', "Delete one of the two."))
    value = per if per is not None else by
    return value if isinstance(value, str) and value else None


def _where(entry: Mapping[str, Any], match: Match, path: str, names: CatalogNames) -> Match:
    """The match narrowed by `where`: conditions on payload fields, as in a flow's criteria."""
    if "where" not in entry:
        return match
    written = entry["where"]
    place = Place(Reading(names, _no_flow), f"{path}/where", match)
    if not isinstance(written, Mapping):
        place.fault("bad_operand", f"Conditions must stand here, not {described(written)}.", "Write {status: paid}.")
        return match
    return intersect(match, Match(clauses=read_fields(written, place)))


def _no_flow(_value: Any, _place: Place) -> None:
    return None
