"""A first look at users for a backfill: who may have earned what they were not given, and nothing else of them.

Most users of a backfill need nothing. So they are looked at with a plan of the badges in question alone, reading no
other events and no memory; whoever earns something by that is looked at again as a whole, under a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from worker.pipeline.repair_protocols import RepairTransaction
from worker.pipeline.users import QUEUED, TURN_EVENTS
from worker.rules import evaluate
from worker.rules.plan import Plan, Route, compile_plan


@dataclass(frozen=True, slots=True)
class Narrow:
    """A plan of some badges: `keys` are those of which it must be known who holds them, `types` the events that matter.

    None for all types.
    """

    plan: Plan
    keys: tuple[str, ...]
    types: tuple[str, ...] | None


@dataclass(slots=True)
class Glimpse:
    """What a look at a page of users came to. `last` is the last one looked at, `suspects` those who need another."""

    users: int
    last: str
    suspects: list[str]
    waiting: int = 0
    events: int = 0


def narrow_of(plan: Plan, badges: frozenset[str] | None) -> Narrow:
    """The plan of some badges of a plan, and of those they ask for; of all of them for None."""
    narrow = plan if badges is None else compile_plan(plan.catalog, only=badges)
    keys = tuple(sorted({*narrow.numbers, *narrow.asked}))
    asked = {name for key in narrow.asked for name in narrow.badges[key].triggers}
    if "*" in asked or _matters(narrow.other):
        return Narrow(narrow, keys, None)
    zones = set() if narrow.zones is None else {narrow.zones.event}
    types = asked.union(zones, (name for name, route in narrow.routes.items() if _matters(route)))
    return Narrow(narrow, keys, tuple(sorted(types)))


async def glance(
    transaction: RepairTransaction,
    narrow: Narrow,
    page: Sequence[tuple[str, int]],
    *,
    basis: int,
    events: int,
    most: int,
) -> Glimpse:
    """Look at users, given with the version each is built for, until the slice is full.

    It is once so many `events` were read, or so many suspects found; who is behind the catalog is one.
    """
    versions = dict(page)
    users = [user_id for user_id, _ in page]
    held = await transaction.held_of(users, narrow.keys)
    seen = Glimpse(0, "", [])
    plan, turn = narrow.plan, 0
    logs = transaction.logs_of(users, narrow.types)
    following = iter(users)
    at, state, asking, found = "", None, None, False

    def over() -> bool:
        """Go past the user at hand; whether the slice is full."""
        nonlocal found
        if at:
            seen.users, seen.last = seen.users + 1, at
            version = versions[at]
            if version == QUEUED:
                seen.waiting += 1
            elif found or version != basis:
                seen.suspects.append(at)
        found = False
        return len(seen.suspects) >= most or seen.events >= events

    async for part in logs:
        for event in part:
            if event.user_id != at:
                while event.user_id != at:
                    if over():
                        return seen
                    at = next(following)
                state, asking = evaluate.begin_again(plan, at, held.get(at, {}))
            seen.events += 1
            turn += 1
            if evaluate.apply(plan, state, event, also=asking.at(event)):  # type: ignore[arg-type, union-attr]
                found = True
            if turn >= TURN_EVENTS:
                turn = 0
                await asyncio.sleep(0)
    while True:
        if over():
            return seen
        at = next(following, "")
        if not at:
            return seen


def _matters(route: Route) -> bool:
    return bool(route.dispatches or route.watchers)
