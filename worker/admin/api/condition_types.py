"""Condition types over HTTP: conditions of the author's own, in JavaScript, with a test run."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Path, Request, Response
from pydantic import BaseModel, ConfigDict

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.bodies import JsonBody, described_body
from worker.admin.catalog_view import Refused, View
from worker.admin.changing import Changing
from worker.admin.entries import condition_type_json
from worker.admin.paging import Cursor, Limit, page, position
from worker.admin.problems import Problem, not_found
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.rules.catalog import edits

router = guarded_router(prefix="/api/v1/admin/condition-types", tags=["condition types"])

Ref = Annotated[str, Path(min_length=1, max_length=200, description="Its id or its name")]

_ONE: Final[Any] = {200: {"model": shapes.ConditionTypeOut}}
_LIST: Final = "conditions"
_TRIAL: Final = {
    "event": {"type": "order.paid", "user_id": "u1", "payload": {"total": 120}},
    "params": {"min": 100},
}


class Trial(BaseModel):
    """A test run: the event to ask about, and the params of one use."""

    model_config = ConfigDict(extra="forbid")

    event: shapes.JsonObject
    params: shapes.JsonObject = {}


class Verdict(BaseModel):
    """What a condition said: error is a fault of the condition, whose sentence is `message`."""

    verdict: Literal["yes", "no", "error"]
    message: str | None


@router.post(
    "",
    status_code=201,
    summary="Make a condition type",
    responses={201: {"model": shapes.ConditionTypeOut}},
    openapi_extra=described_body(shapes.ConditionTypeIn, shapes.CONDITION_TYPE),
)
@least(Role.AUTHOR)
async def make(body: JsonBody, asked: Changing) -> Response:
    """Add a condition; its source is checked where conditions may run. 409 where the name is taken."""
    return await asked.answered(
        "condition_type.created",
        _shown,
        lambda view, _: edits.condition_type_added(view.catalog.document, body),
        status=201,
    )


@router.get("", summary="All condition types", responses={200: {"model": list[shapes.ConditionTypeOut]}})
@least(Role.READER)
async def listed(request: Request, services: Asked, limit: Limit = None, cursor: Cursor = None) -> Response:
    """The condition types of the catalog, by id."""
    view = await services.catalog.view()
    after = 0 if cursor is None else position(cursor, int, of=_LIST)
    rows = [facts for facts in view.condition_types.values() if facts.id > after]
    shown = rows if limit is None else rows[:limit]
    following = shown[-1].id if len(shown) < len(rows) else None
    return page(
        request, [condition_type_json(view.conditions[facts.name], facts) for facts in shown], following, of=_LIST
    )


@router.get("/{ref}", summary="One condition type", responses=_ONE)
@least(Role.READER)
async def one(ref: Ref, services: Asked) -> Response:
    """A condition type by its id or name."""
    view = await services.catalog.view()
    return json_answer(_shown(view, _name(view, ref)))


@router.put(
    "/{ref}",
    summary="Replace a condition type",
    responses=_ONE,
    openapi_extra=described_body(shapes.ConditionTypePut, shapes.CONDITION_TYPE),
)
@least(Role.AUTHOR)
async def replace(ref: Ref, body: JsonBody, asked: Changing) -> Response:
    """The condition type as sent. Another source is asked of events from now on; answers given before stay."""
    return await _changed(asked, ref, body, whole=True)


@router.patch(
    "/{ref}",
    summary="Change a condition type",
    responses=_ONE,
    openapi_extra=described_body(shapes.ConditionTypeChange, {"description": "An order above a sum."}),
)
@least(Role.AUTHOR)
async def patch(ref: Ref, body: JsonBody, asked: Changing) -> Response:
    """The keys sent change, null takes one away."""
    return await _changed(asked, ref, body, whole=False)


@router.delete("/{ref}", summary="Remove a condition type", responses=_ONE)
@least(Role.AUTHOR)
async def remove(ref: Ref, asked: Changing) -> Response:
    """Take a condition type out of the catalog; 409 where a badge asks it."""
    return await asked.answered(
        "condition_type.removed",
        _shown,
        lambda view, _: edits.condition_type_removed(view.catalog.document, _name(view, ref)),
    )


@router.post(
    "/{ref}/test",
    summary="Ask a condition about an event",
    responses={200: {"model": Verdict}},
    openapi_extra=described_body(Trial, _TRIAL),
)
@least(Role.AUTHOR)
async def test(ref: Ref, body: JsonBody, services: Asked) -> Response:
    """Run a condition once, as a worker would. Nothing is stored; 409 where conditions may not run (BADGES_JS)."""
    view = await services.catalog.view()
    name = _name(view, ref)
    try:
        verdict, message = await services.rehearsal.ask_condition(view, name, body)
    except Refused as error:
        raise Problem(409, " ".join(filter(None, [error.message, error.help]))) from None
    return json_answer({"verdict": verdict, "message": message})


async def _changed(asked: Changing, ref: str, body: Any, *, whole: bool) -> Response:
    return await asked.answered(
        "condition_type.changed",
        _shown,
        lambda view, _: edits.condition_type_changed(view.catalog.document, _name(view, ref), body, whole=whole),
    )


def _shown(view: View, name: str) -> Any:
    facts = view.condition_types.get(name)
    return None if facts is None else condition_type_json(view.conditions[name], facts)


def _name(view: View, ref: str) -> str:
    found = view.condition_type(ref)
    if found is None:
        raise not_found(f"condition type {ref}")
    return found[1].name
