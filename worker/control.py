"""The events of the control topic as bytes: grants and revocations by hand, requests to recompute, scheduled events.

Pure: who builds one gives its id and its instant. Whoever sends the same one again changes nothing, so a repeated run
takes the id of the first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.events import format_instant

#: The source of events that come by commands, panel and scheduler: an app's event with the same id is another event.
SOURCE: Final = "badges"
#: Bounds of what a person writes, characters; the schemas of the events say the same.
NOTE_CHARACTERS: Final = 2_000
ACTOR_CHARACTERS: Final = 200
#: Badges one request to recompute may name.
MOST_BADGES: Final = 1_000


@dataclass(frozen=True, slots=True)
class ControlEvent:
    """One record for the control topic; the key is the user's id."""

    key: bytes
    value: bytes


def grant_added(
    user_id: str,
    badge_key: str,
    *,
    note: str,
    actor: str,
    id: str,
    at_us: int,
    context: str = "",
    awarded_us: int | None = None,
) -> ControlEvent:
    """Give a badge by hand. `at_us` is now, `awarded_us` since when it counts as earned, not later (None: from now)."""
    given = {} if awarded_us is None else {"awarded_at": format_instant(awarded_us)}
    payload = _award(badge_key, context) | _signed(note, actor) | given
    return event("grant.added", user_id, payload, id=id, at_us=at_us)


def grant_revoked(
    user_id: str, badge_key: str, *, note: str, actor: str, id: str, at_us: int, context: str = ""
) -> ControlEvent:
    """Take a badge back by hand: it is not given again but by hand."""
    payload = _award(badge_key, context) | _signed(note, actor)
    return event("grant.revoked", user_id, payload, id=id, at_us=at_us)


def recompute_requested(
    user_id: str, *, actor: str, id: str, at_us: int, note: str = "", badges: Collection[str] = ()
) -> ControlEvent:
    """Have a user folded again from the log; `badges` says which ones it is asked for, every badge is looked at."""
    payload = _signed(note, actor) if note else {"actor": actor}
    named = {"badges": sorted(badges)} if badges else {}
    return event("recompute.requested", user_id, payload | named, id=id, at_us=at_us)


def cron_event(
    name: str, user_id: str, *, id: str, at_us: int, payload: Mapping[str, Any] | None = None
) -> ControlEvent:
    """A scheduled event, `cron.anniversary` or one of the catalog's; `at_us` is the first instant of the local day.

    The id names the day: two with one id are one event.
    """
    return event(name, user_id, payload or {}, id=id, at_us=at_us)


def event(name: str, user_id: str, payload: Mapping[str, Any], *, id: str, at_us: int) -> ControlEvent:
    """An event of this name as a record."""
    body = {
        "id": id,
        "type": name,
        "user_id": user_id,
        "occurred_at": format_instant(at_us),
        "source": SOURCE,
        "payload": payload,
    }
    return ControlEvent(user_id.encode(), json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _award(badge_key: str, context: str) -> dict[str, Any]:
    return {"badge_key": badge_key, "context": context} if context else {"badge_key": badge_key}


def _signed(note: str, actor: str) -> dict[str, Any]:
    return {"note": note, "actor": actor}
