"""Whether a new plan finds in users' memories all that it asks of them, or their logs must be read again first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Any

from worker.rules.catalog.definitions import Badge
from worker.rules.ir import All, Held, Node, Not, Some, Test, Windowed, canonical, tests
from worker.rules.normalize import normalize
from worker.rules.operators import VERDICTS
from worker.rules.plan.dispatch import json_key
from worker.rules.plan.formula import prerequisites
from worker.rules.plan.model import Goal, Plan
from worker.rules.plan.zones import zone_rule


def needs_build(old: Plan, new: Plan) -> bool:
    """Whether users that stand at `old` lack something `new` asks for: a memory, or a test that was never made.

    Where this is False, a user's memory under `old` holds that under `new`, and no event before the change earns an
    award under `new` that it did not earn under `old`: labels, badges left out and statuses that end a badge need no
    build, unless another badge asks for one of them. Both plans must be of catalogs, not of a choice of badges.
    """
    if zone_rule(old.catalog) != zone_rule(new.catalog):
        return True
    known = {goal.badge.key: goal for goal in old.goals}
    if any(goal.badge.key not in known for goal in new.goals):
        return True
    return any(_asked(new, goal) != _asked(old, known[goal.badge.key]) for goal in new.goals)


def _asked(plan: Plan, goal: Goal) -> Hashable:
    """What a goal's verdict, its figures and the occasions on which it is tested depend on: its folds among it.

    Every fold of a plan is some goal's, so that plans whose goals agree keep the same.
    """
    badge = goal.badge
    needs = tuple((key, key in plan.numbers, plan.badges[key].per) for key in prerequisites(badge.formula))
    kept = meaning(normalize(badge.formula), lambda test: plan.sources(test).id)
    return (badge.per, badge.triggers, badge.ever, needs, kept)


def meaning(node: Node, fold_of: Callable[[Test], Hashable]) -> Hashable:
    """A formula with its folds by identity, and without where and with which word it was written."""
    match node:
        case Test():
            checks = tuple((check.operator, json_key(check.operand)) for check in node.checks)
            decided = (node.operator, json_key(node.params)) if node.operator in VERDICTS else None
            return ("test", fold_of(node), node.fact, checks, node.shows, decided)
        case Held(badge_key=key):
            return ("held", key)
        case Not(child=child) | Windowed(child=child):
            return (type(node).__name__, meaning(child, fold_of))
        case All(children=children) | Some(children=children):
            parts = [meaning(child, fold_of) for child in children]
            return parts[0] if len(parts) == 1 else (type(node).__name__, *parts)


def memories_hash(plan: Plan) -> str:
    """Names the identities under which a plan finds users' memories: 16 hex digits, equal where all of them are."""
    ids = {plan.sources(test).id for goal in plan.goals for test in tests(normalize(goal.badge.formula))}
    ids.update(goal.mark for goal in plan.goals if goal.mark is not None)
    if plan.zones is not None:
        ids.add(plan.zones.id)
    return hashlib.sha256(" ".join(sorted(ids)).encode()).hexdigest()[:16]


def definition_hash(badge: Badge) -> str:
    """Names what a badge takes and when it is looked at: 16 hex digits, equal where both are, whatever the words.

    Labels, tiers and statuses are no part of it: an award stands for its test.
    """
    asked = _written(normalize(badge.formula))
    text = canonical((badge.per, tuple(sorted(badge.triggers)), badge.ever, asked))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _written(node: Node) -> Any:
    """A formula as plain tuples, as `meaning` has it, to be written down."""
    match node:
        case Test():
            checks = tuple((check.operator, check.operand) for check in node.checks)
            decided = (node.operator, node.params) if node.operator in VERDICTS else None
            return ("test", node.fold.id, node.fact, checks, decided)
        case Held(badge_key=key):
            return ("held", key)
        case Not(child=child) | Windowed(child=child):
            return (type(node).__name__, _written(child))
        case All(children=children) | Some(children=children):
            parts = tuple(map(_written, children))
            return parts[0] if len(parts) == 1 else (type(node).__name__, *parts)
