"""The three rules of a milestone: `count`, `window_count`, `return_after_gap`.

Written as document 5 has them: `rule_type`, `rule_data`, `trigger_event`. Remembered: the metric that `count` names;
the window's newest events (see `moving.py`); two logins (see `login.py`). Source: document 5 "Supported Rule Types".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from worker.rules.ir import Bound, Check, Match, Moment, Node, Test
from worker.rules.operators.checks import read_positive
from worker.rules.operators.place import Place, offer, shown
from worker.rules.operators.snapshot import read_threshold


def read_rule(definition: Mapping[str, Any], place: Place, trigger: str | None) -> Node | None:
    """The node of a milestone's rule; `trigger` is the canonical type of its `trigger_event`, None where unknown."""
    kind = definition.get("rule_type")
    if "rule_type" not in definition:
        place.fault("missing_key", "The milestone has no rule_type.", offer("", tuple(RULES)))
        return None
    rule = RULES.get(kind) if isinstance(kind, str) else None
    if rule is None:
        place.at("rule_type").fault(
            "unknown_rule", f"There is no rule {shown(str(kind))}.", offer(str(kind), tuple(RULES))
        )
        return None
    if "rule_data" not in definition:
        place.fault("missing_key", "The milestone has no rule_data.", f'Write "rule_data": {rule.example}.')
        return None
    here = place.at("rule_data")
    data = here.object(definition["rule_data"], rule.example)
    if data is None:
        return None
    here.only(data, rule.keys)
    missing = [key for key in rule.keys if key not in data]
    for key in missing:
        here.fault("missing_key", f"The rule {kind} has no {key}.", f'Write "rule_data": {rule.example}.')
    return None if missing else rule.read(data, here, trigger)


def _count(data: Mapping[str, Any], place: Place, _: str | None) -> Node | None:
    threshold = read_positive(data["threshold"], place.at("threshold"), "a threshold", whole=False)
    checks = None if threshold is None else (Check("$gte", threshold),)
    return read_threshold(data["field"], checks, place.at("field"), "count")


def _window_count(data: Mapping[str, Any], place: Place, _: str | None) -> Node | None:
    name = place.at("event").text(data["event"], '"habit.completed"')
    counted = None if name is None else place.names.event_type(name, place.at("event").path)
    count = read_positive(data["count"], place.at("count"), "a count")
    days = read_positive(data["window_days"], place.at("window_days"), "a number of days")
    if counted is None or count is None or days is None:
        return None
    match = Match(types=(counted,), bounds=(Bound("$gte", Moment(((-int(days), "d"),))),))
    checks = (Check("$gte", count),)
    shows = (("event_count", "event_count"),)
    params = (("window_days", int(days)),)
    return Test(place.fold("count", match=match), "event_count", checks, "window_count", place.path, shows, params)


def _return_after_gap(data: Mapping[str, Any], place: Place, trigger: str | None) -> Node | None:
    days = read_positive(data["gap_days"], place.at("gap_days"), "a number of days", whole=False)
    if days is None or trigger is None:
        return None
    logins = tuple(sorted({trigger, *place.names.logins()}))
    fold = place.fold("logins", match=Match(types=logins))
    shows = (("gap_days", "gap_days"),)
    return Test(fold, "gap_days", (Check("$gte", days),), "return_after_gap", place.path, shows)


class Rule:
    """How one rule's data is written and read."""

    __slots__ = ("example", "keys", "read")

    def __init__(self, keys: tuple[str, ...], example: str, read: Callable[..., Node | None]) -> None:
        self.keys = keys
        self.example = example
        self.read = read


RULES: Mapping[str, Rule] = {
    "count": Rule(("field", "threshold"), '{"field": "total_wins", "threshold": 100}', _count),
    "window_count": Rule(
        ("event", "count", "window_days"),
        '{"event": "habit.completed", "count": 5, "window_days": 14}',
        _window_count,
    ),
    "return_after_gap": Rule(("gap_days",), '{"gap_days": 14}', _return_after_gap),
}
