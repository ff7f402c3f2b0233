"""Whether a record is about a person: what is and what is not, also of what is no event."""

from __future__ import annotations

import json

import pytest

from worker.store.naming import names_person


@pytest.mark.parametrize(
    ("user_id", "key", "value"),
    [
        ("u1", b"u1", None),
        ("u1", b"u1", b"\xff no json"),
        ("u1", None, b'{"user_id": "u1", "type": "nothing.known"}'),
        ("42", None, b'{"user_id": 42}'),
        ("u1", b"x", b'{"specversion": "1.0", "subject": "u1"}'),
        ("u1", None, b'{"data": {"user_id": "u1"}}'),
        ("é", None, json.dumps({"user_id": "é"}).encode()),
        ("é", None, json.dumps({"user_id": "é"}, ensure_ascii=False).encode()),
        ("u1", None, b'{"user_id" : "u1", "payload": {"text": "cut off he'),
        ("42", None, b'{"user_id": 42, "payload": {"text": "cut off he'),
        ('a"b', None, b'{"user_id": "a\\"b", "cut'),
    ],
)
def test_about_the_person(user_id: str, key: bytes | None, value: bytes | None) -> None:
    """By key or by field, in every spelling, whole or cut off."""
    assert names_person(user_id, key, value)


@pytest.mark.parametrize(
    ("user_id", "key", "value"),
    [
        ("u1", b"u2", None),
        ("u1", b"u11", b'{"user_id": "u11"}'),
        ("1", b"u2", b'{"user_id": "u2", "payload": {"post_id": "1"}}'),
        ("u1", b"u2", b'{"user_id": "u2", "payload": {"author": "u1"}}'),
        ("4", None, b'{"user_id": 42, "cut'),
        ("4", None, b'{"user_id": 4.5, "cut'),
        ("True", None, b'{"user_id": true}'),
        ("u1", None, b'["u1"]'),
        ("u1", None, b"u1"),
    ],
)
def test_about_somebody_else(user_id: str, key: bytes | None, value: bytes | None) -> None:
    """That an id stands somewhere in a record says nothing."""
    assert not names_person(user_id, key, value)


def test_a_deep_value_is_not_followed() -> None:
    """What no parser follows is searched as text."""
    deep = b'{"x": ' + b"[" * 100_000 + b', "user_id": "u1"'
    assert names_person("u1", None, deep)
