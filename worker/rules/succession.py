"""The sentences of what comes one after the other: pauses, sequences, pairs of a start and an end.

Each of the three is said of a user (with what there is) and of a badge (what it takes, without a user or a moment).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from json import loads
from typing import Any, Protocol

from worker.rules.ir import Check, Clause, Frozen, Match, Test
from worker.rules.operators.calendar import FIXED
from worker.rules.operators.pairs import UNITS
from worker.rules.phrases import bounds, clause, joined, moment, number, plain, plural

Facts = Mapping[str, Any]

_HOUR = FIXED["h"]
_LENGTHS = (("day", FIXED["d"]), ("hour", FIXED["h"]), ("minute", FIXED["min"]), ("second", FIXED["s"]))


class Words(Protocol):
    """What these sentences ask of the words of a catalog."""

    def noun(self, types: Sequence[str], count: Any) -> str:
        """The word for so many events of these types."""

    def filter(self, match: Match) -> str:
        """The conditions on an event's payload, or nothing."""

    def frame(self, match: Match, now_us: int) -> str:
        """The span of time that is looked at, or nothing."""


# -- $gap --------------------------------------------------------------------------------------------------------------


def gap(words: Words, test: Test, facts: Facts, now_us: int, *, passed: bool) -> str:
    """Every pause and the bounds it keeps, or the one that breaks them."""
    match, params = test.fold.match, dict(test.params)
    tail = words.filter(match) + words.frame(match, now_us)
    count, shortest, longest = facts["event_count"], facts["min_gap_us"], facts["max_gap_us"]
    if shortest is None:
        return f"{count} of 2 {words.noun(match.types, 2)}{tail}; {2 - count} more to go"
    least, most = (params.get(key) for key in ("minGapHours", "maxGapHours"))
    above, below = _checks("$gte", least), _checks("$lte", most)
    if passed:
        ends = f"shortest {_hours(shortest, above)}, longest {_hours(longest, below)}"
        return f"Every pause {_allowed(params)}{tail}: {ends}"
    short = least is not None and Fraction(shortest, _HOUR) < Fraction(least)
    pause, end_us = (shortest, facts["min_gap_end_us"]) if short else (longest, facts["max_gap_end_us"])
    told = f"A pause of {_hours(pause, above if short else below)} h before {moment(end_us)}"
    return f"{told}{tail}; {_allowed(params)} allowed"


def gap_taken(words: Words, test: Test, tail: str) -> str:
    """The pauses that a badge asks for."""
    return f"{words.noun(test.fold.match.types, 2)}{tail} with every pause {_allowed(dict(test.params))}"


def _allowed(params: Mapping[str, Any]) -> str:
    least, most = (params.get(key) for key in ("minGapHours", "maxGapHours"))
    shown = [number(hours, _checks("$eq", hours)) for hours in (least, most) if hours is not None]
    if len(shown) == 2:
        return f"{shown[0]} to {shown[1]} h"
    return f"at most {shown[0]} h" if least is None else f"at least {shown[0]} h"


def _hours(us: int, checks: Sequence[Check]) -> str:
    return number(Fraction(us, _HOUR), checks)


def _checks(operator: str, operand: Any) -> tuple[Check, ...]:
    return () if operand is None else (Check(operator, operand),)


# -- $sequence ---------------------------------------------------------------------------------------------------------


def sequence(words: Words, test: Test, facts: Facts, now_us: int, *, passed: bool) -> str:
    """The way that was gone, or how far it was gone and what came instead of the next step."""
    params = dict(test.fold.params)
    steps, reached, frame = params["sequence"], facts["reached_steps"], words.frame(test.fold.match, now_us)
    if passed:
        times = [moment(us) for us in dict.fromkeys((facts["start_us"], facts["reached_us"]))]
        return f"{sequence_taken(words, test, '')}{frame}: {' to '.join(times)}"
    due = words.noun([steps[reached]], 1)
    if not reached:
        return f"No {words.noun([steps[0]], 0)}{frame}"
    last = f"{words.noun([steps[reached - 1]], 1)} (step {reached} of {len(steps)})"
    came = f"Came to {last} on {moment(facts['reached_us'])}"
    if facts["between"] is not None:
        return f"{came}{frame}; {words.noun([facts['between']], 1)} came between"
    return f"{came}{frame}; no {due} {_within(params) or 'after it'}"


def sequence_taken(words: Words, test: Test, tail: str) -> str:
    """The steps that a badge asks for."""
    params = dict(test.fold.params)
    parts = [", then ".join(words.noun([step], 1) for step in params["sequence"])]
    if len(params["sequence"]) > 1:
        parts += [f"each {_within(params)}"] * ("gap_us" in params) + ["nothing between"] * params.get("strict", False)
    return ", ".join(parts) + tail


def _within(params: Mapping[str, Any]) -> str:
    return f"within {_length(params['gap_us'])}" if "gap_us" in params else ""


def _length(us: int) -> str:
    """A length in the greatest unit that has no fraction: 15 minutes, 90 seconds."""
    for word, unit in _LENGTHS:
        if us % unit == 0:
            return plural(us // unit, word)
    return plural(Fraction(us, FIXED["s"]), "second")


# -- $duration ---------------------------------------------------------------------------------------------------------


def duration(words: Words, test: Test, facts: Facts, now_us: int, *, passed: bool) -> str:
    """The pair that fits, or the one that came nearest."""
    params = dict(test.fold.params)
    frame, checks = words.frame(test.fold.match, now_us), _asked(test)
    if not facts["pairs"]:
        return f"No {_end(words, params, 'end')} after a {_end(words, params, 'start')}{_same(params)}{frame}"
    needed = f"; {bounds(checks)} needed" if checks else ""
    if passed:
        told = _measure(facts["end_us"] - facts["start_us"], params, checks)
        value = _value(facts["value"])
        shared = f" ({params['property']} {value})" if "property" in params and value else ""
        return f"{told} from {moment(facts['start_us'])} to {moment(facts['end_us'])}{shared}{frame}{needed}"
    upper = all(check.operator in ("$lte", "$lt") for check in checks)
    word, us = ("Shortest", facts["shortest_us"]) if upper else ("Longest", facts["longest_us"])
    return f"{word} of {plural(facts['pairs'], 'pair')} {_measure(us, params, checks)}{frame}{needed}"


def duration_taken(words: Words, test: Test, tail: str) -> str:
    """The pair that a badge asks for."""
    params, checks = dict(test.fold.params), _asked(test)
    pair = f"{_end(words, params, 'start')} to {_end(words, params, 'end')}{_same(params)}{tail}"
    return f"{bounds(checks)} {params['unit']} from {pair}" if checks else f"from {pair}"


def _asked(test: Test) -> tuple[Check, ...]:
    asked = dict(test.params).get("duration")
    return tuple(Check(*item) for item in asked.items) if isinstance(asked, Frozen) else ()


def _measure(us: int, params: Mapping[str, Any], checks: Sequence[Check]) -> str:
    unit = params["unit"]
    return plural(Fraction(us, UNITS[unit]), unit[:-1], checks)


def _end(words: Words, params: Mapping[str, Any], which: str) -> str:
    kind, conditions = params[which]
    shown = joined([clause(Clause(*condition)) for condition in conditions])
    return words.noun([kind], 1) + (f" with {shown}" if shown else "")


def _same(params: Mapping[str, Any]) -> str:
    return f" of the same {params['property']}" if "property" in params else ""


def _value(text: str) -> str | None:
    """A shared value as it stands in a sentence; None where only its hash was kept, or it is no scalar."""
    if text[:1] == '"':
        return plain(loads(text))
    if text[:1] in "#[{":
        return None
    return text if text in ("true", "false", "null") else plain(Decimal(text))
