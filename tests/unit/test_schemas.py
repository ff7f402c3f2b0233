"""The schemas other programs hold on to say what the code does."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
import yaml

from worker.config import load_settings
from worker.exchange import DeadLetter
from worker.pipeline.messages import award_id, award_message, dead_letter_message
from worker.rules.catalog.definitions import Badge
from worker.rules.state import Award

SCHEMAS = Path(__file__).parents[2] / "schemas"
AWARD = json.loads((SCHEMAS / "award.json").read_text())
API: dict[str, Any] = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
VALID = jsonschema_rs.validator_for(AWARD, validate_formats=True)


def awarded() -> dict[str, Any]:
    """A message as the pipeline makes it."""
    award = Award(
        user_id="u42",
        badge_key="nice_question",
        context="35",
        awarded_us=1_772_366_400_123_000,
        trigger_id="e1",
        trigger_type="question.scored",
        trigger_source="shop",
        metadata={"event_count": 1},
    )
    badge = Badge(key="nice_question", formula=None, triggers=frozenset(), label="Nice question")  # type: ignore[arg-type]
    body = award_message(
        award,
        badge,
        metadata_json=json.dumps(award.metadata),
        message_id=award_id("u42", "nice_question", "35"),
        origin="live",
        notify=True,
        sequence=1,
        catalog_version=3,
    )
    message: dict[str, Any] = json.loads(body)
    return message


@pytest.mark.parametrize("file", sorted(SCHEMAS.rglob("*.json")), ids=lambda file: str(file.relative_to(SCHEMAS)))
def test_schemas_are_schemas(file: Path) -> None:
    """Every schema is one, of draft 2020-12, and its examples hold."""
    schema = json.loads(file.read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert jsonschema_rs.meta.is_valid(schema)
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert [error.message for example in schema.get("examples", []) for error in validator.iter_errors(example)] == []


def test_awards_are_as_described() -> None:
    """What the pipeline publishes holds to award.json, and award.json knows each of its keys."""
    message = awarded()
    assert [error.message for error in VALID.iter_errors(message)] == []
    described = AWARD["$defs"]["award"]["properties"]
    assert set(message) == {*AWARD["$defs"]["award"]["required"], "type"} == {*described, "type"}
    assert set(message["badge"]) == set(AWARD["$defs"]["badge"]["properties"])


def test_revocation_and_erasure() -> None:
    """A revocation is an award with a reason and the id it takes back; an erasure carries the user alone."""
    revoked = {**awarded(), "type": "badge.revoked"}
    assert not VALID.is_valid(revoked)
    assert VALID.is_valid({**revoked, "reason": "by hand", "award_id": award_id("u42", "nice_question", "35")})
    assert VALID.is_valid({"id": award_id("u42", "", ""), "type": "user.erased", "user_id": "u42"})


@pytest.mark.parametrize("key", ["id", "user_id", "badge_key", "context", "awarded_at", "sequence", "badge", "notify"])
def test_a_missing_or_wrong_key_is_seen(key: str) -> None:
    """award.json refuses an award that lacks a key, or has nonsense in it."""
    message = awarded()
    assert not VALID.is_valid({name: value for name, value in message.items() if name != key})
    assert not VALID.is_valid({**copy.deepcopy(message), key: ["nonsense"]})
    assert not VALID.is_valid({**message, "id": str(uuid4())})


def references(node: object) -> Iterator[str]:
    """Every $ref below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_asyncapi_references() -> None:
    """Every reference of asyncapi.yaml leads somewhere."""
    found = list(references(API))
    assert found
    for reference in found:
        if reference.startswith("./"):
            assert (SCHEMAS / reference).is_file()
            continue
        node: Any = API
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]


def test_asyncapi_topics() -> None:
    """The topics are the settings' defaults: two are read, two are written."""
    settings = load_settings()
    topics = {name: channel["address"] for name, channel in API["channels"].items()}
    assert topics == {
        "events": settings.event_topics.names[0],
        "control": settings.control_topic,
        "awards": settings.award_topic,
        "deadLetters": settings.dead_letter_topic,
    }
    actions = {
        operation["channel"]["$ref"].split("/")[-1]: operation["action"] for operation in API["operations"].values()
    }
    assert actions == {"events": "receive", "control": "receive", "awards": "send", "deadLetters": "send"}


def test_asyncapi_dead_letters() -> None:
    """The headers of a dead letter are those the pipeline writes."""
    letter = DeadLetter("t", 0, 0, 1, "not_json", "No JSON.", "", None, None, b"{", b"\0" * 32, 1, 0)
    headers = API["components"]["messages"]["deadLetter"]["headers"]
    written = [name for name, _ in dead_letter_message(letter).headers]
    assert sorted(written) == sorted(headers["properties"]) == sorted(headers["required"])
