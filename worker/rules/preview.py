"""What a new catalog would give to a population: each user's log played by a plan of the badges in question."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from msgspec import structs

from worker.events.types import Event
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.changes import BY_HAND, play
from worker.rules.evaluate import Asking, begin_again
from worker.rules.ir import All, Check, Clause, Node, Some, Test, Windowed
from worker.rules.plan import Route, compile_plan
from worker.rules.state import NEVER, UserState

#: Who came so far counts as close.
CLOSE = Decimal("0.8")
#: No key of a catalog ends so: the badge that is earned at `CLOSE` of every lower bound of another.
_NEARLY = "~close"
_LOWER = ("$gte", "$gt")

Held = Mapping[tuple[str, str], int]


@dataclass(slots=True)
class Gain:
    """What one badge would bring: awards, to how many users, of whom how many hold it for the first time.

    `close` counts users (or contexts) that came to 80 % and not further, `holding` users who hold it and gain nothing;
    `samples` are (instant, user), oldest first.
    """

    badge: Badge
    awards: int = 0
    users: int = 0
    new_holders: int = 0
    close: int = 0
    holding: int = 0
    first_us: int | None = None
    last_us: int | None = None
    samples: list[tuple[int, str]] = field(default_factory=list)


class Preview:
    """Plays users' logs, one user after the other, and counts what they would be given; nothing is written."""

    def __init__(self, catalog: Catalog, keys: Collection[str], *, samples: int | None = 10) -> None:
        """`keys` are the badges to count, `samples` how many users to name for each (None: all)."""
        chosen = [badge for badge in catalog.badges if badge.key in keys]
        twins = [twin for badge in chosen if (twin := _nearly(badge)) is not None]
        both = replace(catalog, badges=(*catalog.badges, *twins))
        self.plan = compile_plan(both, only={badge.key for badge in (*chosen, *twins)})
        self.gains = {badge.key: Gain(badge) for badge in chosen}
        self.users = 0
        self.events = 0
        self.seen: set[str] = set()
        self._samples = samples
        self._state: UserState | None = None
        self._asking: Asking | None = None
        self._held: Held = {}

    @property
    def types(self) -> frozenset[str] | None:
        """The event types that can matter; None where all do."""
        asked = (self.plan.badges[key].triggers for key in self.plan.asked)
        found = frozenset(name for triggers in asked for name in triggers)
        if "*" in found or _matters(self.plan.other):
            return None
        if self.plan.falls_anywhere:
            return None
        zones = set() if self.plan.zones is None else {self.plan.zones.event}
        found = found.union(BY_HAND, self.plan.falls)
        return found.union(zones, (name for name, route in self.plan.routes.items() if _matters(route)))

    @property
    def keys(self) -> list[str]:
        """The badges of which it must be known who holds them: those counted and those they ask for."""
        return sorted({*self.gains, *self.plan.numbers, *self.plan.asked} - {key + _NEARLY for key in self.gains})

    def begin(self, user_id: str, held: Held) -> None:
        """Go on to the next user, who holds these awards."""
        self.end()
        self.users += 1
        self._held = held
        self._state, self._asking = begin_again(self.plan, user_id, held)
        self._state.fixed = frozenset(held)  # what is held is not in question

    def take(self, event: Event) -> None:
        """The next event of the user, in order."""
        assert self._state is not None  # noqa: S101 (begin was called)
        assert self._asking is not None  # noqa: S101
        self.events += 1
        self.seen.add(event.type)
        play(self.plan, self._state, event, also=self._asking.at(event))

    def end(self) -> None:
        """Count what the user, if there is one, was given."""
        state = self._state
        if state is None:
            return
        given: dict[str, list[int]] = {}
        for (key, context), at_us in state.held.items():
            if (key, context) in self._held or at_us == NEVER:
                continue
            if key in self.gains:
                given.setdefault(key, []).append(at_us)
            elif key.endswith(_NEARLY) and (key.removesuffix(_NEARLY), context) not in state.held:
                self.gains[key.removesuffix(_NEARLY)].close += 1
        holding = {key for key, _ in self._held}
        for key in holding.intersection(self.gains) - given.keys():
            self.gains[key].holding += 1
        for key, instants in given.items():
            self._count(self.gains[key], state.user_id, instants, new=key not in holding)
        self._state = None

    def _count(self, gain: Gain, user_id: str, instants: list[int], *, new: bool) -> None:
        gain.awards += len(instants)
        gain.users += 1
        gain.new_holders += new
        first, last = min(instants), max(instants)
        gain.first_us = first if gain.first_us is None else min(first, gain.first_us)
        gain.last_us = last if gain.last_us is None else max(last, gain.last_us)
        gain.samples.append((first, user_id))
        if self._samples is not None and len(gain.samples) > 2 * self._samples + 100:
            gain.samples = sorted(gain.samples)[: self._samples]

    def close(self) -> None:
        """End the last user; the figures stand."""
        self.end()
        for gain in self.gains.values():
            gain.samples = sorted(gain.samples)[: self._samples]


def _matters(route: Route) -> bool:
    return bool(route.dispatches or route.watchers)


def _nearly(badge: Badge) -> Badge | None:
    """The badge with its lower bounds at 80 %; None where that is the same."""
    formula = _lowered(badge.formula)
    return None if formula == badge.formula else structs.replace(badge, key=badge.key + _NEARLY, formula=formula)


def _lowered(node: Node) -> Node:
    match node:
        case Test(fold=fold):
            clauses = tuple(_lowered_bound(clause) for clause in fold.match.clauses)
            checks = tuple(_lowered_bound(check) for check in node.checks)
            if clauses == fold.match.clauses and checks == node.checks:
                return node
            return structs.replace(
                node, fold=structs.replace(fold, match=structs.replace(fold.match, clauses=clauses)), checks=checks
            )
        case All(children=children) | Some(children=children):
            return structs.replace(node, children=tuple(_lowered(child) for child in children))
        case Windowed(child=child):
            return structs.replace(node, child=_lowered(child))
    return node


def _lowered_bound(bound: Any) -> Any:
    assert isinstance(bound, Check | Clause)  # noqa: S101 (both have an operator and an operand)
    operand = bound.operand
    if bound.operator not in _LOWER or isinstance(operand, bool) or not isinstance(operand, int | Decimal):
        return bound
    return structs.replace(bound, operand=operand * CLOSE) if operand > 1 else bound
