"""Tests of `$condition` in the rules: what is refused, what counts as a yes, what is remembered and told."""

from __future__ import annotations

from typing import Any

import pytest

from worker.events import Event, parse_instant
from worker.events.json_text import dumps
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import read
from worker.rules.operators import KINDS
from worker.rules.plan import compile_plan
from worker.rules.rehearse import Answer, DryRun, outcomes

NOON = parse_instant("2026-03-01T12:00:00Z")
DAY = 86_400_000_000

TEXT = """
version: 1
events:
  order.paid: {noun: {one: order, other: orders}, schema: {type: object, properties: {total: {type: number}}}}
  order.sent: {}
condition_types:
  - name: big_order
    source: "(event, params) => event.payload.total > params.min"
    params: {type: object, required: [min], properties: {min: {type: number}}, additionalProperties: false}
badges:
  - {key: big, flow: {event: order.paid, criteria: USE}}
"""
USE = "{$condition: {type: big_order, params: {min: 100}}}"


def catalog(criteria: str = USE, text: str = TEXT) -> Catalog:
    """The catalog with one badge of these criteria; it must be clean."""
    reading = read([Source("c.yaml", text.replace("USE", criteria))])
    assert reading.catalog is not None, reading.faults
    return reading.catalog


def faults(criteria: str, text: str = TEXT) -> list[tuple[str, str]]:
    """(code, path) of each fault, the path from the criteria on where it lies there."""
    found = read([Source("c.yaml", text.replace("USE", criteria))]).faults
    return [(fault.code, fault.path.removeprefix("/badges/0/flow/criteria")) for fault in found]


def hash_of(catalog: Catalog) -> str:
    """The hash of the catalog's one condition."""
    (found,) = catalog.conditions
    return found


def events(catalog: Catalog, *answers: str | None) -> list[Event]:
    """One order a day, with what the condition said of each; None: nobody asked."""
    key = hash_of(catalog)
    return [
        Event(
            "u", "order.paid", NOON + day * DAY, "", f"e{day}", {"total": day}, dumps({"total": day}),
            None if answer is None else {key: answer},
        )
        for day, answer in enumerate(answers)
    ]  # fmt: skip


def answer(catalog: Catalog, *answers: str | None) -> Answer:
    """What a dry run says of the badge after these answers."""
    seen = events(catalog, *answers)
    return DryRun(catalog).answers("u", seen, ["big"], at_us=NOON + 30 * DAY)[0]


@pytest.mark.parametrize(
    ("answers", "passed"),
    [(("no", "yes"), True), (("no", "no"), False), (("error",), False), ((None,), False), ((), False)],
)
def test_only_a_yes_counts(answers: tuple[str | None, ...], passed: bool) -> None:
    """The condition is met once it said yes to one event; a no, a fault and an event nobody asked about are none."""
    assert answer(catalog(), *answers).passed is passed


def test_the_award_names_the_event() -> None:
    """The badge is given at the first yes, and its figures name that event, however many more there are later."""
    found = catalog()
    (given,) = outcomes(compile_plan(found), events(found, "no", "error", "yes", "yes"))
    award = given.award
    assert award.trigger_id == "e2"
    assert answer(found, "no", "yes", "no", "yes").metadata["condition_event_id"] == "e1"
    assert award.metadata == {
        "filtered_event_count": 3, "first_event_id": "e0", "last_event_id": "e2", "condition_event_id": "e2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "verdict", "sentence"),
    [
        (("no", "yes"), "passed", "big_order said yes to order of 2026-03-02"),
        (("no", "no"), "not_passed", "big_order said no to all 2 orders"),
        (("no",), "not_passed", "big_order said no to the one order"),
        ((), "not_passed", "No orders"),
        (("no", "error"), "not_passed", "big_order said no to 1 and gave no answer to 1 of 2 orders"),
        ((None, "error"), "not_evaluated", "big_order gave no answer to 2 of 2 orders"),
        (("error",) * 10, "not_evaluated", "big_order gave no answer to 10 of 10 orders"),
        (("parked",), "not_evaluated", "big_order, parked after faults, was not asked about 1 of 1 order"),
        (
            ("error", None, "parked"),
            "not_evaluated",
            "big_order, parked after faults, gave no answer to 2 and was not asked about 1 of 3 orders",
        ),
        (
            ("no", "error", "parked", "parked"),
            "not_passed",
            "big_order, parked after faults, said no to 1, gave no answer to 1 and was not asked about 2 of 4 orders",
        ),
        (("parked", "yes"), "passed", "big_order said yes to order of 2026-03-02"),
    ],
)
def test_the_explanation(answers: tuple[str | None, ...], verdict: str, sentence: str) -> None:
    """The tree tells a no from no answer, and of a type that was parked how many events it was not asked about."""
    tree = answer(catalog(), *answers).explanation.tree
    assert (tree["verdict"], tree["sentence"]) == (verdict, sentence)
    parked = answers.count("parked")
    assert tree.get("parked") == (parked or None)


def test_a_memory_of_before_there_was_a_word_for_it_is_read() -> None:
    """What was remembered while a parked type's events counted as faults goes on as it is."""
    before: list[Any] = [0, 1, 2, 0, None, None, None]
    after = KINDS["condition"].merge(before, [0, 0, 0, 0, None, None, None, 1])
    counts = {"yes_count": 0, "no_count": 1, "error_count": 2, "unasked_count": 0}
    for state, parked in ((before, 0), (after, 1)):
        facts = KINDS["condition"].facts(state, {})
        assert {name: facts[name] for name in counts} == counts
        assert facts["parked_count"] == parked


def test_other_operators_stand_beside_it() -> None:
    """The filter comes first, and each operator looks at all the filtered events: one yes, and three orders."""
    found = catalog("{total: {$gte: 1}, $condition: {type: big_order, params: {min: 100}}, $eventCount: {$gte: 3}}")
    assert not answer(found, "yes", "no", "no", "no").passed
    assert not answer(found, "no", "yes", "no").passed
    assert answer(found, "no", "yes", "no", "no").passed


def test_a_window_around_it() -> None:
    """In a moving window only the events in it are asked about."""
    text = TEXT.replace(
        "flow: {event: order.paid, criteria: USE}",
        f"flow: {{$timeWindow: {{last: 28d, flow: {{event: order.paid, criteria: {USE}}}}}}}",
    )
    found = catalog(text=text)
    assert not answer(found, "yes", "no", "no", "no").passed
    assert answer(found, "no", "no", "yes", "no").passed


def test_within_a_window_of_any_time() -> None:
    """Inside $withinTimeWindow a condition is asked as well, about the events of the window."""
    inside = f"{{$and: [{{event: order.paid, criteria: {USE}}}, {{event: order.paid, criteria: {{total: 3}}}}]}}"
    flow = f"{{$withinTimeWindow: {{window: 1d, conditions: {inside}}}}}"
    found = catalog(text=TEXT.replace("{event: order.paid, criteria: USE}", flow))
    assert [*(compile_plan(found).conditions or {})] == ["order.paid"]
    assert not answer(found, "no", "yes", "no", "no").passed
    assert answer(found, "no", "no", "yes", "no").passed


def test_the_hash_is_of_source_and_params() -> None:
    """Another source or other params is another condition and another fold; another name or spelling is not."""
    base = catalog()
    same = catalog("{$condition: {params: {min: 100.0}, type: large}}", TEXT.replace("name: big_order", "name: large"))
    assert hash_of(same) == hash_of(base)
    others = [catalog(USE.replace("100", "101")), catalog(text=TEXT.replace(".total >", ".total >="))]
    assert len({hash_of(one) for one in (base, *others)}) == 3
    plans = [compile_plan(one) for one in (base, same, *others)]
    ids = {memory.id for plan in plans for gate in plan.route("order.paid").every or () for memory in gate.memories}
    assert len(ids) == 4  # the leaf's count is one and the same; three conditions


def test_the_plan_names_what_to_ask() -> None:
    """Conditions are asked by event type, of badges that are tested; a plan without any says so."""
    (asked,) = (compile_plan(catalog()).conditions or {}).values()
    assert [(one.name, one.params) for one in asked] == [("big_order", '{"min":100}')]
    drafted = TEXT.replace("{key: big,", "{key: big, status: draft,")
    assert compile_plan(catalog(text=drafted)).conditions is None
    assert compile_plan(catalog("{total: 1}")).conditions is None


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("7", [("bad_operand", "/$condition")]),
        ("{}", [("bad_operand", "/$condition")]),
        ("{type: big_ordr, params: {min: 1}}", [("bad_operand", "/$condition/type")]),
        ("{type: big_order}", [("bad_operand", "/$condition")]),
        ("{type: big_order, params: 3}", [("bad_operand", "/$condition/params")]),
        ("{type: big_order, params: {min: x}}", [("bad_operand", "/$condition/params/min")]),
        ("{type: big_order, params: {min: 1, max: 2}}", [("bad_operand", "/$condition/params")]),
        ("{type: big_order, prams: {min: 1}}", [("unknown_key", "/$condition/prams")]),
    ],
)
def test_what_is_refused(use: str, expected: list[tuple[str, str]]) -> None:
    """A use that names no type, or whose params do not suit the type's schema, is refused at its place."""
    assert faults(f"{{$condition: {use}}}") == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{type: object, req", "{type: objct, req", [("invalid_schema", "/condition_types/0/params")]),
        ("name: big", "name: 7 #", [("bad_operand", "/condition_types/0/name"), ("bad_operand", "/$condition/type")]),
        (
            "badges:",
            "  - {name: big_order, source: () => true}\nbadges:",
            [("duplicate_key", "/condition_types/1/name")],
        ),
    ],
)
def test_what_is_refused_of_a_type(old: str, new: str, expected: list[tuple[str, str]]) -> None:
    """A condition type with a faulty schema or a name that stands twice is refused at its place."""
    assert faults(USE, TEXT.replace(old, new)) == expected


def test_it_stands_inside_criteria_only() -> None:
    """As a flow of its own it is refused, with the place where it may stand."""
    text = TEXT.replace("{event: order.paid, criteria: USE}", "{$condition: {type: big_order}}")
    fault = next(iter(read([Source("c.yaml", text)]).faults))
    assert (fault.code, fault.path) == ("unknown_operator", "/badges/0/flow/$condition")


def test_it_reads_in_a_list_of_badges() -> None:
    """The list of badges says in words what it takes."""
    from worker.rules.takes import Takes

    found: Any = catalog()
    assert Takes(found).of(found.badges[0]) == "1 order to which big_order says yes"
