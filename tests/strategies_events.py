"""Histories on a coarse grid of time, small enough that everything collides.

Parts without structure of their own are drawn from pools laid out beforehand: drawing costs more than evaluating.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from math import prod
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.oracle_catalog import ANSWERS
from worker.events import Event, format_instant
from worker.events.json_text import dumps
from worker.rules.catalog.conditions_section import ConditionTypes

Json = dict[str, Any]

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
TYPES = ("a.done", "b.done", "c.done", "UserLoggedIn")
NAMES = (*TYPES, "ADone")
EVENTS = {"a.done": {"aliases": ["ADone"]}, "b.done": {}, "c.done": {"login": True}, "UserLoggedIn": {}}
#: Days on which calendars trip: zones lose and gain an hour, months end, a leap day, weekends, holidays.
DAYS = (
    *("2023-12-25", "2023-12-31", "2024-01-01", "2024-01-31", "2024-02-29", "2024-03-01", "2024-03-09", "2024-03-10"),
    *("2024-03-30", "2024-03-31", "2024-04-01", "2024-10-26", "2024-10-27", "2024-10-28", "2024-11-03", "2025-02-28"),
    "2025-03-01",
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

#: Around leap days and their anniversaries.
YEARS = [
    us + year * 86_400 * 10**6
    for us in GRID
    if format_instant(us)[:10] in ("2024-02-29", "2024-03-01")
    for year in (-1, 0, 365, 366, 730)
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


def together(*pools: Iterable[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """One value of each pool, by a single number for all: each draw costs more than most of what is tried with it."""
    listed = [list(pool) for pool in pools]

    def chosen(number: int) -> tuple[Any, ...]:
        found = []
        for values in listed:
            number, place = divmod(number, len(values))
            found.append(values[place])
        return tuple(found)

    return st.integers(0, prod(map(len, listed)) - 1).map(chosen)


def objects(words: Iterable[str], operands: Iterable[Any]) -> list[Json]:
    """An object of one operator for each word and operand."""
    return [{word: operand} for word, operand in product(words, list(operands))]


def pairs(words: Iterable[str], operands: Iterable[Any]) -> list[Json]:
    """Objects of one or two operators."""
    single = objects(words, operands)
    return [*single, *({**a, **b} for a, b in product(single[:: len(single) // 12], single[:: len(single) // 7]))]


# -- events ------------------------------------------------------------------------------------------------------------

FIELDS = {
    "n": (*NUMBERS, 1, 2, "3", YES, None),
    "s": (*TEXTS, "x", "y", 3, None),
    "tags": ([], ["x"], [1, "x"], ["3", 3], [None, YES], ["y", "x"]),
    "k": (1, 1, "1", "1", 2, Decimal("1.0"), YES, None, [1]),
    "o": tuple({"p": value} for value in SCALARS),
    "o.p": SCALARS,
    "zone": (*ZONES, "America/New_York", "Pacific/Kiritimati", "Nowhere/Atall", "", 3, None),
}


def _payloads(count: int) -> Iterable[Json]:
    """Payloads with the fields the flows look at, each of any kind or missing; `o.p` is a path and a name."""
    dice = Random(7)
    for _ in range(count):
        yield {name: dice.choice(values) for name, values in FIELDS.items() if dice.random() < 0.85}


#: Condition types, and what their uses are called where an event's answers are kept.
CONDITION_TYPES = [{"name": "odd", "source": "(event, params) => false"}, {"name": "big", "source": "() => true"}]
CONDITIONS: list[Json] = [{"type": "odd"}, {"type": "big", "params": {"min": 1}}, {"type": "big", "params": {"min": 2}}]
_TYPES_READ = ConditionTypes(CONDITION_TYPES, [])
for _one in CONDITIONS:
    _key = _TYPES_READ.use(_one["type"], _one.get("params", {}), "")
    ANSWERS[_one["type"], json.dumps(_one.get("params", {}), sort_keys=True)] = str(_key)


def _answers(payload: Json) -> dict[str, str] | None:
    """What the conditions said of a payload, as it falls."""
    dice = Random(dumps(payload))
    said = {key: dice.choice(("yes", "no", "no", "error", "parked")) for key in ANSWERS.values() if dice.random() < 0.8}
    return said or None


_KINDS = (*["a.done"] * 4, *["b.done"] * 3, "c.done", "UserLoggedIn", "cron.anniversary")
_HEADS = list(product(_KINDS, ("", "s"), ("", "9", "é")))
_PAYLOADS = [(payload, _answers(payload)) for payload in ({}, *_payloads(400))]
drafts = together(_HEADS, _PAYLOADS)
#: Where an event lies in time, and what it is.
_placed = [together(places, _HEADS, _PAYLOADS) for places in (GRID, SPRING, ENDS)]
_DUE = list(
    product(("a.done", "a.done", "b.done", "UserLoggedIn", *["cron.anniversary"] * 3), ("", "s"), ("", "9", "é"))
)
_placed.append(together(YEARS, _DUE, _PAYLOADS))
#: Where a run of activity begins and the hours from each of its periods to the next; patterns are looked for in these.
_BEGINNINGS = [us for us in GRID if format_instant(us)[11:13] in ("12", "23")]
_STRIDES = (1, 11, 24, 24, 24, 24, 24, 24, 168, 730, 2190)
#: How many events each period of a run has: level, with something odd in it, rising, falling, in and out.
_RUNS = [
    *([one] * n for one, n in ((1, 4), (2, 3), (1, 9), (2, 8))),
    *(
        [*[one] * k, odd, *[one] * (n - k)]
        for one, odd, n, k in ((1, 4, 7, 3), (1, 0, 8, 5), (1, 3, 8, 0), (2, 1, 7, 2))
    ),
    *([1, 2, 3], [1, 2, 3, 4], [1, 1, 2, 3], [1, 2, 2, 4], [2, 1, 3, 2, 4], [1, 2, 4], [4, 5], [1, 3, 2, 4, 3]),
    *([3, 2, 1], [5, 4, 3], [4, 3, 3, 2], [4, 2, 3, 1], [2, 0, 1], [5, 4], [3, 3, 1], [1, 0, 0, 1], [3, 1, 2, 1, 1]),
]
_runs = together(_BEGINNINGS, _STRIDES, _RUNS, (YES, NO), (YES, NO))


def _event(index: int, us: int, head: Any, drawn: Any) -> Event:
    (kind, source, name), (payload, answers) = head, drawn
    return Event("u", kind, us, source, f"{name}{index}", payload, dumps(payload), answers)


@st.composite
def histories(draw: st.DrawFn, least: int = 8, most: int = 14) -> list[Event]:
    """One user's events in any order, many at one instant, no two with one id; half of them a run of periods."""
    shape = draw(st.integers(0, 6))
    if shape < len(_placed):
        rows = draw(st.lists(_placed[shape], min_size=least, max_size=most))
        return [_event(index, *row) for index, row in enumerate(rows)]
    begin, stride, run, mixed, several = draw(_runs)
    instants = [begin + n * stride * 3600 * 10**6 for n, count in enumerate(run) for _ in range(count)]
    if mixed:
        instants = draw(st.permutations(instants))
    turns, odd = draw(st.lists(drafts, min_size=1, max_size=3)), draw(st.integers(0, len(instants)))
    others = turns if several else turns[:1]
    chosen = [turns[-1] if index == odd else others[index % len(others)] for index in range(len(instants))]
    return [_event(index, us, *draft) for index, (us, draft) in enumerate(zip(instants, chosen, strict=True))]
