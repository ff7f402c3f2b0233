"""The events that jobs send: built so that a repeated run says the same of the same user again, and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Final

from worker.control import cron_event
from worker.events import format_instant
from worker.exchange import Message

ANNIVERSARY: Final = "cron.anniversary"

#: Sends messages to the control topic, in order per user; returns once all are stored. Paced by whoever made it.
Send = Callable[[Sequence[Message]], Awaitable[None]]


def anniversary_id(day: date) -> str:
    """The id of a user's anniversary on a local day: there is one each day."""
    return f"{ANNIVERSARY}:{day.isoformat()}"


def scheduled_id(event_type: str, tick_us: int) -> str:
    """The id of a schedule's event: there is one of a user each tick."""
    name = event_type if len(event_type) <= 150 else hashlib.sha256(event_type.encode()).hexdigest()
    return f"{name}:{format_instant(tick_us)}"


def anniversary(user_id: str, day: date, occurred_us: int) -> Message:
    """It is an anniversary of the day the user joined; one event for each local day."""
    return _message(ANNIVERSARY, user_id, anniversary_id(day), occurred_us)


def scheduled(user_id: str, event_type: str, tick_us: int) -> Message:
    """A schedule of the catalog came due; one event for each tick, which is when it occurred."""
    return _message(event_type, user_id, scheduled_id(event_type, tick_us), tick_us)


def _message(event_type: str, user_id: str, event_id: str, occurred_us: int) -> Message:
    event = cron_event(event_type, user_id, id=event_id, at_us=occurred_us)
    return Message(event.key, event.value)
