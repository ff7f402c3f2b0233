"""The words of `$pattern`: how steady activity was, how it rose or fell, or how many periods there are yet."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from worker.rules.ir import Check
from worker.rules.operators.facts import figure
from worker.rules.operators.pattern import LIMITS
from worker.rules.operators.trends import HALF, steadiness, trend
from worker.rules.phrases import number, plain, plural

_HALF = (Check("$gte", Decimal("0.5")),)


def pattern_sentence(facts: Mapping[str, Any], params: Mapping[str, Any], frame: str, *, passed: bool) -> str:
    """The sentence of one test; `facts` are those of its fold, `params` its thresholds, `frame` the span looked at."""
    counts, least, word = facts["counts"], params["minPeriods"], params["pattern"]
    period = facts["period_type"]
    if len(counts) < least:
        missing = number(least - len(counts))
        have = f"{number(len(counts))} of {plural(least, period)} of activity{frame}"
        return f"{have}; {missing} more to go"
    limit = Fraction(params[LIMITS[word][0]])
    over = plural(len(counts), period) + frame
    if word == "consistent":
        return _steady(counts, limit, over, passed=passed)
    if word == "increasing":
        return _rising(counts, limit, period, over, passed=passed)
    return _falling(counts, limit, period, over, passed=passed)


def pattern_phrase(period: str, params: Mapping[str, Any]) -> str:
    """What a test asks of activity: steady within 20 % of its average over at least 3 days."""
    word = params["pattern"]
    limit, over = Fraction(params[LIMITS[word][0]]), f"over at least {plural(params['minPeriods'], period)}"
    if word == "consistent":
        return f"steady within {_exact(100 * limit)} % of its average {over}"
    if word == "increasing":
        return f"rising {_exact(limit)} % or more a {period} {over}"
    return f"easing off {_exact(limit)} % or less a {period} {over}"


def _steady(counts: list[int], limit: Fraction, over: str, *, passed: bool) -> str:
    found = steadiness(counts)
    strays = min(one for one in (found.deviation, found.adjusted) if one is not None)
    off = number(100 * strays, (_most(100 * limit),))
    average, allowed = number(found.average), f"{_exact(100 * limit)} % allowed"
    if passed:
        return f"Steady over {over}: about {average} each, {off} % off; {allowed}"
    return f"Not steady: {off} % off the average {average} over {over}; {allowed}"


def _rising(counts: list[int], limit: Fraction, period: str, over: str, *, passed: bool) -> str:
    found = trend(counts, falling=False)
    average = found.average or Fraction()
    shown, needed = number(average, (Check("$gte", limit),)), f"{_exact(limit)} % needed"
    if passed:
        return f"Rising {shown} % a {period} over {over}; {needed}"
    if found.average is None or average < limit:
        return f"Rising {shown} %; {needed}"
    return (
        f"Up in {number(found.steps)} of {plural(len(counts) - 1, 'step')}, "
        f"trend {number(found.strength, _HALF)}; half and {number(HALF)} needed"
    )


def _falling(counts: list[int], limit: Fraction, period: str, over: str, *, passed: bool) -> str:
    found = trend(counts, falling=True)
    average = found.average or Fraction()
    shown, allowed = number(average, (_most(limit),)), f"at most {_exact(limit)} % allowed"
    if passed:
        return f"Easing off {shown} % a {period} over {over}; {allowed}"
    return f"Falling {shown} %; {allowed}" if average > limit else f"Not falling over {over}"


def _exact(limit: Fraction) -> str:
    """A limit as it was written."""
    return plain(figure(limit))


def _most(limit: Fraction) -> Check:
    return Check("$lte", limit)
