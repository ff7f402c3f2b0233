"""Values: equality, order, the field operators, checks of facts, figures."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from worker.events import parse_instant
from worker.rules.ir import Check, Clause, Frozen, Moment
from worker.rules.operators.calendar import FIXED, Calendar
from worker.rules.operators.distinct import canonical_text
from worker.rules.operators.expressions import compile_regex
from worker.rules.operators.facts import check_fact, compile_check, figure
from worker.rules.operators.number import Numbers
from worker.rules.operators.place import cut
from worker.rules.operators.values import (
    FIELD_OPERATORS,
    MISSING,
    compare,
    compile_clause,
    freeze,
    lookup,
)

UTC = Calendar("UTC")
D = Decimal


def holds(value: Any, operator: str, operand: Any) -> bool:
    """Whether a field with this value passes one operator."""
    return compile_clause(Clause("f", operator, freeze(operand)))({"f": value})


@pytest.mark.parametrize(
    ("payload", "field", "value"),
    [
        ({"a": 1}, "a", 1),
        ({"a": None}, "a", None),
        ({}, "a", MISSING),
        ({"a": {"b": 2}}, "a.b", 2),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a": {"b": {"c": 3}}}, "a.b.c", 3),
        ({"a": 5}, "a.b", MISSING),
        ({"a": [1, 2]}, "a.0", MISSING),
        ({"a": {"b": 2}}, "a.", MISSING),
        ({"": 1}, "", 1),
    ],
)
def test_a_field_is_a_literal_key_first_then_a_path(payload: dict[str, Any], field: str, value: Any) -> None:
    """A key with dots wins over the path; a path goes through objects only."""
    assert lookup(payload, field) is value or lookup(payload, field) == value


@pytest.mark.parametrize("operator", [name for name in FIELD_OPERATORS if name != "$neq"])
def test_a_missing_field_never_matches(operator: str) -> None:
    """No operator holds for a field that is not there, not even $ne or $nin."""
    operand = {"$between": [1, 2], "$in": [None], "$nin": []}.get(operator, "x")
    assert compile_clause(Clause("f", operator, freeze(operand)))({"other": "x"}) is False
    assert compile_clause(Clause("g.f", operator, freeze(operand)))({"g": {}, "f": "x"}) is False


SAME = [
    (1, 1, True),
    (1, D("1.0"), True),
    (D("1E2"), 100, True),
    (D("0.1"), D("0.10"), True),
    (0, D("-0.0"), True),
    (True, 1, False),
    (1, True, False),
    (True, True, True),
    (False, 0, False),
    (None, None, True),
    (None, 0, False),
    ("a", "a", True),
    ("a", "A", False),
    ("5", 5, False),
    ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00", False),
    ([1, "a"], [D("1.0"), "a"], True),
    ([1, 2], [2, 1], False),
    ([1], [1, 1], False),
    ([True], [1], False),
    ([], {}, False),
    ({"a": 1, "b": [2]}, {"b": [2], "a": D(1)}, True),
    ({"a": 1}, {"a": 1, "b": None}, False),
    ({"a": None}, {"b": None}, False),
    ({"a": {"b": True}}, {"a": {"b": 1}}, False),
]


@pytest.mark.parametrize(("value", "operand", "same"), SAME)
def test_equality_is_json_equality(value: Any, operand: Any, same: bool) -> None:
    """Numbers are equal by value, `true` is not 1, texts exactly, arrays in order, objects in any; $ne is the rest."""
    assert holds(value, "$eq", operand) is same
    assert holds(value, "$ne", operand) is not same
    assert holds(operand, "$eq", value) is same
    if not isinstance(value, list):
        assert holds(value, "$in", ["no", operand, 77]) is same
        assert holds(value, "$nin", ["no", operand, 77]) is not same
        assert holds([77, value], "$contains", operand) is same


@pytest.mark.parametrize(
    ("left", "right", "sign"),
    [
        (1, 2, -1),
        (D("0.3"), D("0.30"), 0),
        (10**37, D("1E37"), 0),
        (D("1E-308"), 0, 1),
        ("100", "90", 1),
        ("-2", "-10", 1),
        ("1.50", "1.5", 0),
        ("100", "90a", -1),
        ("1e3", "5", -1),
        ("09:00:00", "10:00:00", -1),
        ("9:00", "10:00", 1),
        ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00", 0),
        ("2024-01-01T00:00:00Z", "2023-12-31T23:00:00-02:00", -1),
        ("2024-01-01", "2024-01-02", -1),
        ("٣", "10", 1),
        ("b", "a", 1),
        ("\uffff", "\U0001f600", -1),
        ("5", 5, None),
        (5, "5", None),
        (True, 0, None),
        (0, False, None),
        (None, 0, None),
        (None, None, None),
        ([1], [1], None),
        ({}, "a", None),
    ],
)
def test_order_is_of_numbers_and_of_texts(left: Any, right: Any, sign: int | None) -> None:
    """Numbers exactly; texts as instants, plain numerals or code points; nothing else, and never across the two."""
    assert compare(left, right) == sign
    back = None if sign is None else -sign
    assert compare(right, left) == back
    if not isinstance(right, bool | list | dict) and right is not None:
        expected = {"$gt": sign == 1, "$gte": sign in (0, 1), "$lt": sign == -1, "$lte": sign in (0, -1)}
        assert {operator: holds(left, operator, right) for operator in expected} == expected


@pytest.mark.parametrize(
    ("value", "operator", "operand", "passes"),
    [
        ("b", "$in", [], False),
        ("b", "$nin", [], True),
        (None, "$in", [None], True),
        (["a", "b"], "$in", ["x", "b"], True),
        (["a", "b"], "$nin", ["x", "b"], False),
        (["a"], "$nin", ["x"], True),
        ([], "$in", ["x"], False),
        ([], "$nin", ["x"], True),
        ([1], "$in", [[1]], False),
        ([[1], 2], "$in", [[1]], True),
        ({"a": 1}, "$in", [{"a": 1}], True),
        ("haystack", "$contains", "st", True),
        ("haystack", "$contains", "ST", False),
        ("5", "$contains", 5, False),
        (["st"], "$contains", "st", True),
        (["stack"], "$contains", "st", False),
        ([D("1.0")], "$contains", 1, True),
        (5, "$contains", 5, False),
        ({"st": 1}, "$contains", "st", False),
        ("prefix", "$startsWith", "pre", True),
        ("prefix", "$startsWith", "fix", False),
        (["pre"], "$startsWith", "pre", False),
        ("prefix", "$endsWith", "fix", True),
        ("prefix", "$endsWith", "pre", False),
        ("order 42!", "$regex", r"\d{2}", True),
        ("order 4!", "$regex", r"\d{2}", False),
        ("order 4!", "$regex", r"^order", True),
        (42, "$regex", "4", False),
        ("größe", "$regex", "ö.e$", True),
        (5, "$between", [5, 10], True),
        (10, "$between", [5, 10], True),
        (D("10.01"), "$between", [5, 10], False),
        ("7", "$between", [5, 10], False),
        ("08:30", "$between", ["08:00", "09:00"], True),
        (7, "$between", "5,10", True),
        ("7", "$between", "5,10", True),
        ("70", "$between", "5,10", False),
        (4, "$between", "5, 10", False),
        (10, "$between", " 5 , 10 ", True),
        ("08:30", "$between", "08:00,09:00", True),
        (None, "$between", [0, 10], False),
        (True, "$between", [0, 10], False),
    ],
)
def test_what_the_other_operators_hold_for(value: Any, operator: str, operand: Any, passes: bool) -> None:
    """Lists mean any element, texts are searched exactly, ranges include their ends."""
    assert holds(value, operator, operand) is passes


def test_a_hostile_expression_takes_linear_time() -> None:
    """An expression that makes a backtracking engine hang answers at once."""
    assert holds("a" * 20_000 + "!", "$regex", "(a+)+$") is False


@pytest.mark.parametrize("text", ["(", "(?=a)", r"(a)\1", "[", "*", "\ud800"])
def test_an_expression_that_is_none_is_refused(text: str) -> None:
    """What the linear-time engine does not take is a ValueError with a reason."""
    with pytest.raises(ValueError, match=r"."):
        compile_regex(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("é", '"é"'),
        ('"', '"\\""'),
        ("\ud800", '"\ud800"'),
        (True, "true"),
        (False, "false"),
        (1, "1e0"),
        (Decimal("1.0"), "1e0"),
        (1.5, "15e-1"),
        (1200, "12e2"),
        (-3, "-3e0"),
        (0, "0"),
        (Decimal("-0.00"), "0"),
        ("x" * 62, '"' + "x" * 62 + '"'),
        ("x" * 63, "#349ce33d127f84be4af98c636166aa885fcaaaa3b7b4a92689a73af084d13413"),
        (None, None),
        ([1], None),
        ({}, None),
    ],
)
def test_a_value_has_one_text_that_never_changes(value: Any, text: str | None) -> None:
    """Memories hold these texts, so every version writes the same: equal values one, long ones as a hash."""
    assert canonical_text(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), D("NaN"), object(), b"x", {1: {"a": set()}}])
def test_what_is_no_json_value_is_not_frozen(value: Any) -> None:
    """NaN, dates, sets and the like are refused with a sentence."""
    with pytest.raises((ValueError, TypeError)):
        freeze(value)


def test_a_value_nested_too_deeply_is_refused() -> None:
    """Depth is bounded before the interpreter's is reached."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested deeper"):
        freeze(deep)


def test_frozen_values_are_hashable_and_floats_are_what_they_are_written_as() -> None:
    """Arrays become tuples, objects sorted pairs, 0.15 the number 0.15."""
    frozen = freeze({"b": [1, 0.15], "a": None})
    assert frozen == Frozen((("a", None), ("b", (1, D("0.15")))))
    assert hash(frozen) == hash(freeze({"a": None, "b": [1, 0.15]}))


NOW = parse_instant("2024-03-31T12:00:00Z")
DAY = FIXED["d"]


@pytest.mark.parametrize(
    ("check", "value", "passes"),
    [
        (Check("$gte", 5), 5, True),
        (Check("$gt", 5), 5, False),
        (Check("$lt", D("0.3")), Fraction(3, 10), False),
        (Check("$lte", D("0.3")), Fraction(3, 10), True),
        (Check("$eq", D("0.3")), Fraction(3, 10), True),
        (Check("$ne", D("0.33")), Fraction(1, 3), True),
        (Check("$eq", D("1.0")), 1, True),
        (Check("$eq", 1), D("1.00"), True),
        (Check("$between", (D("0.1"), 2)), Fraction(1, 10), True),
        (Check("$between", (3, 4)), Fraction(29, 10), False),
        (Check("$ne", 5), None, False),
        (Check("$lt", 5), None, False),
        (Check("$lte", Moment(((-30, "d"),))), NOW - 30 * DAY, True),
        (Check("$lte", Moment(((-30, "d"),))), NOW - 30 * DAY + 1, False),
        (Check("$gte", Moment(((-1, "M"),))), parse_instant("2024-02-29T12:00:00Z"), True),
        (Check("$eq", Moment()), NOW, True),
        (Check("$gt", NOW - 1), NOW, True),
        (Check("$between", (Moment(((-1, "d"),)), Moment())), NOW, True),
    ],
)
def test_a_fact_passes_a_check_exactly(check: Check, value: Any, passes: bool) -> None:
    """Figures are compared without rounding, instants with now as it is; a fact that is not there passes nothing."""
    assert check_fact(check, value, NOW, UTC) is passes
    assert compile_check(check)(value, NOW, UTC) is passes


@pytest.mark.parametrize(
    ("since", "years", "feb_29", "now", "passes"),
    [
        ("2023-03-31T23:00:00Z", 1, "feb_28", "2024-03-31T00:00:00Z", True),
        ("2023-03-31T00:00:00Z", 1, "feb_28", "2024-03-30T23:59:59Z", False),
        ("2020-02-29T12:00:00Z", 1, "feb_28", "2021-02-28T00:00:00Z", True),
        ("2020-02-29T12:00:00Z", 1, "mar_1", "2021-02-28T23:00:00Z", False),
        ("2020-02-29T12:00:00Z", 1, "mar_1", "2021-03-01T00:00:00Z", True),
        ("2020-02-29T12:00:00Z", 4, "mar_1", "2024-02-29T00:00:00Z", True),
        ("2020-01-01T12:00:00Z", 9000, "mar_1", "9999-12-31T00:00:00Z", False),
    ],
)
def test_a_tenure_is_complete_with_its_local_day(since: str, years: int, feb_29: str, now: str, passes: bool) -> None:
    """The years are complete at the beginning of the anniversary's day, whatever the hour of the first event."""
    check, day = Check("$years", (years, feb_29)), UTC.ordinal(parse_instant(since))
    assert check_fact(check, day, parse_instant(now), UTC) is passes
    assert compile_check(check)(day, parse_instant(now), UTC) is passes


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        (5, 5),
        (Fraction(10, 2), 5),
        (Fraction(1, 4), D("0.25")),
        (Fraction(1, 3), D("0.3333333333333333")),
        (D("5.0"), 5),
        (D("0.30"), D("0.3")),
        (D("1E3"), 1000),
        (D("1E+300"), D("1E+300")),
        (10**50, D("1E+50")),
        (Fraction(1, 3) / 10**305, D(1) / D("3E+305")),
        (None, None),
        ("id", "id"),
        (True, True),
    ],
)
def test_a_figure_is_a_json_number(fact: Any, shown: Any) -> None:
    """Whole figures are ints, others decimals, and none is a text or a fraction."""
    found = figure(fact)
    assert found == shown
    assert type(found) is type(shown)


def test_an_operand_may_be_so_deep() -> None:
    """32 levels are taken, one more is not; nor is what is no number."""
    value: Any = 1
    for _ in range(32):
        value = [value]
    assert freeze(value)
    with pytest.raises(ValueError, match=r"^it is nested deeper than 32 levels$"):
        freeze([value])
    with pytest.raises(ValueError, match=r"^NaN and Infinity are no JSON numbers$"):
        freeze(float("nan"))


def test_a_sentence_holds_60_characters() -> None:
    """A text as long as that is told whole, a longer one is cut."""
    assert cut("x" * 60) == "x" * 60
    assert cut("x" * 61) == "x" * 57 + "…"


def test_the_least_and_the_greatest_of_two_stretches() -> None:
    """Whichever of them has the one or the other."""
    numbers = Numbers()
    inner, outer = [2, 8, 3, 5], [3, 13, 1, 9]
    for a, b in ((inner, outer), (outer, inner)):
        merged = numbers.merge(a, b)
        assert merged is not None
        assert (merged[0], *merged[2:]) == (5, 1, 9)
