"""A rule of document 3 (conditions on one event's data, joined by and/or) as a flow, to be shown to its author.

`{"event": T, "operator": "and", "conditions": [{"field": "score", "operator": "gt", "expected_value": "90"}]}`; keys
may be spelled as the document's types are (`EventTypeID`, `ExpectedValue`). An expected value is a text: in an order
(`gt`, `gte`, `lt`, `lte`) a plain numeral is the number, in `eq` and `neq` it is the number or the text. `and` is one
leaf: all conditions hold for one event; `or` is a leaf for each. What a flow cannot say is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from worker.errors import Fault
from worker.events.json_text import escape
from worker.rules.operators.expressions import MAX_REGEX, MAX_STEPS_OF_FLOW, Steps, TooManySteps, check_regex
from worker.rules.operators.place import described, offer, sentence, shown
from worker.rules.operators.values import compare, is_number, is_numeral, split_bounds

_EXAMPLE = '{"event": "quiz.done", "conditions": [{"field": "score", "operator": "gt", "expected_value": "90"}]}'
_RULE_KEYS = ("event", "conditions", "operator")
_CONDITION_KEYS = ("field", "operator", "expected_value")
#: Ids of the older system, which have no meaning here.
_IDS = frozenset({"id", "badgeid", "type"})
_SPELLINGS = {
    "eventtypeid": "event",
    "eventtype": "event",
    "expectedvalue": "expected_value",
    "value": "expected_value",
}
_MOST = 1_000
#: These cannot stand bare in `criteria`.
_RESERVED = frozenset({"payload", "timestamp"})


@dataclass(frozen=True, slots=True)
class Translation:
    """The flow of a rule, None where there is a fault; faults point into the rule."""

    flow: Mapping[str, Any] | None
    faults: Sequence[Fault]


def translate(rule: Any, *, event_types: Mapping[int, str] | None = None, event: str | None = None) -> Translation:
    """The flow of a rule. `event_types` names those that a rule may know by a number; `event` stands in for all."""
    reader = _Reader({} if event_types is None else event_types)
    flow = reader.rule(rule, event)
    return Translation(None if reader.faults else flow, tuple(reader.faults))


#: One condition as an operator of the flow: field, word, operand.
_Part = tuple[str, str, Any]


class _Reader:
    """Reads one rule, filing what is wrong with it."""

    def __init__(self, event_types: Mapping[int, str]) -> None:
        self.faults: list[Fault] = []
        self._event_types = event_types
        self._expressions = Steps("this rule", MAX_STEPS_OF_FLOW)

    def fault(self, code: str, path: str, message: str, help: str) -> None:
        self.faults.append(Fault(code, path, message, help))

    def rule(self, rule: Any, event: str | None) -> Mapping[str, Any] | None:
        if not isinstance(rule, Mapping) or not rule:
            self.fault(
                "flow_definition_required", "", f"A rule must stand here, not {described(rule)}.", f"Write {_EXAMPLE}."
            )
            return None
        keys = self._keys(rule, _RULE_KEYS, "", "A rule")
        name = event if event is not None else self._event(rule, keys)
        word = rule[keys["operator"]] if keys.get("operator") is not None else "and"
        if not isinstance(word, str) or word.lower() not in ("and", "or"):
            said = f"{sentence(described(word))} does not join conditions."
            self.fault("unknown_operator", f"/{escape(keys['operator'])}", said, 'Write "and" or "or".')
        parts = list(self._conditions(rule, keys))
        if self.faults or name is None:
            return None
        paths = [path for _, path in parts]
        found = [part for part, _ in parts]
        if isinstance(word, str) and word.lower() == "or" and len(found) > 1:
            return {"$or": [_leaf(name, [part]) for part in found]}
        return self._joined(name, found, paths)

    def _event(self, rule: Mapping[str, Any], keys: Mapping[str, str]) -> str | None:
        value = rule.get(keys.get("event", "event"))
        path = f"/{escape(keys.get('event', 'event'))}"
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            if value in self._event_types:
                return self._event_types[value]
            said = f"There is no event type with the number {value}."
            self.fault("unknown_event", path, said, 'Write its name: "event": "quiz.done".')
        else:
            said = f"`event` names the type of event to look at, not {described(value)}."
            self.fault("event_type_required", path, said, 'Write "event": "quiz.done".')
        return None

    def _conditions(self, rule: Mapping[str, Any], keys: Mapping[str, str]) -> Iterator[tuple[_Part, str]]:
        listed = rule.get(keys.get("conditions", "conditions"))
        path = f"/{escape(keys.get('conditions', 'conditions'))}"
        if not isinstance(listed, list | tuple) or not listed:
            said = f"A rule has a list of conditions, not {described(listed)}."
            self.fault("bad_operand", path, said, f"Write {_EXAMPLE}.")
            return
        if len(listed) > _MOST:
            self.fault("bad_operand", path, f"A rule has at most {_MOST:,} conditions.", "Split it into several.")
            return
        for index, condition in enumerate(listed):
            part = self._condition(condition, f"{path}/{index}")
            if part is not None:
                yield part, f"{path}/{index}"

    def _condition(self, condition: Any, path: str) -> _Part | None:
        if not isinstance(condition, Mapping):
            said = f"A condition is an object, not {described(condition)}."
            self.fault("bad_operand", path, said, 'Write {"field": "score", "operator": "gt", "expected_value": "90"}.')
            return None
        keys = self._keys(condition, _CONDITION_KEYS, path, "A condition")
        field = condition.get(keys.get("field", "field"))
        if "field" not in keys:
            self.fault("missing_field", path, "This condition names no field.", 'Add "field": "score".')
        elif not isinstance(field, str) or not field or field.startswith("$"):
            said = f"{sentence(described(field))} is no field of an event's data."
            self.fault("bad_operand", f"{path}/{escape(keys['field'])}", said, 'Write "field": "score".')
            field = None
        word = condition.get(keys.get("operator", "operator"))
        read = OPERATORS.get(word) if isinstance(word, str) else None
        if read is None:
            at = f"{path}/{escape(keys['operator'])}" if "operator" in keys else path
            said = f"A field cannot be compared with {described(word)}."
            self.fault("unknown_operator", at, said, offer(word if isinstance(word, str) else "", OPERATORS))
            return None
        if "expected_value" not in keys:
            self.fault(
                "bad_operand", path, "This condition has no value to compare with.", 'Add "expected_value": "5".'
            )
            return None
        value = condition[keys["expected_value"]]
        try:
            operator, operand = read(value)
            if operator == "$regex":
                _check(operand, self._expressions)
        except _Wrong as wrong:
            self.fault(wrong.code, f"{path}/{escape(keys['expected_value'])}", wrong.message, wrong.help)
            return None
        return (field, operator, operand) if isinstance(field, str) else None

    def _keys(self, value: Mapping[str, Any], known: Sequence[str], path: str, noun: str) -> dict[str, str]:
        """Each key that is known here, to the way it is written; the others are faults."""
        found: dict[str, str] = {}
        for key in value:
            plain = key.replace("_", "").lower()
            name = _SPELLINGS.get(plain, plain)
            if name in known and name not in found:
                found[name] = key
            elif plain not in _IDS:
                said = f"{noun} has no key {shown(key)}." if name not in known else f"{shown(key)} stands here twice."
                self.fault("unknown_key", f"{path}/{escape(key)}", said, offer(key, known))
        return found

    def _joined(self, event: str, parts: Sequence[_Part], paths: Sequence[str]) -> Mapping[str, Any] | None:
        """One leaf for all. An object has each key once: of two equal operators on a field the second stands under
        `payload`, which means the same; for a third there is no place."""
        bare: list[_Part] = []
        below: list[_Part] = []
        for part, path in zip(parts, paths, strict=True):
            field, word, _ = part
            if part in bare or part in below:
                continue
            places = [place for place in (bare, below) if not (place is bare and field in _RESERVED)]
            free = [place for place in places if (field, word) not in [(one[0], one[1]) for one in place]]
            if not free:
                said = f"A flow has no place for another {word} on the field {shown(field)}."
                self.fault("bad_operand", path, said, "Write the conditions as one: $in, $between, or a $regex.")
                continue
            free[0].append(part)
        return _leaf(event, bare, below)


def _leaf(event: str, bare: Sequence[_Part], below: Sequence[_Part] = ()) -> Mapping[str, Any]:
    """An event with criteria; what cannot stand bare stands under `payload`."""
    criteria = _fields([part for part in bare if part[0] not in _RESERVED])
    payload = _fields([*(part for part in bare if part[0] in _RESERVED), *below])
    return {"event": event, "criteria": {**criteria, **({"payload": payload} if payload else {})}}


def _fields(parts: Sequence[_Part]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, word, operand in parts:
        found.setdefault(field, {})[word] = operand
    return found


# -- the operators -----------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """Carries a fault out of an operator's reading."""

    def __init__(self, message: str, help: str, code: str = "bad_operand") -> None:
        super().__init__(message)
        self.message, self.help, self.code = message, help, code


def number_of(text: str) -> int | Decimal:
    """The number that a plain numeral names."""
    return Decimal(text) if "." in text else int(text)


def _equal(value: Any) -> tuple[str, Any]:
    return ("$in", both) if (both := _both(value)) is not None else ("$eq", _scalar(value))


def _unequal(value: Any) -> tuple[str, Any]:
    return ("$nin", both) if (both := _both(value)) is not None else ("$ne", _scalar(value))


def _both(value: Any) -> list[Any] | None:
    """A numeral as number and as text; None for what is none."""
    return [number_of(value), value] if isinstance(value, str) and is_numeral(value) else None


def _scalar(value: Any) -> Any:
    if isinstance(value, str | bool) or is_number(value):
        return value
    raise _Wrong(f"A text must stand here, not {described(value)}.", 'Write "expected_value": "5".')


def _order(word: str) -> Callable[[Any], tuple[str, Any]]:
    def read(value: Any) -> tuple[str, Any]:
        if isinstance(value, bool) or _scalar(value) == "":
            raise _Wrong(f"{sentence(described(value))} has no order.", 'Write "expected_value": "5".')
        return word, number_of(value) if isinstance(value, str) and is_numeral(value) else value

    return read


def _text(word: str) -> Callable[[Any], tuple[str, Any]]:
    def read(value: Any) -> tuple[str, Any]:
        if not isinstance(value, str):
            raise _Wrong(f"A text must stand here, not {described(value)}.", 'Write "expected_value": "pre".')
        return word, value

    return read


def _check(expression: str, steps: Steps) -> None:
    if len(expression) > MAX_REGEX:
        raise _Wrong(f"This expression is longer than {MAX_REGEX:,} characters.", "Write a shorter one.")
    try:
        check_regex(expression, steps)
    except TooManySteps as error:
        raise _Wrong(f"{error}.", f"Write {error.help}.", "bad_regex") from None
    except ValueError as error:
        remedy = r'Write an RE2 expression such as "^ab+\\d".'
        raise _Wrong(f"{shown(expression)} is no valid expression: {error}.", remedy, "bad_regex") from None


def _between(value: Any) -> tuple[str, Any]:
    word, text = _text("$between")(value)
    try:
        bounds = split_bounds(text)
    except ValueError as error:
        raise _Wrong(f"{shown(text)} does not name a range: {error}.", 'Write "5,10".') from None
    if (compare(*bounds) or 0) > 0:
        raise _Wrong("The lower bound is above the upper one.", 'Write the lower one first: "5,10".')
    return word, text


OPERATORS: Mapping[str, Callable[[Any], tuple[str, Any]]] = {
    "eq": _equal,
    "neq": _unequal,
    "gt": _order("$gt"),
    "gte": _order("$gte"),
    "lt": _order("$lt"),
    "lte": _order("$lte"),
    "contains": _text("$contains"),
    "startsWith": _text("$startsWith"),
    "endsWith": _text("$endsWith"),
    "regex": _text("$regex"),
    "between": _between,
}
