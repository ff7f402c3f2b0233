"""The section `condition_types`: conditions of the author's own, and each use of one with its params, by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from worker.errors import Fault
from worker.events import EventType, json_text
from worker.rules.catalog.definitions import Condition
from worker.rules.catalog.nearest import Nearest
from worker.rules.ir import canonical
from worker.rules.operators.place import described, shown
from worker.rules.operators.values import freeze


class ConditionTypes:
    """The condition types of a catalog. `used` collects the conditions that a flow asked for, by hash."""

    def __init__(self, section: Any, faults: list[Fault]) -> None:
        self.used: dict[str, Condition] = {}
        self._faults = faults
        self._sources: dict[str, str] = {}
        self._params: dict[str, EventType | None] = {}
        for index, entry in enumerate(section if isinstance(section, list) else ()):
            if isinstance(entry, Mapping):
                self._take(entry, f"/condition_types/{index}")
        self._nearest = Nearest(self._params)

    def _take(self, entry: Mapping[str, Any], path: str) -> None:
        name, source, schema = entry.get("name"), entry.get("source"), entry.get("params")
        if not isinstance(name, str):
            return
        if name in self._params:
            message = f"There is a condition type {shown(name)} already."
            self._faults.append(Fault("duplicate_key", f"{path}/name", message, "Choose another name."))
            return
        self._params[name] = self._schema(name, schema, f"{path}/params") if "params" in entry else None
        if isinstance(source, str) and source:
            self._sources[name] = source

    def _schema(self, name: str, schema: Any, path: str) -> EventType | None:
        remedy = "Write {type: object, properties: {…}}."
        if not isinstance(schema, dict):
            message = f"A JSON Schema must stand here, not {described(schema)}."
            self._faults.append(Fault("invalid_schema", path, message, remedy))
            return None
        try:
            return EventType(name, schema=schema)
        except ValueError as error:
            said = str(error)
            self._faults.append(Fault("invalid_schema", path, f"{said[:1].upper()}{said[1:]}.", remedy))
            return None

    def use(self, name: str, params: Mapping[str, Any], path: str) -> str | None:
        """The hash of this type with these params; None and a fault where there is no such type or they do not suit."""
        if name not in self._params:
            near = self._nearest.of(name)
            remedy = f'Write "{near}".' if near else f"Add {name[:60]} to condition_types."
            message = f"There is no condition type {shown(name)}."
            self._faults.append(Fault("bad_operand", f"{path}/type", message, remedy))
            return None
        schema = self._params[name]
        try:
            frozen, wrong = freeze(params), None if schema is None else schema.check(params)
        except ValueError as error:
            frozen, wrong = None, ("", f"it cannot be read: {error}")
        if wrong is not None:
            message = f"The params are not those of {name[:60]}: {wrong[1]}."
            remedy = "Write what the schema of its params asks for."
            at = f"{path}/params{wrong[0]}" if params else path
            self._faults.append(Fault("bad_operand", at, message, remedy))
            return None
        source = self._sources.get(name)
        if source is None:
            return None  # the type has its own fault
        identity = hashlib.sha256(canonical((source, frozen)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self.used.setdefault(identity, Condition(identity, name, source, json_text.dumps(params)))
        return identity
