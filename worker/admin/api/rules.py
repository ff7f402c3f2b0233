"""`POST /rules`: a rule of the older rule engine as a flow, and, where it names a badge, as that badge's criteria."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.api.badges import found_badge, shown_badge
from worker.admin.bodies import JsonBody, described_body
from worker.admin.catalog_view import View
from worker.admin.changing import Changing
from worker.admin.problems import Problem
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.errors import AuthorError
from worker.rules.catalog import edits
from worker.rules.catalog.edits import Edit
from worker.rules.translate import translate

router = guarded_router(prefix="/api/v1/admin/rules", tags=["rules"])

_RULE: Final = {
    "event": "simple_event",
    "operator": "and",
    "conditions": [{"field": "value", "operator": "gt", "expected_value": "90"}],
}


class RuleCondition(BaseModel):
    """One condition on a field of the event's data; the expected value is a text."""

    model_config = ConfigDict(extra="allow")

    field: str
    operator: str = Field(description="eq, neq, gt, gte, lt, lte, contains, startsWith, endsWith, regex, between")
    expected_value: str | float | bool | None = None


class Rule(BaseModel):
    """A rule: conditions on one event, joined by `and` or `or`; also spelled as EventTypeID, ExpectedValue."""

    model_config = ConfigDict(extra="allow")

    event: str | int | None = Field(None, description="An event type by name or id")
    event_type_id: int | None = None
    badge_id: int | None = Field(None, description="A badge whose criteria the rule becomes; 0 or none: only shown")
    operator: str | None = Field(None, description="and, or")
    conditions: list[RuleCondition] = Field(min_length=1, max_length=1_000)


class Translated(BaseModel):
    """The flow that means the same; the badge where it became its criteria."""

    flow_definition: shapes.JsonObject
    badge: shapes.BadgeCore | None
    criteria: shapes.Criteria | None
    warnings: list[shapes.ChangeWarning] = Field([], description="There where awards of the badge's old test stay")


@router.post(
    "",
    status_code=201,
    summary="Make a flow of a rule",
    responses={201: {"model": Translated}},
    openapi_extra=described_body(Rule, _RULE),
)
@least(Role.AUTHOR)
async def make(body: JsonBody, asked: Changing) -> Response:
    """The flow of a rule of conditions. With a `badge_id` (an id, key or name) it becomes that badge's criteria."""
    view = await asked.services.catalog.view()
    ref = _badge_ref(body)
    flow = _flow(view, body)
    if ref is None:
        return json_answer({"flow_definition": flow, "badge": None, "criteria": None}, 201)

    def change(view: View, _: str | None) -> Edit:
        known = found_badge(view, ref)
        if known.badge is None:
            raise Problem(409, f"{known.key} is no badge of the catalog any more.")
        criteria = {"flow_definition": _flow(view, body)}
        return edits.badge_changed(view.catalog.document, known.badge, criteria, whole=False)

    found = await asked.made("badge.changed", shown_badge, change)
    return json_answer({"flow_definition": flow, **found}, 201)


def _flow(view: View, body: Any) -> Any:
    found = translate(body, event_types=view.types_by_id())
    if found.flow is None:
        raise AuthorError(found.faults)
    return found.flow


def _badge_ref(body: Any) -> str | None:
    """The badge that a rule names, by whichever spelling of `badge_id`; None for none, and for 0."""
    for key, value in body.items() if isinstance(body, dict) else ():
        if key.replace("_", "").lower() == "badgeid" and value not in (None, 0, ""):
            if isinstance(value, bool) or not isinstance(value, str | int):
                message = "The id, key or name of a badge must stand here."
                raise Problem(422, message, details=[{"path": f"/{key}", "message": message}])
            return str(value)
    return None
