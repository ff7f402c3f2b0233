"""Operators that look at nothing but a list of events, and the arithmetic of patterns, read naively for the oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import sqrt
from typing import Any

from tests.oracle_catalog import ANSWERS
from tests.oracle_values import figure_matches, look_up, number, same
from worker.events import Event

Verdict = tuple[bool, dict[str, Any]]


def event_count(operand: Mapping[str, Any], events: Sequence[Event], _: object) -> Verdict:
    return figure_matches(len(events), operand), {"event_count": len(events)}


def aggregate(operand: Mapping[str, Any], events: Sequence[Event], _: object) -> Verdict:
    """Of JSON numbers only; where there are none it is false, whatever is asked."""
    function, name = operand.get("type", operand.get("function")), operand.get("field", operand.get("property"))
    check = operand.get("value", operand.get("result"))
    values = [Fraction(value) for e in events if number(value := look_up(e.payload, name))]
    if not values:
        return False, {f"count_{name}": 0} if function == "count" else {}
    mean = sum(values) / len(values)
    figures = {"min": min(values), "max": max(values), "sum": sum(values), "avg": mean, "count": len(values)}
    return check is None or figure_matches(figures[function], check), {f"{function}_{name}": figures[function]}


def condition(operand: Mapping[str, Any], events: Sequence[Event], _: object) -> Verdict:
    """A yes to one of the events; a fault, a no and an event nobody asked about are none."""
    key = ANSWERS[operand["type"], json.dumps(operand.get("params", {}), sort_keys=True)]
    said = [e.id for e in events if (e.verdicts or {}).get(key) == "yes"]
    return bool(said), {"condition_event_id": said[0]} if said else {}


def distinct_count(operand: Mapping[str, Any], events: Sequence[Event], _: object) -> Verdict:
    check = {word: bound for word, bound in operand.items() if word != "field"}
    values: list[Any] = []
    for value in (look_up(e.payload, operand["field"]) for e in events):
        scalar = isinstance(value, str | bool | int | Decimal)
        if scalar and not any(same(value, other) for other in values):
            values.append(value)
    return figure_matches(len(values), check or {"$gte": 1}), {"distinct_count": len(values)}


def gap(operand: Mapping[str, Any], events: Sequence[Event], _: object) -> Verdict:
    """Every gap between neighbours, in hours, within both bounds."""
    instants = [e.occurred_us for e in events]
    gaps = [Fraction(b - a, 3600 * 10**6) for a, b in pairwise(instants)]
    if not gaps:
        return False, {}
    metadata: dict[str, Any] = {"min_gap_hours": min(gaps), "max_gap_hours": max(gaps)}
    low, high = operand.get("minGapHours"), operand.get("maxGapHours")
    if low is not None and min(gaps) < Fraction(low):
        return False, {**metadata, "gap_criterion_failed": "min_gap"}
    if high is not None and max(gaps) > Fraction(high):
        return False, {**metadata, "gap_criterion_failed": "max_gap"}
    return True, metadata


# -- patterns: counts in the order of their periods --------------------------------------------------------------------


def deviation(counts: Sequence[int]) -> Fraction | None:
    """max |count - mean| / mean; None where the mean is zero."""
    mean = Fraction(sum(counts), len(counts))
    return max(abs(count - mean) for count in counts) / mean if mean else None


def consistent(counts: Sequence[int], operand: Mapping[str, Any]) -> Verdict:
    n, most = len(counts), Fraction(operand.get("maxDeviation", Decimal("0.2")))
    mean, worst = Fraction(sum(counts), n), deviation(counts)
    spread = sqrt(sum((count - mean) ** 2 for count in counts) / n)
    figures = {"average": mean, "max_deviation": worst, "std_deviation": spread, "coefficient_var": spread / mean}
    # Named with the others and without a condition: where nothing is dropped it is the same.
    figures["adjusted_max_deviation"] = worst
    passed = worst is not None and worst <= most
    ranked = sorted(counts)
    low, high = ranked[n // 4], ranked[3 * n // 4]
    fence = Fraction(3, 2) * (high - low)
    kept = [count for count in counts if low - fence <= count <= high + fence]
    if n >= 8 and 0 < n - len(kept) < Fraction(15, 100) * n and (adjusted := deviation(kept)) is not None:
        figures["adjusted_max_deviation"] = adjusted
        passed = passed or adjusted <= most
    return passed, figures


def pearson(counts: Sequence[int]) -> tuple[bool, float]:
    """Whether r of index and count is at least a half, exactly; and r, nothing below zero."""
    n = len(counts)
    x, y = Fraction(n - 1, 2), Fraction(sum(counts), n)
    shared = sum((i - x) * (count - y) for i, count in enumerate(counts))
    both = sum((i - x) ** 2 for i in range(n)) * sum((count - y) ** 2 for count in counts)
    if shared <= 0:
        return False, 0.0
    return 4 * shared**2 >= both, shared / sqrt(both)


def trend(counts: Sequence[int], name: str, sign: int) -> tuple[bool, Fraction, dict[str, Any]]:
    """The gate of a trend up (sign 1) or down (-1), the average change in percent, and the figures."""
    steps = [sign * (b - a) for a, b in pairwise(counts)]
    changes = [Fraction(100 * step, a) for step, a in zip(steps, counts, strict=False) if a > 0]
    average = sum(changes) / len(changes)
    ratio = Fraction(sum(step > 0 for step in steps), len(steps))
    strong, strength = pearson([sign * count for count in counts])
    passed = ratio == 1 or (ratio >= Fraction(1, 2) and strong)
    percent = {"increasing": "average_percent_increase", "decreasing": "average_percent_decrease"}[name]
    return passed, average, {percent: average, f"{name}_periods_ratio": ratio, "trend_strength": strength}


def increasing(counts: Sequence[int], operand: Mapping[str, Any]) -> Verdict:
    passed, average, figures = trend(counts, "increasing", 1)
    return passed and average >= Fraction(operand.get("minIncreasePct", 5)), figures


def decreasing(counts: Sequence[int], operand: Mapping[str, Any]) -> Verdict:
    passed, average, figures = trend(counts, "decreasing", -1)
    return passed and 0 < average <= Fraction(operand.get("maxDecreasePct", 5)), figures


SERIES = {"consistent": consistent, "increasing": increasing, "decreasing": decreasing}
