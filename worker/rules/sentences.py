"""The words of an explanation, one sentence for each kind of condition: the same in command, API and panel.

Facts, then the step: what there is, what is needed, how much is missing. A figure is never rounded past its bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from fractions import Fraction
from typing import Any

from worker.rules import succession
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.ir import Bound, Check, Match, Moment, Test
from worker.rules.operators.calendar import MAX_US, MIN_US, Calendar
from worker.rules.pattern_words import pattern_sentence
from worker.rules.phrases import (
    INSTANT_BOUNDS,
    UNITS,
    bounds,
    clause,
    joined,
    left_out,
    moment,
    need_of,
    number,
    plain,
    plural,
)

_SUCCESSION = {"$gap": succession.gap, "$sequence": succession.sequence, "$duration": succession.duration}
FIGURES = {"sum": "Total", "avg": "Average", "min": "Lowest", "max": "Highest"}

Facts = Mapping[str, Any]


class Words:
    """The words of one catalog: nouns of its event types, labels of its badges, dates of a zone."""

    __slots__ = ("_calendar", "_catalog", "_events", "_labels")

    def __init__(self, catalog: Catalog, calendar: Calendar) -> None:
        events = catalog.document.get("events")
        self._events: Mapping[str, Any] = events if isinstance(events, Mapping) else {}
        self._calendar = calendar
        self._catalog = catalog
        self._labels: dict[str, str] | None = None

    # -- parts

    @property
    def badges(self) -> Mapping[str, str]:
        """What the badges are called, by key."""
        if self._labels is None:
            self._labels = {badge.key: badge.label or badge.key for badge in self._catalog.badges}
        return self._labels

    def noun(self, types: Sequence[str], count: Any) -> str:
        """The word for so many events of these types: a noun of the dictionary, else "`type` event(s)"."""
        if not types:
            return "activity"
        if len(types) > 1:
            return " or ".join(self.noun([name], count) for name in types)
        entry = self._events.get(types[0])
        noun = entry.get("noun") if isinstance(entry, Mapping) else None
        one = count == 1
        if isinstance(noun, Mapping):
            return str(noun["one" if one else "other"])
        if isinstance(noun, str):
            return noun
        return f"`{types[0]}` {'event' if one else 'events'}"

    def day(self, us: int) -> str:
        """A date of the zone: 2017-12-06."""
        return self._calendar.local_date(min(max(us, MIN_US), MAX_US)).isoformat()

    def filter(self, match: Match) -> str:
        """ " with score at least 10 and part tags", or nothing."""
        parts = [clause(one) for one in match.clauses]
        return f" with {joined(parts)}" if parts else ""

    def frame(self, match: Match, now_us: int) -> str:
        """Which span of time is looked at: " in the last 7 days", " from 1 to 31 January 2023", or nothing."""
        parts = [self._bound(bound, now_us) for bound in match.bounds]
        if match.start_us is not None or match.end_us is not None:
            parts.append(self._span(match.start_us, match.end_us))
        return "".join(parts) + left_out(match.days)

    def _bound(self, bound: Bound, now_us: int) -> str:
        steps = bound.moment.steps
        if bound.moment.at_us is None and steps and all(amount < 0 for amount, _ in steps):
            length = " ".join(plural(-amount, UNITS[unit]) for amount, unit in steps)
            if bound.operator in ("$gte", "$gt"):
                return f" in the last {length}"
            if bound.operator in ("$lte", "$lt"):
                return f" up to {length} ago"
        at = moment(self._calendar.shift(now_us, bound.moment))
        return f", {INSTANT_BOUNDS[bound.operator]} {at}"

    def _span(self, start: int | None, end: int | None) -> str:
        first, last = (None if at is None else self._local(at) for at in (start, end))
        whole = (first is None or first.time().isoformat() == "00:00:00") and (
            last is None or last.time().isoformat().startswith("23:59:59")
        )
        if not whole:
            start_text, end_text = (None if at is None else moment(at) for at in (start, end))
        else:
            start_text, end_text = (None if at is None else f"{at.day} {at:%B} {at.year}" for at in (first, last))
        if start_text is None:
            return f" until {end_text}"
        if end_text is None:
            return f" since {start_text}"
        if whole and first is not None and last is not None and first.year == last.year:
            same_month = first.month == last.month
            start_text = str(first.day) if same_month else f"{first.day} {first:%B}"
            if same_month and first.day == last.day:
                return f" on {end_text}"
        return f" from {start_text} to {end_text}"

    def _local(self, us: int) -> datetime:
        return self._calendar.local(us)

    # -- sentences of tests

    def test(self, test: Test, facts: Facts, now_us: int, *, passed: bool, badge: Badge) -> str:
        """The sentence of one test. `facts` are all facts of its fold."""
        match test.operator:
            case "event" | "$eventCount" | "window_count":
                return self._count(test, facts["event_count"], now_us, passed=passed)
            case "$distinctCount":
                noun = f"different {dict(test.fold.params)['field']}"
                return self._amount(test, facts["distinct_count"], lambda _: noun, now_us, passed=passed)
            case "$timePeriod":
                return self._periods(test, facts["unique_period_count"], now_us, passed=passed)
            case "$pattern":
                frame = self.frame(test.fold.match, now_us)
                return pattern_sentence(facts, dict(test.params), frame, passed=passed)
            case "$aggregate":
                return self._aggregate(test, facts, now_us, passed=passed)
            case "$condition":
                return self._condition(test, facts, now_us, passed=passed)
            case "snapshot" | "count":
                return self._metric(test, facts[test.fact], now_us, passed=passed, badge=badge)
            case "$gap" | "$sequence" | "$duration":
                return _SUCCESSION[test.operator](self, test, facts, now_us, passed=passed)
            case "return_after_gap":
                return _return(test, facts, passed=passed)
            case "tenure":
                return self._tenure(test, facts, passed=passed, badge=badge)
        return f"{test.operator} is {plain(facts.get(test.fact))}; {self._needed(test.checks, now_us)} needed"

    def _count(self, test: Test, count: int, now_us: int, *, passed: bool) -> str:
        types = test.fold.match.types
        if test.operator == "event":
            tail = self.filter(test.fold.match) + self.frame(test.fold.match, now_us)
            return f"{number(count)} {self.noun(types, count)}{tail}" if count else f"No {self.noun(types, 0)}{tail}"
        return self._amount(test, count, lambda n: self.noun(types, n), now_us, passed=passed)

    def _amount(self, test: Test, count: Any, noun: Any, now_us: int, *, passed: bool) -> str:
        tail = self.filter(test.fold.match) + self.frame(test.fold.match, now_us)
        need = need_of(test.checks)
        if passed or need is None:
            needed = number(need) if need is not None else bounds(test.checks, counted=True)
            return f"{number(count, test.checks)} {noun(count)}{tail}; {needed} needed"
        more = number(need - count)
        return f"{number(count, test.checks)} of {number(need)} {noun(need)}{tail}; {more} more to go"

    def _periods(self, test: Test, count: int, now_us: int, *, passed: bool) -> str:
        match = test.fold.match
        period, need = dict(test.fold.params)["period"], need_of(test.checks)
        who = self.noun(match.types, 2) + self.filter(match)
        frame = self.frame(match, now_us)
        if passed or need is None:
            needed = number(need) if need is not None else bounds(test.checks, counted=True)
            return f"{who} on {number(count)} different {plural(count, period, bare=True)}{frame}; {needed} needed"
        periods = plural(need, period, bare=True)
        return f"{who} on {number(count)} of {number(need)} {periods}{frame}; {number(need - count)} more to go"

    def _aggregate(self, test: Test, facts: Facts, now_us: int, *, passed: bool) -> str:
        field, function = dict(test.fold.params)["field"], dict(test.params)["type"]
        frame = self.filter(test.fold.match) + self.frame(test.fold.match, now_us)
        if test.fact == "count":
            return self._amount(
                test, facts["count"], lambda n: f"{plural(n, 'number', bare=True)} in {field}", now_us, passed=passed
            )
        value = facts[test.fact]
        if value is None:
            return f"No number in {field} yet{frame}"
        need, shown = need_of(test.checks), number(value, test.checks)
        if function == "sum" and not passed and need is not None:
            more = number(Fraction(need) - Fraction(value))
            return f"Total {field} {shown} of {number(need)}{frame}; {more} more to go"
        return f"{FIGURES[function]} {field} {shown}{frame}; {bounds(test.checks)} needed"

    def _condition(self, test: Test, facts: Facts, now_us: int, *, passed: bool) -> str:
        name, types = dict(test.params)["type"], test.fold.match.types
        if passed:
            return f"{name} said yes to {self.noun(types, 1)} of {self.day(facts['yes_us'])}"
        tail = self.filter(test.fold.match) + self.frame(test.fold.match, now_us)
        no, parked = facts["no_count"], facts["parked_count"]
        silent = facts["error_count"] + facts["unasked_count"]
        whole = no + silent + parked
        who = self.noun(types, whole) + tail
        if not whole:
            return f"No {who}"
        if no == whole:
            return f"{name} said no to {f'all {number(no)}' if no > 1 else 'the one'} {who}"
        counts = {"said no to": no, "gave no answer to": silent, "was not asked about": parked}
        said = joined([f"{words} {number(count)}" for words, count in counts.items() if count])
        return f"{name}{', parked after faults,' if parked else ''} {said} of {number(whole)} {who}"

    def _metric(self, test: Test, value: Any, now_us: int, *, passed: bool, badge: Badge) -> str:
        name = dict(test.params)["metric"]
        if test.fact.endswith("_us"):
            needed = self._needed(test.checks, now_us)
            return f"{name} is {'not known yet' if value is None else moment(value)}; {needed} needed"
        types = test.fold.match.types
        if badge.kind == "ladder" and test.fold.kind == "count" and len(types) == 1:
            return self._amount(test, value, lambda n: self.noun(types, n), now_us, passed=passed)
        frame = self.frame(test.fold.match, now_us)
        need = need_of(test.checks)
        if value is None:
            return f"{name} has no value yet; {bounds(test.checks)} needed"
        if passed or need is None:
            needed = number(need) if need is not None else bounds(test.checks)
            return f"{name} is {number(value, test.checks)}{frame}; {needed} needed"
        more = number(Fraction(need) - Fraction(value))
        return f"{name} is {number(value, test.checks)} of {number(need)}{frame}; {more} more to go"

    def _tenure(self, test: Test, facts: Facts, *, passed: bool, badge: Badge) -> str:
        day, label = facts["day"], badge.label or badge.key
        if day is None:
            return f"{label}: no {self.noun(test.fold.match.types, 1)} yet"
        (check,) = test.checks
        years, feb_29 = check.operand
        due = self._calendar.anniversary(date.fromordinal(day), years, feb_29=feb_29).isoformat()
        return f"{label} since {due}" if passed else f"{label} on {due}"

    def _needed(self, checks: Iterable[Check], now_us: int) -> str:
        return joined([self._instant_check(check, now_us) for check in checks])

    def _instant_check(self, check: Check, now_us: int) -> str:
        operands = check.operand if isinstance(check.operand, tuple) else (check.operand,)
        shown = [moment(self._at(operand, now_us)) for operand in operands if isinstance(operand, int | Moment)]
        if check.operator == "$between":
            return f"{shown[0]} to {shown[1]}"
        return f"{INSTANT_BOUNDS.get(check.operator, check.operator)} {' '.join(shown)}"

    def _at(self, operand: int | Moment, now_us: int) -> int:
        return self._calendar.shift(now_us, operand) if isinstance(operand, Moment) else operand

    # -- sentences of what stands above

    def held(self, badge: Badge, since_us: int | None, below: str | None) -> str:
        """Whether a badge that is asked for is held; `below` is that badge's own sentence."""
        label = badge.label or badge.key
        if since_us is not None:
            return f"Holds {label} since {self.day(since_us)}"
        return f"{label} comes first: {below}" if below else f"{label} comes first"

    def leaves(self, us: int) -> str:
        """When the oldest event counted falls out of a window."""
        return f". The oldest counted leaves the window on {self.day(us)}"


def all_of(holding: int, total: int, missing: Sequence[str]) -> str:
    """The sentence of `$and`."""
    if holding == total:
        return f"All {total} conditions hold" if total != 1 else "The one condition holds"
    return f"{holding} of {plural(total, 'condition')} hold{'s' if holding == 1 else ''}. Missing: {'; '.join(missing)}"


def some_of(holding: int, total: int, first: str) -> str:
    """The sentence of `$or`: the first way that holds, or the nearest that does not."""
    if holding:
        return f"{holding} of {plural(total, 'way')} hold{'s' if holding == 1 else ''}: {first}"
    return f"None of {plural(total, 'way')} holds. Nearest: {first}"


def none_of(child: str, *, passed: bool) -> str:
    """The sentence of `$not`."""
    return f"Must not hold, and does not: {child}" if passed else f"Must not hold, but does: {child}"


def within_window(length: str, at_us: int | None, child: str, *, passed: bool) -> str:
    """The sentence of `$withinTimeWindow`, its length as it is written; `at_us` is the instant `child` speaks of."""
    span = length_words(length)
    if at_us is None:
        return f"Never within {span}: {child}"
    return (
        f"Within {span} up to {moment(at_us)}: {child}"
        if passed
        else f"Never within {span}; closest up to {moment(at_us)}: {child}"
    )


def length_words(length: str) -> str:
    """24 hours, for 24h."""
    amount = length.rstrip("abcdefghijklmnopqrstuvwxyz")
    return plural(int(amount), UNITS[length[len(amount) :]])


def _return(test: Test, facts: Facts, *, passed: bool) -> str:
    gap, need = facts["gap_days"], need_of(test.checks)
    if facts["login_us"] is None:
        return "No login yet"
    if gap is None:
        return "First login, nothing to measure from"
    if passed:
        return f"Back after {plural(gap, 'day', test.checks)}; {number(need)} needed"
    return f"Away {number(gap, test.checks)} of {plural(need, 'day')} before this login"
