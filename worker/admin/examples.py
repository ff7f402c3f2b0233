"""Answers as the description shows them: one for each form, one for each refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.admin import shapes

_MADE: Final = "2026-03-01T12:00:00.000000Z"
_TIMES: Final = {"created_at": _MADE, "updated_at": _MADE}
_CORE: Final = {
    "id": 106,
    "key": "simple_badge",
    "name": "Simple Badge",
    "description": "Simple test badge",
    "image_url": "https://example.com/badge.png",
    "active": True,
    "status": "active",
    **_TIMES,
}
_SHOWN: Final = {"family": "misc", "tier": None, "icon": "star", "color": "#c9a227"}
_CRITERIA: Final = {"id": 106, "badge_id": 106, "flow_definition": shapes.FLOW, **_TIMES}
_WHOLE: Final = {"badge": _CORE, "criteria": _CRITERIA}
_IN_PLACE: Final = {
    "code": "changed_in_place",
    "path": "/flow_definition",
    "message": (
        "simple_badge: the 1,204 awards given at 20 stay and will look like those given at 50; "
        "to keep them apart, deprecate simple_badge and add simple_badge_50."
    ),
}
_METADATA: Final = {"filtered_event_count": 1, "first_event_id": "e1", "last_event_id": "e1"}
_TREE: Final = {
    "operator": "event",
    "path": "/badges/0/flow",
    "events": ["simple_event"],
    "actual": 1,
    "bound": {"$gte": 1},
    "verdict": "passed",
    "sentence": "1 `simple_event` event",
    "window": None,
    "event_ids": ["e1"],
    "children": [],
}
_AWARD: Final = {
    "id": "6f9619ff-8b86-5d01-b42d-00cf4fc964ff",
    "type": "badge.awarded",
    "user_id": "u1",
    "badge_key": "simple_badge",
    "badge_id": 106,
    "name": "Simple Badge",
    "context": "",
    "awarded_at": _MADE,
    "logged_at": "2026-03-01T12:00:00.120000Z",
    "source": "auto",
    "origin": "live",
    "sequence": 17,
    "trigger": {"id": "e1", "type": "simple_event"},
    "reason": None,
    "metadata": _METADATA,
}
_PROGRESS: Final = {
    "badge_key": "commentator_50",
    "label": "Commentator II",
    "status": "active",
    "family": "commentator",
    "tier": 2,
    "context": "",
    "fraction": 0.8,
    "actual": 40,
    "bound": {"$gte": 50},
    "sentence": "40 comments; 50 needed",
    "next": True,
    "closest": None,
}

#: By the name of the answer's form; a list of it is shown with one of them.
FORMS: Final[Mapping[str, Any]] = {
    "EventTypeOut": {"id": 50, **shapes.EVENT_TYPE, "aliases": [], "login": False, "builtin": False, **_TIMES},
    "ConditionTypeOut": {"id": 3, **shapes.CONDITION_TYPE, **_TIMES},
    "BadgeWithCriteria": _WHOLE,
    "BadgeChanged": {**_WHOLE, "warnings": [_IN_PLACE]},
    "Criteria": _CRITERIA,
    "BadgeOut": {
        **_CORE,
        **_SHOWN,
        "kind": "badge",
        "sort_score": 40,
        "per": None,
        "triggers": ["simple_event"],
        "takes": "1 `simple_event` event with `value` at least 50",
        "animation": {"kind": "confetti"},
        "holders": 1204,
        "share": 0.0241,
    },
    "UserBadge": {
        **{name: _CORE[name] for name in ("id", "key", "name", "description", "image_url", "status")},
        **_SHOWN,
        "tooltip": "Simple test badge",
        "animation": None,
        "sort_score": 40,
        "sort_override": None,
        "context": "",
        "awarded_at": _MADE,
        "origin": "live",
        "source": "auto",
        "metadata": (
            "eyJmaWx0ZXJlZF9ldmVudF9jb3VudCI6IDEsICJmaXJzdF9ldmVudF9pZCI6ICJlMSIsICJsYXN0X2V2ZW50X2lkIjogImUxIn0="
        ),
    },
    "Placed": {"user_id": "u1", "badge_key": "simple_badge", "sort_override": 100, "awards": 1},
    "AwardOut": _AWARD,
    "Verdict": {"verdict": "yes", "message": None},
    "Translated": {"flow_definition": shapes.FLOW, "badge": _CORE, "criteria": _CRITERIA, "warnings": [_IN_PLACE]},
    "Sent": {
        "success": True,
        "event_id": "1b4e28ba-2fa1-51d2-883f-0016d3cca427",
        "message": "simple_badge is being given to u1",
        "job_id": None,
    },
    "Answer": {
        "user_id": "u1",
        "badge_key": "simple_badge",
        "at": "2026-03-01T12:00:00Z",
        "context": "",
        "passed": True,
        "metadata": _METADATA,
        "explanation": _TREE,
    },
    "Played": {
        "awards": [
            {
                "user_id": "u1",
                "badge_key": "simple_badge",
                "context": "",
                "awarded_at": "2026-03-01T12:00:00Z",
                "event_id": "e1",
                "metadata": _METADATA,
                "why": "1 `simple_event` event",
            }
        ],
        "events": 1,
        "conflicts": 0,
    },
}
#: By method, address and type, where an answer has no form of its own.
PLACES: Final[Mapping[tuple[str, str, str], Any]] = {
    ("get", "/health", "application/json"): {"status": "healthy"},
    ("get", "/openapi.json", "application/json"): {"openapi": "3.1.0", "info": {"title": "badgestream"}, "paths": {}},
    ("get", "/api/v1/users/{user_id}/progress", "application/json"): [_PROGRESS],
    ("get", "/api/v1/users/{user_id}/why/{key}", "application/json"): {
        "user_id": "u1",
        "badge_key": "simple_badge",
        "label": "Simple Badge",
        "context": "",
        "at": "2026-03-01T12:00:00Z",
        "verdict": "earned",
        "sentence": "1 `simple_event` event",
        "blocker": None,
        "award": None,
        "fraction": 1.0,
        "metadata": _METADATA,
        "explanation": _TREE,
        "closest": None,
    },
    ("get", "/api/v1/awards/stream", "text/event-stream"): {
        "event": "award",
        "data": '{"type": "badge.awarded", "user_id": "u1", "badge_key": "simple_badge"}',
        "id": "Wm9uZQ",
    },
    ("post", "/api/v1/events", "application/x-ndjson"): (
        '{"line": 1, "success": true, "event_id": "e1"}\n'
        '{"line": 2, "success": false, "error": {"code": "unknown_event_type", "message": "…", "details": []}}\n'
    ),
}
#: By status: code, sentence, and the places that are wrong.
_REFUSALS: Final[Mapping[str, tuple[str, str, tuple[tuple[str, str], ...]]]] = {
    "400": ("not_json", "The body is not JSON: Expecting value at character 0.", ()),
    "401": ("unauthenticated", "This token is not known, or was revoked.", ()),
    "403": ("forbidden", "This needs the role author; profile-page has reader.", ()),
    "404": ("not_found", "There is no badge simple_badge.", ()),
    "409": ("conflict", "There is a badge simple_badge already. Choose another name, or change that one.", ()),
    "413": ("too_large", "The body has more than 1,048,576 bytes.", ()),
    "415": ("unsupported_media_type", "The body must be application/json.", ()),
    "422": (
        "invalid",
        "The catalog has 1 fault.",
        (("/flow_definition/criteria/scroe", 'The event has no field "scroe". Did you mean "score"?'),),
    ),
    "429": ("too_many_requests", "This token has sent too many requests.", ()),
    "503": ("unavailable", "Kafka took no events within 5 s; these were not sent.", ()),
}


def refusal(status: str) -> dict[str, Any]:
    """A refusal in the one shape."""
    code, message, places = _REFUSALS[status]
    details = [{"path": path, "message": sentence} for path, sentence in places]
    return {"error": {"code": code, "message": message, "details": details}}


def answer_example(method: str, path: str, kind: str, schema: Mapping[str, Any]) -> Any:
    """The example of an answer of this type; None where there is none."""
    if (found := PLACES.get((method, path, kind))) is not None:
        return found
    listed = schema.get("type") == "array"
    ref = (schema.get("items") or {} if listed else schema).get("$ref", "")
    one = FORMS.get(str(ref).rpartition("/")[2])
    return [one] if listed and one is not None else one
