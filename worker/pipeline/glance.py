"""A first look at users for a backfill: who may have earned what they were not given, and nothing else of them.

Most users of a backfill need nothing. So they are looked at with a plan of the badges in question alone, reading no
other events and no memory. Whoever earns something by that is locked. Where nothing has come meanwhile, and nothing but
awards that are held is known of the user, that is what they are given; else they are looked at again as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from worker.exchange import Standing
from worker.pipeline.repair_protocols import RepairTransaction
from worker.pipeline.users import QUEUED, TURN_EVENTS
from worker.rules import evaluate
from worker.rules.ir import tests
from worker.rules.plan import Plan, Route, compile_plan
from worker.rules.state import Award, AwardKey

#: Events that are read at a time, at most. A look at few of them reads a quarter at a time: of the page that is read
#: ahead nothing may be needed, and while a page is decoded nobody else has the event loop.
_PAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Narrow:
    """A plan of some badges: `keys` are those of which it must be known who holds them, `types` the events that matter.

    None for all types. `final`: what users earn by it is what they earn by the whole plan, with the same figures, and
    giving it changes nothing of their memory.
    """

    plan: Plan
    keys: tuple[str, ...]
    types: tuple[str, ...] | None
    final: bool


@dataclass(frozen=True, slots=True)
class Earned:
    """What a user has earned by so many events that matter, holding these awards."""

    events: int
    held: Mapping[AwardKey, int]
    awards: Sequence[Award]


@dataclass(slots=True)
class Glimpse:
    """What a look at a page of users came to. `last` is the last one looked at, `suspects` those who need another.

    `earned` says of those suspects who are not behind the catalog what they have earned.
    """

    users: int
    last: str
    suspects: list[str]
    earned: dict[str, Earned] = field(default_factory=dict)
    waiting: int = 0
    events: int = 0


def narrow_of(plan: Plan, badges: frozenset[str] | None) -> Narrow:
    """The plan of some badges of a plan, and of those they ask for; of all of them for None."""
    narrow = plan if badges is None else compile_plan(plan.catalog, only=badges)
    keys = tuple(sorted({*narrow.numbers, *narrow.asked}))
    asked = {name for key in narrow.asked for name in narrow.badges[key].triggers}
    final = not (narrow.falling or narrow.marked or narrow.conditions) and _memories(narrow) <= _memories(plan)
    if "*" in asked or _matters(narrow.other):
        return Narrow(narrow, keys, None, final)
    zones = set() if narrow.zones is None else {narrow.zones.event}
    types = asked.union(zones, (name for name, route in narrow.routes.items() if _matters(route)))
    return Narrow(narrow, keys, tuple(sorted(types)), final)


def _memories(plan: Plan) -> set[str]:
    """The ids of the memories that a plan looks at; one that is kept up to another bound is another."""
    return {plan.sources(test).id for goal in plan.goals for test in tests(goal.badge.formula)}


def as_earned(earned: Earned, count: int, standing: Standing, keys: Collection[str]) -> bool:
    """Whether what was earned when a user was looked at stands, now that the user is locked and has so many events."""
    held = {key: at for key, (at, _) in standing.held.items() if key[0] in keys}
    known = standing.lost or standing.withheld or standing.first or standing.barred
    return not known and count == earned.events and held == earned.held


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
    following = iter(users)
    at, state, asking, count = "", None, None, 0
    awards: list[Award] = []

    def over() -> bool:
        """Go past the user at hand; whether the slice is full."""
        nonlocal awards, count
        if at:
            seen.users, seen.last = seen.users + 1, at
            version = versions[at]
            if version == QUEUED:
                seen.waiting += 1
            elif awards or version != basis:
                seen.suspects.append(at)
                if version == basis and narrow.final:
                    seen.earned[at] = Earned(count, held.get(at, {}), awards)
                awards = []
        seen.events, count = seen.events + count, 0
        return len(seen.suspects) >= most or seen.events >= events

    async with aclosing(transaction.logs_of(users, narrow.types, page=min(_PAGE, max(1, events // 4)))) as logs:
        async for part in logs:
            for event in part:
                if event.user_id != at:
                    while event.user_id != at:
                        if over():
                            return seen
                        at = next(following)
                    state, asking = evaluate.begin_again(plan, at, held.get(at, {}))
                count += 1
                turn += 1
                awards += evaluate.apply(plan, state, event, also=asking.at(event))  # type: ignore[arg-type, union-attr]
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
