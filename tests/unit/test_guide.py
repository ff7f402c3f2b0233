"""The authors' guide says what is so: its examples are played, its tables tried, its sections complete."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.unit.test_conformance import words
from worker.conditions import Asked, Door
from worker.events import Event, format_instant, parse_instant
from worker.events.json_text import JsonFault, dumps, loads
from worker.rules.catalog import yaml_source
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import catalog_from_document, read_catalog
from worker.rules.catalog.sections import catalog_schema
from worker.rules.ir import Clause
from worker.rules.operators import CRITERIA_OPERATORS, FLOW_OPERATORS
from worker.rules.operators.values import FIELD_OPERATORS, compile_clause, freeze
from worker.rules.plan import compile_plan
from worker.rules.rehearse import DryRun, outcomes

GUIDE = (Path(__file__).parents[2] / "schemas" / "README.md").read_text(encoding="utf-8")
#: What an example says beside the sections of its catalog and the keys of its badge.
SAID = {"history", "earned", "metadata", "says"}
OF_BADGE = {"flow", "triggers", "per"}


def blocks() -> list[dict[str, Any]]:
    """The guide's code blocks, read as catalogs are."""
    found = []
    for text in re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        data, problems = yaml_source.read(text)
        assert not problems, (text, problems)
        found.append(data)
    return found


BASE = next(block["catalog"] for block in blocks() if "catalog" in block)
EXAMPLES = [block for block in blocks() if "history" in block]


def document(example: dict[str, Any]) -> dict[str, Any]:
    """The catalog of an example: what all share, what it adds, its badge."""
    own = {key: value for key, value in example.items() if key not in SAID | OF_BADGE}
    badge = {key: example[key] for key in OF_BADGE & example.keys()}
    return {**BASE, **({"badges": [{"key": "example", **badge}]} if badge else {}), **own}


def history(example: dict[str, Any], catalog: Catalog) -> Iterator[Event]:
    """The events of an example; `field=value` where the value is JSON or a plain text."""
    for number, line in enumerate(example["history"].splitlines(), start=1):
        day, hour, kind, *fields = line.split()
        payload = {name: value_of(text) for name, _, text in (field.partition("=") for field in fields)}
        known = catalog.dictionary.resolve(kind)
        assert known is not None, kind
        yield Event("u", known.name, parse_instant(f"{day}T{hour}:00Z"), "", f"{number:04}", payload, dumps(payload))


async def judged(asked: Asked, events: list[Event]) -> list[Event]:
    """The events with what the example's conditions say of them."""
    async with Door() as door:
        return await door.judge(asked, events)


def value_of(text: str) -> Any:
    try:
        return loads(text)
    except JsonFault:
        return text


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["history"][:60].replace("\n", " "))
def test_an_example_has_the_answer_it_says(example: dict[str, Any]) -> None:
    """Playing an example's history gives its badges at the times it says, with the figures and the words it says."""
    catalog = catalog_from_document(document(example), 1)
    events = list(history(example, catalog))
    if (asked := compile_plan(catalog).conditions) is not None:
        events = asyncio.run(judged(asked, events))
    awards = outcomes(compile_plan(catalog), events)
    given = [one.award for one in awards]
    earned = {award.badge_key: format_instant(award.awarded_us)[:16].replace("T", " ") for award in given}
    expected = example["earned"]
    assert earned == ({} if expected == "never" else expected if isinstance(expected, dict) else {"example": expected})
    (answer, *_) = DryRun(catalog).answers("u", events, {catalog.badges[0].key}, at_us=events[-1].occurred_us)
    metadata, why = (given[0].metadata, awards[0].why) if awards else (answer.metadata, answer.explanation.sentence)
    assert {key: metadata.get(key) for key in example.get("metadata", ())} == example.get("metadata", {})
    assert why == example.get("says", why)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["history"][:60].replace("\n", " "))
def test_an_example_satisfies_the_schema(example: dict[str, Any]) -> None:
    """Every catalog of the guide is right for an editor, too."""
    jsonschema_rs.validator_for(catalog_schema()).validate(json.loads(dumps(document(example))))


def sections() -> dict[str, str]:
    """The guide's sections by their headings."""
    parts = re.split(r"^##+ (.*)$", GUIDE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("word", sorted({*FLOW_OPERATORS, *CRITERIA_OPERATORS}))
def test_an_operator_has_its_section(word: str) -> None:
    """Each operator stands in a heading, with an example that uses it, and with what is remembered for it."""
    (text,) = (text for heading, text in sections().items() if f"`{word}`" in heading)
    examples = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert any(word in example for example in examples)
    assert "Remembered:" in text


def table(head: str) -> list[list[str]]:
    """The rows of the table whose first column is called so, without the code marks."""
    lines = iter(GUIDE.splitlines())
    for line in lines:
        if line.startswith(f"| {head} |"):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def code(cell: str) -> Any:
    return json.loads(cell.strip("`"), parse_float=Decimal)


@pytest.mark.parametrize("row", table("condition"), ids=lambda row: row[0].replace("\\", ""))
def test_a_condition_matches_what_the_guide_says(row: list[str]) -> None:
    """Each row's first value passes its condition, its second does not, and a missing field never does."""
    condition, matches, other = (code(cell) for cell in row[:3])
    wanted = condition if isinstance(condition, dict) else {"$eq": condition}
    clauses = [
        compile_clause(Clause("f", "$ne" if word == "$neq" else word, operand if word == "$regex" else freeze(operand)))
        for word, operand in wanted.items()
    ]
    assert all(clause({"f": matches}) for clause in clauses)
    assert not all(clause({"f": other}) for clause in clauses)
    assert not any(clause({}) for clause in clauses)


def test_every_field_operator_is_in_the_table() -> None:
    """The table of conditions leaves none out."""
    assert {word for row in table("condition") for word in words(code(row[0]))} == {*FIELD_OPERATORS}


@pytest.mark.parametrize("row", table("code"), ids=lambda row: f"{row[0]} {row[1]}")
def test_a_mistake_is_refused_with_the_code_the_guide_says(row: list[str]) -> None:
    """Each flow of the table of mistakes gives the code beside it, and nothing else."""
    flow = code(row[1])
    text = json.dumps({**BASE, "badges": [{"key": "example", "flow": flow}]}, default=str)
    _, faults = read_catalog([Source("catalog.json", text)])
    found = {fault.code for fault in faults if fault.path.startswith("/badges")}
    assert found == {row[0].strip("`")}


def test_what_the_guide_shares_is_a_catalog() -> None:
    """The catalog that the examples share has no fault."""
    _, faults = read_catalog([Source("catalog.json", json.dumps(BASE, default=str))])
    assert [fault for fault in faults if fault.severity == "error"] == []
