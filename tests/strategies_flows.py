"""Flows over the whole grammar: every operator, nested windows and logic, from pools laid out beforehand."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from itertools import combinations_with_replacement, product
from typing import Any

from hypothesis import strategies as st

from tests.strategies_events import (
    CONDITIONS,
    FIELDS,
    GRID,
    NO,
    NUMBERS,
    SCALARS,
    TEXTS,
    YES,
    Json,
    objects,
    of,
    pairs,
    together,
)
from worker.events import format_instant

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

_NAMES = ("n", "n", "s", "s", "tags", "o.p", "k")
fields = together((YES, NO), _NAMES, _CONDITIONS, _NAMES, _CONDITIONS).map(
    lambda parts: {parts[1]: parts[2]} | ({parts[3]: parts[4]} if parts[0] else {})
)
timestamps = of(
    [
        *pairs(("$gte", "$gt", "$lt", "$lte", "$eq", "$ne"), _MOMENTS),
        *objects(("$between",), map(list, combinations_with_replacement(_FIXED[::3], 2))),
    ]
)
_COUNTS = [*pairs(_FIGURES, range(5)), *objects(("$between",), ([0, 0], [1, 2], [2, 4]))]
counts = of(_COUNTS)
_SUMS = [*pairs(_FIGURES, (0, 1, 2, 3, Decimal("1.5"), -1)), {"$between": [Decimal("0.5"), 3]}]
edges = of(objects(("$lte", "$gte", "$lt"), _MOMENTS))


# -- flows -------------------------------------------------------------------------------------------------------------


#: The names that flows use; most are of the types that most events have.
_NAMED = ("a.done", "a.done", "ADone", "b.done", "b.done", "b.done", "c.done", "UserLoggedIn")


def _joined(parts: tuple[Json, ...]) -> Json:
    """One object of several."""
    return {key: value for part in parts for key, value in part.items()}


def keyed(word: str, operands: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """An object of one operator."""
    return operands.map(lambda operand: {word: operand})


#: Dates, a list of the catalog, and calendars of countries: of a part of one, with a date, with the list.
HOLIDAYS = (["2024-04-01"], "company", "DE-BB", ["AT", "2024-03-01"], ["JP", "company"])
periods = together(
    objects(("periodType",), ("day", "week", "month", "quarter", "year")),
    [*[{}] * len(_COUNTS), *objects(("periodCount",), _COUNTS)],
    [{}, {}, *objects(("excludeWeekends",), (YES, NO))],
    [{}, {}, *objects(("excludeHolidays",), (YES, NO))],
    [{}, {}, *objects(("holidays",), HOLIDAYS)],
).map(_joined)
_figures = list(product(("min", "max", "avg", "sum", "count"), ("n", "o.p"), (YES, YES, NO), (YES, NO)))
aggregates = together(_figures, _SUMS).map(lambda parts: _aggregate(*parts[0], parts[1]))


def _aggregate(function: str, field: str, asks: bool, first_spelling: bool, check: Json) -> Json:
    keys = ("type", "field", "value") if first_spelling else ("function", "property", "result")
    return dict(zip(keys, (function, field, check), strict=True)) if asks else {keys[0]: function, keys[1]: field}


_BOUNDS = {
    "consistent": ("maxDeviation", (0, Decimal("0.15"), Decimal("0.5"), 2)),
    "increasing": ("minIncreasePct", (0, 5, Decimal("33.3"), 50, 100)),
    "decreasing": ("maxDecreasePct", (5, Decimal("33.4"), 50, 100)),
}
_LEAST = [{}, *objects(("minPeriods",), (2, 2, 2, 3, 4, 8))]
#: Shapes of activity; most ask for few periods, and half of the thresholds are left to their defaults.
patterns = together(
    [
        ({"pattern": kind}, {"pattern": kind, word: bound})[stated]
        for kind, (word, bounds_) in _BOUNDS.items()
        for stated, bound in product((NO, YES), (*bounds_, *bounds_[-2:])[:5])
    ],
    objects(("periodType",), ("day",) * 6 + ("week", "week", "month", "quarter", "year")),
    _LEAST,
).map(_joined)
_HOURS = (0, 1, 11, 24, Decimal("0.5"), 168, 730, 10_000)
gaps = of(
    [
        *objects(("minGapHours", "maxGapHours"), _HOURS[1:]),
        *({"minGapHours": low, "maxGapHours": high} for low, high in product(_HOURS, _HOURS[1:]) if low <= high),
        {"minGapHours": 1, "periodType": "day"},
    ]
)
_SEQUENCES = [
    *product(("a.done", "ADone", "b.done"), ("a.done", "b.done", "b.done")),
    *product(("a.done", "b.done", "c.done"), ("a.done", "b.done"), ("ADone", "b.done", "b.done")),
    *(("a.done",), ("c.done", "a.done"), ("a.done", "cron.anniversary"), ("a.done", "b.done", "a.done", "b.done")),
]
sequences = together(
    [{"sequence": list(one)} for one in _SEQUENCES],
    [{}, {}, {}, *objects(("maxGapSeconds",), (1, 3600, 3600, 36_000, 39_600, 86_400, Decimal("43200.5")))],
    [{}, {}, {"requireStrict": YES}, {"requireStrict": NO}],
).map(_joined)
_ENDS = [
    {"type": name, **more} for name, more in product(_NAMED[:-1], [*[{}] * 70, *objects(("s", "n"), _CONDITIONS[::25])])
]
_MATCHES = [{}, {}, {}, *objects(("matchProperty",), ("k", "k", "s", "o.p", "tags"))]
_LENGTHS_ASKED = [{}, *objects(("duration",), pairs(_FIGURES, (0, 1, 11, 24, 60, 3600, Decimal("1.5"))))]
_UNITS = [{}, {}, *objects(("unit",), ("seconds", "minutes", "hours", "days"))]
durations = st.tuples(
    together(objects(("startEvent",), _ENDS), _MATCHES), together(objects(("endEvent",), _ENDS), _LENGTHS_ASKED, _UNITS)
).map(lambda parts: _joined((*parts[0], *parts[1])))

operators = st.one_of(
    st.just({}),
    keyed("$pattern", patterns),
    keyed("$gap", gaps),
    keyed("$condition", of(CONDITIONS)),
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
leaves = st.one_of(
    of(objects(("event",), _NAMED)), st.tuples(of(_NAMED), criteria).map(lambda parts: _leaf(parts[0], parts[1]))
)


def _leaf(name: str, criteria: Json) -> Json:
    return {"event": name, "criteria": criteria}


#: The plain shapes, in which most of what may go wrong shows: one field, one count.
tallies = together(_NAMED, objects(("$eventCount",), _COUNTS)).map(lambda parts: _leaf(*parts))
choices = together(_NAMED, list(FIELDS), _CONDITIONS).map(lambda parts: _leaf(parts[0], {parts[1]: parts[2]}))
_WINDOWS = [
    *objects(("last",), ("1d", "2d", "1w", "1m", "3m", "1q", "1y") * 3),
    *({"start": start, "end": end} for start, end in combinations_with_replacement(_FIXED[::3], 2)),
    *objects(("start", "end"), _MOMENTS),
]
_LENGTHS = of(["30s", "90min", "1h", "11h", "24h", "1d", "2d", "1w"])
_DAYS = [
    *[{}, {}, {}],
    {"businessDaysOnly": YES},
    {"businessDaysOnly": YES, "holidays": ["2024-04-01", "2024-03-01"]},
    *({"businessDaysOnly": YES, "holidays": one} for one in HOLIDAYS[1:]),
]
windows = together(_WINDOWS, _DAYS).map(_joined)
recent = together(_WINDOWS, _NAMED, objects(("$eventCount",), _COUNTS)).map(
    lambda parts: {"$timeWindow": {**parts[0], "flow": _leaf(*parts[1:])}}
)


SHAPES = {"$pattern": patterns, "$gap": gaps, "$sequence": sequences, "$duration": durations}


@cache
def flows(per: str | None = None, badges: tuple[str, ...] = (), *, inside: bool = False) -> st.SearchStrategy[Json]:
    """A flow of any shape, of a badge with this `per`; `badges` are those it may ask for.

    With `inside` it may be the conditions of a `$withinTimeWindow`, which see no more than the badge's own events.
    """
    plain = [
        name
        for name in METRICS
        if name not in INSTANTS and (name in PER_K if inside and per else per or name not in PER_K)
    ]
    figures = st.dictionaries(of(plain), counts, min_size=1, max_size=2)
    instants = st.dictionaries(of(INSTANTS), edges, min_size=1, max_size=1)
    tips = [
        leaves,
        leaves,
        choices,
        tallies,
        recent,
        st.tuples(tallies, recent).map(lambda parts: {"$and": list(parts)}),
        keyed("snapshot", figures if inside and per else st.one_of(figures, instants)),
        keyed("$timePeriod", periods),
        keyed("$aggregate", aggregates),
        *(keyed(word, operands) for word, operands in SHAPES.items()),
    ]
    if badges:
        tips.append(keyed("badge", of(badges)))

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        listed = st.lists(inner, min_size=1, max_size=3)
        window = st.tuples(windows, inner).map(lambda parts: {"$timeWindow": {**parts[0], "flow": parts[1]}})
        within = st.tuples(_LENGTHS, inner if inside else flows(per, inside=True)).map(
            lambda parts: {"$withinTimeWindow": {"window": parts[0], "conditions": parts[1]}}
        )
        logic = [keyed("$and", listed), keyed("$or", listed), keyed("$not", inner)]
        return st.one_of(*logic, window, window, within)

    return st.recursive(st.one_of(tips), around, max_leaves=4)
