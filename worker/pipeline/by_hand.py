"""What people send on the control topic: which events are carried out, and why one is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.events import Event, Rejected
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.nearest import nearest
from worker.rules.changes import BY_HAND, award_named, awarded_at
from worker.rules.plan import Plan

#: The events, besides scheduled ones, that the worker acts on.
CARRIED_OUT: Final = BY_HAND | {"recompute.requested"}


def refusal(event: Event, plan: Plan) -> Rejected | None:
    """Why an event of the control topic cannot be carried out with this catalog; None where it can."""
    if event.type not in CARRIED_OUT:
        message = f"Nothing acts on {event.type} when it comes by the control topic."
        return Rejected("unknown_event_type", message, "/type", event.user_id)
    if event.type not in BY_HAND:
        return None
    fault = award_fault(plan.badges, *award_named(event))
    if fault is not None:
        return Rejected("invalid_field", fault[1], f"/payload/{fault[0]}", event.user_id)
    try:
        late = awarded_at(event) > event.occurred_us
    except ValueError as error:
        return Rejected("invalid_field", f"{error}", "/payload/awarded_at", event.user_id)
    if late:
        message = "A badge cannot count as earned only after it was given."
        return Rejected("invalid_field", message, "/payload/awarded_at", event.user_id)
    return None


def award_fault(badges: Mapping[str, Badge], badge_key: str, context: str) -> tuple[str, str] | None:
    """The field and the sentence where the catalog has no such award; None where it has."""
    badge = badges.get(badge_key)
    if badge is None:
        near = nearest(badge_key, badges)
        hint = f" Did you mean {near}?" if near else ""
        return "badge_key", f"The catalog has no badge {badge_key}.{hint}"
    if badge.per is None and context:
        return "context", f"{badge_key} is given once; it takes no context."
    if badge.per is not None and not context:
        return "context", f"{badge_key} is given per {badge.per}: the context says for which one."
    return None
