"""The event dictionary: names, aliases, schemas, the built-in types."""

from __future__ import annotations

from decimal import Decimal

import jsonschema_rs
import pytest

from worker.events import Dictionary, EventType
from worker.events.dictionary import is_reserved

SCORED = EventType(
    "question.scored",
    aliases=("QuestionScored",),
    schema={
        "type": "object",
        "required": ["score"],
        "properties": {
            "score": {"type": "integer"},
            "ratio": {"type": "number", "maximum": 1},
            "x/y": {"type": "null"},
        },
    },
)


def test_a_type_is_found_by_name_and_by_alias() -> None:
    """Names and aliases lead to the same type, everything else to none."""
    dictionary = Dictionary([SCORED])
    assert dictionary.resolve("question.scored") is SCORED
    assert dictionary.resolve("QuestionScored") is SCORED
    assert dictionary.resolve("question.score") is None
    assert dictionary.types["question.scored"] is SCORED
    assert "QuestionScored" not in dictionary.types


def test_the_nearest_name_is_offered() -> None:
    """A mistyped or differently spelled name gets the known one like it, a foreign one none."""
    dictionary = Dictionary([SCORED])
    assert dictionary.nearest("question.scoerd") == "question.scored"
    assert dictionary.nearest("Question_Scored") == "question.scored"
    assert dictionary.nearest("zzz") is None
    assert dictionary.nearest("q" * 100_000) is None


def test_the_systems_own_types_are_always_there() -> None:
    """Built-in types need no catalog, and each has a schema that compiles."""
    dictionary = Dictionary(schedules=["cron.monthly"])
    for name in ("cron.anniversary", "cron.monthly", "badge.awarded", "badge.revoked", "user.erased"):
        kind = dictionary.resolve(name)
        assert kind is not None
        assert kind.builtin
        assert is_reserved(name)
    assert dictionary.resolve("cron.weekly") is None
    assert not is_reserved("question.scored")


def test_two_types_cannot_share_a_name() -> None:
    """A name or alias stands for one type."""
    with pytest.raises(ValueError, match=r"question\.scored is defined twice"):
        Dictionary([SCORED, SCORED])
    with pytest.raises(ValueError, match="QuestionScored is an alias"):
        Dictionary([SCORED, EventType("other.type", aliases=("QuestionScored",))])
    with pytest.raises(ValueError, match=r"user\.erased is defined twice"):
        Dictionary([EventType("user.erased")])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"properties": 3},
        {"properties": {"a": {"pattern": "("}}},
        {"properties": {"a": {"pattern": "(?=x)y"}}},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nowhere"},
        {"$schema": "http://127.0.0.1:1/meta"},
        {1: 2},
        True,
    ],
)
def test_a_faulty_schema_is_refused_in_one_sentence(schema: object) -> None:
    """What is no JSON Schema, backtracks, or would have to be fetched raises ValueError with a sentence."""
    with pytest.raises(ValueError, match=r"schema of a\.b") as caught:
        EventType("a.b", schema=schema)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"score": 1}, None),
        ({"score": Decimal("1.0")}, None),
        ({"score": 10**37}, None),
        ({"score": 1, "ratio": Decimal("1.00")}, None),
        ({"score": 1, "ratio": Decimal("1." + "0" * 36 + "1")}, "/ratio"),
        ({"score": Decimal("1.5")}, "/score"),
        ({"score": "1"}, "/score"),
        ({"score": True}, "/score"),
        ({"score": 1, "x/y": 1}, "/x~1y"),
        ({}, ""),
    ],
)
def test_payloads_are_held_to_the_schema_exactly(payload: dict[str, object], path: str | None) -> None:
    """Decimals are numbers with every digit; a payload that does not fit gives the pointer to the place."""
    wrong = SCORED.check(payload)
    assert (wrong and wrong[0]) == path


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"not": {"$ref": "#"}}])
def test_a_schema_that_refers_to_itself_ends(schema: dict[str, object]) -> None:
    """A schema without a bottom does not take the process down."""
    EventType("a.b", schema=schema).check({"a": 1})


def test_fields_are_known_where_the_schema_lists_them() -> None:
    """`fields` are the schema's properties; without such a list the payload is open."""
    assert SCORED.fields == {"score", "ratio", "x/y"}
    assert not SCORED.open
    assert EventType("a.b", schema={"type": "object"}).open
    assert EventType("a.b").open


def test_logins_are_known_by_name_alias_or_word() -> None:
    """`UserLoggedIn`, `user.logged_in`, their aliases and types that say so are logins."""
    assert EventType("UserLoggedIn").login
    assert EventType("session.started", aliases=("user.logged_in",)).login
    assert EventType("session.started", login=True).login
    assert not EventType("session.started").login


def test_an_open_dictionary_knows_every_name() -> None:
    """Without a catalog any well-formed name is a type with an open payload; the system's own stay its own."""
    dictionary = Dictionary.open()
    kind = dictionary.resolve("whatever.happened")
    assert kind is not None
    assert kind.open
    assert dictionary.resolve("no name at all") is None
    assert dictionary.resolve("cron.anything").builtin  # type: ignore[union-attr]


def test_schemas_of_built_in_types_are_schemas() -> None:
    """Every shipped payload schema is valid against its own draft."""
    for kind in Dictionary().types.values():
        jsonschema_rs.meta.validate(kind.schema)
