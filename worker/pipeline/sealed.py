"""Memory whose events retention removed: kept at the cut, and what a user's log is folded again from.

Theory of operation. A fold that reads a type with a floor is closed: the log no longer shows the whole of it. When
events of a user are removed, the closed folds are kept as they stood at the cut (the seal). Folding the log again then
goes in two parts. Up to the seal it serves the open folds alone, whose events are all there: badges that read a type
with a floor are not judged, for what they were judged by is gone. At the seal the closed folds are put in as they were
kept; from there on everything goes its way, and no count is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Protocol

from worker.events import Event
from worker.exchange import Seal
from worker.pipeline.protocols import Transaction
from worker.pipeline.scope import closed_folds, sealed_badges
from worker.rules import evaluate
from worker.rules.plan import Plan, context_of
from worker.rules.state import NEVER, AwardKey, UserState, award_key


class CutTransaction(Transaction, Protocol):
    """What a cut asks beside what a batch does."""

    async def cut(self, user_id: str, seal: Seal, floors: Mapping[str, int]) -> int:
        """Keep the memory of a locked user at a cut, and remove the events below the floors; how many there were."""


class Sight:
    """Guides one fold of a log that was cut; `before` is told each event first, `end` that there are no more.

    `badges` are those that are not judged before the seal.
    """

    def __init__(self, plan: Plan, seal: Seal) -> None:
        self._seal = seal
        self._closed = closed_folds(plan, seal.types)
        self.badges = sealed_badges(plan, seal.types)
        self._unjudged = [badge for badge in plan.badges.values() if badge.key in self.badges]
        self._barred: set[AwardKey] = set()
        self._open = False

    def before(self, state: UserState, event: Event) -> None:
        """Make the state ready for an event: nothing that was cut into is judged before the seal."""
        if self._open:
            return
        if event.order > self._seal.newest:
            self.end(state)
            return
        for badge in self._unjudged:
            context = "" if badge.per is None else context_of(event.payload, badge.per)
            if context is not None:
                key = award_key(badge.key, context)
                if key not in state.held:
                    state.held[key] = NEVER
                    self._barred.add(key)

    def end(self, state: UserState) -> None:
        """Put in what was kept."""
        if self._open:
            return
        self._open = True
        for key in self._barred:
            if state.held.get(key) == NEVER:
                del state.held[key]
        for scope, folds in state.scopes.items():
            for fold_id in self._closed & folds.keys():
                del folds[fold_id]
                state.touch(scope)
        for scope, kept in self._seal.scopes.items():
            known = {fold_id: deepcopy(value) for fold_id, value in kept.items() if fold_id in self._closed}
            if known:
                state.scopes.setdefault(scope, {}).update(known)
                state.touch(scope)
        state.newest = max(state.newest or self._seal.newest, self._seal.newest)


async def sight_of(transaction: Transaction, plan: Plan, user_id: str) -> Sight | None:
    """What guides a fold of a locked user's log; None where nothing of it was removed."""
    seal = await transaction.sealed(user_id)
    return None if seal is None else Sight(plan, seal)


async def cut_user(transaction: CutTransaction, plan: Plan, user_id: str, floors: Mapping[str, int]) -> int | None:
    """Remove a user's events below the floors, in a transaction of its own; how many, None where the user must wait.

    1 lock the user; who is not built for this version of the catalog is left for later: the build needs the log
    2 bring the memory to the newest logged event and write it, so that nothing that goes is still to be folded
    3 fold the log up to the highest floor, from the seal before; keep the closed folds; remove the events
    """
    state = (await transaction.lock([user_id], version=plan.basis))[user_id]
    if state.built_version != plan.basis:
        return None
    await _bring_forward(transaction, plan, state)
    seal = await _seal(transaction, plan, user_id, floors)
    await transaction.save([state])
    return 0 if seal is None else await transaction.cut(user_id, seal, floors)


async def _bring_forward(transaction: Transaction, plan: Plan, state: UserState) -> None:
    tail = (await transaction.tails([state])).get(state.user_id, [])
    scopes = {"", *(scope for event in tail for scope in plan.scopes(event))}
    await transaction.read({state.user_id: state}, [(state.user_id, scope) for scope in sorted(scopes)])
    for event in tail:
        evaluate.fold(plan, state, event)


async def _seal(transaction: Transaction, plan: Plan, user_id: str, floors: Mapping[str, int]) -> Seal | None:
    before = await transaction.sealed(user_id)
    types = frozenset(floors) | (frozenset() if before is None else before.types)
    closed = closed_folds(plan, types)
    sight = None if before is None else Sight(plan, before)
    state, highest = UserState(user_id, scopes={"": {}}), max(floors.values())
    async for event in transaction.log_of(user_id):
        if event.occurred_us >= highest:
            break
        if sight is not None:
            sight.before(state, event)
        evaluate.fold(plan, state, event)
    if sight is not None:
        sight.end(state)
    if state.newest is None:
        return None
    kept: dict[str, dict[str, Any]] = {}
    for scope, folds in state.scopes.items():
        if found := {fold_id: value for fold_id, value in folds.items() if fold_id in closed}:
            kept[scope] = found
    return Seal(state.newest, types, kept)
