"""The events that jobs send: built so that a repeated run says the same of the same user again, and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Final

import msgspec

from worker.events import format_instant
from worker.exchange import Message

ANNIVERSARY: Final = "cron.anniversary"
#: Where these events come from: beside the user and the id it is part of their identity (decisions 1).
SOURCE: Final = "badges"

#: Sends messages to the control topic, in order per user; returns once all are stored. Paced by whoever made it.
Send = Callable[[Sequence[Message]], Awaitable[None]]

_encode = msgspec.json.Encoder().encode


def anniversary(user_id: str, day: date, occurred_us: int) -> Message:
    """It is an anniversary of the day the user joined; one event for each local day."""
    return _event(user_id, ANNIVERSARY, f"{ANNIVERSARY}:{day.isoformat()}", occurred_us)


def scheduled(user_id: str, event_type: str, tick_us: int) -> Message:
    """A schedule of the catalog came due; one event for each tick, which is when it occurred."""
    name = event_type if len(event_type) <= 150 else hashlib.sha256(event_type.encode()).hexdigest()
    return _event(user_id, event_type, f"{name}:{format_instant(tick_us)}", tick_us)


def _event(user_id: str, event_type: str, event_id: str, occurred_us: int) -> Message:
    body = {
        "id": event_id,
        "type": event_type,
        "user_id": user_id,
        "occurred_at": format_instant(occurred_us),
        "payload": {},
        "source": SOURCE,
    }
    return Message(user_id.encode(), _encode(body))
