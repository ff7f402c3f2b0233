"""Why a badge is earned or not yet: its formula as a tree, every branch evaluated, each node with its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from worker.events.instants import format_instant
from worker.rules.catalog.definitions import Badge
from worker.rules.ir import All, Check, Frozen, Held, Match, Moment, Node, Not, Some, Test, Windowed, tests
from worker.rules.operators import VERDICTS, always
from worker.rules.operators.condition import CONDITION, answered
from worker.rules.operators.facts import Verdict, check_fact, figure
from worker.rules.operators.within import WITHIN_TIME_WINDOW, conditions_alone
from worker.rules.plan import Plan, Subject, figures, held_since, scope_name
from worker.rules.sentences import Words, all_of, none_of, some_of, within_window
from worker.rules.state import UserState

Json = dict[str, Any]
Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer for one badge: the verdict, the figures an award would carry, and the tree they came from.

    `nearness` is how far the user is, from 0 to 1; 1 where the badge is earned.
    """

    passed: bool
    metadata: Mapping[str, Any]
    tree: Mapping[str, Any]
    nearness: Fraction

    @property
    def sentence(self) -> str:
        """The tree's first sentence."""
        return str(self.tree["sentence"])


def explain(plan: Plan, badge_key: str, state: UserState, *, now_us: int, context: str = "") -> Explanation:
    """Whether the user of this state meets a badge's criterion as of `now_us`, in one context, and why.

    The state must have been folded by this plan. Raises KeyError for a badge that the plan does not test.
    """
    goal = plan.goals[plan.numbers[badge_key]]
    subject = Subject(state, now_us, plan.calendar_of(state))
    scope = scope_name(goal.badge.per, context)
    reason = _Reader(plan, goal.badge, subject, context, Words(plan.catalog, subject.calendar)).read(goal.badge.formula)
    metadata = figures(goal.shows, subject, scope)
    return Explanation(reason.passed, metadata, reason.as_json(), Fraction(1) if reason.passed else reason.nearness)


@dataclass(slots=True)
class Reason:
    """One node of the tree. `leaves_us` is when the oldest event counted falls out of a window that moves with now.

    `parked`: about how many events its condition type was not asked, being parked after faults.
    """

    operator: str
    path: str
    passed: bool
    sentence: str
    nearness: Fraction
    actual: Any = None
    bound: Any = None
    window: Json | None = None
    events: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    children: tuple[Reason, ...] = ()
    leaves_us: int | None = None
    evaluated: bool = True
    parked: int = 0

    def as_json(self) -> Json:
        """The node as command, API and panel show it."""
        return {
            "operator": self.operator,
            "path": self.path,
            "events": list(self.events),
            "actual": self.actual,
            "bound": self.bound,
            "verdict": "passed" if self.passed else "not_passed" if self.evaluated else "not_evaluated",
            "sentence": self.sentence,
            "window": self.window,
            "event_ids": list(self.event_ids),
            "children": [child.as_json() for child in self.children],
            **({"parked": self.parked} if self.parked else {}),
        }


class _Reader:
    """Reads one badge's formula for one subject and context."""

    def __init__(
        self,
        plan: Plan,
        badge: Badge,
        subject: Subject,
        context: str,
        words: Words,
        facts_of: Callable[[Test], Facts] | None = None,
    ) -> None:
        """`facts_of` finds what a test looks at where that is not the subject's memory."""
        self.plan = plan
        self.badge = badge
        self.subject = subject
        self.context = context
        self.words = words
        self.facts_of = facts_of or self._facts
        self.scope = scope_name(badge.per, context)
        self.now_us = subject.now_us
        self.calendar = subject.calendar

    def read(self, node: Node) -> Reason:
        """The reason of a node and all below it."""
        match node:
            case Test():
                return self._test(node)
            case Held():
                return self._held(node)
            case Windowed():
                return self._window(node)
            case Not(child=child, path=path):
                below = self.read(child)
                sentence = none_of(below.sentence, passed=not below.passed)
                nearness = Fraction(not below.passed)
                return Reason(
                    "$not", path, not below.passed, sentence, nearness, below.passed, {"$eq": False}, children=(below,)
                )
            case All(children=children, operator=operator, path=path):
                told = [child for child in children if not isinstance(child, Test) or not always(child)]
                told = told or [*children[:1]]
                if operator != "$and" and len(told) == 1:
                    return self.read(told[0])
                return self._all(operator, path, [self.read(child) for child in told])
            case Some(children=children, path=path):
                return self._some(path, [self.read(child) for child in children])

    def _all(self, operator: str, path: str, below: list[Reason]) -> Reason:
        holding = sum(child.passed for child in below)
        missing = [child.sentence for child in below if not child.passed]
        return Reason(
            operator,
            path,
            not missing,
            all_of(holding, len(below), missing),
            sum((child.nearness for child in below), Fraction()) / len(below),
            holding,
            {"$gte": len(below)},
            children=tuple(below),
        )

    def _some(self, path: str, below: list[Reason]) -> Reason:
        holding = sum(child.passed for child in below)
        nearest = max(below, key=lambda child: (child.passed, child.nearness))
        sentence = some_of(holding, len(below), nearest.sentence)
        return Reason("$or", path, holding > 0, sentence, nearest.nearness, holding, {"$gte": 1}, children=tuple(below))

    def _held(self, node: Held) -> Reason:
        goals = self.plan.goals
        other = self.plan.badges[node.badge_key]
        since = held_since(self.subject, node.badge_key, other.per, self.badge.per, self.context)
        below: list[Reason] = []
        number = self.plan.numbers.get(node.badge_key)
        if since is None and number is not None and other.per in (None, self.badge.per):
            context = "" if other.per is None else self.context
            reader = _Reader(self.plan, goals[number].badge, self.subject, context, self.words)
            below.append(reader.read(goals[number].badge.formula))
        sentence = self.words.held(other, since, below[0].sentence if below else None)
        nearness = Fraction(1) if since is not None else (below[0].nearness if below else Fraction()) / 2
        actual = None if since is None else format_instant(since)
        return Reason(
            "badge", node.path, since is not None, sentence, nearness, actual, {"$eq": node.badge_key},
            children=tuple(below),
        )  # fmt: skip

    def _window(self, node: Windowed) -> Reason:
        below = self.read(node.child)
        sentence = below.sentence
        if node.last is not None and not below.passed and below.leaves_us is not None:
            sentence += self.words.leaves(below.leaves_us)
        window = below.window if node.last is None else {"last": last_text(node.last), **(below.window or {})}
        if node.days is not None:
            window = {**(window or {}), "business_days_only": node.days.exclude_weekends}
        return Reason(
            "$timeWindow",
            node.path,
            below.passed,
            sentence,
            below.nearness,
            below.actual,
            below.bound,
            window,
            below.events,
            below.event_ids,
            (below,),
        )

    def _facts(self, test: Test) -> Facts:
        return self.subject.facts(self.plan.sources(test), self.scope)

    def _within(self, test: Test, facts: Facts) -> Reason:
        """The conditions as of the instant at which they held first, else of the last one looked at."""
        at_us, tested = facts["at_us"], facts["tested"]
        conditions = conditions_alone(test)
        numbers = {id(one): number for number, one in enumerate(tests(conditions))}
        then = Subject(self.subject.state, self.now_us if at_us is None else at_us, self.calendar)
        reader = _Reader(
            self.plan, self.badge, then, self.context, self.words, lambda one: tested[numbers[id(one)]]
        )  # fmt: skip
        below = _placed(reader.read(conditions), test.path)
        params, length = dict(test.params), dict(test.fold.params)["window"]
        start, end = (None, None) if at_us is None else (format_instant(at_us - length), format_instant(at_us))
        return Reason(
            test.operator,
            test.path,
            facts["holds"],
            within_window(params["window"], at_us, below.sentence, passed=facts["holds"]),
            Fraction(1) if facts["holds"] else below.nearness * Fraction(99, 100),
            below.actual,
            below.bound,
            {"within": params["window"], "start": start, "end": end},
            below.events,
            below.event_ids,
            (below,),
        )

    def _test(self, test: Test) -> Reason:
        facts = self.facts_of(test)
        if test.operator == WITHIN_TIME_WINDOW.name:
            return self._within(test, facts)
        if (verdict := VERDICTS.get(test.operator)) is not None:
            return self._decided(test, facts, verdict)
        value = facts[test.fact]
        passed = all(check_fact(check, value, self.now_us, self.calendar) for check in test.checks)
        sentence = self.words.test(test, facts, self.now_us, passed=passed, badge=self.badge)
        instant = test.fact.endswith("_us")
        return Reason(
            operator=test.operator,
            path=test.path,
            passed=passed,
            sentence=sentence,
            nearness=Fraction(1) if passed else _nearness(test.checks, value),
            actual=_actual(test.fact, value),
            bound=self._bound(test.checks, instant=instant),
            window=self._span(test.fold.match),
            events=test.fold.match.types,
            event_ids=_ids(facts),
            leaves_us=self._leaves(test.fold.match, facts),
            evaluated=test.operator != CONDITION.name or answered(facts),
            parked=facts.get("parked_count", 0),
        )

    def _decided(self, test: Test, facts: Mapping[str, Any], verdict: Verdict) -> Reason:
        """A test that is no check of one fact: its actual is all it tells, its bound its thresholds as written."""
        passed, found = verdict(facts, dict(test.params), self.now_us, self.calendar)
        return Reason(
            operator=test.operator,
            path=test.path,
            passed=passed,
            sentence=self.words.test(test, facts, self.now_us, passed=passed, badge=self.badge),
            nearness=Fraction(passed),
            actual={key: figure(value) for key, value in found.items() if value is not None},
            bound={name: thawed(value) for name, value in test.params},
            window=self._span(test.fold.match),
            events=test.fold.match.types,
            event_ids=_ids(facts),
            leaves_us=self._leaves(test.fold.match, facts),
        )

    def _bound(self, checks: tuple[Check, ...], *, instant: bool) -> Json | None:
        if not checks:
            return None
        found = {}
        for check in checks:
            operand = check.operand
            if check.operator == "$years":
                operand = operand[0]
            elif isinstance(operand, tuple):
                operand = [self._operand(item, instant=instant) for item in operand]
            else:
                operand = self._operand(operand, instant=instant)
            found[check.operator] = operand
        return found

    def _operand(self, operand: Any, *, instant: bool) -> Any:
        if isinstance(operand, Moment):
            return format_instant(self.calendar.shift(self.now_us, operand))
        if instant and isinstance(operand, int):
            return format_instant(operand)
        return thawed(operand)

    def _leaves(self, match: Match, facts: Facts) -> int | None:
        """When the oldest event counted falls out of the first of the bounds that move with now."""
        first_us = facts.get("first_us")
        if first_us is None:
            return None
        moments = [bound.moment for bound in match.bounds if bound.operator in ("$gte", "$gt")]
        ahead = (Moment(tuple((-amount, unit) for amount, unit in moment.steps)) for moment in moments if moment.steps)
        return min((self.calendar.shift(first_us, moment) for moment in ahead), default=None)

    def _span(self, match: Match) -> Json | None:
        """The span of time a match looks at as of now; None where it is all of it."""
        starts = [] if match.start_us is None else [match.start_us]
        ends = [] if match.end_us is None else [match.end_us]
        for bound in match.bounds:
            at = self.calendar.shift(self.now_us, bound.moment)
            if bound.operator in ("$gte", "$gt", "$eq"):
                starts.append(at)
            if bound.operator in ("$lte", "$lt", "$eq"):
                ends.append(at)
        if not starts and not ends:
            return None
        if starts and not ends and match.bounds:
            ends = [self.now_us]
        return {
            "start": format_instant(max(starts)) if starts else None,
            "end": format_instant(min(ends)) if ends else None,
        }


def _placed(reason: Reason, base: str) -> Reason:
    """A reason, and those below it, whose paths were counted from a place."""
    children = tuple(_placed(child, base) for child in reason.children)
    return replace(reason, path=base + reason.path, children=children)


def _ids(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The events that facts name."""
    found = [facts.get(name) for name in ("first_event_id", "last_event_id", "event_id")]
    found += facts.get("sequence_event_ids") or [facts.get(name) for name in ("start_event_id", "end_event_id")]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _actual(fact: str, value: Any) -> Any:
    """A fact as the tree shows it: instants and local dates as they are written."""
    if value is None:
        return None
    if fact.endswith("_us"):
        return format_instant(value)
    return date.fromordinal(value).isoformat() if fact == "day" else figure(value)


def last_text(moment: Moment) -> str:
    """A look-back as `$timeWindow` writes it: 30d, 2w, 1m."""
    return " ".join(f"{-amount}{'m' if unit == 'M' else unit}" for amount, unit in moment.steps)


def thawed(value: Any) -> Any:
    """A frozen operand as JSON data."""
    match value:
        case tuple():
            return [thawed(item) for item in value]
        case Frozen(items=items):
            return {key: thawed(item) for key, item in items}
        case Decimal():
            return figure(value)
    return value


def _nearness(checks: tuple[Check, ...], value: Any) -> Fraction:
    """How much of a lower bound is reached; 0 where that cannot be said."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | Fraction):
        return Fraction()
    for check in checks:
        operand = check.operand
        if check.operator in ("$gte", "$gt") and isinstance(operand, int | Decimal) and operand > 0 and value > 0:
            return min(Fraction(value) / Fraction(operand), Fraction(1)) * Fraction(99, 100)
    return Fraction()
