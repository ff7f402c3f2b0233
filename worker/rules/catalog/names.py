"""The names in reach while a catalog's criteria are read: event types, fields, metrics, badges, holiday lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from worker.errors import Fault
from worker.events import Dictionary, EventType
from worker.rules.catalog.conditions_section import ConditionTypes
from worker.rules.catalog.definitions import Metric
from worker.rules.catalog.nearest import Nearest
from worker.rules.operators.expressions import MAX_STEPS_OF_CATALOG, Steps
from worker.rules.operators.place import shown


class CatalogNames:
    """What a flow may name (see `operators.names.Names`). Unknown names become faults with the nearest right one.

    `per` is that of the badge being read. `used` collects the metrics that something asked for.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        *,
        faults: list[Fault],
        holidays: Mapping[str, tuple[str, ...]],
        metrics: Collection[str] = (),
        conditions: ConditionTypes | None = None,
    ) -> None:
        self.faults = faults
        self.expressions = Steps("this catalog", MAX_STEPS_OF_CATALOG)
        self.per: str | None = None
        self.used: set[str] = set()
        self.metrics: dict[str, Metric] = {}
        self.badges: Collection[str] = ()
        self._dictionary = dictionary
        self._holidays = holidays
        self._metric_names = metrics
        self._conditions = ConditionTypes(None, faults) if conditions is None else conditions
        self._near_metric = Nearest(metrics)
        self._near_badge: Nearest | None = None
        self._checked: set[tuple[tuple[str, ...], str]] = set()
        self._logins = tuple(sorted(kind.name for kind in dictionary.types.values() if kind.login))

    def event_type(self, name: str, path: str) -> str | None:
        """The canonical name of an event type or an alias; fault `unknown_event`."""
        kind = self._dictionary.resolve(name)
        if kind is not None:
            return kind.name
        close = self._dictionary.nearest(name)
        remedy = f'Write "{close}", or add {name} to events.' if close else f"Add {name[:60]} to events."
        self.faults.append(Fault("unknown_event", path, f"There is no event type {shown(name)}.", remedy))
        return None

    def field(self, types: tuple[str, ...], field: str, path: str) -> None:
        """Fault `unknown_field` where a type's schema lists properties without the field.

        Without types (all events) the field is unknown only where every type of the catalog says that it has no such.
        """
        if (types, field) in self._checked:
            return
        if types:
            strangers = [name for name in types if not self._declares(name, field)]
        else:
            own = [kind.name for kind in self._dictionary.types.values() if not kind.builtin]
            strangers = own if not any(self._declares(name, field) for name in own) else []
        if not strangers:
            self._checked.add((types, field))
            return
        name = strangers[0]
        kind = self._dictionary.types[name]
        self.faults.append(Fault("unknown_field", path, f"{name} has no field {shown(field)}.", _fields(kind, field)))

    def _declares(self, name: str, field: str) -> bool:
        kind = self._dictionary.types.get(name)
        if kind is None or kind.fields is None or field in kind.fields:
            return True
        schema: Any = kind.schema
        for step in field.split("."):
            properties = schema.get("properties") if isinstance(schema, Mapping) else None
            if not isinstance(properties, Mapping):
                return True
            if step not in properties:
                return False
            schema = properties[step]
        return True

    def may_be_text(self, name: str, field: str) -> bool:
        """Whether the schema of an event type lets a payload field be a text: False where its `type` says otherwise."""
        kind = self._dictionary.types[name]
        schema: Any = kind.schema
        for step in (field,) if field in (kind.fields or ()) else field.split("."):
            properties = schema.get("properties") if isinstance(schema, Mapping) else None
            schema = properties.get(step) if isinstance(properties, Mapping) else None
        types = schema.get("type") if isinstance(schema, Mapping) else None
        return types is None or types == "string" or (isinstance(types, list) and "string" in types)

    def metric(self, name: str, path: str) -> Metric | None:
        """The metric; fault `unknown_metric`. A metric that is faulty itself gives None and no second fault."""
        self.used.add(name)
        found = self.metrics.get(name)
        if found is None and name not in self._metric_names:
            close = self._near_metric.of(name)
            remedy = f'Write "{close}", or add {name[:60]} to metrics.' if close else f"Add {name[:60]} to metrics."
            self.faults.append(Fault("unknown_metric", path, f"There is no metric {shown(name)}.", remedy))
        return found

    def badge(self, key: str, path: str) -> str | None:
        """The key of a badge of this catalog; fault `unknown_badge`."""
        if key in self.badges:
            return key
        if self._near_badge is None:
            self._near_badge = Nearest(self.badges)
        close = self._near_badge.of(key)
        remedy = f'Write "{close}".' if close else "Write the key of a badge of this catalog."
        self.faults.append(Fault("unknown_badge", path, f"There is no badge {shown(key)}.", remedy))
        return None

    def condition(self, name: str, params: Mapping[str, Any], path: str) -> str | None:
        """The hash of a condition type with these params; fault `bad_operand`."""
        return self._conditions.use(name, params, path)

    def holidays(self, name: str) -> tuple[str, ...] | None:
        """The ISO dates of one of the catalog's holiday lists."""
        return self._holidays.get(name)

    def logins(self) -> Iterable[str]:
        """The canonical event types that are logins."""
        return self._logins

    def is_login(self, event_type: str) -> bool:
        """Whether a canonical event type is a login."""
        return event_type in self._logins


def _fields(kind: EventType, field: str) -> str:
    """Which fields to write instead."""
    known = sorted(kind.fields or ())
    if not known:
        return f"Add {field[:60]} to the schema of {kind.name}; it lists no field."
    close = Nearest(known).of(field)
    others = [name for name in known if name != close]
    listed = ", ".join(others[:10]) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
    if close is None:
        return f"The fields are {listed}."
    return f'Write "{close}"' + (f"; the other fields are {listed}." if others else ".")
