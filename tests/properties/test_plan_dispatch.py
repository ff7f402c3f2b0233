"""The index over filters finds exactly the filters that trying each of them would find."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.events import Event
from worker.events.json_text import dumps
from worker.rules.ir import Clause, Days, Frozen, Match
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.values import compile_clause, equal, freeze
from worker.rules.plan.dispatch import Dispatch, Spans, filter_of, json_key

UTC = Calendar("UTC")
DAY = 86_400_000_000
SCALARS: list[Any] = [0, 1, 2, -1, Decimal("1.0"), Decimal("0.5"), Decimal("2E+1"), 20, "1", "x", "y", "", True, False]
values = st.one_of(
    st.sampled_from([*SCALARS, None, [], [1], [True], ["x", 1], {}, {"a": 1}, {"a": Decimal("1.0")}, {"a": [True]}]),
    st.lists(st.sampled_from(SCALARS), max_size=3),
)
payloads = st.one_of(
    st.dictionaries(st.sampled_from(["f", "g", "o", "o.p"]), values, max_size=4),
    st.fixed_dictionaries({"o": st.fixed_dictionaries({"p": values})}),
)
numbers = st.sampled_from([0, 1, 2, -1, Decimal("1.0"), Decimal("0.5"), 20])
operands = {
    "$eq": values.map(freeze),
    "$ne": values.map(freeze),
    "$in": st.lists(values, max_size=3).map(freeze),
    "$nin": st.lists(values, max_size=3).map(freeze),
    "$gte": st.one_of(numbers, st.sampled_from(["x", "1"])),
    "$gt": numbers,
    "$lte": st.one_of(numbers, st.sampled_from(["x", "1"])),
    "$lt": numbers,
    "$between": st.one_of(st.tuples(numbers, numbers), st.sampled_from(["0,2", ("x", "y")])),
    "$contains": values.map(freeze),
}
instants = st.none() | st.integers(0, 12).map(lambda step: step * DAY)


@st.composite
def clauses(draw: st.DrawFn) -> Clause:
    """A condition on one of a few fields; equality most often."""
    operator = draw(st.sampled_from(["$eq", "$eq", "$in", *operands]))
    return Clause(draw(st.sampled_from(["f", "g", "o.p"])), operator, draw(operands[operator]))


matches = st.builds(
    Match,
    clauses=st.lists(clauses(), max_size=3).map(tuple),
    start_us=instants,
    end_us=instants,
    days=st.sampled_from([(), (), (Days(exclude_weekends=True),)]),
)


def passes(match: Match, event: Event) -> bool:
    """Whether an event passes a filter, tried clause by clause."""
    return (
        all(compile_clause(clause)(event.payload) for clause in match.clauses)
        and (match.start_us is None or match.start_us <= event.occurred_us)
        and (match.end_us is None or event.occurred_us <= match.end_us)
        and not any(UTC.drops(event.occurred_us, days) for days in match.days)
    )


@given(st.lists(matches, max_size=14), payloads, st.integers(0, 12))
def test_an_index_finds_what_trying_every_filter_finds(listed: list[Match], payload: dict[str, Any], step: int) -> None:
    """Each filter that an event passes is found once, and no other."""
    event = Event("u", "a", step * DAY, "", "1", payload, dumps(payload))
    found: list[int] = []
    Dispatch([filter_of(number, match) for number, match in enumerate(listed)]).passed(event, UTC, found)
    assert sorted(found) == [number for number, match in enumerate(listed) if passes(match, event)]


#: Filters of one kind over one field and events that come close to them, so that every edge is met.
ALIKE = {
    "$in": (
        st.lists(st.sampled_from([1, "x", [1], [], True]), max_size=3).map(freeze),
        st.one_of(st.sampled_from([1, "x", True]), st.lists(st.sampled_from([1, "x", True]), max_size=3)),
    ),
    "$gt": (st.integers(0, 3), st.integers(-1, 4)),
    "$lt": (st.integers(0, 3), st.integers(-1, 4)),
    "$eq": (st.sampled_from([0, 1, True, False, None, "1"]), st.sampled_from([0, 1, True, False, None, "1"])),
}


def test_a_list_is_one_of_a_list_by_any_element_and_found_once() -> None:
    """`$in` over an array: one element is enough, several elements are still one match."""
    operands = [("x",), ("x", 1), (("x", 1),), ("y",), ((),), (1,)]
    listed = [Match(clauses=(Clause("f", "$in", operand),)) for operand in operands]
    index = Dispatch([filter_of(number, match) for number, match in enumerate(listed)])
    for value, expected in (
        (["x", 1], [0, 1, 5]),
        (["x"], [0, 1]),
        ([], []),
        (1, [1, 5]),
        (["y", "y"], [3]),
        ([[]], [4]),
    ):
        found: list[int] = []
        index.passed(Event("u", "a", 0, "", "1", {"f": value}, ""), UTC, found)
        assert sorted(found) == expected, value


@given(st.data(), st.sampled_from(sorted(ALIKE)))
def test_filters_of_one_kind_are_told_apart_at_their_edges(data: st.DataObject, operator: str) -> None:
    """An index over one condition alone finds what the condition says, also where a value is just on the bound."""
    operand, value = ALIKE[operator]
    listed = [Match(clauses=(Clause("f", operator, data.draw(operand)),)) for _ in range(8)]
    event = Event("u", "a", 0, "", "1", {"f": data.draw(value)}, "")
    found: list[int] = []
    Dispatch([filter_of(number, match) for number, match in enumerate(listed)]).passed(event, UTC, found)
    assert sorted(found) == [number for number, match in enumerate(listed) if passes(match, event)]


@given(
    st.lists(st.tuples(st.none() | st.integers(-5, 5), st.none() | st.integers(-5, 5)), max_size=20),
    st.integers(-6, 6),
)
def test_intervals_are_found_by_a_value_within_them(listed: list[tuple[int | None, int | None]], value: int) -> None:
    """A tree of intervals gives those that hold the value, ends included, each once."""
    spans = Spans([(low, high, number) for number, (low, high) in enumerate(listed)])
    expected = [
        number
        for number, (low, high) in enumerate(listed)
        if (low is None or low <= value) and (high is None or value <= high)
    ]
    assert sorted(spans.at(value)) == expected


@given(values, values)
def test_values_share_a_key_exactly_where_they_are_equal_as_json(one: Any, other: Any) -> None:
    """1 and 1.0 are one key, true and 1 are two; a frozen value has the key of what it was."""
    assert (json_key(one) == json_key(other)) is equal(one, freeze(other))
    assert json_key(freeze(one)) == json_key(one)
    assert not isinstance(json_key(one), list | dict | Frozen)
    hash(json_key(one))
