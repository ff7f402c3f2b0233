"""Tests of document 3's rules as flows: what each operator becomes, what is refused, and that the meaning is kept."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.reading import Known, read
from worker import cli
from worker.events import Event, json_text
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.parse import parse_flow
from worker.rules.plan import compile_plan
from worker.rules.rehearse import outcomes
from worker.rules.translate import translate


def condition(operator: str, value: Any, field: str = "score") -> dict[str, Any]:
    """One condition."""
    return {"field": field, "operator": operator, "expected_value": value}


def rule(*conditions: Any, **keys: Any) -> dict[str, Any]:
    """A rule over quizzes."""
    return {"event": "quiz.done", "conditions": list(conditions), **keys}


def criteria(*conditions: Any) -> Any:
    """The criteria that conditions become; the rule must be clean, and so must its flow."""
    found = translate(rule(*conditions))
    assert found.flow is not None, found.faults
    assert read(found.flow) is not None
    return found.flow["criteria"]


def holds(rule: Any, payload: dict[str, Any]) -> bool:
    """Whether one event with this data meets the rule, by the engine."""
    flow = translate(rule).flow
    text = json.dumps({"version": 1, "events": {"quiz.done": {}}, "badges": [{"key": "b", "flow": flow}]}, default=str)
    catalog = load_catalog([Source("c.json", text)])
    data = json_text.loads(json.dumps(payload))
    return bool(outcomes(compile_plan(catalog), [Event("u", "quiz.done", 0, "", "1", data, "")]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (condition("eq", "gold"), {"score": {"$eq": "gold"}}),
        (condition("eq", "5"), {"score": {"$in": [5, "5"]}}),
        (condition("eq", "-1.50"), {"score": {"$in": [Decimal("-1.50"), "-1.50"]}}),
        (condition("eq", "1e3"), {"score": {"$eq": "1e3"}}),
        (condition(value=True, operator="eq"), {"score": {"$eq": True}}),
        (condition("eq", 5), {"score": {"$eq": 5}}),
        (condition("neq", "gold"), {"score": {"$ne": "gold"}}),
        (condition("neq", "5"), {"score": {"$nin": [5, "5"]}}),
        (condition("gt", "5"), {"score": {"$gt": 5}}),
        (condition("gte", "5.5"), {"score": {"$gte": Decimal("5.5")}}),
        (condition("lt", "10"), {"score": {"$lt": 10}}),
        (condition("lte", "2026-03-01T00:00:00Z"), {"score": {"$lte": "2026-03-01T00:00:00Z"}}),
        (condition("contains", "5"), {"score": {"$contains": "5"}}),
        (condition("startsWith", "pre"), {"score": {"$startsWith": "pre"}}),
        (condition("endsWith", "fix"), {"score": {"$endsWith": "fix"}}),
        (condition("regex", "^a+$"), {"score": {"$regex": "^a+$"}}),
        (condition("between", "5,10"), {"score": {"$between": "5,10"}}),
    ],
)
def test_each_operator(given: Any, expected: Any) -> None:
    """Each operator becomes the flow's; a numeral is a number in an order, number or text where it is to be equal."""
    assert criteria(given) == expected


def test_and_is_one_event() -> None:
    """Conditions joined by `and`, which is also what is meant by nothing, are about one event."""
    both = rule(condition("gt", "5"), condition("eq", "hard", "level"), operator="and")
    assert translate(both).flow == {"event": "quiz.done", "criteria": {"score": {"$gt": 5}, "level": {"$eq": "hard"}}}
    assert translate({key: both[key] for key in ("event", "conditions")}).flow == translate(both).flow
    assert not holds(both, {"score": 6, "level": "easy"})
    assert holds(both, {"score": 6, "level": "hard"})


def test_or_is_a_leaf_each() -> None:
    """Conditions joined by `or` become an $or of leaves; one alone is just a leaf."""
    either = rule(condition("gt", "5"), condition("eq", "hard", "level"), operator="or")
    assert translate(either).flow == {
        "$or": [
            {"event": "quiz.done", "criteria": {"score": {"$gt": 5}}},
            {"event": "quiz.done", "criteria": {"level": {"$eq": "hard"}}},
        ]
    }
    assert [holds(either, {"score": score, "level": "hard"}) for score in (1, 9)] == [True, True]
    assert not holds(either, {"score": 1, "level": "easy"})
    assert translate(rule(condition("gt", "5"), operator="OR")).flow == translate(rule(condition("gt", "5"))).flow


def test_several_conditions_on_one_field() -> None:
    """They are and-ed on the field; of equal operators the second stands under payload, and equal ones stand once."""
    assert criteria(condition("gt", "5"), condition("lt", "9"), condition("gt", "5")) == {"score": {"$gt": 5, "$lt": 9}}
    twice = [condition("contains", "a"), condition("contains", "b")]
    assert criteria(*twice) == {"score": {"$contains": "a"}, "payload": {"score": {"$contains": "b"}}}
    assert [holds(rule(*twice), {"score": text}) for text in ("ab", "a", "b")] == [True, False, False]
    found = translate(rule(*twice, condition("contains", "c")))
    assert [(fault.code, fault.path) for fault in found.faults] == [("bad_operand", "/conditions/2")]


@pytest.mark.parametrize("field", ["payload", "timestamp"])
def test_fields_that_cannot_stand_bare(field: str) -> None:
    """A field with the name of a part of the flow stands under payload, in both kinds of rule."""
    assert criteria(condition("eq", "x", field)) == {"payload": {field: {"$eq": "x"}}}
    assert holds(rule(condition("eq", "x", field), operator="or"), {field: "x"})
    found = translate(rule(condition("contains", "a", field), condition("contains", "b", field)))
    assert [(fault.code, fault.path) for fault in found.faults] == [("bad_operand", "/conditions/1")]


def test_the_documents_own_spellings() -> None:
    """Keys may be written as the document's types are; its ids are left aside, an event's number is looked up."""
    old = {
        "ID": 1, "EventTypeID": 7, "BadgeID": 3, "Operator": "and",
        "Conditions": [{"ID": 1, "Type": 2, "Operator": "gt", "ExpectedValue": "90", "Field": "score"}],
    }  # fmt: skip
    expected = {"event": "quiz.done", "criteria": {"score": {"$gt": 90}}}
    assert translate(old, event_types={7: "quiz.done"}).flow == expected
    assert translate(old, event="quiz.done").flow == expected
    (fault,) = translate(old).faults
    assert (fault.code, fault.path) == ("unknown_event", "/EventTypeID")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [("flow_definition_required", "")]),
        ([], [("flow_definition_required", "")]),
        ({"event": "quiz.done"}, [("bad_operand", "/conditions")]),
        ({"conditions": []}, [("event_type_required", "/event"), ("bad_operand", "/conditions")]),
        (rule(), [("bad_operand", "/conditions")]),
        (rule(7), [("bad_operand", "/conditions/0")]),
        (rule(condition("eq", "1"), operator="xor"), [("unknown_operator", "/operator")]),
        (rule(condition("eq", "1"), conditon=1), [("unknown_key", "/conditon")]),
        (rule({"operator": "eq", "expected_value": "1"}), [("missing_field", "/conditions/0")]),
        (rule({"field": "a", "expected_value": "1"}), [("unknown_operator", "/conditions/0")]),
        (rule({"field": "a", "operator": "eq"}), [("bad_operand", "/conditions/0")]),
        (rule(condition("eq", None)), [("bad_operand", "/conditions/0/expected_value")]),
        (rule(condition(value=True, operator="gt")), [("bad_operand", "/conditions/0/expected_value")]),
        (rule(condition("gt", "")), [("bad_operand", "/conditions/0/expected_value")]),
        (rule(condition("contains", 5)), [("bad_operand", "/conditions/0/expected_value")]),
        (rule(condition("regex", "a" * 1_001)), [("bad_operand", "/conditions/0/expected_value")]),
        (
            rule(*(condition("regex", f"\\pL{{1,50}}{n}") for n in range(11))),
            [("bad_regex", f"/conditions/{n}/expected_value") for n in (9, 10)],
        ),
        (rule(condition("regex", "(")), [("bad_regex", "/conditions/0/expected_value")]),
        (rule(condition("between", "5")), [("bad_operand", "/conditions/0/expected_value")]),
        (rule(condition("between", "9,5")), [("bad_operand", "/conditions/0/expected_value")]),
        (rule(condition("eq", "1", "$score")), [("bad_operand", "/conditions/0/field")]),
        (rule(condition("equals", "1"), condition("gt", "")),
         [("unknown_operator", "/conditions/0/operator"), ("bad_operand", "/conditions/1/expected_value")]),
    ],
)  # fmt: skip
def test_what_is_refused(given: Any, expected: list[tuple[str, str]]) -> None:
    """All faults of a rule come at once, each with its code, its place in the rule and what to write instead."""
    found = translate(given)
    assert [(fault.code, fault.path) for fault in found.faults] == expected
    assert found.flow is None
    assert all(fault.help and fault.message.endswith(".") for fault in found.faults)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints one flow for one rule and a list for a list, and every fault with its place."""

    def run(rules: Any, *options: str) -> tuple[int, str, str]:
        file = tmp_path / "rule.json"
        file.write_text(rules if isinstance(rules, str) else json.dumps(rules))
        status = cli.main(["catalog", "translate", str(file), *options])
        return (status, *capsys.readouterr())

    status, out, _ = run(rule(condition("eq", "5.0")))
    assert (status, out) == (0, '{"event":"quiz.done","criteria":{"score":{"$in":[5.0,"5.0"]}}}\n')
    status, out, _ = run([rule(condition("gt", "5")), rule(condition("gt", "6"))], "--event", "x")
    assert [flow["event"] for flow in json.loads(out)] == ["x", "x"]
    status, out, said = run([rule(condition("gt", "5")), rule(condition("gt", "")), {}])
    assert (status, out) == (1, "")
    assert "bad_operand /1/conditions/0/expected_value" in said
    assert "flow_definition_required /2" in said
    assert run("{")[0] == 1


def test_the_flow_is_checked_like_any_other() -> None:
    """A flow from a rule is one an author could have written: the reader finds an unknown field in it."""
    names = Known()
    assert parse_flow(translate(rule(condition("eq", "1", "scroe"))).flow, path="", names=names) is None
    assert [fault.code for fault in names.faults] == ["unknown_field"]
