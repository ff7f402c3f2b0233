"""What a badge takes, in words: its test as a phrase that needs no user and no moment."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.ir import All, Check, Held, Match, Node, Not, Some, Test, Windowed
from worker.rules.operators import always
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.within import conditions_alone
from worker.rules.pattern_words import pattern_phrase
from worker.rules.phrases import bounds, joined, moment, need_of, number, plain, plural
from worker.rules.sentences import FIGURES, Words, length_words
from worker.rules.succession import duration_taken, gap_taken, sequence_taken

_AT_LEAST_ONE = (Check("$gte", 1),)


class Takes:
    """Phrases for the badges of one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._words = Words(catalog, Calendar(catalog.timezone))

    def of(self, badge: Badge) -> str:
        """The whole phrase: "an answer with score at least 10, per post_id"."""
        return self._node(badge.formula) + (f", per {badge.per}" if badge.per else "")

    def _node(self, node: Node) -> str:
        match node:
            case Test():
                return self._test(node)
            case Held(badge_key=key):
                return f"the badge {self._words.badges.get(key, key)}"
            case All(children=children, operator=operator):
                # The leaf's own count says nothing beside the operators that stand with it.
                shown = [c for c in children if not (operator == "event" and isinstance(c, Test) and always(c))]
                return joined([self._inner(child) for child in shown or children])
            case Some(children=children):
                return " or ".join(self._inner(child) for child in children)
            case Not(child=child):
                return f"not: {self._node(child)}"
            case Windowed(child=child):
                return self._node(child)

    def _inner(self, node: Node) -> str:
        text = self._node(node)
        match node:
            case Some(children=[_, _, *_]) | All(children=[_, _, *_], operator="$and"):
                return f"({text})"
        return text

    def _test(self, test: Test) -> str:
        match, checks = test.fold.match, test.checks
        tail = self._words.filter(match) + self._frame(match)
        params = dict(test.fold.params)
        match test.operator:
            case "event" | "$eventCount" | "window_count":
                return f"{self._amount(match.types, checks)}{tail}"
            case "$distinctCount":
                return f"{bounds(checks, counted=True)} different {params.get('field')} of {self._many(match)}{tail}"
            case "$timePeriod":
                periods = f"{bounds(checks, counted=True)} different {params.get('period', 'period')}s"
                return f"{self._many(match)}{tail} on {periods}"
            case "$pattern":
                return f"{self._many(match)}{tail} {pattern_phrase(params['period'], dict(test.params))}"
            case "$withinTimeWindow":
                length = length_words(dict(test.params)["window"])
                return f"{self._inner(conditions_alone(test))} within {length}{self._frame(match)}"
            case "$aggregate":
                figure = FIGURES.get(test.fact, "number of").lower()
                return f"{figure} {params.get('field')} of {self._many(match)}{tail} {bounds(checks)}".rstrip()
            case "$condition":
                return f"1 {self._words.noun(match.types, 1)} to which {dict(test.params)['type']} says yes{tail}"
            case "snapshot" | "count":
                name = dict(test.params).get("metric", "")
                instant = test.fact == "at_us"
                said = joined([_instant(check) for check in checks]) if instant else bounds(checks)
                return f"{name} {said}{self._frame(match)}"
            case "$gap":
                return gap_taken(self._words, test, tail)
            case "$sequence":
                return sequence_taken(self._words, test, self._frame(match))
            case "$duration":
                return duration_taken(self._words, test, self._frame(match))
            case "return_after_gap":
                return f"a login after {plural(need_of(checks), 'day')} without one"
            case "tenure":
                return f"{plural(dict(test.params)['years'], 'year')} since {', '.join(match.types)}"
        return f"{test.operator} {bounds(checks)}".rstrip()

    def _amount(self, types: tuple[str, ...], checks: tuple[Check, ...]) -> str:
        if checks in ((), _AT_LEAST_ONE):
            return f"1 {self._words.noun(types, 1)}"
        need = need_of(checks)
        if need is not None:
            return f"{number(need)} {self._words.noun(types, need)}"
        return f"{bounds(checks, counted=True)} {self._words.noun(types, 2)}"

    def _many(self, match: Match) -> str:
        return self._words.noun(match.types, 2)

    def _frame(self, match: Match) -> str:
        """The span of time, as far as it can be said without a moment."""
        still = tuple(bound for bound in match.bounds if bound.operator in ("$gte", "$gt") and bound.moment.steps)
        moving = len(still) < len(match.bounds)
        return self._words.frame(replace(match, bounds=still), 0) + (" within bounds that move" if moving else "")


def _instant(check: Check) -> str:
    words = {"$gte": "from", "$gt": "after", "$lte": "up to", "$lt": "before", "$eq": "exactly", "$ne": "not"}
    return f"{words.get(check.operator, check.operator)} {_when(check.operand)}"


def _when(operand: Any) -> str:
    if isinstance(operand, tuple):
        return joined([_when(item) for item in operand])
    if isinstance(operand, int | Decimal):
        return moment(int(operand))
    steps = " ".join(f"{amount:+d}{unit}" for amount, unit in getattr(operand, "steps", ()))
    return f"now {steps}".rstrip() if not isinstance(operand, str) else plain(operand)
