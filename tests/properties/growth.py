"""The growth laws of the engine, as counts of operations: how each is measured, for the sizes a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from cProfile import Profile
from dataclasses import asdict, dataclass
from pstats import Stats
from typing import Any

import msgspec

from worker.events import Event
from worker.events.json_text import dumps
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import apply
from worker.rules.plan import Plan, Tally, compile_plan
from worker.rules.state import UserState

DAY = 86_400_000_000
START = 1_700_000_000_000_000
Flow = dict[str, Any]

#: What one user's events are looked at by in every catalog: a ladder, and as many in the last 14 days.
WATCHED: tuple[Flow, ...] = (
    *({"event": "a.done", "criteria": {"$eventCount": {"$gte": 10**power}}} for power in range(6)),
    {"$timeWindow": {"last": "14d", "flow": {"event": "a.done", "criteria": {"$eventCount": {"$gte": 10}}}}},
)

#: Badges that no event here earns or comes near, one kind of filter each.
SILENT: tuple[Callable[[int], Flow], ...] = (
    lambda n: {"event": "a.done", "criteria": {"item": f"i{n}"}},
    lambda n: {"event": "a.done", "criteria": {"kind": "k", "item": f"i{n}"}},
    lambda n: {"event": "a.done", "criteria": {"tag": {"$in": [f"t{n}", f"u{n}"]}}},
    lambda n: {"event": "a.done", "criteria": {"score": {"$gte": 100 + n}}},
    lambda n: {"event": "a.done", "criteria": {"score": {"$between": [100 + n, 101 + n]}}},
    lambda n: {"$timeWindow": {"last": "7d", "flow": {"event": "a.done", "criteria": {"item": f"i{n}"}}}},
    lambda n: {"event": "b.done", "criteria": {"item": f"i{n}"}},
    lambda n: {"event": "a.done", "criteria": {"$eventCount": {"$gte": 10**9 + n}}},
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one event took: filters checked, folds stepped, badges tested, functions called (Python's own too)."""

    checks: int
    steps: int
    tests: int
    calls: int


def catalog_of(silent: int, *, watched: tuple[Flow, ...] = WATCHED) -> Catalog:
    """The watched badges and so many silent ones."""
    flows = [*watched, *(SILENT[number % len(SILENT)](number) for number in range(silent))]
    badges = [{"key": f"b{number}", "flow": flow} for number, flow in enumerate(flows)]
    document = {"version": 1, "events": {"a.done": {}, "b.done": {}}, "badges": badges}
    return catalog_from_document(document, 1)


def plan_of(silent: int, *, watched: tuple[Flow, ...] = WATCHED) -> tuple[Plan, Tally]:
    """The plan of the watched badges and so many silent ones, and the tally of its work."""
    tally = Tally()
    return compile_plan(catalog_of(silent, watched=watched), tally=tally), tally


def event(number: int, *, user: str = "u", apart: int = DAY // 2, payload: Mapping[str, Any] | None = None) -> Event:
    """One event of a user, the later the higher its number."""
    payload = {"item": "none", "kind": "k", "tag": ["x", "y"], "score": 50} if payload is None else payload
    return Event(user, "a.done", START + number * apart, "", f"{number:07}", payload, dumps(payload))


def cost(plan: Plan, tally: Tally, state: UserState, one: Event) -> Cost:
    """The work of naming an event's scopes and applying it."""
    before = asdict(tally)
    with Profile() as profile:
        plan.scopes(one)
        apply(plan, state, one)
    counted = {name: count - before[name] for name, count in asdict(tally).items()}
    return Cost(**counted, calls=int(Stats(profile).total_calls))  # type: ignore[attr-defined]


def stored_bytes(state: UserState) -> int:
    """How much a user's memory takes where it is stored."""
    return len(msgspec.msgpack.encode(state.scopes))


def cost_by_catalog(sizes: tuple[int, ...]) -> list[Cost]:
    """The work of a user's 20th event, for catalogs with so many silent badges."""
    found = []
    for size in sizes:
        plan, tally = plan_of(size)
        state = UserState("u")
        for number in range(20):
            apply(plan, state, event(number))
        found.append(cost(plan, tally, state, event(20)))
    return found


def cost_by_history(flow: Flow, lengths: tuple[int, ...], apart: int) -> list[tuple[Cost, int]]:
    """The work of a user's next event after so many, and what the user's memory takes then."""
    plan, tally = plan_of(0, watched=(flow,))
    state = UserState("u")
    found = []
    number = 0
    for length in lengths:
        while number < length:
            apply(plan, state, event(number, apart=apart, payload={"item": number % 1000, "n": number % 7}))
            number += 1
        one = event(number, apart=apart, payload={"item": 1, "n": 1})
        found.append((cost(plan, tally, state, one), stored_bytes(state)))
        number += 1
    return found


def cost_by_users(counts: tuple[int, ...]) -> list[tuple[Cost, int]]:
    """The work of a new user's first event after so many other users' first, and what that user's memory takes."""
    plan, tally = plan_of(100)
    found = []
    number = 0
    for count in counts:
        while number < count:
            apply(plan, UserState("other"), event(number % 50, user="other"))
            number += 1
        state = UserState("u")
        found.append((cost(plan, tally, state, event(7)), stored_bytes(state)))
    return found
