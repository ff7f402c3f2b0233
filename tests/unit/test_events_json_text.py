"""JSON text: what is read, what is refused and as what, what is written."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from worker.events import json_text
from worker.events.json_text import JsonFault


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": 1, "b": [true, null, "x"]}', {"a": 1, "b": [True, None, "x"]}),
        (b"1.50", Decimal("1.50")),
        (b"1e5", Decimal("1E+5")),
        (b"-0", 0),
        (b"9" * 38, 10**38 - 1),
        (b"-" + b"9" * 38, 1 - 10**38),
        (b"0." + b"1" * 37, Decimal("0." + "1" * 37)),
        (b"1e308", Decimal("1E308")),
        (b"1e-308", Decimal("1E-308")),
        (b'{"a":1,"a":2}', {"a": 2}),
        (rb'{"a":"\u0000","a":2}', {"a": 2}),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\\u0000"', "\\u0000"),
        ("é", None),
    ],
)
def test_values_are_read_exactly(text: Any, value: Any) -> None:
    """Numbers come as int or Decimal with every digit, the last of equal keys counts, escapes are resolved."""
    if value is None:
        text, value = f'"{text}"'.encode(), text
    assert json_text.loads(text) == value
    assert type(json_text.loads(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        (b"", "not_json", ""),
        (b"   ", "not_json", ""),
        (b"{", "not_json", ""),
        (b"NaN", "not_json", ""),
        (b'{"a": Infinity}', "not_json", ""),
        (b"[-Infinity]", "not_json", ""),
        (b'"\xff"', "not_json", ""),
        (b'"\xed\xa0\x80"', "not_json", ""),
        (b'"\x00"', "not_json", ""),
        (b"01", "not_json", ""),
        (b"1 2", "not_json", ""),
        (b"\xef\xbb\xbf1", "not_json", ""),
        (b'{"a":1}\x00', "not_json", ""),
        (rb'{"a": ["x", "\u0000"]}', "invalid_field", "/a/1"),
        (rb'{"a": {"b/c~": "\ud800"}}', "invalid_field", "/a/b~1c~0"),
        (rb'{"\udfff": 1}', "invalid_field", ""),
        (rb'"\ude00\ud83d"', "invalid_field", ""),
        (b'{"a":' + b"1" * 39 + b"}", "invalid_field", "/a"),
        (b'{"a":[' + b"1" * 5_000 + b"]}", "invalid_field", "/a/0"),
        (b'{"a":0.' + b"1" * 39 + b"}", "invalid_field", "/a"),
        (b"1e309", "invalid_field", ""),
        (b"1e-309", "invalid_field", ""),
        (b"1e99999999999999999999999999", "invalid_field", ""),
        (b"[" * 33 + b"]" * 33, "too_deep", ""),
        (b"[" * 100_000, "too_deep", ""),
        (b'{"a":' * 40_000, "too_deep", ""),
        (b" " * (256 * 1024) + b"1", "too_large", ""),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_code(text: bytes, code: str, path: str) -> None:
    """Each way of being no storable JSON has its dead-letter code, and a pointer where there is a place."""
    with pytest.raises(JsonFault) as caught:
        json_text.loads(text)
    assert (caught.value.code, caught.value.path) == (code, path)
    assert len(caught.value.message.encode()) < 300


def test_brackets_in_strings_are_no_depth() -> None:
    """Depth counts containers: brackets inside strings, and many shallow containers, are fine."""
    text = '{"a": "' + "[" * 100 + '\\"{{", "b": [' + ",".join(["[]"] * 100) + "]}"
    assert json_text.loads(text)["a"].startswith("[[[")
    assert json_text.loads("[" * 32 + "]" * 32)


def test_surrogates_in_python_text_are_refused() -> None:
    """Text that is already a str cannot smuggle half a surrogate pair past the reader."""
    with pytest.raises(JsonFault) as caught:
        json_text.loads('["\ud800"]')
    assert (caught.value.code, caught.value.path) == ("invalid_field", "/0")


@pytest.mark.parametrize("text", ["1.50", "-0.0", "1E+30", "[1,{}]", '{"b":1,"a":"é"}', "9" * 38, '"\\u0001"'])
def test_what_is_read_is_written_back(text: str) -> None:
    """Writing gives the digits that were read, compact, in the order of the keys."""
    assert json_text.dumps(json_text.loads(text)) == text


@pytest.mark.parametrize("value", ["\ud800", object()])
def test_what_is_no_json_is_not_written(value: object) -> None:
    """Lone surrogates and other objects are refused by the writer."""
    with pytest.raises((ValueError, TypeError)):
        json_text.dumps(value)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, Decimal("1.0"), True),
        (True, 1, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ([1, {"a": 2}], [Decimal("1.00"), {"a": 2}], True),
        ([1], [1, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": 1}, {"b": 1}, False),
        ({}, [], False),
    ],
)
def test_equality_is_that_of_json(a: Any, b: Any, same: bool) -> None:
    """Numbers are equal by value, true is not 1, the order of keys is nothing."""
    assert json_text.equal(a, b) is same
    assert json_text.equal(b, a) is same
