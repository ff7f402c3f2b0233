"""How far a user is, and why a badge is theirs or not yet."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Query, Response

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.api.users import UserId, check_user
from worker.admin.problems import Problem, not_found
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.events import parse_instant

router = guarded_router(prefix="/api/v1/users", tags=["users"])

At = Annotated[str | None, Query(max_length=64, description="As of this instant (RFC 3339)")]

_MANY: Final[Any] = {200: {"model": list[shapes.JsonObject]}}
_ONE: Final[Any] = {200: {"model": shapes.JsonObject}}


@router.get("/{user_id:path}/progress", summary="How far a user is", responses=_MANY)
@least(Role.READER)
async def progress(user_id: UserId, services: Asked, at: At = None) -> Response:
    """The badges the user does not hold, nearest first: fraction, figures, and a sentence; `[]` for an unknown user.

    `next` marks the lowest step of a ladder or tenure that is not held. Hidden badges are left out.
    """
    check_user(user_id)
    view = await services.catalog.view()
    return json_answer(await services.people.progress(view, user_id, at_us=_instant(at, services.now())))


@router.get("/{user_id:path}/why/{key}", summary="Why, or why not", responses=_ONE)
@least(Role.SUPPORT)
async def why(
    user_id: UserId,
    key: Annotated[str, Path(min_length=1, max_length=200, description="The badge's id, key or name")],
    services: Asked,
    at: At = None,
    context: Annotated[str | None, Query(max_length=200, description="For this value of its `per` field")] = None,
    closest: Annotated[bool, Query(description="Look for the moment the user came nearest")] = False,
) -> Response:
    """What stands in the way first, the criterion as a tree, and, where asked for, the closest moment."""
    check_user(user_id)
    view = await services.catalog.view()
    known = view.badge(key)
    found = await services.people.why(
        view,
        user_id,
        key if known is None else known.key,
        at_us=None if at is None else _instant(at, 0),
        now_us=services.now(),
        context=context,
        closest=closest,
    )
    if found is None:
        raise not_found(f"user {user_id} with a badge {key}")
    return json_answer(found)


def _instant(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        return parse_instant(text)
    except ValueError as error:
        message = f"{error}."
        raise Problem(422, message, details=[{"path": "?at", "message": message}]) from None
