"""Plays events one by one and says what each changed: awards earned and taken back, how far it brought the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from worker.events.types import Event
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.changes import play
from worker.rules.evaluate import Explanation, explain
from worker.rules.plan import EVALUATED, Plan, compile_plan, context_of
from worker.rules.rehearse import reason_of
from worker.rules.standing import explained, fraction_of, is_occasion, sentence_of
from worker.rules.state import Change as Changed
from worker.rules.state import UserState, Withdrawal


@dataclass(frozen=True, slots=True)
class Change:
    """Where a badge of a user stands: earned by the event, or so far from it; `fraction` is from 0 to 1.

    `taken` is one that the event took back.
    """

    badge: Badge
    context: str
    sentence: str
    fraction: Fraction = Fraction(1)
    earned: bool = True
    taken: bool = False

    def as_json(self) -> dict[str, Any]:
        """As command, API and panel show it."""
        return {
            "badge_key": self.badge.key,
            "label": self.badge.label or self.badge.key,
            "context": self.context,
            "earned": self.earned,
            "fraction": round(float(self.fraction), 4),
            "sentence": self.sentence,
            **({"taken": True} if self.taken else {}),
        }


@dataclass(frozen=True, slots=True)
class Turn:
    """One event and what it changed: what it earned first, then what it moved, as the catalog has them."""

    event: Event
    changes: tuple[Change, ...]


class Player:
    """Users at the point to which their events were played; `overrides` give metrics a value (`simulate --set`).

    A badge is moved by an event where it is an occasion for it and what would be said of it is not what it was.
    """

    def __init__(self, catalog: Catalog, *, overrides: Mapping[str, Any] | None = None) -> None:
        self.plan: Plan = compile_plan(catalog, exact=True, overrides=overrides)
        self._states: dict[str, UserState] = {}
        self._said: dict[tuple[str, str, str], str] = {}
        self._looking: dict[str, tuple[Badge, ...]] = {}

    def play(self, events: Iterable[Event]) -> Iterator[Turn]:
        """Events in order (of any users), each with what it changed."""
        for event in events:
            yield self.step(event)

    def step(self, event: Event) -> Turn:
        """The next event; it must not come before the user's last one."""
        state = self._states.get(event.user_id)
        if state is None:
            state = self._states[event.user_id] = UserState(event.user_id)
        changes = [self._changed(state, change, event) for change in play(self.plan, state, event)]
        changes += (found for badge in self._occasions(event.type) if (found := self._moved(state, badge, event)))
        return Turn(event, tuple(changes))

    def standing(self, user_id: str, *, at_us: int) -> list[Change]:
        """Where every badge of the catalog stands for a user at an instant after the last event, in its order.

        A badge given per payload value that was earned is told for each value, else for the nearest.
        """
        state = self._states.get(user_id) or UserState(user_id)
        found: list[Change] = []
        for badge in self.plan.catalog.badges:
            if badge.key not in self.plan.numbers or badge.status not in EVALUATED:
                continue
            held = [context for (key, context), at in state.held.items() if key == badge.key and at <= at_us]
            if held:
                found += (Change(badge, one, self._said[user_id, badge.key, one]) for one in held)
            else:
                context, explanation = explained(self.plan, state, badge, at_us=at_us)
                found.append(_not_yet(badge, context, explanation))
        return found

    def _occasions(self, event_type: str) -> tuple[Badge, ...]:
        if event_type not in self._looking:
            badges = (goal.badge for goal in self.plan.goals)
            self._looking[event_type] = tuple(badge for badge in badges if is_occasion(badge, event_type))
        return self._looking[event_type]

    def _changed(self, state: UserState, change: Changed, event: Event) -> Change:
        badge, place = self.plan.badges[change.badge_key], (event.user_id, change.badge_key, change.context)
        if isinstance(change, Withdrawal):
            self._said.pop(place, None)
            return Change(badge, change.context, change.reason, Fraction(0), earned=False, taken=True)
        self._said[place] = reason_of(self.plan, state, change, event)
        return Change(badge, change.context, self._said[place])

    def _moved(self, state: UserState, badge: Badge, event: Event) -> Change | None:
        context = "" if badge.per is None else context_of(event.payload, badge.per)
        if context is None or (badge.key, context) in state.held:
            return None
        found = explain(self.plan, badge.key, state, now_us=event.occurred_us, context=context)
        place = (event.user_id, badge.key, context)
        change = _not_yet(badge, context, found)
        if self._said.get(place) == change.sentence or not (found.nearness or place in self._said):
            return None
        self._said[place] = change.sentence
        return change


def _not_yet(badge: Badge, context: str, found: Explanation) -> Change:
    return Change(badge, context, sentence_of(badge, found), fraction_of(found), earned=False)
