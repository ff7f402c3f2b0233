"""Whether a schedule's five fields (minute, hour, day of month, month, day of week) can be read, and what is wrong."""

from __future__ import annotations

import re

_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_PART = re.compile(r"(\*|[0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?(?:/([0-9]{1,2}))?")


def cron_fault(text: str) -> tuple[str, str] | None:
    """The sentence and the remedy for the first field that cannot be read, else None."""
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        message = f"A schedule has five fields, not {len(fields)}."
        return message, 'Write "0 9 1 * *": minute, hour, day of the month, month, day of the week.'
    for written, (name, low, high, words) in zip(fields, _FIELDS, strict=True):
        if not all(_readable(part, low, high, words) for part in written.split(",")):
            return f'"{written[:40]}" is no {name} of a schedule.', f"Write *, or numbers from {low} to {high}."
    return None


def _readable(part: str, low: int, high: int, words: tuple[str, ...]) -> bool:
    match = _PART.fullmatch(part)
    if match is None:
        return False
    first, last, step = match.groups()
    if step is not None and not 1 <= int(step) <= high:
        return False
    if first == "*":
        return last is None
    bounds = [_number(word, low, high, words) for word in (first, last) if word is not None]
    return None not in bounds and bounds == sorted(bound for bound in bounds if bound is not None)


def _number(word: str, low: int, high: int, words: tuple[str, ...]) -> int | None:
    if word in words:
        return words.index(word) + low
    return int(word) if word.isdecimal() and low <= int(word) <= high else None
