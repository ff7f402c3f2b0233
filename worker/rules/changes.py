"""What an event gives and takes: as `evaluate`, and what falls again, what people gave and took, what is held back.

Theory of operation. Whether a user has an award is decided by the latest grant or revocation by hand of it, in the
order of events; without any by the badge's criterion: held since it first held, or, where the badge is `revocable:
auto`, as long as it holds. `live` says what one event changes of that, given the state before it. `Refold` says what a
whole log comes to, against what is stored: both lead to the same awards held.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterator
from typing import Final

from msgspec.structs import replace

from worker.events import Event, parse_instant
from worker.rules.evaluate import apply, award_of, begin_again, mark, step_folds
from worker.rules.operators.calendar import Calendar
from worker.rules.plan import Plan, Subject, context_of, mark_of, scope_name
from worker.rules.state import NEVER, Award, AwardKey, Change, Holdings, UserState, Withdrawal, award_key

#: The events by which people give and take badges.
GRANTED: Final = "grant.added"
REVOKED: Final = "grant.revoked"
BY_HAND: Final = frozenset({GRANTED, REVOKED})
#: Why a badge was taken back that nobody took.
FELL: Final = "What it takes no longer holds."

#: Whether an award is to be held back, by badge and the event that earns it.
Hold = Callable[[str, Event], bool]


def live(
    plan: Plan, state: UserState, event: Event, *, also: Collection[int] = (), hold: Hold | None = None
) -> list[Change]:
    """What this event changes, as `evaluate.apply` says it; with what falls, is held back, or a person says.

    The event is newer than `state.newest`; the awards of its contexts are in `state.held`.
    """
    route = plan.routes.get(event.type) or plan.route(event.type)
    state.newest = (event.occurred_us, event.source, event.id)
    calendar = plan.calendar if plan.zones is None else plan.zones.at(state, event)
    due = [*step_folds(route, state, event, calendar), *also]
    if plan.falling:
        due += (number for number in plan.falling_at(event.type) if _may_fall(plan, state, number, event))
    changes: list[Change] = []
    if due:
        _settle(plan, state, event, calendar, due, changes, hold)
    if event.type in BY_HAND and event.payload["badge_key"] in plan.badges:
        _by_hand(plan, state, event, calendar, changes, hold)
    return changes


def award_named(event: Event) -> AwardKey:
    """The award that a grant or a revocation by hand names."""
    return award_key(event.payload["badge_key"], event.payload.get("context", ""))


def awarded_at(event: Event) -> int:
    """Since when a badge counts as earned that was given by hand. Raises ValueError where that is no instant."""
    given = event.payload.get("awarded_at")
    return event.occurred_us if given is None else parse_instant(given)


def play(plan: Plan, state: UserState, event: Event, *, also: Collection[int] = ()) -> list[Change]:
    """As `live` for a rehearsal: nothing is held back, and events by hand that a worker refuses do nothing."""
    return live(plan, state, event, also=also) if _carried_out(plan, event) else []


def _carried_out(plan: Plan, event: Event) -> bool:
    """Whether a worker does what an event by hand says; true of all other events."""
    if event.type not in BY_HAND:
        return True
    key, context = award_named(event)
    badge = plan.badges.get(key)
    if badge is None or (badge.per is None) is bool(context):
        return False
    try:
        return awarded_at(event) <= event.occurred_us
    except ValueError:
        return False


def scopes_by_hand(plan: Plan, event: Event) -> tuple[str, ...]:
    """What an event by hand may read and write besides what its type says: its award's context."""
    key, context = award_named(event)
    badge = plan.badges.get(key)
    return ("",) if badge is None else tuple({"", scope_name(badge.per, context)})


def _may_fall(plan: Plan, state: UserState, number: int, event: Event) -> bool:
    badge = plan.goals[number].badge
    context = "" if badge.per is None else context_of(event.payload, badge.per)
    return context is not None and _falls(plan, state, (badge.key, context))


def _falls(plan: Plan, state: UserState, key: AwardKey) -> bool:
    """Whether an award is held that no person gave, of a badge that may be taken back."""
    return key[0] in plan.falling and state.held.get(key, NEVER) != NEVER and key not in state.fixed


def _settle(
    plan: Plan,
    state: UserState,
    event: Event,
    calendar: Calendar,
    due: Collection[int],
    changes: list[Change],
    hold: Hold | None,
) -> None:
    """Test goals in order of their numbers, held or not; each change adds those that ask for the badge."""
    waiting = sorted(set(due), reverse=True)
    subject = Subject(state, event.occurred_us, calendar)
    while waiting:
        goal = plan.goals[waiting.pop()]
        badge = goal.badge
        context = "" if badge.per is None else context_of(event.payload, badge.per)
        if context is None:
            continue
        key = award_key(badge.key, context)
        is_held = key in state.held
        if is_held and not _falls(plan, state, key):
            continue
        scope = scope_name(badge.per, context)
        state.evaluations += 1
        if goal.holds(subject, scope, context) is is_held:
            continue
        if is_held:
            del state.held[key]
            _remark(plan, state, badge.key)
            changes.append(_withdrawal(event, key, FELL))
        else:
            award = award_of(goal, subject, scope, context, event)
            if hold is not None and hold(badge.key, event):
                state.held[key] = NEVER
                changes.append(replace(award, held_back=True))
                continue
            _hold(plan, state, key, event.occurred_us)
            changes.append(award)
        for number in goal.dependents:
            if number not in waiting:
                insort(waiting, number, key=int.__neg__)


def _by_hand(
    plan: Plan, state: UserState, event: Event, calendar: Calendar, changes: list[Change], hold: Hold | None
) -> None:
    key = award_named(event)
    at = state.held.get(key, NEVER)
    if event.type == GRANTED:
        since = awarded_at(event)
        if at > event.occurred_us:
            _hold(plan, state, key, since)
            state.fixed = {*state.fixed, key}
            changes.append(_given(event, key, since))
        else:
            if _falls(plan, state, key):  # held already; from here on because a person said so
                state.fixed = {*state.fixed, key}
                changes.append(_given(event, key, at))
            if at != since:  # else it may be this very grant, seen again: whoever asks for the badge is tested here
                return
    else:
        state.held[key] = NEVER
        state.fixed = frozenset(state.fixed - {key})
        _remark(plan, state, key[0])
        changes.append(_withdrawal(event, key, event.payload["note"], by_hand=True))
        if at > event.occurred_us:
            return
    asking = plan.asked.get(key[0])
    if asking:
        _settle(plan, state, _in_context(plan, event, key), calendar, asking, changes, hold)


def _in_context(plan: Plan, event: Event, key: AwardKey) -> Event:
    """The event as one of the award's context, for the badges that ask for it there."""
    badge = plan.badges.get(key[0])
    if badge is None or badge.per is None:
        return event
    return replace(event, payload={**event.payload, badge.per: key[1]})


def _given(event: Event, key: AwardKey, awarded_us: int) -> Award:
    said = event.payload
    return Award(
        user_id=event.user_id,
        badge_key=key[0],
        context=key[1],
        awarded_us=awarded_us,
        trigger_id=event.id,
        trigger_type=event.type,
        trigger_source=event.source,
        metadata={"note": said["note"], "actor": said["actor"]},
        by_hand=True,
    )


def _withdrawal(event: Event, key: AwardKey, reason: str, *, by_hand: bool = False) -> Withdrawal:
    return Withdrawal(
        event.user_id, *key, event.occurred_us, event.id, event.type, event.source, reason, by_hand=by_hand
    )


def _hold(plan: Plan, state: UserState, key: AwardKey, at_us: int) -> None:
    state.held[key] = at_us
    if key[0] in plan.marked:
        mark(state, key[0], at_us)


def _remark(plan: Plan, state: UserState, badge_key: str) -> None:
    """Note anew since when a badge with contexts is held in any of those loaded, after one of them is gone."""
    if badge_key not in plan.marked:
        return
    left = [at for (key, _), at in state.held.items() if key == badge_key and at != NEVER]
    states = {**state.scopes.get("", {})}
    states.pop(mark_of(badge_key), None)
    if left:
        states[mark_of(badge_key)] = min(left)
    state.scopes[""] = states
    state.touch("")


class Refold:
    """A user's log taken from the beginning, event by event, in order; `changes` says what it asks of what is stored.

    What is held stays held, but for what falls or was revoked; what is withheld stays withheld, but for what was given
    by hand since. `state` is the memory; once `changes` was asked, with the awards as they are to be. Badges in `kept`
    do not fall by themselves: the log no longer shows all that earned them.
    """

    def __init__(
        self, plan: Plan, user_id: str, known: Holdings, *, hold: Hold | None = None, kept: Collection[str] = ()
    ) -> None:
        self._plan = plan
        self._known = known
        self._kept = kept
        self._hold = None if hold is None else lambda key, event: key not in plan.falling and hold(key, event)
        seeds, earned = self._seeds()
        self.state, self._asking = begin_again(plan, user_id, seeds, earned)
        if plan.falling:
            self.state.fixed = frozenset(key for key in seeds if key in known.by_hand or key[0] in kept)
        self._whole = bool(plan.falling or hold is not None)
        self._given: dict[AwardKey, Award] = {}
        self._fell: dict[AwardKey, Withdrawal] = {}
        self._said: dict[AwardKey, Event] = {}

    def _seeds(self) -> tuple[dict[AwardKey, int], dict[AwardKey, str | None]]:
        """What the log is taken with: held awards since they were first given, what is withheld as never held.

        What falls by itself is left out, to be judged again; what was revoked falls where the log says so.
        """
        known = self._known
        first = {key: found for key, found in known.first.items() if not self._is_judged(key)}
        found = {key: found for key, found in known.held.items() if not self._is_judged(key)}
        found |= first
        seeds = {key: at for key, (at, _) in found.items()}
        seeds |= {key: NEVER for key, state in known.withheld.items() if state != "revoked" or key in known.barred}
        return seeds, {key: event_id for key, (_, event_id) in found.items()}

    def _is_judged(self, key: AwardKey) -> bool:
        """Whether the log decides on it from its beginning: a person's word does from where it stands there."""
        return key[0] in self._plan.falling and key[0] not in self._kept

    def _may_fall(self, key: AwardKey) -> bool:
        return key[0] in self._plan.falling and key not in self._known.by_hand and key[0] not in self._kept

    def take(self, event: Event) -> None:
        """The next event."""
        also = self._asking.at(event)
        by_hand = event.type in BY_HAND and event.payload.get("badge_key") in self._plan.badges
        if not (by_hand or self._whole):
            for award in apply(self._plan, self.state, event, also=also):
                self._given[award.badge_key, award.context] = award
            return
        for change in live(self._plan, self.state, event, also=also, hold=self._hold):
            key = award_key(change.badge_key, change.context)
            self._given.pop(key, None)
            if isinstance(change, Award):
                self._given[key] = change
            else:
                self._fell[key] = change
        if by_hand:
            self._said[award_named(event)] = event

    def changes(self) -> list[Change]:
        """What is to be taken back and what is to be given, each in order."""
        taken = list(self._taken())
        given = list(self._due())
        self._conclude(taken)
        return [*taken, *given]

    def _taken(self) -> Iterator[Withdrawal]:
        known, state = self._known, self.state
        for key, event in self._said.items():
            if event.type == REVOKED and (key in known.held or known.withheld.get(key) != "revoked"):
                yield _withdrawal(event, key, event.payload["note"], by_hand=True)
        for key in known.held:
            if key not in self._said and self._may_fall(key) and state.held.get(key, NEVER) == NEVER:
                found = self._fell.get(key)
                yield found or self._never_held(key)

    def _never_held(self, key: AwardKey) -> Withdrawal:
        """The withdrawal of an award that the log, as it is by now, never earns: at its newest event."""
        at_us, source, event_id = self.state.newest or (0, "", "")
        return Withdrawal(self.state.user_id, *key, at_us, event_id, "", source, FELL)

    def _due(self) -> Iterator[Award]:
        known = self._known
        for key, award in self._given.items():
            confirmed = award.by_hand and self._may_fall(key)
            if (key in known.held and not confirmed) or (key in known.withheld and not award.by_hand):
                continue
            said = self._said.get(key)
            if said is None or said.type == GRANTED:
                yield award

    def _conclude(self, taken: Collection[Withdrawal]) -> None:
        """Leave the state with the awards as they are to be stored."""
        known, state, plan = self._known, self.state, self._plan
        if not (self._whole or self._said or known.withheld or known.first):
            return
        gone = {award_key(one.badge_key, one.context): one.by_hand for one in taken}
        held = {key: at for key, (at, _) in known.held.items() if key not in gone}
        held |= dict.fromkeys(known.withheld, NEVER)
        held |= {key: NEVER for key, by_hand in gone.items() if by_hand}
        for award in self._due():
            key = award_key(award.badge_key, award.context)
            if key not in known.held:
                held[key] = NEVER if award.held_back else award.awarded_us
        state.held = held
        given_by_hand = {key for key, award in self._given.items() if award.by_hand}
        state.fixed = frozenset(key for key in known.by_hand | given_by_hand if held.get(key, NEVER) != NEVER)
        for badge_key in plan.marked:
            _remark(plan, state, badge_key)
