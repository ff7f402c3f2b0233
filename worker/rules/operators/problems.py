"""Data that criteria asked for and could not use, counted: it means "does not match", and somebody may wonder why.

The counts are observation, not memory: no answer depends on them. They say how often a value was looked at in vain, in
this process, whether an event was applied, folded again or tried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: The field is not there; it is null; it is of another type than the operator compares; it names no time zone.
MISSING_FIELD, NULL, WRONG_TYPE, NO_ZONE = "missing_field", "null", "wrong_type", "no_zone"

_found: Final = dict.fromkeys((MISSING_FIELD, NULL, WRONG_TYPE, NO_ZONE), 0)


def note(problem: str) -> None:
    """Count a value that could not be used."""
    _found[problem] += 1


def note_value(value: Any) -> None:
    """Count a value that is there, and null or of the wrong type."""
    _found[NULL if value is None else WRONG_TYPE] += 1


def note_unusable(value: Any, missing: object) -> None:
    """Count a value that could not be used; `missing` is what stands for a field that is not there."""
    if value is missing:
        note(MISSING_FIELD)
    else:
        note_value(value)


def taken() -> Mapping[str, int]:
    """What was counted since this was last asked."""
    found = dict(_found)
    _found.update(dict.fromkeys(_found, 0))
    return found
