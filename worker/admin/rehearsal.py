"""What the API and the panel ask of those who try things out: nothing of it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from worker.admin.catalog_view import View
from worker.events import Event
from worker.rules.catalog.definitions import Catalog


class Rehearsal(Protocol):
    """Tries the catalog on events and users. Every method raises AuthorError for faults in what was sent."""

    async def ask_condition(self, view: View, name: str, body: Any) -> tuple[str, str | None]:
        """What a condition type says of an event: yes, no or error, and what was wrong. Raises Refused."""

    async def dry_run(self, view: View, body: Mapping[str, Any], *, now_us: int) -> Sequence[Mapping[str, Any]]:
        """Whether and why a user would earn badges; see `api.rehearsal.DryRun`. Raises Refused."""

    async def judged(self, catalog: Catalog, logged: Sequence[Event], sent: Sequence[Event]) -> list[Event]:
        """Events of the log and others, with what conditions in JavaScript say of them. Raises Refused."""

    async def simulate(self, view: View, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What events would earn; see `api.rehearsal.Simulation`. Raises Refused."""
