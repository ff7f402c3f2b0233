"""The form of a flow as JSON Schema, for editors: every operator, its keys, and what each means to an author.

Lint says more than a schema can; what this schema refuses, lint refuses too (tests hold it so).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.rules.operators.aggregate import FUNCTIONS
from worker.rules.operators.calendar import PERIODS

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}


def definitions() -> dict[str, Schema]:
    """What `#/$defs` holds: `flow`, `criteria`, `fields` (payload conditions), and what they are made of."""
    return {
        "flow": {
            "description": "A test of a user's events: an event with criteria, or exactly one operator.",
            "type": "object",
            "anyOf": [
                _object(
                    _meant({"event": _EVENT, "criteria": ("which events, and how many", ref("criteria"))}), ("event",)
                ),
                _object(_meant(_FLOWS), at_least=1, at_most=1),
            ],
        },
        "criteria": {
            "description": "A filter on single events (payload fields, timestamp), and operators over those that pass.",
            "type": "object",
            "properties": {
                "payload": {
                    "description": "Conditions on payload fields; the same as writing the fields beside it.",
                    **ref("fields"),
                },
                "timestamp": {
                    "description": 'When the event happened: {"$gte": "2026-01-01T00:00:00Z"}, {"$gte": "$NOW(-30d)"}.',
                    "anyOf": [_TEXT, ref("instants")],
                },
                **_meant(_CRITERIA),
            },
            "patternProperties": {r"^(?!payload$|timestamp$|\$)": ref("condition")},
            "additionalProperties": False,
        },
        "fields": {
            "type": "object",
            "patternProperties": {r"^(?!\$)": ref("condition")},
            "additionalProperties": False,
        },
        "condition": {
            "description": "What a payload field must be: a value to equal, or operators.",
            "anyOf": [
                _object(_meant(_FIELD_OPERATORS), at_least=1),
                {"not": {"type": "object", "not": {"propertyNames": {"pattern": r"^(?!\$)"}}}},
            ],
        },
        "number": {
            "description": "What a figure must be; several comparisons are and-ed.",
            **_object(_comparisons(_NUMBER), at_least=1),
        },
        "instants": {
            "description": 'What a point in time must be; RFC 3339, or relative to now such as "$NOW(-1y)".',
            **_object(_comparisons(_TEXT), at_least=1),
        },
    }


def ref(name: str) -> Schema:
    """A reference to one of the definitions."""
    return {"$ref": f"#/$defs/{name}"}


def _object(
    properties: Mapping[str, Schema], required: tuple[str, ...] = (), *, at_least: int = 0, at_most: int | None = None
) -> Schema:
    found: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    if required:
        found["required"] = list(required)
    if at_least:
        found["minProperties"] = at_least
    if at_most is not None:
        found["maxProperties"] = at_most
    return found


def _meant(words: Mapping[str, tuple[str, Schema]]) -> dict[str, Schema]:
    """Properties with their meaning, from (meaning, form)."""
    return {word: {"description": meaning, **form} for word, (meaning, form) in words.items()}


def _keys(words: Mapping[str, tuple[str, Schema]], *required: str) -> Schema:
    return _object(_meant(words), required)


def _pair(of: Schema) -> Schema:
    return {"anyOf": [{"type": "array", "items": of, "minItems": 2, "maxItems": 2}, _TEXT]}


def _comparisons(of: Schema) -> dict[str, Schema]:
    return _meant(
        {
            "$eq": ("exactly", of),
            "$ne": ("not", of),
            "$neq": ("not (the same as $ne)", of),
            "$gt": ("more than", of),
            "$gte": ("at least", of),
            "$lt": ("less than", of),
            "$lte": ("at most", of),
            "$between": ("within two bounds, both included: [low, high]", _pair(of)),
        }
    )


_ORDERED: Final[Schema] = {"type": ["number", "string"]}
_FIELD_OPERATORS: Final[dict[str, tuple[str, Schema]]] = {
    "$eq": ("equals this value", {}),
    "$ne": ("is there and is not this value", {}),
    "$neq": ("the same as $ne", {}),
    "$gt": ("more than, later than, after in the alphabet", _ORDERED),
    "$gte": ("at least", _ORDERED),
    "$lt": ("less than, earlier than", _ORDERED),
    "$lte": ("at most", _ORDERED),
    "$between": ("within two bounds, both included: [low, high]", _pair(_ORDERED)),
    "$in": ("one of these values; of an array, any element is", {"type": "array"}),
    "$nin": ("is there and none of these values", {"type": "array"}),
    "$contains": ("the text holds this text, the array this element", {}),
    "$startsWith": ("the text begins so", {"type": "string"}),
    "$endsWith": ("the text ends so", {"type": "string"}),
    "$regex": ("the text holds a match of this RE2 expression", {"type": "string"}),
}

_EVENT: Final = ("the event type, by its name or an alias", _TEXT)
_PERIOD: Final = ("which calendar period, in the user's time zone", {"enum": list(PERIODS)})
_HOLIDAYS: Final = (
    "dates, the name of a holiday list of the catalog, or a country such as DE-BY",
    {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
)
_EVENT_OF_PAIR: Final[Schema] = {
    "type": "object",
    "properties": {"type": {"description": "the event type", **_TEXT}},
    "patternProperties": {r"^(?!type$|\$)": ref("condition")},
    "required": ["type"],
    "additionalProperties": False,
}

_TIME_PERIOD: Final = (
    "in how many different days, weeks, … something happened; gaps are allowed",
    _keys(
        {
            "periodType": _PERIOD,
            "periodCount": ("how many periods; without it, at least one", ref("number")),
            "excludeWeekends": ("leave events on Saturdays and Sundays out", _FLAG),
            "excludeHolidays": ("leave events on the days under `holidays` out", _FLAG),
            "holidays": _HOLIDAYS,
        },
        "periodType",
    ),
)
_PATTERN: Final = (
    "whether activity is steady, rises or falls from period to period",
    _keys(
        {
            "pattern": ("what to look for", {"enum": ["consistent", "increasing", "decreasing"]}),
            "periodType": _PERIOD,
            "minPeriods": ("how many periods at least, empty ones between included; 3 unless set", _NUMBER),
            "maxDeviation": ("consistent: how far off the average a period may be; 0.2 (20 %) unless set", _NUMBER),
            "minIncreasePct": ("increasing: the least average rise in percent; 5 unless set", _NUMBER),
            "maxDecreasePct": ("decreasing: the greatest average fall in percent; 5 unless set", _NUMBER),
        },
        "pattern",
        "periodType",
    ),
)
_GAP: Final = (
    "every pause between one event and the next lies within bounds",
    _keys(
        {
            "minGapHours": ("the shortest pause allowed, in hours", _NUMBER),
            "maxGapHours": ("the longest pause allowed, in hours", _NUMBER),
            "periodType": ("taken for older flows; has no effect", {"type": "string"}),
        }
    ),
)
_AGGREGATE: Final = (
    "the least, greatest, average, sum or number of the numbers in a payload field",
    {
        "anyOf": [
            _keys(
                {
                    "type": ("what to work out", {"enum": list(FUNCTIONS)}),
                    "field": ("the payload field", _TEXT),
                    "value": ("what the figure must be; without it, at least one number", ref("number")),
                },
                "type",
                "field",
            ),
            _keys(
                {
                    "function": ("what to work out (the other spelling of `type`)", {"enum": list(FUNCTIONS)}),
                    "property": ("the payload field (the other spelling of `field`)", _TEXT),
                    "result": ("what the figure must be (the other spelling of `value`)", ref("number")),
                },
                "function",
                "property",
            ),
        ]
    },
)

_CRITERIA: Final[dict[str, tuple[str, Schema]]] = {
    "$eventCount": ("how many events pass the filter", ref("number")),
    "$timePeriod": _TIME_PERIOD,
    "$distinctCount": (
        "how many different values a payload field has had",
        _keys({"field": ("the payload field", _TEXT), **{word: (form["description"], form) for word, form in
                                                         _comparisons(_NUMBER).items()}}, "field"),
    ),
    "$aggregate": _AGGREGATE,
    "$pattern": _PATTERN,
    "$gap": _GAP,
    "$condition": (
        "a condition of the catalog's condition_types, in JavaScript",
        _keys(
            {
                "type": ("its name under condition_types", _TEXT),
                "params": ("what it is called with", {"type": "object"}),
            },
            "type",
        ),
    ),
}  # fmt: skip

_FLOWS: Final[dict[str, tuple[str, Schema]]] = {
    "$and": ("all of these flows hold", {"type": "array", "items": ref("flow"), "minItems": 1}),
    "$or": ("at least one of these flows holds", {"type": "array", "items": ref("flow"), "minItems": 1}),
    "$not": ("this flow does not hold", ref("flow")),
    "$timeWindow": (
        "a flow that sees only the events of a window",
        _keys(
            {
                "last": ("the window ends now and begins so long ago: 30d, 2w, 1m (a month), 1q, 1y", _TEXT),
                "start": ("the first instant of the window, RFC 3339 or $NOW(-30d)", _TEXT),
                "end": ("its last instant", _TEXT),
                "businessDaysOnly": ("leave weekends, and the days under `holidays`, out", _FLAG),
                "holidays": _HOLIDAYS,
                "flow": ("what must hold of the events within", ref("flow")),
            },
            "flow",
        ),
    ),
    "$withinTimeWindow": (
        "a flow that has held, at some event, of the events shortly before it",
        _keys(
            {
                "window": ("how long before that event: 90s, 15min, 24h, 7d, 2w", _TEXT),
                "conditions": ("the flow", ref("flow")),
            },
            "window",
            "conditions",
        ),
    ),
    "$sequence": (
        "events of these types, one after the other",
        _keys(
            {
                "sequence": ("the event types in order", {"type": "array", "items": _TEXT, "minItems": 1}),
                "maxGapSeconds": ("the longest time from one to the next, in seconds", _NUMBER),
                "requireStrict": ("no other event of the user may come between", _FLAG),
            },
            "sequence",
        ),
    ),
    "$duration": (
        "the time from a start to the end that belongs to it",
        _keys(
            {
                "startEvent": ("the type of the start, and conditions on its payload", _EVENT_OF_PAIR),
                "endEvent": ("the type of the end, and conditions on its payload", _EVENT_OF_PAIR),
                "matchProperty": ("start and end belong together where this payload field is equal", _TEXT),
                "duration": ("how long; without it, any", ref("number")),
                "unit": ("hours unless set", {"enum": ["seconds", "minutes", "hours", "days"]}),
            },
            "startEvent",
            "endEvent",
        ),
    ),
    "$timePeriod": _TIME_PERIOD,
    "$aggregate": _AGGREGATE,
    "$pattern": _PATTERN,
    "$gap": _GAP,
    "snapshot": (
        "checks on the catalog's metrics, the figures kept for each user",
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"anyOf": [ref("number"), ref("instants")]},
        },
    ),
    "badge": ("the user holds this badge", _TEXT),
}
