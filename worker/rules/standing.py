"""One user seen through a whole catalog: why each award was given, what is earned but missing, how far the rest is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Protocol

from worker.events.types import Event
from worker.rules.bests import Bests
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.changes import Refold
from worker.rules.evaluate import Explanation, apply, begin_again, explain
from worker.rules.ir import counted
from worker.rules.plan import EVALUATED, Plan, compile_plan, context_of
from worker.rules.plan.timing import DOWN, drift
from worker.rules.rehearse import contexts_of
from worker.rules.state import Award, AwardKey, Holdings, UserState

#: The closest moment is looked for among so many of a user's newest occasions at most.
MOST_OCCASIONS: Final = 10_000
#: Of the values of a payload field so many are looked at for the nearest one, the newest first.
_MOST_CONTEXTS: Final = 1_000
#: What `explain` leaves of the way to a lower bound, so that no rounding makes the last step look taken.
_UNTAKEN: Final = Fraction(99, 100)


@dataclass(frozen=True, slots=True)
class Given:
    """When an award was given, and the id of the event that earned it (None: no event did, or it is not known)."""

    awarded_us: int
    trigger_id: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a user is towards one badge that is not held, in the context that is nearest.

    `fraction` is from 0 to 1; `next` where it is the lowest of its ladder or tenure that is not held, or stands alone;
    `holds` where the criterion is met by now, though no event was an occasion to give it.
    """

    badge: Badge
    context: str
    fraction: Fraction
    sentence: str
    next: bool
    holds: bool
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Closest:
    """The occasion on which a user came nearest to a badge: its event, the context, the explanation of then."""

    badge: Badge
    context: str
    at_us: int
    event_id: str
    explanation: Explanation


class Guide(Protocol):
    """Leads through a log of which retention removed events: each event is told it first, and that there are no more.

    The awards of `badges` stay as they are: the log no longer shows all that earned them.
    """

    badges: frozenset[str]

    def before(self, state: UserState, event: Event) -> None:
        """Make the state ready for an event."""

    def end(self, state: UserState) -> None:
        """Put in what was kept of the events that went."""


class Standing:
    """Plays one user's log, in order, by a plan that keeps all an explanation shows (`exact`).

    Awards that the user holds count as held from when they were given; what else the log comes to is `missing`, by the
    rules by which users are folded again. Events after `at_us` are passed over. In memory is the state of one user,
    however long the log.
    """

    def __init__(
        self,
        plan: Plan,
        user_id: str,
        held: Mapping[AwardKey, Given],
        *,
        at_us: int,
        context: str | None = None,
        known: Holdings | None = None,
        guide: Guide | None = None,
    ) -> None:
        """`context` is the one that is asked about, where it is one; `known` what is stored beside what is held.

        `guide` is there where events of the log were removed.
        """
        self.plan = plan
        self._bests = Bests((goal.badge for goal in plan.goals), context=context)
        self.user_id = user_id
        self.at_us = at_us
        self.events = 0
        self.first_us: int | None = None
        self.last_us: int | None = None
        self.types: Counter[str] = Counter()
        self.reasons: dict[AwardKey, Explanation] = {}
        self._held = held
        self._due: dict[tuple[int, str | None], list[AwardKey]] = {}
        for key, given in held.items():
            if key[0] in plan.numbers:
                self._due.setdefault((given.awarded_us, given.trigger_id), []).append(key)
        stored = Holdings({key: (given.awarded_us, given.trigger_id) for key, given in held.items()})
        self._guide = guide
        kept = frozenset() if guide is None else guide.badges
        self._refold = Refold(plan, user_id, stored if known is None else known, kept=kept)
        self._missing: list[Award] | None = None

    @property
    def state(self) -> UserState:
        """The memory of the events taken."""
        return self._refold.state

    @property
    def missing(self) -> list[Award]:
        """What the log comes to and the user does not hold, nor is withheld; to be asked once all events are taken."""
        if self._missing is None:
            changes = self._refold.changes()
            self._missing = [
                change
                for change in changes
                if isinstance(change, Award) and self.plan.badges[change.badge_key].status in EVALUATED
            ]
        return self._missing

    def take(self, events: Iterable[Event]) -> None:
        """The next events of the user."""
        plan, state = self.plan, self.state
        for event in events:
            if event.occurred_us > self.at_us:
                return
            self.events += 1
            self.first_us = event.occurred_us if self.first_us is None else self.first_us
            self.last_us = event.occurred_us
            self.types[event.type] += 1
            self._bests.take(event)
            if self._guide is not None:
                self._guide.before(state, event)
            self._refold.take(event)
            for key in self._due.pop((event.occurred_us, event.id), ()):
                self.reasons[key] = explain(plan, key[0], state, now_us=event.occurred_us, context=key[1])

    def close(self) -> None:
        """There are no more events."""
        if self._guide is not None:
            self._guide.end(self.state)

    def explained(self, badge: Badge, context: str | None = None) -> tuple[str, Explanation]:
        """A badge as of the instant asked for: in a context, else in that which is earned or nearest."""
        chosen, found = explained(self.plan, self.state, badge, at_us=self.at_us, context=context)
        return self._bests.told(badge, chosen, found)

    def occasions(self) -> dict[str, int]:
        """How many events taken were an occasion for each badge of the plan."""
        found: dict[str, int] = {}
        for goal in self.plan.goals:
            badge = goal.badge
            found[badge.key] = sum(count for name, count in self.types.items() if is_occasion(badge, name))
        return found

    def progress(self) -> list[Progress]:
        """The badges that are given and that the user neither holds nor earned: the nearest first, then in order."""
        held = {key for key, _ in self._held} | {award.badge_key for award in self.missing}
        lowest: set[tuple[str, str]] = set()
        found = []
        for badge in self.plan.catalog.badges:
            if badge.key in held or badge.status not in EVALUATED or badge.key not in self.plan.numbers:
                continue
            row = row_of(badge)
            found.append(self._progress(badge, next_one=row is None or row not in lowest))
            if row is not None:
                lowest.add(row)
        return sorted(found, key=lambda one: -one.fraction)

    def _progress(self, badge: Badge, *, next_one: bool) -> Progress:
        context, explanation = self.explained(badge)
        return Progress(
            badge=badge,
            context=context,
            fraction=fraction_of(explanation),
            sentence=sentence_of(badge, explanation),
            next=next_one,
            holds=explanation.passed,
            explanation=explanation,
        )


def explained(
    plan: Plan, state: UserState, badge: Badge, *, at_us: int, context: str | None = None
) -> tuple[str, Explanation]:
    """A badge of a user as of an instant: in a context, else in that which is earned or nearest, and which it is."""
    if badge.per is None:
        contexts: Sequence[str] = ("",)
    elif context is not None:
        contexts = (context,)
    else:
        contexts = contexts_of(badge, state)[-_MOST_CONTEXTS:] or ("",)
    found = [(one, explain(plan, badge.key, state, now_us=at_us, context=one)) for one in contexts]
    return max(found, key=lambda pair: (pair[1].passed, pair[1].nearness))


class Search:
    """Looks, in a user's log played in order, for the occasion that came closest to each of some badges.

    An occasion is an event of the badge's triggers. Of `occasions`, which says how many there are for each badge, only
    the newest `most` are tried; where several came as close, the last one is told.
    """

    def __init__(
        self,
        plan: Plan,
        user_id: str,
        held: Mapping[AwardKey, Given],
        occasions: Mapping[str, int],
        *,
        context: str | None = None,
        most: int = MOST_OCCASIONS,
    ) -> None:
        self.closest: dict[str, Closest] = {}
        self._plan = plan
        self._context = context
        self._skip = {key: max(0, count - most) for key, count in occasions.items()}
        given = {key: one.awarded_us for key, one in held.items()}
        self._state, self._asking = begin_again(
            plan, user_id, given, {key: one.trigger_id for key, one in held.items()}
        )

    def take(self, events: Iterable[Event], *, at_us: int) -> None:
        """The next events of the user, up to an instant."""
        for event in events:
            if event.occurred_us > at_us:
                return
            apply(self._plan, self._state, event, also=self._asking.at(event))
            for key in self._skip:
                badge = self._plan.badges[key]
                if is_occasion(badge, event.type):
                    if self._skip[key]:
                        self._skip[key] -= 1
                    else:
                        self._try(badge, event)

    def _try(self, badge: Badge, event: Event) -> None:
        context = "" if badge.per is None else context_of(event.payload, badge.per)
        if context is None or (badge.per is not None and self._context not in (None, context)):
            return
        found = explain(self._plan, badge.key, self._state, now_us=event.occurred_us, context=context)
        best = self.closest.get(badge.key)
        if best is None or found.nearness >= best.explanation.nearness:
            self.closest[badge.key] = Closest(badge, context, event.occurred_us, event.id, found)


def exact_plan(catalog: Catalog, held: Collection[str] = (), *, only: Collection[str] | None = None) -> Plan:
    """The plan for `Standing`: of what is given and what a user holds, or `only` of some badges."""
    given = {badge.key for badge in catalog.badges if badge.status in EVALUATED}
    return compile_plan(catalog, exact=True, only={*given, *held} if only is None else only)


def is_occasion(badge: Badge, event_type: str) -> bool:
    """Whether a badge is looked at when such an event comes."""
    return event_type in badge.triggers or ("*" in badge.triggers and counted(event_type))


def fades(badge: Badge) -> bool:
    """Whether time alone may take a user further away from a badge, as from one that counts the last days."""
    return bool(drift(badge.formula) & DOWN)


def row_of(badge: Badge) -> tuple[str, str] | None:
    """The ladder or tenure that a badge is a step of; None where it stands alone."""
    return (badge.kind, badge.path.split("/")[2]) if badge.kind in ("ladder", "tenure") else None


def fraction_of(explanation: Explanation) -> Fraction:
    """How much of the way is done, from 0 to 1: exact where one figure is asked for, else an estimate."""
    if explanation.passed:
        return Fraction(1)
    node = explanation.tree
    while len(node["children"]) == 1 and node["operator"] == "$timeWindow":
        node = node["children"][0]
    figures = explanation.nearness if node["children"] else explanation.nearness / _UNTAKEN
    return min(figures, Fraction(9999, 10000))


def sentence_of(badge: Badge, explanation: Explanation) -> str:
    """The first sentence for a badge that is not held: where the criterion is met by now, what it waits for."""
    if not explanation.passed:
        return explanation.sentence
    return f"{explanation.sentence}; given at the next {_occasions(badge)}"


def waiting(badge: Badge, found: Explanation) -> Explanation:
    """The explanation of a badge whose criterion is met by now, but was at none of its triggers: not passed."""
    tree = {**found.tree, "operator": "trigger", "verdict": "not_passed", "sentence": sentence_of(badge, found)}
    return replace(found, passed=False, tree={**tree, "children": [found.tree]})


def _occasions(badge: Badge) -> str:
    return " or ".join(sorted("event" if name == "*" else name for name in badge.triggers))


def plain_figure(value: Any) -> bool:
    """Whether what a node has is one figure, fit for a short remark."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
