"""Event types over HTTP: the dictionary of the catalog, each change a version of it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.bodies import JsonBody, described_body
from worker.admin.catalog_view import EntryFacts, View
from worker.admin.changing import Changing
from worker.admin.entries import event_type_json
from worker.admin.paging import Cursor, Limit, page, position
from worker.admin.problems import Problem, not_found
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.events import EventType
from worker.rules.catalog import edits

router = guarded_router(prefix="/api/v1/admin/event-types", tags=["event types"])

Ref = Annotated[str, Path(min_length=1, max_length=200, description="Its id, its name or an alias")]

_ONE: Final[Any] = {200: {"model": shapes.EventTypeOut}}
_LIST: Final = "event types"


@router.post(
    "",
    status_code=201,
    summary="Make an event type",
    responses={201: {"model": shapes.EventTypeOut}},
    openapi_extra=described_body(shapes.EventTypeIn, shapes.EVENT_TYPE),
)
@least(Role.AUTHOR)
async def make(body: JsonBody, asked: Changing) -> Response:
    """Add a type to the dictionary; 409 where the name is taken, also as an alias."""
    return await asked.answered(
        "event_type.created", _shown, lambda view, _: edits.event_type_added(view.catalog.document, body), status=201
    )


@router.get("", summary="All event types", responses={200: {"model": list[shapes.EventTypeOut]}})
@least(Role.READER)
async def listed(
    request: Request,
    services: Asked,
    limit: Limit = None,
    cursor: Cursor = None,
    builtin: Annotated[bool, Query(description="With those of the system itself")] = False,
) -> Response:
    """The types of the dictionary, by id."""
    view = await services.catalog.view()
    after = 0 if cursor is None else position(cursor, int, of=_LIST)
    types = view.catalog.dictionary.types
    rows = [
        (types[name], facts)
        for name, facts in view.event_types.items()
        if facts.id > after and (builtin or not types[name].builtin)
    ]
    shown = rows if limit is None else rows[:limit]
    following = shown[-1][1].id if len(shown) < len(rows) else None
    return page(request, [event_type_json(*row) for row in shown], following, of=_LIST)


@router.get("/{ref}", summary="One event type", responses=_ONE)
@least(Role.READER)
async def one(ref: Ref, services: Asked) -> Response:
    """A type by its id, its name or an alias."""
    return json_answer(event_type_json(*_found(await services.catalog.view(), ref)))


@router.put(
    "/{ref}",
    summary="Replace an event type",
    responses=_ONE,
    openapi_extra=described_body(shapes.EventTypePut, shapes.EVENT_TYPE),
)
@least(Role.AUTHOR)
async def replace(ref: Ref, body: JsonBody, asked: Changing) -> Response:
    """The type as sent, under the name it has; 409 where a badge would not hold any more."""
    return await _changed(asked, ref, body, whole=True)


@router.patch(
    "/{ref}",
    summary="Change an event type",
    responses=_ONE,
    openapi_extra=described_body(shapes.EventTypePut, {"description": "A simple event."}),
)
@least(Role.AUTHOR)
async def patch(ref: Ref, body: JsonBody, asked: Changing) -> Response:
    """The keys sent change, null takes one away; 409 where a badge would not hold any more."""
    return await _changed(asked, ref, body, whole=False)


@router.delete("/{ref}", summary="Remove an event type", responses=_ONE)
@least(Role.AUTHOR)
async def remove(ref: Ref, asked: Changing) -> Response:
    """Take a type out of the dictionary: its later events are dead letters. 409 where something names it."""
    return await asked.answered(
        "event_type.removed", _shown, lambda view, _: edits.event_type_removed(view.catalog.document, _own(view, ref))
    )


async def _changed(asked: Changing, ref: str, body: Any, *, whole: bool) -> Response:
    return await asked.answered(
        "event_type.changed",
        _shown,
        lambda view, _: edits.event_type_changed(view.catalog.document, _own(view, ref), body, whole=whole),
    )


def _shown(view: View, name: str) -> Any:
    facts = view.event_types.get(name)
    return None if facts is None else event_type_json(view.catalog.dictionary.types[name], facts)


def _found(view: View, ref: str) -> tuple[EventType, EntryFacts]:
    found = view.event_type(ref)
    if found is None:
        raise not_found(f"event type {ref}")
    return found


def _own(view: View, ref: str) -> str:
    """The name of a type of the catalog's own."""
    kind, _ = _found(view, ref)
    if kind.builtin:
        raise Problem(409, f"{kind.name} is an event type of the system itself, and stays as it is.")
    return kind.name
