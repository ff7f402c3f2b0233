"""What would happen, with nothing written: events played against a catalog, questions about one user answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.events import json_text
from worker.events.types import Event
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.changes import play
from worker.rules.evaluate import Explanation, explain
from worker.rules.phrases import short_instant
from worker.rules.plan import Plan, compile_plan, scope_name
from worker.rules.state import Award, AwardKey, UserState, Withdrawal, award_key


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


@dataclass(slots=True)
class Outcome:
    """An award, the sentence that says why it was given, and what took it back (None: nothing did)."""

    award: Award
    why: str
    taken: Withdrawal | None = None

    @property
    def place(self) -> tuple[int, str, str, str]:
        """Where it stands in a list of them: by instant, user, badge and context."""
        return (self.award.awarded_us, self.award.user_id, self.award.badge_key, self.award.context)

    def as_json(self) -> dict[str, Any]:
        """As command and API tell it; of one that was taken back also when and why."""
        found = {
            "user_id": self.award.user_id,
            "badge_key": self.award.badge_key,
            "context": self.award.context,
            "awarded_at": short_instant(self.award.awarded_us),
            "event_id": self.award.trigger_id,
            "metadata": self.award.metadata,
            "why": self.why,
        }
        if self.taken is None:
            return found
        return found | {"revoked_at": short_instant(self.taken.at_us), "revoked_why": self.taken.reason}


def outcomes(plan: Plan, events: Iterable[Event]) -> list[Outcome]:
    """Every award that these events earn or people give in them, in order, and whether it was taken back."""
    states: dict[str, UserState] = {}
    held: dict[tuple[str, AwardKey], Outcome] = {}
    found: list[Outcome] = []
    for event in events:
        state = states.get(event.user_id)
        if state is None:
            state = states[event.user_id] = UserState(event.user_id)
        for change in play(plan, state, event):
            place = (event.user_id, award_key(change.badge_key, change.context))
            if isinstance(change, Withdrawal):
                if (outcome := held.pop(place, None)) is not None:
                    outcome.taken = change
            elif place not in held:
                held[place] = Outcome(change, reason_of(plan, state, change, event))
                found.append(held[place])
    return found


def reason_of(plan: Plan, state: UserState, award: Award, event: Event) -> str:
    """The sentence that says why an award was given at an event: what it took, or who gave it and why."""
    if award.by_hand:
        return f"given by {event.payload['actor']}: {event.payload['note']}"
    return explain(plan, award.badge_key, state, now_us=event.occurred_us, context=award.context).sentence


def _replayed(plan: Plan, user_id: str, events: Iterable[Event]) -> tuple[UserState, list[Award]]:
    """The memory and the awards of a whole history, given in order."""
    state, awards = UserState(user_id), list[Award]()
    for event in events:
        awards += [change for change in play(plan, state, event) if isinstance(change, Award)]
    return state, awards


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

    A badge is answered whatever its status. Badges it asks for count as held where these events earn them, or people
    give them in these, and do not take them back.
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
        state, awards = _replayed(plan, user_id, seen)
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
        then, _ = _replayed(plan, state.user_id, [event for event in seen if event.order <= trigger])
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
