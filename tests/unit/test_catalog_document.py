"""The catalog's document: what is read, what is refused, and where each thing stands."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.rules.catalog.document import Source, read_document


def read(*texts: str, suffix: str = "yaml"):
    document, faults = read_document([Source(f"{chr(97 + i)}.{suffix}", text) for i, text in enumerate(texts)])
    return document, [(fault.code, fault.file, fault.line, fault.column) for fault in faults]


def data(text: str):
    document, faults = read(text)
    assert not faults
    return document.data


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2026-12-24", "2026-12-24"),
        ("2026-12-24T10:00:00Z", "2026-12-24T10:00:00Z"),
        ("12:30:45", "12:30:45"),
        ("yes", "yes"),
        ("No", "No"),
        ("0x10", "0x10"),
        ("010", "010"),
        ("1_000", "1_000"),
        (".5", ".5"),
        (".inf", ".inf"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("7", 7),
        ("-0.15", Decimal("-0.15")),
        ("1e3", Decimal(1000)),
        ('"7"', "7"),
        ("'null'", "null"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("!  quoted", "quoted"),
        ("12345678901234567890123456789012345678", 12345678901234567890123456789012345678),
    ],
)
def test_scalars_are_those_of_json(written: str, value: object):
    """Only what JSON calls a number, a truth value or null is one; all else is text as written."""
    found = data(f"x: {written}\n")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 1\nb: [1, 2\n", 3, 1),
        ("a: b: c\n", 1, 5),
        ("a:\n\t- x\n", 2, 1),
        ("a: !!python/object/apply:os.system [ls]\n", 1, 4),
        ("a: !secret x\n", 1, 4),
        ("a: &x [*x]\n", 1, 8),
        ("a: *nothing\n", 1, 4),
        ("? {a: 1}\n: 2\n", 1, 3),
        ("a: 1\n---\nb: 2\n", 2, 1),
        ("a: " + "9" * 39 + "\n", 1, 4),
        ("a: 1e999\n", 1, 4),
        ("a: 1e-99999999999999999999\n", 1, 4),
        ('a: "x\\0y"\n', 1, 4),
        ("a: 1\nb: \x07\n", 2, 4),
        ("a: " + "[" * 70 + "]" * 70, 1, 67),
        ("- a\n", 1, 1),
        ("just text", 1, 1),
    ],
)
def test_what_is_no_catalog_text_is_refused_where_it_stands(text: str, line: int, column: int):
    """A text that cannot be read gives one fault with its line and column, and no document."""
    document, faults = read(text)
    assert document is None
    assert faults == [("invalid_syntax", "a.yaml", line, column)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": 1,}', 1),
        ('{"a":\n NaN}', 1),
        ('{"a": ' + "9" * 5000 + "}", 1),
        ('{"a": "\\ud800"}', 1),
        ('{"a": "\\u0000"}', 1),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", 1),
        ("[1]", 1),
        ("\n\n{", 3),
    ],
)
def test_json_that_cannot_be_kept_is_refused(text: str, line: int):
    """A JSON source is held to JSON, to numbers that can be kept and to texts the database takes."""
    document, faults = read(text, suffix="json")
    assert document is None
    assert [(code, found) for code, _, found, _ in faults] == [("invalid_syntax", line)]


def test_a_repeated_key_is_named_at_its_second_place():
    """Of two equal keys in one map the second is the fault, in YAML and in JSON alike."""
    document, faults = read_document([Source("a.yaml", "badges:\n  - key: x\n    label: A\n    label: B\n")])
    assert document is not None
    assert [(f.code, f.path, f.line, f.column) for f in faults] == [("duplicate_key", "/badges/0/label", 4, 5)]
    document, faults = read_document([Source("a.json", '{"badges": [{"label": "A",\n "label": "B"}]}')])
    assert document is not None
    assert [(f.code, f.path, f.line, f.column) for f in faults] == [("duplicate_key", "/badges/0/label", 2, 2)]


def test_aliases_expand_but_never_explode():
    """An alias stands for what it names; nine levels of nine aliases are refused by their expanded size."""
    assert data("a: &x {b: [1, 2]}\nc: *x\n")["c"] == {"b": [1, 2]}
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    document, faults = read(bomb)
    assert document is None
    assert [code for code, *_ in faults] == ["invalid_syntax"]


def test_sources_are_merged_section_by_section():
    """Lists are appended in the order of the sources, maps are joined, and pointers lead back to the right file."""
    document, faults = read(
        "version: 1\nevents:\n  a.b: {}\nbadges:\n  - key: one\n  - key: two\n",
        "version: 1\nevents:\n  c.d: {}\nbadges:\n  - key: three\n    label: Third\n",
    )
    assert not faults
    assert list(document.data["events"]) == ["a.b", "c.d"]
    assert [badge["key"] for badge in document.data["badges"]] == ["one", "two", "three"]
    name, place = document.locate("/badges/2/label")
    assert (name, place.line, place.column, place.end) == ("b.yaml", 6, 12, 17)
    name, place = document.locate("/events/c.d", key=True)
    assert (name, place.line, place.column) == ("b.yaml", 3, 3)


def test_two_sources_may_not_define_one_name():
    """A name defined twice, or a single value that differs, is a fault in the later file."""
    document, faults = read(
        "timezone: UTC\nevents:\n  a.b: {}\n", "timezone: Europe/Berlin\nevents:\n  x.y: {}\n  a.b: {}\n"
    )
    assert document.data["timezone"] == "UTC"
    assert faults == [("duplicate_key", "b.yaml", 1, 1), ("duplicate_key", "b.yaml", 4, 3)]


def test_a_place_that_does_not_exist_leads_to_what_is_around_it():
    """A pointer to something that is missing shows the innermost thing that exists."""
    document, _ = read("badges:\n  - key: one\n    flow: {event: a.b}\n")
    assert document.locate("/badges/0/flow/criteria/x")[1].column == 11
    assert document.locate("/badges/7")[1].line == 2
    assert document.locate("")[1].line == 1


def test_a_quoted_name_in_the_message_points_at_the_key():
    """Where the sentence quotes the key, the key is underlined, and otherwise its value."""
    document, _ = read("a:\n  scroe: 10\n")
    assert document.locate("/a/scroe", message='a.b has no field "scroe".')[1].column == 3
    assert document.locate("/a/scroe", message="Must be a text.")[1].column == 10


def test_lines_may_end_as_on_windows():
    """A carriage return at a line's end belongs neither to the line nor to what is marked on it."""
    document, _ = read("a:\r\n  b: some text\r\n")
    place = document.locate("/a/b")[1]
    assert (place.line, place.column, place.end) == (2, 6, 15)
    assert document.line("a.yaml", 2) == "  b: some text"


def test_no_source_and_empty_sources_are_an_empty_document():
    """Nothing at all, an empty file and a file of comments hold no sections."""
    assert read_document([])[0].data == {}
    assert data("") == {}
    assert data("# nothing yet\n") == {}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc~/ .$", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["badges", "events", "x/y", "~"]), JSON, max_size=4), st.booleans())
def test_json_is_read_back_and_every_place_is_found(value: dict[str, object], indented: bool):
    """What is written as JSON is read as it was, and each pointer leads to the text of its value."""
    text = json.dumps(value, indent=1 if indented else None)
    document, faults = read_document([Source("a.json", text)])
    assert not faults
    assert document.data == value

    def walk(item: object, path: str) -> None:
        _, place = document.locate(path)
        line = text.splitlines()[place.line - 1][place.column - 1 :]
        if isinstance(item, dict):
            assert line.startswith("{")
            for key, inner in item.items():
                walk(inner, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")
        elif isinstance(item, list):
            assert line.startswith("[")
            for index, inner in enumerate(item):
                walk(inner, f"{path}/{index}")
        else:
            assert line.startswith(json.dumps(item))

    walk(value, "")


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_no_text_raises(text: str):
    """Whatever the text, reading it gives a document or faults with places, never an exception."""
    for name in ("a.yaml", "a.json", "a"):
        document, faults = read_document([Source(name, text)])
        assert (document is None) == any(fault.code == "invalid_syntax" for fault in faults)
        if document is not None:
            document.locate("/badges/0")
