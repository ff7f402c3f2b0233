"""A tenure: so many years since something first happened, by local dates.

Written in the catalog's `tenures`. Remembered: one event's instant and its local date, in the zone the user had then.
29 February has its anniversary on 28 February or 1 March of a common year, as the catalog's `feb_29` says. Source: the
catalog beyond the documents.
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.rules.ir import Check, Fold, Match, Test
from worker.rules.operators.edges import First
from worker.rules.operators.kind import State

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar


class Since(First):
    """State: [us, source, id, day] of the earliest event. Facts: as of First, and day, the local date's ordinal."""

    name = "since"
    local = True

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        return [event.occurred_us, event.source, event.id, calendar.ordinal(event.occurred_us)]

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().facts(state, params), "day": None if state is None else state[3]}


def tenure_test(event_type: str, years: int, *, path: str, feb_29: str) -> Test:
    """The test that holds from the local day on which the years since the first such event are complete."""
    fold = Fold("since", Match(types=(event_type,)))
    checks = (Check("$years", (years, feb_29)),)
    return Test(fold, "day", checks, "tenure", path, (("at", "since"),), (("years", years),))
