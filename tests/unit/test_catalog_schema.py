"""The catalog's JSON Schema: generated from the table that checks, and true to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import catalogs
from worker.events.json_text import dumps
from worker.resources import resource
from worker.rules.catalog.sections import CATALOG, catalog_schema
from worker.rules.operators import CRITERIA_OPERATORS, FLOW_OPERATORS
from worker.rules.operators.values import FIELD_OPERATORS, NUMBER_OPERATORS

WRITE = (
    "python -c 'import json; from worker.rules.catalog.sections import catalog_schema; "
    "print(json.dumps(catalog_schema(), indent=1, ensure_ascii=False))' > schemas/catalog.json"
)
SCHEMA = catalog_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
FLOW = jsonschema_rs.validator_for({**SCHEMA["$defs"]["flow"], "$defs": SCHEMA["$defs"]})
CASES = Path(__file__).parents[1] / "cases" / "cases.json"


def test_the_file_is_what_the_table_says():
    """`schemas/catalog.json` is generated; a change of the format is written out again."""
    text = resource("schemas").joinpath("catalog.json").read_text(encoding="utf-8")
    assert json.loads(text) == catalog_schema(), f"write it again: {WRITE}"


def test_the_demonstration_satisfies_it():
    """The shipped catalog is valid by the schema, as an editor would check it."""
    text = (Path(__file__).parents[2] / "worker" / "demo" / "catalog.yaml").read_text(encoding="utf-8")
    VALIDATOR.validate(yaml.safe_load(text))


VALUE: Any = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "UTC", "a.b", "#aabbcc", "off", "A B"])
)
ENTRY = st.dictionaries(
    st.sampled_from(["key", "label", "color", "status", "triggers", "metric", "animation", "translations", "x"]),
    VALUE | st.lists(VALUE, max_size=2) | st.dictionaries(st.sampled_from(["kind", "de", "a.b"]), VALUE, max_size=2),
    max_size=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["version", "timezone", "badges", "ladders", "active_days", "breaker", "nope"]),
        VALUE | st.lists(ENTRY, max_size=2) | ENTRY,
        max_size=3,
    )
)
def test_what_the_schema_refuses_the_check_refuses(document: dict[str, Any]):
    """A form that an editor marks as wrong is never taken by lint."""
    faults: list[Any] = []
    CATALOG.check(document, "", faults)
    assert faults or VALIDATOR.is_valid(document)


@given(catalogs())
def test_what_lint_takes_the_schema_takes(document: dict[str, Any]):
    """No flow or milestone of the language is marked as wrong by an editor."""
    VALIDATOR.validate(json.loads(dumps(document)))


@pytest.mark.parametrize("case", json.loads(CASES.read_text(encoding="utf-8")), ids=lambda case: case["id"])
def test_a_published_flow_satisfies_the_schema(case: dict[str, Any]):
    """Every flow of the published cases is right for an editor, too."""
    if "milestone" not in case["flow"]:
        FLOW.validate(case["flow"])


@pytest.mark.parametrize(
    "flow",
    [
        {"event": "a", "criteria": {"$eventcount": {"$gte": 1}}},
        {"event": "a", "criteria": {"n": {"$gte": 1, "x": 2}}},
        {"event": "a", "criteria": {"n": {"$size": 1}}},
        {"event": "a", "$not": {"event": "b"}},
        {"$timePeriod": {"periodType": "fortnight"}},
        {"$and": []},
        {"criteria": {}},
        {},
    ],
)
def test_the_schema_marks_what_is_wrong(flow: dict[str, Any]):
    """An editor marks a misspelt operator, a misplaced one, a wrong word."""
    assert not FLOW.is_valid(flow)


def properties(node: Any) -> dict[str, Any]:
    """Every property that a part of the schema offers, wherever it stands in it."""
    found: dict[str, Any] = {}
    if isinstance(node, dict):
        found |= node.get("properties", {})
        for value in node.values():
            found |= properties(value)
    elif isinstance(node, list):
        for value in node:
            found |= properties(value)
    return found


def test_every_operator_is_offered_with_its_meaning():
    """An editor completes each operator where it may stand, and each of its keys, and says what it means."""
    parts = SCHEMA["$defs"]
    offered = {name: properties(parts[name]) for name in parts}
    assert offered["flow"].keys() >= {"event", "criteria", *FLOW_OPERATORS}
    assert offered["criteria"].keys() >= {"payload", "timestamp", *CRITERIA_OPERATORS}
    assert offered["condition"].keys() == {*FIELD_OPERATORS}
    assert offered["number"].keys() == offered["instants"].keys() == {*NUMBER_OPERATORS}
    assert all(form["description"] for words in offered.values() for form in words.values())


@pytest.mark.parametrize("word", [*FLOW_OPERATORS, *CRITERIA_OPERATORS])
def test_the_keys_of_an_operator_are_offered(word: str):
    """The keys that an operator reads, listed as KEYS in its module, are those that the schema names for it."""
    operator = FLOW_OPERATORS.get(word) or CRITERIA_OPERATORS[word]
    if (keys := getattr(sys.modules[operator.read.__module__], "KEYS", None)) is not None:
        for part in ("flow", "criteria"):
            if (form := properties(SCHEMA["$defs"][part]).get(word)) is not None:
                assert form["properties"].keys() == {*keys}
