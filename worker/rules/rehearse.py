"""What would happen, with nothing written: events played against a catalog, questions about one user answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.events import json_text
from worker.events.types import Event
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.evaluate import Explanation, apply, explain, replay
from worker.rules.plan import Plan, compile_plan, scope_name
from worker.rules.state import Award, UserState


def in_order(events: Iterable[Event]) -> tuple[list[Event], list[tuple[Event, Event]]]:
    """Events sorted as the engine sees them, repeats dropped; and pairs (kept, dropped) of one identity, two contents.

    Of such a pair the first in order is kept. A schedule's event with a known id is a repeat whatever its content.
    """
    kept: dict[tuple[str, str, str], Event] = {}
    clashes: dict[tuple[str, str, str], list[Event]] = {}
    for event in events:
        key = (event.user_id, event.source, event.id)
        other = kept.setdefault(key, event)
        if other is event or same_content(other, event):
            continue
        first, second = sorted((other, event), key=lambda one: (one.occurred_us, one.type, one.payload_json))
        kept[key] = first
        if not event.type.startswith("cron."):
            clashes.setdefault(key, []).append(second)
    pairs = [(kept[key], dropped) for key, several in clashes.items() for dropped in several]
    return sorted(kept.values(), key=lambda event: event.order), pairs


def same_content(one: Event, other: Event) -> bool:
    """Whether two events of one identity are one event (decisions 1)."""
    return (
        one.type == other.type
        and one.occurred_us == other.occurred_us
        and (one.payload_json == other.payload_json or json_text.equal(one.payload, other.payload))
    )


def simulate(plan: Plan, events: Iterable[Event]) -> Iterator[tuple[Award, str]]:
    """Every award that these events earn, given in order, each with the sentence that says why."""
    states: dict[str, UserState] = {}
    for event in events:
        state = states.get(event.user_id)
        if state is None:
            state = states[event.user_id] = UserState(event.user_id)
        for award in apply(plan, state, event):
            found = explain(plan, award.badge_key, state, now_us=event.occurred_us, context=award.context)
            yield award, found.sentence


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether one user earns one badge as of an instant, in one context, and why."""

    badge: Badge
    context: str
    passed: bool
    metadata: Mapping[str, Any]
    explanation: Explanation


class DryRun:
    """Answers questions about users from their events alone, by plans that keep all an explanation shows.

    A badge is answered whatever its status. Badges it asks for count as held where these events earn them.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._badges = {badge.key: badge for badge in catalog.badges}
        self._plans: dict[frozenset[str], Plan] = {}

    def answers(
        self, user_id: str, events: Sequence[Event], keys: Collection[str], *, at_us: int, context: str | None = None
    ) -> list[Answer]:
        """The answers for badges of the catalog, in its order; `events` are the user's, in order.

        Without a `context`, a badge that is given per payload value is answered for the first value for which it is
        earned, else for the one that is nearest. A milestone is earned once it was achieved, with the figures of then.
        """
        seen = [event for event in events if event.occurred_us <= at_us]
        plan = self._plan(frozenset(keys))
        state, awards = replay(plan, user_id, seen, {})
        return [
            self._answer(plan, badge, state, awards, seen, at_us, context)
            for badge in self.catalog.badges
            if badge.key in keys
        ]

    def _plan(self, keys: frozenset[str]) -> Plan:
        if keys not in self._plans:
            self._plans[keys] = compile_plan(self.catalog, exact=True, only=keys)
        return self._plans[keys]

    def _answer(
        self,
        plan: Plan,
        badge: Badge,
        state: UserState,
        awards: Sequence[Award],
        seen: Sequence[Event],
        at_us: int,
        context: str | None,
    ) -> Answer:
        if badge.ever:
            return self._milestone(plan, badge, state, awards, seen, at_us)
        if badge.per is None:
            contexts = [""]
        elif context is not None:
            contexts = [context]
        else:
            contexts = contexts_of(badge, state) or [""]
        found = [(one, explain(plan, badge.key, state, now_us=at_us, context=one)) for one in contexts]
        chosen, explanation = max(found, key=lambda pair: (pair[1].passed, pair[1].nearness))
        return Answer(badge, chosen, explanation.passed, explanation.metadata, explanation)

    def _milestone(
        self,
        plan: Plan,
        badge: Badge,
        state: UserState,
        awards: Sequence[Award],
        seen: Sequence[Event],
        at_us: int,
    ) -> Answer:
        award = next((one for one in awards if one.badge_key == badge.key), None)
        if award is None:
            explanation = _waiting(badge, explain(plan, badge.key, state, now_us=at_us))
            return Answer(badge, "", explanation.passed, explanation.metadata, explanation)
        trigger = (award.awarded_us, award.trigger_source, award.trigger_id)
        then, _ = replay(plan, state.user_id, [event for event in seen if event.order <= trigger], {})
        explanation = explain(plan, badge.key, then, now_us=award.awarded_us)
        return Answer(badge, "", explanation.passed, award.metadata, explanation)


def _waiting(badge: Badge, found: Explanation) -> Explanation:
    """The explanation of a milestone that was not achieved: its rule may hold by now, but at none of its triggers."""
    if not found.passed:
        return found
    sentence = f"{found.sentence}; given at the next {' or '.join(sorted(badge.triggers))}"
    tree = {**found.tree, "operator": "milestone", "verdict": "not_passed", "sentence": sentence}
    return replace(found, passed=False, tree={**tree, "children": [found.tree]})


def contexts_of(badge: Badge, state: UserState) -> list[str]:
    """The contexts of a badge that a user's memory knows, in the order in which they came up."""
    start = scope_name(badge.per, "")
    return [scope[len(start) :] for scope in state.scopes if scope.startswith(start)]
