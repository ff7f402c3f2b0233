"""Small catalogs and histories for tests of plan, evaluation and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.events import Event, parse_instant
from worker.events.json_text import dumps
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import Explanation, apply, explain, replay
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import Award, UserState

DAY = 86_400_000_000
NOON = parse_instant("2024-03-01T12:00:00Z")
EVENTS: dict[str, Any] = {
    "comment.posted": {"noun": {"one": "comment", "other": "comments"}},
    "answer.scored": {"noun": {"one": "answer", "other": "answers"}},
    "user.logged_in": {},
    "user.registered": {},
    "order.paid": {},
}


def catalog(*flows: Any, version: int = 1, **sections: Any) -> Catalog:
    """A catalog whose badges are these flows (b0, b1, …) or entries with a key of their own."""
    badges = [
        {"key": f"b{number}", **(flow if "flow" in flow and "event" not in flow else {"flow": flow})}
        for number, flow in enumerate(flows)
    ]
    return catalog_from_document({"version": 1, "events": EVENTS, "badges": badges, **sections}, version)


def plan(*flows: Any, **sections: Any) -> Plan:
    """The plan of `catalog`."""
    return compile_plan(catalog(*flows, **sections))


def event(kind: str, day: float = 0, id: str | None = None, **payload: Any) -> Event:
    """An event of user u, so many days after noon of 1 March 2024."""
    us = NOON + round(day * DAY)
    return Event("u", kind, us, "", id or f"{kind}@{day}", payload, dumps(payload))


def play(compiled: Plan, events: Iterable[Event], held: Mapping[tuple[str, str], int] | None = None) -> list[Award]:
    """The awards of a history."""
    return replay(compiled, "u", events, held or {})[1]


def earned(awards: Iterable[Award]) -> list[tuple[str, str, str]]:
    """(badge, context, trigger) of awards."""
    return [(award.badge_key, award.context, award.trigger_id) for award in awards]


def why(compiled: Plan, events: Iterable[Event], key: str = "b0", *, day: float | None = None) -> Explanation:
    """The explanation of a badge after a history, as of its end or of a day."""
    state = UserState("u")
    newest = NOON
    for one in events:
        apply(compiled, state, one)
        newest = one.occurred_us
    return explain(compiled, key, state, now_us=newest if day is None else NOON + round(day * DAY))
