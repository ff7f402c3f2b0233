"""Each operator alone, on histories that fit it: thresholds lie on and beside what the events give.

The grammar at large is drawn in `test_engine.py`; what one operator does at its edges is met too seldom there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.properties.test_engine import (
    assert_explained,
    assert_same_figures,
    catalog_of,
    expected_keys,
    in_order,
    keys,
)
from tests.strategies_events import EPOCH, EVENTS, of, together
from tests.strategies_flows import METRICS
from worker.events import Event
from worker.events.json_text import dumps
from worker.rules.evaluate import apply, replay
from worker.rules.plan import compile_plan
from worker.rules.state import UserState

Json = dict[str, Any]
Pool = Callable[[int], list[Json]]
HOUR = 3600 * 10**6
#: The hours between two neighbouring places of a history; every threshold in time is a few of these.
STRIDES = (1, 12, 24, 24)
#: Thursdays before a weekend with a holiday and a change of the clocks, and before a new year.
BEGINNINGS = [
    (datetime(*parts, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    for parts in ((2024, 3, 28, 12), (2024, 3, 28, 23), (2023, 12, 28, 1))
]
TYPES = ("a.done", "b.done", "c.done")
NUMBERS = (0, 1, 1, 2, 3, -1, Decimal("0.5"), Decimal("1.5"), "x")
PAYLOADS = [{"n": n, "s": s, "k": k} for n, s, k in product(NUMBERS, "xyz", (1, 2))] + [{}]
COUNTS = [{word: k} for word in ("$gte", "$gt", "$lte", "$lt", "$eq", "$ne") for k in (0, 1, 2, 3, 4)]
FEW = [{"$gte": 2}, {"$gt": 2}, {"$lte": 1}, {"$lt": 2}, {"$eq": 2}, {"$ne": 1}, {"$between": [1, 2]}, {"$gte": 3}]
SUMS = [
    {word: k} for word in ("$gte", "$gt", "$lte", "$lt", "$eq", "$ne") for k in (0, 1, 2, 3, Decimal("1.5"), -1)
] + [{"$between": [Decimal("0.5"), 3]}]
YES, NO = True, False


def leaf(criteria: Json, name: str = "a.done") -> Json:
    return {"event": name, "criteria": criteria}


def counted(check: Json, name: str = "a.done") -> Json:
    return leaf({"$eventCount": check}, name)


# -- the operators' pools: what a flow may be where neighbouring places are so many hours apart ------------------------


def gaps(hours: int) -> list[Json]:
    edges: list[Json] = [{"minGapHours": k * hours} for k in (1, 2, 3)] + [{"maxGapHours": k * hours} for k in (1, 2)]
    edges += [{"minGapHours": low * hours, "maxGapHours": high * hours} for low, high in ((1, 1), (1, 2), (2, 3))]
    return [flow for edge in edges for flow in ({"$gap": edge}, leaf({"$gap": edge}))]


def sequences(hours: int) -> list[Json]:
    a, b, c = TYPES
    wanted = [(a, b), (b, a), (a, b), (a, a), (a, c), (a, b, c), (a, b, a), (a, b, b)]
    limits: list[Json] = [{}, *({"maxGapSeconds": k * hours * 3600} for k in (1, 1, 1, 2, Decimal("1.5")))]
    return [
        {"$sequence": {"sequence": list(one), **limit, **strict}}
        for one, limit, strict in product(wanted, limits, ({}, {}, {"requireStrict": YES}))
    ]


def durations(hours: int) -> list[Json]:
    units = {"seconds": 3600 * hours, "minutes": 60 * hours, "hours": hours, "days": Decimal(hours) / 24}
    lengths: list[Json] = [{}]
    for (unit, size), k, word in product(units.items(), (1, 2), ("$gte", "$gt", "$lte", "$lt", "$eq")):
        if unit != "days" or size == 1:
            lengths.append({"duration": {word: k * size}, "unit": unit})
    ends: list[Json] = [{"type": "b.done"}] * 3 + [{"type": "b.done", "s": {"$ne": "x"}}, {"type": "a.done"}]
    return [
        {"$duration": {"startEvent": start, "endEvent": end, **match, **length}}
        for start, end, match, length in product(
            ({"type": "a.done"}, {"type": "a.done", "n": {"$gte": 1}}), ends, ({}, {"matchProperty": "k"}), lengths
        )
    ]


def patterns(kind: str, word: str, bounds: tuple[Any, ...]) -> Pool:
    def pool(hours: int) -> list[Json]:
        period = "day" if hours < 48 else "week"
        stated: list[Json] = [{}, *({word: bound} for bound in bounds)]
        return [
            flow
            for bound, least in product(stated, ({}, {"minPeriods": 2}, {"minPeriods": 4}))
            for operand in [{"pattern": kind, "periodType": period, **bound, **least}]
            for flow in ({"$pattern": operand}, leaf({"$pattern": operand}))
        ]

    return pool


def inner(hours: int) -> list[Json]:
    """What stands inside windows."""
    figures: list[Json] = [
        *({"$eventCount": check} for check in COUNTS),
        *({"$timePeriod": {"periodType": "day", "periodCount": check}} for check in FEW),
        *({"$aggregate": {"type": kind, "field": "n", "value": check}} for kind in ("sum", "max") for check in SUMS),
        *({"$distinctCount": {"field": "s", **check}} for check in FEW),
        *({"$gap": {"minGapHours": k * hours}} for k in (1, 2)),
    ]
    return [leaf(one) for one in figures]


def within(hours: int) -> list[Json]:
    both = [{"$and": [counted(one), counted(two, "b.done")]} for one, two in product(FEW, FEW)]
    pairs = [{"$sequence": {"sequence": ["a.done", "b.done"]}}, {"$not": counted({"$gte": 2})}]
    lengths = [f"{k * hours}h" for k in (1, 2, 3)] + [f"{hours * 60}min"]
    flows: list[Json] = [
        {"$withinTimeWindow": {"window": length, "conditions": one}}
        for length, one in product(lengths, [*inner(hours), *both, *pairs])
    ]
    return flows + [{"$timeWindow": {"start": f"$NOW(-{3 * hours}h)", "flow": one}} for one in flows[::3]]


def moving(hours: int) -> list[Json]:
    bounds: list[Json] = [{"start": f"$NOW(-{k * hours}h)"} for k in (1, 2, 3)]
    bounds += [{"end": f"$NOW(-{hours}h)"}, {"start": f"$NOW(-{3 * hours}h)", "end": f"$NOW(-{hours}h)"}]
    bounds += [{"last": f"{k * hours // 24}d"} for k in (1, 2) if hours >= 24]
    bounds += [{"last": "2d", "businessDaysOnly": YES}, {"last": "1m", "businessDaysOnly": YES, "holidays": "company"}]
    return [{"$timeWindow": {**bound, "flow": one}} for bound, one in product(bounds, inner(hours))]


def followed(hours: int) -> list[Json]:
    """Windows around what comes one after the other, and around series."""
    series: list[Json] = [
        {"$pattern": {"pattern": kind, "periodType": "day", "minPeriods": 2, word: bound}}
        for kind, word, bound in (
            ("consistent", "maxDeviation", 0),
            ("consistent", "maxDeviation", Decimal("0.5")),
            ("increasing", "minIncreasePct", 50),
            ("decreasing", "maxDecreasePct", 50),
        )
    ]
    inside = [*sequences(hours)[::2], *durations(hours)[::5], *series * 8]
    bounds: list[Json] = [{"start": f"$NOW(-{k * hours}h)"} for k in (1, 2, 3, 5)]
    bounds += [{"last": f"{k * hours // 24}d"} for k in (1, 2, 4) if hours >= 24]
    bounds += [{"last": "1w", "businessDaysOnly": YES}, {"start": f"$NOW(-{3 * hours}h)", "end": f"$NOW(-{hours}h)"}]
    flows = [{"$timeWindow": {**bound, "flow": one}} for bound, one in product(bounds, inside)]
    return flows + [
        {"$withinTimeWindow": {"window": f"{k * hours}h", "conditions": one}} for k, one in product((2, 4), inside)
    ]


def time_periods(hours: int) -> list[Json]:
    days: list[Json] = [{}, {}, {"excludeWeekends": YES}, {"excludeHolidays": YES, "holidays": "company"}]
    operands = [
        {"periodType": period, "periodCount": check, **left_out}
        for period, check, left_out in product(("day", "day", "week", "month", "quarter", "year"), FEW, days)
    ]
    return [flow for one in operands for flow in ({"$timePeriod": one}, leaf({"$timePeriod": one}))]


def calendars(hours: int) -> list[Json]:
    """Days left out by the holidays of countries: of a part of one, with dates, with a list of the catalog."""
    kept: list[Json] = [{"holidays": one} for one in ("DE-BB", ["GB-SCT"], ["AT", "2023-12-29"], ["JP", "company"])]
    operands = [
        {"periodType": period, "periodCount": check, "excludeHolidays": YES, **left_out, **weekends}
        for period, check, left_out, weekends in product(("day", "week"), FEW, kept, ({}, {"excludeWeekends": YES}))
    ]
    bounds: list[Json] = [
        {"last": last, "businessDaysOnly": YES, **left_out} for last in ("1w", "1m") for left_out in kept
    ]
    windows = [{"$timeWindow": {**bound, "flow": counted(check)}} for bound, check in product(bounds, FEW)]
    return [*({"$timePeriod": one} for one in operands), *(leaf({"$timePeriod": one}) for one in operands), *windows]


def aggregates(hours: int) -> list[Json]:
    spelled = (("type", "field", "value"), ("function", "property", "result"))
    operands = [
        dict(zip(names, (kind, "n", check), strict=True))
        for names, kind, check in product(spelled, ("sum", "avg", "min", "max", "count"), SUMS)
    ]
    return [flow for one in operands for flow in ({"$aggregate": one}, leaf({"$aggregate": one}))]


def distinct_counts(hours: int) -> list[Json]:
    return [leaf({"$distinctCount": {"field": name, **check}}) for name, check in product(("s", "n", "k"), COUNTS)]


def logic(hours: int) -> list[Json]:
    parts = [counted(check, name) for check, name in product(FEW, TYPES)]
    metrics = [{"snapshot": {name: check}} for name, check in product(("all_a", "gauge", "total"), FEW)]
    mixed = [*parts[::2], *metrics[::3], *({"$not": part} for part in parts[1::3]), *inner(hours)[::17]]
    flows: list[Json] = [*metrics, *({"$not": part} for part in [*parts, *metrics])]
    flows += [{word: [one, two]} for word in ("$and", "$or") for one, two in product(mixed, mixed)]
    both = [
        {"$and": [counted({one: k}), counted({"$gte": n})]} for one, k, n in product(("$gte", "$gt"), (1, 2), (1, 2, 3))
    ]
    return flows + both * (len(flows) // 100)


def prerequisites(hours: int) -> list[Json]:
    """Flows of a badge that asks for `first`, given for two events of a type, or for `second`, which comes of that.

    Many ask not to hold `second`, at an event that may bring all three.
    """
    asked: list[Json] = [flow for key in ("first", "second") for flow in ({"badge": key}, {"$not": {"badge": key}})]
    flows: list[Json] = [*asked]
    for one, check, name in product(asked, FEW, TYPES):
        flows += [{"$and": [one, counted(check, name)]}, {"$or": [counted(check, name), one]}]
    return flows + [{"$and": [asked[-1], counted({"$gte": 2}, name)]} for name in TYPES] * (len(flows) // 12)


def aging(hours: int) -> list[Json]:
    """A window beside `first`, looked at by events that are not in it: what time alone did to it shows."""
    flows: list[Json] = []
    for k, (least, most) in product(
        (1, 2), (({"$gte": 2}, {"$lte": 1}), ({"$gte": 1}, {"$eq": 0}), ({"$gt": 1}, {"$lt": 1}))
    ):
        bound = {"start": f"$NOW(-{k * hours}h)"}
        old: Json = {"$not": {"$timeWindow": {**bound, "flow": counted(least)}}}
        few: Json = {"$timeWindow": {**bound, "flow": counted(most)}}
        flows += [{"$and": [{"badge": "first"}, part]} for part in (old, few)]
    return flows


POOLS: dict[str, Pool] = {
    "gap": gaps,
    "sequence": sequences,
    "duration": durations,
    "consistent": patterns("consistent", "maxDeviation", (0, Decimal("0.25"), Decimal("0.5"), 1)),
    "increasing": patterns("increasing", "minIncreasePct", (0, Decimal("33.3"), 50, 100)),
    "decreasing": patterns("decreasing", "maxDecreasePct", (25, Decimal("33.4"), 50, 100)),
    "within": within,
    "moving": moving,
    "followed": followed,
    "time_period": time_periods,
    "calendars": calendars,
    "aggregate": aggregates,
    "distinct_count": distinct_counts,
    "logic": logic,
    "prerequisite": prerequisites,
    "aging": aging,
}


# -- histories ---------------------------------------------------------------------------------------------------------

#: How many events the periods of a run have: level with a few odd ones, rising, falling, as they fall. The lengths of
#: level ones lie around those from which one odd period is left aside, and two.
_odd = list(product(range(10), range(5)))
_level = together((1, 2, 3), (3, 4, 6, 7, 8, 8, 8, 9, 10, 13, 13, 14), (0, 1, 1, 2, 2), _odd, _odd).map(
    lambda parts: [dict(parts[3 : 3 + parts[2]]).get(place, parts[0]) for place in range(parts[1])]
)
runs = st.one_of(
    _level,
    _level,
    st.lists(st.integers(0, 5), min_size=2, max_size=5).map(sorted),
    st.lists(st.integers(0, 5), min_size=2, max_size=5).map(lambda found: sorted(found, reverse=True)),
    st.lists(st.integers(0, 4), min_size=2, max_size=6),
).filter(any)
#: Hours in strides to the place of the event before, seconds beside it, type: most lead to the next place, some stay.
_HEADS = list(product((0, 0, 1, 1, 1, 1, 2, 3), (*[0] * 12, 1, -1), ("a.done", "a.done", "b.done", "b.done", "c.done")))
_rows = together(_HEADS, PAYLOADS)


def made(rows: list[tuple[int, str, Json]]) -> list[Event]:
    return [
        Event("u", kind, us, "", f"{place:03}", payload, dumps(payload))
        for place, (us, kind, payload) in enumerate(rows)
    ]


@st.composite
def trodden(draw: st.DrawFn, hours: int, least: int = 3, most: int = 8) -> list[Event]:
    """A few events at neighbouring places, some a second beside, of every type."""
    us, rows = draw(of(BEGINNINGS)), []
    for (step, beside, kind), payload in draw(st.lists(_rows, min_size=least, max_size=most)):
        us += step * hours * HOUR
        rows.append((us + beside * 10**6, kind, payload))
    return made(rows)


@st.composite
def run(draw: st.DrawFn, hours: int) -> list[Event]:
    """As many events in each period as a shape of activity has."""
    begin = draw(of(BEGINNINGS))
    odd = draw(st.integers(0, 20))
    instants = [begin + place * max(hours, 24) * HOUR for place, count in enumerate(draw(runs)) for _ in range(count)]
    return made([(us, TYPES[number == odd], {}) for number, us in enumerate(instants)])


#: The hours of a stride, the zone, how many strides later the answer is asked for once more, what `first` asks for.
_around = together(STRIDES, ("UTC", "Europe/Berlin"), (0, 1, 1, 2, 3), ("a.done", "b.done", "b.done"))


@cache
def flows(name: str, hours: int) -> st.SearchStrategy[Json]:
    return of(POOLS[name](hours))


@st.composite
def cases(draw: st.DrawFn, name: str) -> tuple[Json, list[Event], int]:
    """A catalog of the operator alone, a history that fits, and an instant at its end or after."""
    hours, zone, strides, asked = draw(_around)
    flow = draw(flows(name, hours))
    shaped = name in ("consistent", "increasing", "decreasing")
    long = (8, 12) if name == "aging" else (3, 8)
    events = draw(run(hours) if shaped else trodden(hours, *long))
    badges: list[Json] = [{"key": "badge", "flow": flow}]
    if name in ("prerequisite", "aging"):
        badges.append({"key": "first", "flow": counted({"$gte": 2}, asked)})
        badges.append({"key": "second", "flow": {"badge": "first"}})
    document = {
        "version": 1,
        "timezone": zone,
        "events": EVENTS,
        "metrics": METRICS if name == "logic" else {},
        "holidays": {"company": ["2023-12-29", "2024-04-01"]},
        "badges": badges,
    }
    return document, events, max(event.occurred_us for event in events) + strides * hours * HOUR


@pytest.mark.parametrize("name", sorted(POOLS))
@given(data=st.data())
def test_an_operator_alone_is_the_oracles(name: str, data: st.DataObject) -> None:
    """Its awards and reasons are those of the oracle, with and without caps; so is what is explained then and later."""
    document, drawn, now = data.draw(cases(name))
    events, catalog = in_order(drawn), catalog_of(document)
    plan = compile_plan(catalog, exact=True)
    expected = oracle.awards(document, events)
    state, awards = UserState("u"), []
    for event in events:
        awards += apply(plan, state, event)
    assert keys(awards) == expected_keys(expected)
    reasons = {badge: metadata for _, badge, _, _, _, metadata in expected}
    for award in awards:
        assert_same_figures(award.metadata, reasons[award.badge_key])
    _, capped = replay(compile_plan(catalog, exact=False), "u", events, {})
    assert keys(capped) == expected_keys(expected)
    world = oracle.World(document, dict(state.held))
    for at in {events[-1].occurred_us, now}:
        for badge in world.badges.values():
            assert_explained(plan, state, events, at, world, badge)
