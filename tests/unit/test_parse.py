"""Reading flows: every fault with its code at the smallest wrong place, all of them at once."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from tests.unit.reading import Known, faults, read
from worker.errors import Fault
from worker.rules import ir
from worker.rules.ir import All, Check, Held
from worker.rules.operators.filters import of_types
from worker.rules.operators.place import EVERYTHING
from worker.rules.operators.values import FIELD_OPERATORS
from worker.rules.parse import parse_flow, parse_milestone

E = {"event": "x"}


def leaf(**criteria: Any) -> dict[str, Any]:
    """An event leaf; the keys of operators are written without their $."""
    words = {"eventCount", "timePeriod", "aggregate", "distinctCount"}
    return {"event": "x", "criteria": {f"${key}" if key in words else key: value for key, value in criteria.items()}}


FLOWS: list[tuple[Any, str, str]] = [
    (None, "flow_definition_required", ""),
    ([], "flow_definition_required", ""),
    ("x", "flow_definition_required", ""),
    ({}, "flow_definition_required", ""),
    ({"$not": {}}, "flow_definition_required", "/$not"),
    ({"$and": [E, None]}, "flow_definition_required", "/$and/1"),
    ({"$timeWindow": {"last": "1d", "flow": None}}, "flow_definition_required", "/$timeWindow/flow"),
    ({"criteria": {}}, "event_type_required", ""),
    ({"foo": 1}, "event_type_required", ""),
    ({"event": ""}, "event_type_required", "/event"),
    ({"event": ["x"]}, "event_type_required", "/event"),
    ({"$or": [{"event": None}]}, "event_type_required", "/$or/0/event"),
    ({"event": "x", "$and": [E]}, "multiple_operators", ""),
    ({"$and": [E], "$or": [E]}, "multiple_operators", ""),
    ({"snapshot": {"total_wins": {"$gte": 1}}, "badge": "first_steps"}, "multiple_operators", ""),
    ({"event": "x", "snapshot": {"total_wins": {"$gte": 1}}}, "multiple_operators", ""),
    ({"event": "x", "$nope": 1}, "multiple_operators", ""),
    ({"$nope": 1}, "unknown_operator", "/$nope"),
    ({"$eventCount": {"$gte": 1}}, "unknown_operator", "/$eventCount"),
    ({"$distinctCount": {"field": "a", "$gte": 1}}, "unknown_operator", "/$distinctCount"),
    ({"event": "x", "criteria": {"$and": [E]}}, "unknown_operator", "/criteria/$and"),
    ({"event": "x", "criteria": {"$nope": 1}}, "unknown_operator", "/criteria/$nope"),
    (leaf(a={"$gtee": 1}), "unknown_operator", "/criteria/a/$gtee"),
    (leaf(a={"$eventCount": 1}), "unknown_operator", "/criteria/a/$eventCount"),
    (leaf(payload={"$eventCount": {"$gte": 1}}), "unknown_operator", "/criteria/payload/$eventCount"),
    (leaf(eventCount={"$in": [1]}), "unknown_operator", "/criteria/$eventCount/$in"),
    (leaf(timestamp={"$in": ["2024-01-01T00:00:00Z"]}), "unknown_operator", "/criteria/timestamp/$in"),
    (leaf(timestamp={"$nope": 1}), "unknown_operator", "/criteria/timestamp/$nope"),
    ({"steps": [E]}, "unsupported_format", "/steps"),
    ({"condition": {}, "event": "x"}, "unsupported_format", "/condition"),
    ({"$and": [{"pattern": "consistent"}]}, "missing_pattern_wrapper", "/$and/0"),
    ({"event": "x", "criterias": {}}, "unknown_key", "/criterias"),
    ({"$not": E, "why": 1}, "unknown_key", "/why"),
    ({"event": "x", "a/b~c": 1}, "unknown_key", "/a~1b~0c"),
    (leaf(**{"a/b~c": {"$gt": None}}), "bad_operand", "/criteria/a~1b~0c/$gt"),
    ({"event": "no.such"}, "unknown_event", "/event"),
    (leaf(scroe={"$gte": 1}), "unknown_field", "/criteria/scroe"),
    (leaf(payload={"scroe": 1}), "unknown_field", "/criteria/payload/scroe"),
    (leaf(aggregate={"type": "sum", "field": "scroe"}), "unknown_field", "/criteria/$aggregate/field"),
    ({"event": "x", "criteria": []}, "bad_operand", "/criteria"),
    ({"event": "x", "criteria": None}, "bad_operand", "/criteria"),
    (leaf(payload=[]), "bad_operand", "/criteria/payload"),
    (leaf(a={"$gte": 1, "b": 2}), "bad_operand", "/criteria/a/b"),
    (leaf(a={"$gte": True}), "bad_operand", "/criteria/a/$gte"),
    (leaf(a={"$lt": [1]}), "bad_operand", "/criteria/a/$lt"),
    (leaf(a={"$in": {"b": 1}}), "bad_operand", "/criteria/a/$in"),
    (leaf(a={"$nin": None}), "bad_operand", "/criteria/a/$nin"),
    (leaf(a={"$in": list(range(10_001))}), "bad_operand", "/criteria/a/$in"),
    (leaf(a={"$startsWith": 5}), "bad_operand", "/criteria/a/$startsWith"),
    (leaf(a={"$regex": 5}), "bad_operand", "/criteria/a/$regex"),
    (leaf(a={"$regex": "a" * 1001}), "bad_operand", "/criteria/a/$regex"),
    (leaf(a={"$regex": "(?<=a)b"}), "bad_regex", "/criteria/a/$regex"),
    (leaf(a={"$between": [1]}), "bad_operand", "/criteria/a/$between"),
    (leaf(a={"$between": "5"}), "bad_operand", "/criteria/a/$between"),
    (leaf(a={"$between": "1,2,3"}), "bad_operand", "/criteria/a/$between"),
    (leaf(a={"$between": [1, "2"]}), "bad_operand", "/criteria/a/$between"),
    (leaf(a={"$between": "10,9"}), "bad_operand", "/criteria/a/$between"),
    (leaf(a={"$between": ["b", "a"]}), "bad_operand", "/criteria/a/$between"),
    (leaf(a="x" * 65_537), "bad_operand", "/criteria/a"),
    (leaf(a={"$in": ["ü" * 32_769]}), "bad_operand", "/criteria/a/$in"),
    (leaf(a=float("nan")), "bad_operand", "/criteria/a"),
    (leaf(eventCount={"$gte": float("inf")}), "bad_operand", "/criteria/$eventCount/$gte"),
    (leaf(eventCount=5), "bad_operand", "/criteria/$eventCount"),
    (leaf(eventCount={}), "bad_operand", "/criteria/$eventCount"),
    (leaf(eventCount={"gte": 5}), "bad_operand", "/criteria/$eventCount/gte"),
    (leaf(eventCount={"$gte": -1}), "bad_operand", "/criteria/$eventCount/$gte"),
    (leaf(eventCount={"$gte": 2.5}), "bad_operand", "/criteria/$eventCount/$gte"),
    (leaf(eventCount={"$gte": True}), "bad_operand", "/criteria/$eventCount/$gte"),
    (leaf(eventCount={"$between": [5, 1]}), "bad_operand", "/criteria/$eventCount/$between"),
    (leaf(eventCount={"$between": "1,1e999999999"}), "bad_operand", "/criteria/$eventCount/$between"),
    (leaf(eventCount={"$between": [1, "5"]}), "bad_operand", "/criteria/$eventCount/$between/1"),
    (leaf(distinctCount={"$gte": 5}), "missing_field", "/criteria/$distinctCount"),
    (leaf(distinctCount={"field": "a", "min": 5}), "unknown_key", "/criteria/$distinctCount/min"),
    (leaf(distinctCount={"field": 5, "$gte": 5}), "bad_operand", "/criteria/$distinctCount/field"),
    ({"$aggregate": {"type": "sum"}}, "missing_field", "/$aggregate"),
    ({"$aggregate": {"function": "sum"}}, "missing_field", "/$aggregate"),
    ({"$aggregate": {"field": "a"}}, "bad_operand", "/$aggregate"),
    ({"$aggregate": {"type": "median", "field": "a"}}, "bad_operand", "/$aggregate/type"),
    ({"$aggregate": {"type": "sum", "field": ""}}, "bad_operand", "/$aggregate/field"),
    ({"$aggregate": {"type": "sum", "field": "a", "result": {"$gte": 1}}}, "mixed_spelling", "/$aggregate"),
    ({"$aggregate": {"type": "sum", "field": "a", "value": {"$gte": "1"}}}, "bad_operand", "/$aggregate/value/$gte"),
    ({"$aggregate": {"type": "sum", "field": "a", "vlaue": 1}}, "unknown_key", "/$aggregate/vlaue"),
    ({"$aggregate": []}, "bad_operand", "/$aggregate"),
    ({"$timePeriod": {}}, "bad_operand", "/$timePeriod"),
    ({"$timePeriod": {"periodType": "hour"}}, "bad_operand", "/$timePeriod/periodType"),
    ({"$timePeriod": {"periodType": "day", "periodCount": 3}}, "bad_operand", "/$timePeriod/periodCount"),
    ({"$timePeriod": {"periodType": "day", "excludeWeekends": 1}}, "bad_operand", "/$timePeriod/excludeWeekends"),
    (
        {"$timePeriod": {"periodType": "day", "excludeHolidays": True, "holidays": ["2024-02-30"]}},
        "bad_operand",
        "/$timePeriod/holidays/0",
    ),
    (
        {"$timePeriod": {"periodType": "day", "excludeHolidays": True, "holidays": "XX"}},
        "bad_operand",
        "/$timePeriod/holidays",
    ),
    ({"$timePeriod": {"periodType": "day", "holidays": [5]}}, "bad_operand", "/$timePeriod/holidays/0"),
    ({"$and": []}, "bad_operand", "/$and"),
    ({"$or": {}}, "bad_operand", "/$or"),
    ({"$timeWindow": {"last": "7d"}}, "missing_field", "/$timeWindow"),
    ({"$timeWindow": {"last": "30x", "flow": E}}, "bad_window", "/$timeWindow/last"),
    ({"$timeWindow": {"last": "30min", "flow": E}}, "bad_window", "/$timeWindow/last"),
    ({"$timeWindow": {"last": 30, "flow": E}}, "bad_operand", "/$timeWindow/last"),
    ({"$timeWindow": {"last": "0d", "flow": E}}, "bad_operand", "/$timeWindow/last"),
    ({"$timeWindow": {"last": "-5d", "flow": E}}, "bad_operand", "/$timeWindow/last"),
    ({"$timeWindow": {"start": "2024-01-01", "flow": E}}, "bad_time", "/$timeWindow/start"),
    ({"$timeWindow": {"end": 5, "flow": E}}, "bad_operand", "/$timeWindow/end"),
    (
        {"$timeWindow": {"start": "2024-01-02T00:00:00Z", "end": "2024-01-01T00:00:00Z", "flow": E}},
        "bad_window",
        "/$timeWindow/end",
    ),
    ({"$timeWindow": {"start": "$NOW", "end": "$NOW(-1d)", "flow": E}}, "bad_window", "/$timeWindow/end"),
    ({"$timeWindow": {"start": "$NOW(-1M+1w)", "end": "$NOW(-1y)", "flow": E}}, "bad_window", "/$timeWindow/end"),
    (
        {"$timeWindow": {"last": "7d", "businessDaysOnly": "yes", "flow": E}},
        "bad_operand",
        "/$timeWindow/businessDaysOnly",
    ),
    (leaf(timestamp={"$gte": "2024-13-01T00:00:00Z"}), "bad_time", "/criteria/timestamp/$gte"),
    (leaf(timestamp={"$gte": "2024-01-01T00:00:00"}), "bad_time", "/criteria/timestamp/$gte"),
    (leaf(timestamp={"$gte": "$NOW(30d)"}), "bad_time", "/criteria/timestamp/$gte"),
    (leaf(timestamp={"$gte": "$NOW(-30x)"}), "bad_time", "/criteria/timestamp/$gte"),
    (leaf(timestamp={"$gte": "$NOWISH"}), "bad_time", "/criteria/timestamp/$gte"),
    (leaf(timestamp="yesterday"), "bad_time", "/criteria/timestamp"),
    (leaf(timestamp=5), "bad_operand", "/criteria/timestamp"),
    (leaf(timestamp={"$between": ["2024-01-02T00:00:00Z"]}), "bad_operand", "/criteria/timestamp/$between"),
    (
        leaf(timestamp={"$between": ["2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"]}),
        "bad_operand",
        "/criteria/timestamp/$between",
    ),
    ({"snapshot": {}}, "bad_operand", "/snapshot"),
    ({"snapshot": {"nope": {"$gte": 1}}}, "unknown_metric", "/snapshot/nope"),
    ({"snapshot": {"total_wins": 3}}, "bad_operand", "/snapshot/total_wins"),
    ({"snapshot": {"total_wins": {"$gte": "$NOW"}}}, "bad_operand", "/snapshot/total_wins/$gte"),
    ({"snapshot": {"joined_at": {"$gte": 5}}}, "bad_operand", "/snapshot/joined_at/$gte"),
    ({"snapshot": {"joined_at": {"$gte": "soon"}}}, "bad_time", "/snapshot/joined_at/$gte"),
    ({"snapshot": {"likes_of_post": {"$gte": 5}}}, "bad_operand", "/snapshot/likes_of_post"),
    ({"badge": "nope"}, "unknown_badge", "/badge"),
    ({"badge": 5}, "bad_operand", "/badge"),
]


@pytest.mark.parametrize(("flow", "code", "path"), FLOWS)
def test_a_faulty_flow_is_refused_at_its_smallest_wrong_place(flow: Any, code: str, path: str) -> None:
    """One thing wrong gives one fault: its code, a JSON pointer to it, a sentence."""
    assert faults(flow) == [(code, path)]


LARGE: list[tuple[Any, str, str]] = [
    (leaf(a="x" * 65_537), "This text is longer than 64 KiB.", "Shorten it."),
    (
        leaf(a={"$in": list(range(10_001))}),
        "$in takes at most 10,000 values.",
        "Write the values as several badges, for example.",
    ),
    (
        leaf(a={"$regex": "a" * 1_001}),
        "This expression is longer than 1,000 characters.",
        "Write a shorter one, for example.",
    ),
    (
        {"$timePeriod": {"periodType": "day", "excludeHolidays": True, "holidays": ["2026-12-25"] * 10_001}},
        "There are more than 10,000 holidays here.",
        'Write dates such as ["2026-12-25"], the name of a holiday list of the catalog, or a country such as "DE-BY".',
    ),
    (
        {"$or": [E] * 1_000},
        "This criterion has more than 1,000 conditions.",
        "Split it into several badges, or state a long list of values with $in.",
    ),
    (
        {"event": "x", "criteria": {"x" * 61: {"$" + "y" * 70: 1}}},
        f"A field cannot be compared with ${'y' * 56}….",
        f"Write one of {', '.join(FIELD_OPERATORS)}.",
    ),
    (
        {f"{'k' * 61}{number:02}": 1 for number in range(31)},
        "This flow names neither an event type nor an operator, only "
        + ", ".join([f'"{"k" * 57}…"'] * 30)
        + " and 1 more.",
        'Write {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 10}}}.',
    ),
    (
        leaf(eventCount={"$gte": -(10**50)}),
        f"-1{'0' * 50} is no count: counts are whole numbers from 0 on.",
        "Write 0, 1, 2 and so on.",
    ),
    (
        {"$gap": {"minGapHours": 10**39}},
        f"The number 1{'0' * 39} is not a number of hours.",
        "Write a number from 0 on, at most 1,000,000,000.",
    ),
    (
        {"$gap": {"minGapHours": 10**40}},
        f"The number 1{'0' * 36}… is not a number of hours.",
        "Write a number from 0 on, at most 1,000,000,000.",
    ),
    (
        {"$gap": {"minGapHours": 10**50}},
        f"The number 1{'0' * 36}… is not a number of hours.",
        "Write a number from 0 on, at most 1,000,000,000.",
    ),
]


@pytest.mark.parametrize(("flow", "message", "help"), LARGE)
def test_what_is_too_large_is_told_in_few_words(flow: Any, message: str, help: str) -> None:
    """The limit is named, and of what was written no more than a sentence can hold."""
    names = Known()
    assert parse_flow(flow, path="", names=names) is None
    assert [(fault.message, fault.help) for fault in names.faults] == [(message, help)]


@pytest.mark.parametrize(("flow", "code", "path"), FLOWS)
def test_every_fault_says_what_to_write_instead(flow: Any, code: str, path: str) -> None:
    """The help is a sentence, too; what the catalog answers is the catalog's matter."""
    names = Known()
    parse_flow(flow, path="/badges/3/flow", names=names)
    fault = next(fault for fault in names.faults if fault.severity == "error")
    assert fault.path == f"/badges/3/flow{path}"
    assert code.startswith("unknown_") or (fault.help is not None and fault.help[-1] in ".?")


def test_all_faults_are_found_at_once() -> None:
    """One reading names every fault of a flow, in the order written, also below an unknown event type."""
    flow = {
        "$and": [
            {"event": "no.such", "criteria": {"a": {"$gt": None}, "$eventCount": {"$gte": "5"}}},
            {"$or": [{"$timePeriod": {"periodType": "hour", "tyop": 1}}, {"event": ""}]},
            {"$timeWindow": {"last": "7x", "flow": {"$nope": {}}}},
        ]
    }
    assert faults(flow) == [
        ("unknown_event", "/$and/0/event"),
        ("bad_operand", "/$and/0/criteria/a/$gt"),
        ("bad_operand", "/$and/0/criteria/$eventCount/$gte"),
        ("unknown_key", "/$and/1/$or/0/$timePeriod/tyop"),
        ("bad_operand", "/$and/1/$or/0/$timePeriod/periodType"),
        ("event_type_required", "/$and/1/$or/1/event"),
        ("bad_window", "/$and/2/$timeWindow/last"),
        ("unknown_operator", "/$and/2/$timeWindow/flow/$nope"),
    ]


def nested(levels: int) -> Any:
    """A leaf below so many nots."""
    flow: Any = E
    for _ in range(levels - 1):
        flow = {"$not": flow}
    return flow


def test_depth_is_bounded() -> None:
    """A flow is at most 32 levels deep, whatever the interpreter could take."""
    read(nested(32))
    assert faults(nested(33)) == [("bad_operand", "/$not" * 32)]
    assert [code for code, _ in faults(nested(5_000))] == ["bad_operand"]


def test_the_number_of_conditions_is_bounded() -> None:
    """A flow has at most 1,000 conditions; beyond them it is refused once."""
    read({"$or": [E] * 999})
    assert faults({"$or": [E] * 1_000}) == [("bad_operand", "/$or/999")]
    assert len(faults({"$or": [E] * 5_000})) == 1
    assert len(faults(leaf(**{f"f{count}": 1 for count in range(5_000)}))) == 1


def test_lists_and_texts_of_the_largest_size_are_taken() -> None:
    """10,000 listed values, an expression of 1,000 characters, a text of 64 KiB are read."""
    read(leaf(a={"$in": list(range(10_000))}))
    read(leaf(a={"$regex": "a" * 1_000}))
    read(leaf(a="x" * 65_536))


@pytest.mark.parametrize(
    "flow",
    [
        None,
        5,
        "x",
        [[[]]],
        {"": ""},
        {"$and": [[]]},
        {"event": {}},
        {"$timeWindow": "x"},
        {"event": "x", "criteria": {"$timePeriod": None, "$aggregate": 5, "timestamp": None}},
    ],
)
def test_nothing_an_author_writes_raises(flow: Any) -> None:
    """Values of any wrong type become faults."""
    assert faults(flow)


def warnings(flow: Any) -> list[tuple[str, str]]:
    """(code, path) of the warnings of a flow that is read."""
    names = Known()
    assert parse_flow(flow, path="", names=names) is not None
    return [(fault.code, fault.path) for fault in names.faults if fault.severity == "warning"]


@pytest.mark.parametrize(
    ("flow", "path"),
    [
        ({"$timePeriod": {"periodType": "day", "holidays": ["2024-12-25"]}}, "/$timePeriod/holidays"),
        ({"$timePeriod": {"periodType": "day", "excludeHolidays": True}}, "/$timePeriod/excludeHolidays"),
        ({"$timeWindow": {"last": "7d", "holidays": "DE", "flow": E}}, "/$timeWindow/holidays"),
        ({"$timeWindow": {"flow": E}}, "/$timeWindow"),
    ],
)
def test_what_has_no_effect_is_a_warning(flow: Any, path: str) -> None:
    """A key that changes nothing is read, and said to change nothing."""
    assert warnings(flow) == [("no_effect", path)]


def test_a_metric_per_context_is_for_badges_of_that_context() -> None:
    """A metric that is kept per post is read for a badge per post, and refused for any other."""
    flow = {"snapshot": {"likes_of_post": {"$gte": 5}, "total_wins": {"$gte": 1}}}
    node = read(flow, Known(per="post_id"))
    assert [test.fold.per for test in ir.tests(node)] == ["post_id", None]
    assert faults(flow, Known(per="thread")) == [("bad_operand", "/snapshot/likes_of_post")]


def test_the_folds_of_a_badge_per_context_are_kept_per_context() -> None:
    """Every fold of the flow carries the badge's `per`."""
    node = read({"$and": [E, {"$timePeriod": {"periodType": "day"}}]}, Known(per="post_id"))
    assert {test.fold.per for test in ir.tests(node)} == {"post_id"}


def test_a_badge_is_a_condition() -> None:
    """`badge` reads as Held."""
    assert read({"badge": "first_steps"}) == Held("first_steps", "/badge")


MILESTONES: list[tuple[dict[str, Any], str, str]] = [
    (
        {"rule_type": "count", "rule_data": {"field": "total_wins", "threshold": 0}},
        "bad_operand",
        "/rule_data/threshold",
    ),
    (
        {"rule_type": "count", "rule_data": {"field": "total_wins", "threshold": "9"}},
        "bad_operand",
        "/rule_data/threshold",
    ),
    ({"rule_type": "count", "rule_data": {"field": "nope", "threshold": 1}}, "unknown_metric", "/rule_data/field"),
    ({"rule_type": "count", "rule_data": {"field": "joined_at", "threshold": 1}}, "bad_operand", "/rule_data/field"),
    ({"rule_type": "count", "rule_data": {"field": "total_wins"}}, "missing_key", "/rule_data"),
    (
        {"rule_type": "count", "rule_data": {"field": "total_wins", "threshold": 1, "x": 1}},
        "unknown_key",
        "/rule_data/x",
    ),
    ({"rule_type": "count", "rule_data": []}, "bad_operand", "/rule_data"),
    ({"rule_type": "count"}, "missing_key", ""),
    ({"rule_type": "streak", "rule_data": {}}, "unknown_rule", "/rule_type"),
    ({"rule_type": ["count"], "rule_data": {}}, "unknown_rule", "/rule_type"),
    ({"rule_data": {}}, "missing_key", ""),
    (
        {"rule_type": "window_count", "rule_data": {"event": "no.such", "count": 1, "window_days": 1}},
        "unknown_event",
        "/rule_data/event",
    ),
    (
        {"rule_type": "window_count", "rule_data": {"event": "x", "count": 1.5, "window_days": 1}},
        "bad_operand",
        "/rule_data/count",
    ),
    (
        {"rule_type": "window_count", "rule_data": {"event": "x", "count": 1, "window_days": -1}},
        "bad_operand",
        "/rule_data/window_days",
    ),
    (
        {"rule_type": "return_after_gap", "rule_data": {"gap_days": 0}, "trigger_event": "UserLoggedIn"},
        "bad_operand",
        "/rule_data/gap_days",
    ),
    ({"rule_type": "return_after_gap", "rule_data": {"gap_days": 3}}, "bad_operand", "/trigger_event"),
    (
        {"rule_type": "count", "rule_data": {"field": "total_wins", "threshold": 1}, "trigger_event": ""},
        "bad_operand",
        "/trigger_event",
    ),
    (
        {"rule_type": "count", "rule_data": {"field": "total_wins", "threshold": 1}, "trigger_event": "no.such"},
        "unknown_event",
        "/trigger_event",
    ),
]


@pytest.mark.parametrize(("definition", "code", "path"), MILESTONES)
def test_a_faulty_milestone_is_refused_at_its_smallest_wrong_place(
    definition: dict[str, Any], code: str, path: str
) -> None:
    """One thing wrong in a rule gives one fault at its place."""
    assert faults({"milestone": {"trigger_event": "WinLogged", **definition}}) == [(code, f"/milestone{path}")]


def test_a_milestone_without_a_trigger_is_refused() -> None:
    """`trigger_event` must be there."""
    names = Known()
    definition = {"rule_type": "count", "rule_data": {"field": "total_wins", "threshold": 1}}
    assert parse_milestone(definition, path="/m", names=names) is None
    assert [(fault.code, fault.path) for fault in names.faults] == [("missing_key", "/m")]


def test_earlier_faults_of_the_catalog_do_not_spoil_a_clean_flow() -> None:
    """Only faults of this flow make it unreadable."""
    names = Known([Fault("unknown_key", "/elsewhere", "There is no such key.")])
    assert parse_flow(E, path="", names=names) is not None


def test_a_leaf_is_its_count_and_its_operators() -> None:
    """A leaf without operators asks for one event; with operators its count only shows."""
    alone, counted = read(E), read(leaf(eventCount={"$gte": 3}))
    assert isinstance(alone, All)
    assert isinstance(counted, All)
    assert (alone.operator, counted.operator) == ("event", "event")
    first, *rest = counted.children
    assert isinstance(first, ir.Test)
    assert isinstance(alone.children[0], ir.Test)
    assert alone.children[0].checks == (Check("$gte", 1),)
    assert first.checks == ()
    assert first.shows == (
        ("event_count", "filtered_event_count"),
        ("first_event_id", "first_event_id"),
        ("last_event_id", "last_event_id"),
    )
    assert [test.fold for test in rest if isinstance(test, ir.Test)] == [first.fold]


def test_equal_filters_are_one_fold_however_they_are_written() -> None:
    """Aliases, order of fields, `payload` or bare, 1 or 1.0, `$neq` or `$ne`: the same memory."""
    one = {"event": "CommentPosted", "criteria": {"a": 1, "b": {"$neq": "x"}}}
    other = {"event": "comment.posted", "criteria": {"payload": {"b": {"$ne": "x"}, "a": {"$eq": 1.0}}}}
    assert {test.fold.id for test in ir.tests(read(one))} == {test.fold.id for test in ir.tests(read(other))}


@pytest.mark.parametrize("types", [("a", "b"), ("a", "b", "c")])
def test_the_types_of_a_filter_have_one_order(types: tuple[str, ...]) -> None:
    """Whoever names them, in whatever order a set gives them: a memory has one name in every process."""
    assert {of_types(EVERYTHING, named) for named in permutations(types)} == {ir.Match(types=types)}


def test_many_mistakes_are_told_in_little_time() -> None:
    """Beyond a thousand the nearest word is no longer looked for; every mistake is still told with its place."""
    condition = {f"$gte{number}": number for number in range(1_500)}
    known = Known()
    assert parse_flow({"event": "x", "criteria": {"score": condition}}, path="", names=known) is None
    assert len(known.faults) == 1_500
    first, last = known.faults[0], known.faults[-1]
    assert (first.help or "").startswith("Did you mean")
    assert (last.help or "").startswith("Write one of")
    assert last.path == "/criteria/score/$gte1499"
