"""Instants as authors write them: RFC 3339, `$NOW`, `$NOW(-1y-3M)`, and the look-back of a window (`30d`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from worker.events.instants import parse_instant
from worker.rules.ir import Moment
from worker.rules.operators.place import Place, described, sentence, shown

EXAMPLE = 'an instant such as "2026-03-01T12:00:00Z", or one relative to now such as "$NOW(-30d)"'

_NOW = re.compile(r"\$NOW(?:\(\s*((?:[+-]\s*[0-9]{1,9}\s*[a-zA-Z]\s*)*)\))?\Z")
_STEP = re.compile(r"([+-])\s*([0-9]+)\s*([a-zA-Z])")
_LOOK_BACK = re.compile(r"(-?[0-9]{1,9})([a-zA-Z]+)\Z")
#: `m` is minutes in $NOW and months in a window (criteria decisions).
_NOW_UNITS = {"s": "s", "m": "min", "h": "h", "d": "d", "w": "w", "M": "M", "y": "y"}
_WINDOW_UNITS = {"d": "d", "w": "w", "m": "M", "q": "q", "y": "y"}
_LENGTH_UNITS = {unit: unit for unit in ("s", "min", "h", "d", "w")}


def read_instant(value: Any, place: Place) -> int | Moment | None:
    """An instant in microseconds, or a Moment that moves with now; None with a fault."""
    if not isinstance(value, str):
        place.fault("bad_operand", f"An instant is a text, not {described(value)}.", f"Write {EXAMPLE}.")
        return None
    if value.startswith("$"):
        moment = _moment(value)
        if moment is None:
            place.fault(
                "bad_time",
                f"{shown(value)} is no form of $NOW.",
                "Write $NOW, or steps from it such as $NOW(-30d) or $NOW(-1y-3M); units s, m (minutes), h, d, w, M"
                " (months), y.",
            )
        return moment
    try:
        return parse_instant(value)
    except ValueError as error:
        place.fault("bad_time", f"{shown(value)} is not an instant: {error}.", f"Write {EXAMPLE}.")
        return None


def _moment(text: str) -> Moment | None:
    found = _NOW.match(text)
    if found is None:
        return None
    steps = []
    for sign, amount, unit in _STEP.findall(found[1] or ""):
        if unit not in _NOW_UNITS:
            return None
        steps.append((int(sign + amount), _NOW_UNITS[unit]))
    return Moment(tuple(steps))


def read_look_back(value: Any, place: Place) -> Moment | None:
    """The beginning of a window that ends now: `30d`, `2w`, `1m` (a month), `1q`, `1y`."""
    return _read_back(value, place, _WINDOW_UNITS, '"30d"; units d, w, m (months), q (quarters), y')


def read_length(value: Any, place: Place) -> Moment | None:
    """The beginning of a window of a fixed length that ends now: `90s`, `15min`, `24h`, `7d`, `2w`."""
    return _read_back(value, place, _LENGTH_UNITS, '"24h"; units s, min, h, d, w')


def _read_back(value: Any, place: Place, units: Mapping[str, str], example: str) -> Moment | None:
    found = _LOOK_BACK.match(value) if isinstance(value, str) else None
    if found is not None and found[2] in units and int(found[1]) > 0:
        return Moment(((-int(found[1]), units[found[2]]),))
    code = "bad_window"
    if not isinstance(value, str) or (found is not None and found[2] in units):
        code = "bad_operand"
    place.fault(
        code,
        f"{sentence(described(value))} is not the length of a window.",
        f"Write a whole number above 0 and a unit, such as {example}.",
    )
    return None
