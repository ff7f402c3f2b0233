"""One event to awards: steps the folds it matches, tests the badges that may newly hold, and says why.

`apply` is the one function that changes a user's memory, whoever calls it: a batch, a rebuild, a simulation. `replay`
is `apply` over a history. `explain` (see `explain.py`) answers for one badge, branch by branch.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from worker.events.types import Event
from worker.rules.explain import Explanation, explain
from worker.rules.operators.calendar import Calendar
from worker.rules.phrases import short_instant
from worker.rules.plan import Goal, Plan, Route, Subject, context_of, figures, mark_of, scope_name
from worker.rules.state import NEVER, Award, AwardKey, UserState, award_key

__all__ = ["Asking", "Explanation", "apply", "begin_again", "explain", "fold", "replay"]

#: An award as badge and context, and the id of the event that earned it (None: not known).
Given = tuple[str, str, str | None]
#: Where it is known of no award which event earned it.
NOT_KNOWN: Final[Mapping[AwardKey, str | None]] = {}


def apply(plan: Plan, state: UserState, event: Event, *, also: Collection[int] = ()) -> list[Award]:
    """The awards this event earns; the event must be newer than `state.newest`, in order, and of this user.

    In this order: 1 the user's zone is changed where it says so, 2 the folds it matches are stepped, 3 the badges that
    may newly hold are tested, each after those it asks for, 4 what is earned is held from now on. `state` then stands
    after the event, its changed scopes in `dirty`.
    `also` are the numbers of goals to test whatever the event changes.
    """
    route = plan.routes.get(event.type) or plan.route(event.type)
    state.newest = (event.occurred_us, event.source, event.id)
    calendar = plan.calendar if plan.zones is None else plan.zones.at(state, event)
    due = step_folds(route, state, event, calendar)
    if also:
        due += also
    return _test(plan, state, event, calendar, due) if due else []


def fold(plan: Plan, state: UserState, event: Event) -> None:
    """Bring the memory past an event whose awards were given when it was first applied; nothing is tested."""
    state.newest = (event.occurred_us, event.source, event.id)
    calendar = plan.calendar if plan.zones is None else plan.zones.at(state, event)
    step_folds(plan.routes.get(event.type) or plan.route(event.type), state, event, calendar)


def replay(
    plan: Plan,
    user_id: str,
    events: Iterable[Event],
    held: Mapping[AwardKey, int],
    earned: Mapping[AwardKey, str | None] = NOT_KNOWN,
) -> tuple[UserState, list[Award]]:
    """The memory and the awards of a whole history, given in order; `held` are awards that are not given again.

    `earned` are the ids of the events that earned them, where they are known.
    """
    state, asking = begin_again(plan, user_id, held, earned)
    awards: list[Award] = []
    for event in events:
        awards.extend(apply(plan, state, event, also=asking.at(event)))
    return state, awards


class Asking:
    """Which goals ask for awards that are held already, by the event that may have earned them."""

    __slots__ = ("_given", "_plan")

    def __init__(self, plan: Plan, given: Mapping[int, Sequence[Given]]) -> None:
        """`given` are the awards by the instant they were given at."""
        self._plan = plan
        self._given = given

    def at(self, event: Event) -> Collection[int]:
        """The numbers of the goals to test at an event: an award of a context was earned by an event of it.

        Where it is not known which one, by each of that instant.
        """
        found: set[int] = set()
        for key, context, event_id in self._given.get(event.occurred_us, ()):
            if event_id is not None and event_id != event.id:
                continue
            per = self._plan.badges[key].per
            if per is None or context_of(event.payload, per) == context:
                found.update(self._plan.asked[key])
        return found


def begin_again(
    plan: Plan, user_id: str, held: Mapping[AwardKey, int], earned: Mapping[AwardKey, str | None] = NOT_KNOWN
) -> tuple[UserState, Asking]:
    """The memory before a history, of a user who holds these awards; and the goals to test also.

    What is held is not given again, so those who ask for it are tested where it was given: at the events that are named
    in `earned`. What is withheld (`NEVER`) is not given either, and helps nobody who asks for it.
    """
    state = UserState(user_id, held=dict(held))
    given: dict[int, list[Given]] = defaultdict(list)
    for (key, context), awarded_us in held.items():
        if awarded_us == NEVER:
            continue
        if key in plan.marked:
            mark(state, key, awarded_us)
        if key in plan.asked:
            given[awarded_us].append((key, context, earned.get((key, context))))
    return state, Asking(plan, given)


def step_folds(route: Route, state: UserState, event: Event, calendar: Calendar) -> list[int]:
    """Step the folds the event matches; the numbers of the goals to test, repeats among them."""
    due = list(route.watchers)
    scopes = state.scopes
    for gate in route.gates(event, calendar) if route.every is None else route.every:
        scope = ""
        if gate.per is not None:
            context = context_of(event.payload, gate.per)
            if context is None:
                continue
            scope = scope_name(gate.per, context)
        states = scopes.get(scope)
        if states is None:
            states = scopes[scope] = {}
        changed = False
        for fold_id, step, level_of, rungs, ladders, dependents in gate.turns:
            before = states.get(fold_id)
            after = step(before, event, calendar)
            if after is before:
                continue
            states[fold_id] = after
            changed = True
            if level_of is not None:
                level = level_of(after)
                # Where the count has not moved, its rung was tested when it came there.
                if level in rungs and (before is None or level_of(before) != level):
                    due += rungs[level]
            for ladder in ladders:
                ladder.crossed(before, after, event.occurred_us, calendar, due)
            if dependents:
                due += dependents
        if changed:
            state.touch(scope)
    return due


def _test(plan: Plan, state: UserState, event: Event, calendar: Calendar, due: list[int]) -> list[Award]:
    """Test goals in order of their numbers; a grant adds those that ask for it."""
    waiting = sorted(set(due), reverse=True) if len(due) > 1 else due
    subject: Subject | None = None
    awards: list[Award] = []
    while waiting:
        goal = plan.goals[waiting.pop()]
        badge = goal.badge
        context = "" if badge.per is None else context_of(event.payload, badge.per)
        if context is None or (badge.key, context) in state.held:
            continue
        if subject is None:
            subject = Subject(state, event.occurred_us, calendar)
        scope = scope_name(badge.per, context)
        state.evaluations += 1
        if not goal.holds(subject, scope, context):
            continue
        awards.append(award_of(goal, subject, scope, context, event))
        state.held[award_key(badge.key, context)] = event.occurred_us
        if goal.mark is not None:
            mark(state, badge.key, event.occurred_us)
        for number in goal.dependents:
            if number not in waiting:
                insort(waiting, number, key=int.__neg__)
    return awards


def award_of(goal: Goal, subject: Subject, scope: str, context: str, event: Event) -> Award:
    metadata = figures(goal.shows, subject, scope)
    if goal.badge.ever:
        metadata["awarded_at"] = short_instant(event.occurred_us)
        metadata["event_id"] = event.id
    return Award(
        user_id=event.user_id,
        badge_key=goal.badge.key,
        context=context,
        awarded_us=event.occurred_us,
        trigger_id=event.id,
        trigger_type=event.type,
        trigger_source=event.source,
        metadata=metadata,
    )


def mark(state: UserState, badge_key: str, awarded_us: int) -> None:
    """Note the first award of a badge with contexts at the user's level, for badges that ask for it in any context."""
    states = state.scopes.setdefault("", {})
    mark = mark_of(badge_key)
    states[mark] = min(awarded_us, states.get(mark, awarded_us))
    state.touch("")
