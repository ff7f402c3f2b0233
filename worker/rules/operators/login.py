"""The login now and the one before it.

Remembered per user: two instants. A trail: the previous login is read before this one becomes the latest. Source:
document 5 "Return After Gap Rule".
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from worker.rules.operators.calendar import FIXED, Calendar
from worker.rules.operators.kind import State, Trail

if TYPE_CHECKING:
    from worker.events.types import Event


class Logins(Trail):
    """State: [previous_us or None, last_us]. Fact: gap_days between the two (a Fraction), None at the first login."""

    name = "logins"
    local = False

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State:
        us = event.occurred_us
        if state is None:
            return [None, us]
        return state if state[0] == us else [state[1], us]

    def facts(self, state: State | None, now_us: int, params: Mapping[str, Any], calendar: Calendar) -> dict[str, Any]:
        if state is None or state[0] is None:
            return {"gap_days": None, "previous_us": None, "login_us": None if state is None else state[1]}
        previous, login = state
        return {"gap_days": Fraction(login - previous, FIXED["d"]), "previous_us": previous, "login_us": login}

    def note(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> Any:
        return 1

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        logins = entries[::2]
        return [logins[-2] if len(logins) > 1 else None, logins[-1]] if logins else None
