"""Catalogs over the whole grammar, small enough that everything collides; flows and histories stand beside."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

from hypothesis import strategies as st

from tests.strategies_events import (
    CONDITION_TYPES,
    EVENTS,
    GRID,
    NAMES,
    TYPES,
    ZONES,
    Json,
    histories,
    objects,
    of,
    together,
)
from tests.strategies_flows import METRICS, PER_K, flows

__all__ = ["GRID", "ZONES", "catalogs", "histories"]

# -- catalogs ----------------------------------------------------------------------------------------------------------

_RULES: list[tuple[str, Json, str]] = [
    *(
        ("count", {"field": name, "threshold": threshold}, trigger)
        for name, threshold, trigger in product(("all_a", "gauge", "total"), (1, 2, Decimal("1.5")), TYPES)
    ),
    *(
        ("window_count", {"event": name, "count": count, "window_days": window}, trigger)
        for name, count, window, trigger in product(NAMES, (1, 2, 3), (1, 7, 30), NAMES)
    ),
    *(
        ("return_after_gap", {"gap_days": gap}, trigger)
        for gap, trigger in product((1, 14, Decimal("0.5")), ("c.done", "UserLoggedIn"))
    ),
]
#: A milestone of one of the three rules.
milestones = st.one_of(*(of([one for one in _RULES if one[0] == rule]) for rule in {one[0]: 0 for one in _RULES})).map(
    lambda rule: {
        "code": "milestone",
        "title": "Milestone",
        "rule_type": rule[0],
        "rule_data": rule[1],
        "trigger_event": rule[2],
    }
)
ladders = of(
    {"key": "ladder", "metric": metric, "levels": levels}
    for metric, levels in product(
        ("all_a", "gauge", "total", "picky", *PER_K), ([1, 2, 3], [2, 5], [Decimal("1.5"), 4])
    )
)
#: Where users say their zones; half of the catalogs do not listen.
MOVES = [{}, {}, *objects(("user_timezone",), ({"event": name, "field": "zone"} for name in ("a.done", "b.done")))]
_STATUSES = (*["active"] * 8, "hidden", "draft", "locked", "deprecated")
_STATED = [None, None, *([a] if a == b else [a, b] for a, b in product((*TYPES, "cron.anniversary"), repeat=2))]
details = together((None, None, "k"), _STATUSES, _STATED)
_SINCE = ("a.done", "a.done", "ADone", "b.done", "UserLoggedIn")
#: Years since something first happened; half of the catalogs count none.
TENURES = [
    *[{}] * 30,
    *(
        {"tenures": [{"key": "member", "since": since, "years": years}], **leap}
        for since, years, leap in product(_SINCE, ([1], [1, 2]), ({}, {"feb_29": "feb_28"}, {"feb_29": "mar_1"}))
    ),
]
_CATCHING_UP = [{}, {}, {"catch_up_on_login": True}]
_around = together(TENURES, ZONES, (True, False), MOVES, _CATCHING_UP)


@st.composite
def catalogs(draw: st.DrawFn) -> Json:
    """A clean catalog: badges of all sorts, at most one ladder, one tenure and one milestone."""
    badges: list[Json] = []
    years, zone, backwards, moves, catching_up = draw(_around)
    members = ("member_1y",) if years else ()
    for index in range(draw(st.integers(2, 8))):
        per, status, triggers = draw(details)
        flow = draw(flows(per, (*members, *(badge["key"] for badge in badges))))
        badge = {"key": f"badge{index}", "flow": flow, "status": status}
        if per is not None:
            badge["per"] = per
        if triggers is not None and set(flow) & {"snapshot", "badge"}:
            badge["triggers"] = triggers
        badges.append(badge)
    return {
        **moves,
        **years,
        **catching_up,
        "version": 1,
        "timezone": zone,
        "events": EVENTS,
        "metrics": METRICS,
        "condition_types": CONDITION_TYPES,
        "holidays": {"company": ["2023-12-25", "2024-03-31"]},
        "badges": badges[::-1] if backwards else badges,
        "ladders": draw(st.lists(ladders, max_size=1)),
        "milestones": draw(st.lists(milestones, max_size=1)),
    }
