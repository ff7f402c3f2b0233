"""Catalogs over the whole grammar and histories on a coarse grid of time, small enough that everything collides.

Parts without structure of their own are drawn from pools laid out beforehand: drawing costs more than evaluating.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import combinations_with_replacement, product
from random import Random
from typing import Any

from hypothesis import strategies as st

from worker.events import Event, format_instant
from worker.events.json_text import dumps

Json = dict[str, Any]

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
TYPES = ("a.done", "b.done", "c.done", "UserLoggedIn")
NAMES = (*TYPES, "ADone")
EVENTS = {"a.done": {"aliases": ["ADone"]}, "b.done": {}, "c.done": {"login": True}, "UserLoggedIn": {}}
METRICS: Json = {
    "all_a": {"count": "a.done"},
    "gauge": {"count": "a.done", "less": "b.done"},
    "picky": {"count": "b.done", "where": {"s": {"$startsWith": "x"}}},
    "gauged": {"count": "b.done", "less": "c.done", "where": {"n": {"$gt": 0}}},
    "total": {"sum": "n", "event": "a.done"},
    "paid": {"sum": "n", "event": "b.done", "where": {"s": "x"}},
    "first_a": {"first": "a.done"},
    "last_b": {"last": "b.done"},
    "last_any": {"last": "*"},
    "all_b_per_k": {"count": "b.done", "per": "k"},
    "total_per_k": {"sum": "n", "event": "b.done", "by": "k"},
}
INSTANTS = ("first_a", "last_b", "last_any")
PER_K = ("all_b_per_k", "total_per_k")

#: Days on which calendars trip: zones lose and gain an hour, months end, a leap day, weekends, holidays.
DAYS = (
    *("2023-12-25", "2023-12-31", "2024-01-01", "2024-01-31", "2024-02-29", "2024-03-01", "2024-03-09", "2024-03-10"),
    *("2024-03-30", "2024-03-31", "2024-04-01", "2024-10-26", "2024-10-27", "2024-10-28", "2024-11-03", "2025-02-28"),
)
HOURS = (0, 1, 12, 22, 23)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GRID = [
    (datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour) - EPOCH) // timedelta(microseconds=1)
    for day, hour in product(DAYS, HOURS)
]
#: Most histories are of few days, so that windows of hours, days and months hold something and lose it again.
SPRING = [us for us in GRID if format_instant(us)[:10] in ("2024-03-09", "2024-03-10", "2024-03-30", "2024-03-31")]
ENDS = [
    us for us in GRID if format_instant(us)[8:10] in ("31", "30", "29", "28") and format_instant(us)[11:13] in "0012"
]

YES, NO = True, False
NUMBERS = (0, 1, 2, 3, -1, Decimal("1.0"), Decimal("0.5"), Decimal("2.50"))
TEXTS = ("x", "y", "xy", "3", "10", "09:00:00", "10:30:00", "2024-03-01T00:00:00Z", "2024-03-01T01:00:00+01:00")
SCALARS = (*NUMBERS, *TEXTS, None, YES, NO)


def of(values: Iterable[Any]) -> st.SearchStrategy[Any]:
    """One of these values; by their number, since a strategy's text would hold them all."""
    listed = list(values)

    def chosen(number: int) -> Any:
        return listed[number]

    return st.integers(0, len(listed) - 1).map(chosen)


def objects(words: Iterable[str], operands: Iterable[Any]) -> list[Json]:
    """An object of one operator for each word and operand."""
    return [{word: operand} for word, operand in product(words, list(operands))]


def pairs(words: Iterable[str], operands: Iterable[Any]) -> list[Json]:
    """Objects of one or two operators."""
    single = objects(words, operands)
    return [*single, *({**a, **b} for a, b in product(single[:: len(single) // 12], single[:: len(single) // 7]))]


# -- events ------------------------------------------------------------------------------------------------------------

_FIELDS = {
    "n": (*NUMBERS, 1, 2, "3", YES, None),
    "s": (*TEXTS, "x", "y", 3, None),
    "tags": ([], ["x"], [1, "x"], ["3", 3], [None, YES], ["y", "x"]),
    "k": (1, 1, "1", "1", 2, Decimal("1.0"), YES, None, [1]),
    "o": tuple({"p": value} for value in SCALARS),
    "o.p": SCALARS,
}


def _payloads(count: int) -> Iterable[Json]:
    """Payloads with the fields the flows look at, each of any kind or missing; `o.p` is a path and a name."""
    dice = Random(7)
    for _ in range(count):
        yield {name: dice.choice(values) for name, values in _FIELDS.items() if dice.random() < 0.85}


places = (of(GRID), of(SPRING), of(ENDS))
heads = of(product((*TYPES, *TYPES, "cron.anniversary"), ("", "s"), ("", "9", "é")))
payloads = of([{}, *_payloads(400)])
drafts = st.tuples(heads, payloads)


@st.composite
def histories(draw: st.DrawFn, least: int = 8, most: int = 14) -> list[Event]:
    """One user's events in any order, many at one instant, no two with one id."""
    at = places[draw(st.integers(0, 2))]
    drawn = draw(st.lists(st.tuples(at, drafts), min_size=least, max_size=most))
    return [
        Event("u", kind, us, source, f"{name}{index}", payload, dumps(payload))
        for index, (us, ((kind, source, name), payload)) in enumerate(drawn)
    ]


# -- conditions and figures --------------------------------------------------------------------------------------------

_FIXED = [format_instant(us) for us in GRID[::7]]
_RELATIVE = ["$NOW", "$NOW()", "$NOW(-1d)", "$NOW(-12h)", "$NOW(-1M)", "$NOW(-1y+1M)", "$NOW(-90m)", "$NOW(-1w+30s)"]
_MOMENTS = [*_FIXED, *_RELATIVE, *_RELATIVE]
_CONDITIONS = [
    *(*SCALARS, [1, "x"], ["x"]),
    *pairs(("$gt", "$gte", "$lt", "$lte"), (*NUMBERS, *TEXTS)),
    *objects(("$eq", "$ne", "$neq", "$contains"), SCALARS),
    *objects(("$in", "$nin"), ([], ["x", 1], [YES, None], ["3", Decimal("0.5"), "xy"], [1, 2, 3])),
    *objects(("$startsWith", "$endsWith", "$regex"), ("x", "y", "0")),
    *objects(("$between",), ([0, 2], "0,2", ["09:00:00", "10:00:00"], [Decimal("0.5"), 1], "1,10", ["3", "10"])),
]
_FIGURES = ("$gte", "$gte", "$gt", "$lt", "$lte", "$eq", "$ne", "$neq")

fields = st.dictionaries(of(["n", "n", "s", "s", "tags", "o.p", "k"]), of(_CONDITIONS), min_size=1, max_size=2)
timestamps = of(
    [
        *pairs(("$gte", "$gt", "$lt", "$lte", "$eq", "$ne"), _MOMENTS),
        *objects(("$between",), map(list, combinations_with_replacement(_FIXED[::3], 2))),
    ]
)
counts = of([*pairs(_FIGURES, range(5)), *objects(("$between",), ([0, 0], [1, 2], [2, 4]))])
sums = of([*pairs(_FIGURES, (0, 1, 2, 3, Decimal("1.5"), -1)), {"$between": [Decimal("0.5"), 3]}])
edges = of(objects(("$lte", "$gte", "$lt"), _MOMENTS))


# -- flows -------------------------------------------------------------------------------------------------------------


def keyed(word: str, operands: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """An object of one operator."""
    return operands.map(lambda operand: {word: operand})


periods = st.fixed_dictionaries(
    {"periodType": of(["day", "week", "month", "quarter", "year"])},
    optional={
        "periodCount": counts,
        "excludeWeekends": st.booleans(),
        "excludeHolidays": st.booleans(),
        "holidays": of([["2024-04-01"], "company"]),
    },
)
_figures = list(product(("min", "max", "avg", "sum", "count"), ("n", "o.p"), (YES, YES, NO), (YES, NO)))
aggregates = st.tuples(of(_figures), sums).map(lambda parts: _aggregate(*parts[0], parts[1]))


def _aggregate(function: str, field: str, asks: bool, first_spelling: bool, check: Json) -> Json:
    keys = ("type", "field", "value") if first_spelling else ("function", "property", "result")
    return dict(zip(keys, (function, field, check), strict=True)) if asks else {keys[0]: function, keys[1]: field}


operators = st.one_of(
    st.just({}),
    keyed("$eventCount", counts),
    keyed("$timePeriod", periods),
    keyed("$aggregate", aggregates),
    counts.map(lambda check: {"$distinctCount": {"field": "s", **check}}),
    st.tuples(keyed("$eventCount", counts), keyed("$aggregate", aggregates)).map(lambda both: {**both[0], **both[1]}),
)
filters = st.one_of(
    st.just({}),
    fields,
    keyed("payload", fields),
    keyed("timestamp", timestamps),
    st.tuples(fields, timestamps).map(lambda both: {"payload": both[0], "timestamp": both[1]}),
    st.tuples(fields, fields).map(lambda both: {**both[0], "payload": both[1]}),
)
criteria = st.tuples(filters, operators).map(lambda both: {**both[0], **both[1]})
leaves = st.fixed_dictionaries({"event": of(NAMES)}, optional={"criteria": criteria})
#: The plain shapes, in which most of what may go wrong shows: one field, one count.
tallies = st.fixed_dictionaries({"event": of(NAMES), "criteria": keyed("$eventCount", counts)})
choices = st.fixed_dictionaries(
    {"event": of(NAMES), "criteria": st.dictionaries(of(list(_FIELDS)), of(_CONDITIONS), min_size=1, max_size=1)}
)
bounds = of(
    [
        *objects(("last",), ("1d", "2d", "1w", "1m", "3m", "1q", "1y") * 3),
        *({"start": start, "end": end} for start, end in combinations_with_replacement(_FIXED[::3], 2)),
        *objects(("start", "end"), _MOMENTS),
    ]
)
days = of(
    [
        *[{}, {}, {}],
        {"businessDaysOnly": YES},
        {"businessDaysOnly": YES, "holidays": ["2024-04-01", "2024-03-01"]},
        {"businessDaysOnly": YES, "holidays": "company"},
    ]
)


@cache
def flows(per: str | None = None, badges: tuple[str, ...] = ()) -> st.SearchStrategy[Json]:
    """A flow of any shape, of a badge with this `per`; `badges` are those it may ask for."""
    plain = [name for name in METRICS if name not in INSTANTS and (per or name not in PER_K)]
    figures = st.dictionaries(of(plain), counts, min_size=1, max_size=2)
    instants = st.dictionaries(of(INSTANTS), edges, min_size=1, max_size=1)
    recent = st.tuples(bounds, tallies).map(lambda parts: {"$timeWindow": {**parts[0], "flow": parts[1]}})
    tips = [
        leaves,
        leaves,
        choices,
        tallies,
        recent,
        st.tuples(tallies, recent).map(lambda parts: {"$and": list(parts)}),
        keyed("snapshot", st.one_of(figures, instants)),
        keyed("$timePeriod", periods),
        keyed("$aggregate", aggregates),
    ]
    if badges:
        tips.append(keyed("badge", of(badges)))

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        listed = st.lists(inner, min_size=1, max_size=3)
        window = st.tuples(bounds, days, inner).map(
            lambda parts: {"$timeWindow": {**parts[0], **parts[1], "flow": parts[2]}}
        )
        return st.one_of(keyed("$and", listed), keyed("$or", listed), keyed("$not", inner), window, window)

    return st.recursive(st.one_of(tips), around, max_leaves=4)


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
statuses = of([*["active"] * 8, "hidden", "draft", "locked", "deprecated"])
stated = of([None, None, *([a] if a == b else [a, b] for a, b in product((*TYPES, "cron.anniversary"), repeat=2))])
details = st.tuples(of([None, None, "k"]), statuses, stated)


@st.composite
def catalogs(draw: st.DrawFn) -> Json:
    """A clean catalog: badges of all sorts, at most one ladder and one milestone."""
    badges: list[Json] = []
    for index in range(draw(st.integers(2, 8))):
        per, status, triggers = draw(details)
        flow = draw(flows(per, tuple(badge["key"] for badge in badges)))
        badge = {"key": f"badge{index}", "flow": flow, "status": status}
        if per is not None:
            badge["per"] = per
        if triggers is not None and set(flow) & {"snapshot", "badge"}:
            badge["triggers"] = triggers
        badges.append(badge)
    zone, backwards = draw(st.tuples(of(ZONES), st.booleans()))
    return {
        "version": 1,
        "timezone": zone,
        "events": EVENTS,
        "metrics": METRICS,
        "holidays": {"company": ["2023-12-25", "2024-03-31"]},
        "badges": badges[::-1] if backwards else badges,
        "ladders": draw(st.lists(ladders, max_size=1)),
        "milestones": draw(st.lists(milestones, max_size=1)),
    }
