"""Badges over HTTP for their authors: made, changed and deprecated, each change a version of the catalog."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Request, Response

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.bodies import JsonBody, described_body
from worker.admin.catalog_view import Known, View
from worker.admin.changing import Changing
from worker.admin.entries import criteria_json, whole_badge_json
from worker.admin.paging import Cursor, Limit, page, position
from worker.admin.problems import Problem, not_found
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.rules.catalog import edits
from worker.rules.catalog.definitions import Badge

router = guarded_router(prefix="/api/v1/admin/badges", tags=["badges"])

Ref = Annotated[str, Path(min_length=1, max_length=200, description="Its id, key or name")]

_WHOLE: Final[Any] = {200: {"model": shapes.BadgeWithCriteria}}
_CHANGED: Final[Any] = {200: {"model": shapes.BadgeChanged}}
_LIST: Final = "all badges"


@router.post(
    "",
    status_code=201,
    summary="Make a badge",
    responses={201: {"model": shapes.BadgeWithCriteria}},
    openapi_extra=described_body(shapes.BadgeIn, shapes.BADGE),
)
@least(Role.AUTHOR)
async def make(body: JsonBody, asked: Changing) -> Response:
    """Add a badge with its criteria. Its key is made from its name; 409 where that is taken.

    Takes the keys of the older system and every key of the catalog. 422 carries codes and pointers into the body.
    """
    return await asked.answered(
        "badge.created",
        shown_badge,
        lambda view, spare: edits.badge_added(view.catalog.document, body, spare=spare),
        status=201,
    )


@router.get("", summary="All badges with their criteria", responses={200: {"model": list[shapes.BadgeWithCriteria]}})
@least(Role.READER)
async def listed(request: Request, services: Asked, limit: Limit = None, cursor: Cursor = None) -> Response:
    """Every badge there is or was, by id."""
    view = await services.catalog.view()
    after = 0 if cursor is None else position(cursor, int, of=_LIST)
    rows = [known for known in view.badges.values() if known.facts.id > after]
    shown = rows if limit is None else rows[:limit]
    following = shown[-1].facts.id if len(shown) < len(rows) else None
    return page(request, [whole_badge_json(known) for known in shown], following, of=_LIST)


@router.get("/{ref}", summary="One badge with its criteria", responses=_WHOLE)
@least(Role.READER)
async def one(ref: Ref, services: Asked) -> Response:
    """A badge by its id, key or name, whatever its status."""
    return json_answer(whole_badge_json(found_badge(await services.catalog.view(), ref)))


@router.get("/{ref}/criteria", summary="What a badge asks", responses={200: {"model": shapes.Criteria}})
@least(Role.READER)
async def criteria(ref: Ref, services: Asked) -> Response:
    """The criteria; `flow_definition` is equal as JSON to what was sent."""
    return json_answer(criteria_json(found_badge(await services.catalog.view(), ref)))


@router.put(
    "/{ref}",
    summary="Replace a badge",
    responses=_CHANGED,
    openapi_extra=described_body(shapes.BadgeChange, shapes.BADGE),
)
@least(Role.AUTHOR)
async def replace(ref: Ref, body: JsonBody, asked: Changing) -> Response:
    """The badge as sent; its key stays, and so do flow and status where they are left out.

    What was awarded stays awarded; `warnings` say so where that is of another test. 409 for a badge that a ladder or a
    tenure makes.
    """
    return await _changed(asked, ref, body, whole=True)


@router.patch(
    "/{ref}",
    summary="Change a badge",
    responses=_CHANGED,
    openapi_extra=described_body(shapes.BadgeChange, {"is_active": False}, {"flow_definition": shapes.FLOW}),
)
@least(Role.AUTHOR)
async def patch(ref: Ref, body: JsonBody, asked: Changing) -> Response:
    """The keys sent change, null takes one away; `is_active: false` deprecates.

    What was awarded stays awarded; `warnings` say so where that is of another test.
    """
    return await _changed(asked, ref, body, whole=False)


@router.delete("/{ref}", summary="Deprecate a badge", responses=_WHOLE)
@least(Role.AUTHOR)
async def deprecate(ref: Ref, asked: Changing) -> Response:
    """A badge is never gone: it gives no new awards, and who holds it keeps it."""
    return await asked.answered(
        "badge.deprecated",
        shown_badge,
        lambda view, _: edits.badge_deprecated(view.catalog.document, _defined(view, ref)),
    )


async def _changed(asked: Changing, ref: str, body: Any, *, whole: bool) -> Response:
    return await asked.answered(
        "badge.changed",
        shown_badge,
        lambda view, _: edits.badge_changed(view.catalog.document, _defined(view, ref), body, whole=whole),
    )


def shown_badge(view: View, key: str) -> Any:
    """A badge with its criteria as an answer; None where there is none of this key."""
    known = view.badges.get(key)
    return None if known is None else whole_badge_json(known)


def found_badge(view: View, ref: str) -> Known:
    """The badge of an id, key or name. Raises Problem 404."""
    known = view.badge(ref)
    if known is None:
        raise not_found(f"badge {ref}")
    return known


def _defined(view: View, ref: str) -> Badge:
    known = found_badge(view, ref)
    if known.badge is None:
        raise Problem(409, f"{known.key} is no badge of the catalog any more; make it again under this key.")
    return known.badge
