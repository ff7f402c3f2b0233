"""The event dictionary: which event types exist, under which names, and what their payloads must look like."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

import jsonschema_rs

from worker.events.json_text import escape
from worker.resources import resource

#: What a type's name may look like; `noun.verb` is the house's own spelling.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}", re.ASCII)
#: Types that travel on the control topic only (decisions 26).
RESERVED_PREFIXES = ("cron.", "badge.", "grant.")
RESERVED_NAMES = frozenset({"user.erased", "recompute.requested"})

_LOGINS = frozenset({"UserLoggedIn", "user.logged_in"})
_NEAREST_AMONG = 2_000
_OPEN_AT_MOST = 10_000


def is_reserved(name: str) -> bool:
    """Whether a type of this name is the system's own: no app may send it, no catalog define it."""
    return name.startswith(RESERVED_PREFIXES) or name in RESERVED_NAMES


def _no_retrieval(uri: str) -> NoReturn:
    raise ValueError(f"it refers to {uri}, and schemas are not fetched")


def _compile(name: str, schema: Any) -> Any:
    if not isinstance(schema, dict):
        raise ValueError(f"the schema of {name} must be an object")  # noqa: TRY004 - one kind of error to catch
    try:
        # The regex crate decides in linear time; the default engine backtracks on what a producer sends.
        return jsonschema_rs.validator_for(
            schema, retriever=_no_retrieval, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, TypeError, OverflowError, RecursionError, jsonschema_rs.ReferencingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"the schema of {name} is not a JSON Schema: {reason[0][:300]}") from None


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event. `schema` is a JSON Schema of the payload (draft 2020-12 unless it says otherwise).

    `login` is true also for the names decisions 13 lists. `noun` is the word for sentences. `fields` are the property
    names where the schema lists any, else None: then the payload is `open`. Raises ValueError for a faulty schema.
    """

    name: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    login: bool = False
    noun: str | None = None
    builtin: bool = False
    fields: frozenset[str] | None = field(init=False, default=None)
    _validator: Any = field(init=False, default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.login and not _LOGINS.isdisjoint((self.name, *self.aliases)):
            object.__setattr__(self, "login", True)
        if self.schema is not None:
            object.__setattr__(self, "_validator", _compile(self.name, self.schema))
            properties = self.schema.get("properties")
            if isinstance(properties, dict):
                object.__setattr__(self, "fields", frozenset(properties))

    @property
    def open(self) -> bool:
        """Whether any payload field may be named in a flow."""
        return self.fields is None

    def check(self, payload: Mapping[str, Any]) -> tuple[str, str] | None:
        """None where the payload satisfies the schema, else a JSON pointer into it and what is wrong there."""
        if self._validator is None or self._validator.is_valid(payload):
            return None
        try:
            self._validator.validate(payload)
        except jsonschema_rs.ValidationError as error:
            pointer = "".join(f"/{escape(str(step))}" for step in error.instance_path)
            return pointer, error.message[:300]
        return None


class Dictionary:
    """All event types by name and alias, the built-in ones among them. Immutable; a look-up is one dict access.

    `schedules` are the `cron.*` names a catalog's schedules use. Raises ValueError for a name given twice.
    """

    def __init__(self, types: Iterable[EventType] = (), *, schedules: Iterable[str] = ()) -> None:
        known = {kind.name: kind for kind in built_in()}
        for name in schedules:
            known.setdefault(name, EventType(name, "A schedule of the catalog came due.", builtin=True))
        for kind in types:
            if kind.name in known:
                raise ValueError(f"the event type {kind.name} is defined twice")
            known[kind.name] = kind
        self.types: Mapping[str, EventType] = MappingProxyType(known)
        self._names = dict(known)
        for kind in known.values():
            for alias in kind.aliases:
                if self._names.setdefault(alias, kind) is not kind:
                    raise ValueError(f"{alias} is an alias of {kind.name} and a name of {self._names[alias].name}")
        self._nearest = lru_cache(maxsize=1024)(self._find_nearest)

    @staticmethod
    def open() -> Dictionary:
        """A dictionary that knows every name, with any payload."""
        return _OpenDictionary()

    def resolve(self, name: str) -> EventType | None:
        """The type of this name or alias."""
        return self._names.get(name)

    def nearest(self, name: str) -> str | None:
        """The known name or alias most like this one, where any is like it."""
        return self._nearest(name[:200])

    def _find_nearest(self, name: str) -> str | None:
        plain = _plain(name)
        candidates = [known for known, kind in self._names.items() if not kind.builtin]
        same = next((known for known in candidates if _plain(known) == plain), None)
        if same is not None:
            return same
        close = [known for known in candidates if abs(len(known) - len(name)) <= 5][:_NEAREST_AMONG]
        found = difflib.get_close_matches(name, close, n=1, cutoff=0.6)
        return found[0] if found else None


class _OpenDictionary(Dictionary):
    def resolve(self, name: str) -> EventType | None:
        kind = self._names.get(name)
        if kind is None and NAME.fullmatch(name):
            kind = EventType(name, builtin=is_reserved(name))
            if len(self._names) < _OPEN_AT_MOST:
                self._names[name] = kind
        return kind


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@lru_cache(maxsize=1)
def built_in() -> tuple[EventType, ...]:
    """The system's own types, from `schemas/events/`: the file's name is the type's, its content the payload schema."""
    files = sorted(
        (file for file in resource("schemas").joinpath("events").iterdir() if file.name.endswith(".json")),
        key=lambda file: file.name,
    )
    schemas = {file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8")) for file in files}
    return tuple(
        EventType(name, schema["description"], schema=schema, builtin=True) for name, schema in schemas.items()
    )
