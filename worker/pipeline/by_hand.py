"""What people send on the control topic: which events are carried out, and why one is not."""

from __future__ import annotations

from typing import Final

from worker.events import Event, Rejected
from worker.rules.by_hand import award_fault
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
