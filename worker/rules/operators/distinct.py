"""Which different values a payload field has had.

Remembered per user: one short text per value (a hash where the value is long), or the `cap` least of them where the
plan sets a cap. Source: the format beyond the documents, `$distinctCount`.
"""

# ruff: noqa: ARG002 - every kind has the same signatures

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.rules.operators.kind import Kind, State
from worker.rules.operators.problems import note_unusable
from worker.rules.operators.values import MISSING, lookup

if TYPE_CHECKING:
    from worker.events.types import Event
    from worker.rules.operators.calendar import Calendar

_LONGEST = 64


class Distinct(Kind):
    """State: the values' canonical texts, sorted by code point. Params: field. Fact: distinct_count."""

    name = "distinct"
    local = False
    unit_fact = "distinct_count"

    def lift(self, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        text = _text(event, params["field"])
        return None if text is None else [text]

    def step(self, state: State | None, event: Event, params: Mapping[str, Any], calendar: Calendar) -> State | None:
        text = _text(event, params["field"])
        if text is None:
            return state
        if not state:
            return [text]
        at = bisect_left(state, text)
        if at < len(state) and state[at] == text:
            return state
        cap = params.get("cap")
        return state if cap is not None and at >= cap else [*state[:at], text, *state[at:]][:cap]

    def merge(self, a: State | None, b: State | None, cap: int | None = None) -> State | None:
        if not a or not b:
            return a or b or None
        return sorted({*a, *b})[:cap]

    def gather(self, entries: Sequence[Any], params: Mapping[str, Any]) -> State | None:
        return sorted({one for note in entries[1::2] for one in note})[: params.get("cap")] or None

    def facts(self, state: State | None, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"distinct_count": len(state or ())}

    def level(self, state: State | None) -> int:
        return len(state or ())


def _text(event: Event, field: str) -> str | None:
    value = lookup(event.payload, field)
    text = canonical_text(value)
    if text is None:
        note_unusable(value, MISSING)
    return text


def canonical_text(value: Any) -> str | None:
    """One text per JSON string, number or boolean, equal where the values are; None for what is none of these."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int | float | Decimal):
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        sign, digits, exponent = number.as_tuple()
        while len(digits) > 1 and digits[-1] == 0:
            digits, exponent = digits[:-1], int(exponent) + 1
        text = "0" if digits == (0,) else f"{'-' * sign}{''.join(map(str, digits))}e{exponent}"
    else:
        return None
    return text if len(text) <= _LONGEST else "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
