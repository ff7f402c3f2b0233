"""The catalog's JSON Schema: generated from the table that checks, and true to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from hypothesis import given
from hypothesis import strategies as st

from worker.resources import resource
from worker.rules.catalog.sections import CATALOG, catalog_schema

WRITE = (
    "python -c 'import json; from worker.rules.catalog.sections import catalog_schema; "
    "print(json.dumps(catalog_schema(), indent=1, ensure_ascii=False))' > schemas/catalog.json"
)
VALIDATOR = jsonschema_rs.validator_for(catalog_schema())


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
