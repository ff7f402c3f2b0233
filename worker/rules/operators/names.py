"""What reading a criterion asks of the catalog around it: which names exist. Every question also files the fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from worker.errors import Fault
from worker.rules.ir import Fold
from worker.rules.operators.expressions import Steps


class Metric(Protocol):
    """A named figure, as the catalog defines it."""

    @property
    def name(self) -> str:
        """Its key in the catalog."""

    @property
    def fold(self) -> Fold:
        """What keeps it."""

    @property
    def fact(self) -> str:
        """The fact to read."""

    @property
    def instant(self) -> bool:
        """Whether the fact is a point in time, in microseconds."""


class Names(Protocol):
    """The names in reach of one badge. A method that returns None has added a fault to `faults`."""

    faults: list[Fault]
    #: What the expressions of the whole catalog are compiled to.
    expressions: Steps

    @property
    def per(self) -> str | None:
        """The payload field whose values are the badge's contexts."""

    def event_type(self, name: str, path: str) -> str | None:
        """The canonical name of an event type or an alias; fault `unknown_event` with the nearest name."""

    def field(self, types: tuple[str, ...], field: str, path: str) -> None:
        """Fault `unknown_field` where the schema of one of the types (none: of all) lists properties without it."""

    def metric(self, name: str, path: str) -> Metric | None:
        """The metric; fault `unknown_metric` with the nearest name."""

    def badge(self, key: str, path: str) -> str | None:
        """The key of a badge of this catalog; fault `unknown_badge` with the nearest key."""

    def condition(self, name: str, params: Mapping[str, Any], path: str) -> str | None:
        """The hash of a condition type with these params; fault `bad_operand` where it is none."""

    def holidays(self, name: str) -> tuple[str, ...] | None:
        """The ISO dates of one of the catalog's holiday lists; None (and no fault) where there is no such list."""

    def logins(self) -> Iterable[str]:
        """The canonical event types that are logins (decisions 13)."""

    def is_login(self, event_type: str) -> bool:
        """Whether a canonical event type is a login."""
