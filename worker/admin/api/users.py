"""A user's badges for profile pages, and where one stands among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.api.badges import found_badge
from worker.admin.problems import Problem, not_found
from worker.admin.profiles import Asked as AskedFor
from worker.admin.profiles import ProfilePages, accepted_languages, stamp_of
from worker.admin.roles import Role, least
from worker.admin.routes import By, direct, guarded_router
from worker.admin.services import Asked, Services, services_of
from worker.exchange import AuditLine

router = guarded_router(prefix="/api/v1/users", tags=["users"])

LONGEST_USER: Final = 200
UserId = Annotated[str, Path(min_length=1, max_length=LONGEST_USER, description="The user's id, as events name it")]

_MOST_TOP: Final = 1_000
_LONGEST_TAG: Final = 100


class UserBadge(BaseModel):
    """One award of a user, with what a profile page shows of the badge."""

    id: int
    key: str
    name: str
    description: str
    tooltip: str
    image_url: str | None
    family: str
    tier: int | None
    icon: str | None
    color: str | None
    animation: shapes.JsonObject | None
    status: shapes.Status
    sort_score: int
    sort_override: int | None
    context: str
    awarded_at: str
    origin: Literal["live", "late", "backfill", "cron", "manual"]
    source: Literal["auto", "manual"]
    metadata: str | shapes.JsonObject = Field(description="base64 of JSON; with `metadata=object` the object itself")


class Place(BaseModel):
    """Where an award stands on the profile: higher first; null: where its badge says."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"sort_override": 100}})

    sort_override: int | None = Field(ge=-(2**31), le=2**31 - 1, strict=True)


class Placed(BaseModel):
    """How many awards of the badge stand there now."""

    user_id: str
    badge_key: str
    sort_override: int | None
    awards: int


#: Read by hand: as arguments they would take longer than the page itself.
_PARAMETERS: Final = {
    "parameters": [
        {
            "name": "user_id",
            "in": "path",
            "required": True,
            "description": "The user's id, as events name it",
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_USER},
        },
        {
            "name": "top",
            "in": "query",
            "description": "Only the first so many",
            "schema": {"type": "integer", "minimum": 1, "maximum": _MOST_TOP},
        },
        {
            "name": "lang",
            "in": "query",
            "description": "In this language, not Accept-Language",
            "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST_TAG},
        },
        {
            "name": "metadata",
            "in": "query",
            "description": "How `metadata` is written",
            "schema": {"type": "string", "enum": ["base64", "object"], "default": "base64"},
        },
        {
            "name": "hidden",
            "in": "query",
            "description": "With hidden badges: for the page that the user sees, not for one that others see",
            "schema": {"type": "boolean", "default": False},
        },
    ]
}


@router.get(
    "/{user_id:path}/badges",
    summary="A user's badges",
    responses={
        200: {"model": list[UserBadge], "headers": {"ETag": {"schema": {"type": "string"}}}},
        304: {"description": "As it was: the page of this ETag still holds"},
    },
    openapi_extra=_PARAMETERS,
)
@direct
@least(Role.READER)
async def badges(request: Request) -> Response:
    """What a user holds, one item for each award: by `sort_override`, else `sort_score`, then newest first.

    A user nobody knows has `[]`. Hidden badges are left out, unless `hidden` asks for them. Send `If-None-Match` with
    the `ETag` of the answer before: 304 where nothing changed.
    """
    user_id, top, lang, as_object, hidden = request.path_params["user_id"], None, None, False, False
    check_user(user_id)
    if request.scope["query_string"]:
        query = request.query_params
        top, lang = _top(query.get("top")), query.get("lang")
        as_object = _choice("metadata", query.get("metadata", "base64"), ("base64", "object")) == "object"
        hidden = _choice("hidden", query.get("hidden", "false"), ("false", "true")) == "true"
        if lang is not None and not 0 < len(lang) <= _LONGEST_TAG:
            raise _unfit("lang", f"A language tag of 1 to {_LONGEST_TAG} characters must stand here.")
    wanted = [lang] if lang else accepted_languages(request.headers.get("accept-language", ""))
    return await profile(request, services_of(request), user_id, wanted, AskedFor((), as_object, top, hidden))


@router.patch("/{user_id:path}/badges/{key}", summary="Place a badge on a profile", responses={200: {"model": Placed}})
@least(Role.SUPPORT)
async def place(
    user_id: UserId,
    key: Annotated[str, Path(min_length=1, max_length=200, description="The badge's id, key or name")],
    body: Place,
    services: Asked,
    actor: By,
    context: Annotated[str | None, Query(max_length=200, description="Only the award of this context")] = None,
) -> Response:
    """Set where an award stands on the user's profile, in one context or in all; 404 where the user has none."""
    check_user(user_id)
    known = found_badge(await services.catalog.view(), key)

    def placed(count: int) -> dict[str, Any]:
        return {"user_id": user_id, "badge_key": known.key, "sort_override": body.sort_override, "awards": count}

    found = await services.profiles.set_sort_override(
        user_id,
        known.key,
        context,
        body.sort_override,
        line=lambda count: AuditLine(actor.name, "award.placed", f"user {user_id}", after=placed(count)),
    )
    if not found:
        raise not_found(f"award of {known.key} to {user_id}")
    return json_answer(placed(found))


async def profile(
    request: Request, services: Services, user_id: str, wanted: Sequence[str], asked: AskedFor
) -> Response:
    """The page of a user in the first of the wanted languages that there is, or 304 where the client has it."""
    known = request.headers.get("if-none-match")
    if known is not None:  # most clients have the page: then its awards need not be read
        version, stamp = await services.profiles.stamp(user_id)
        pages = await _pages(request, services, version)
        tag = pages.tag(stamp, asked._replace(languages=pages.languages(wanted)))
        if _has(known, tag):
            return Response(status_code=304, headers=_headers(tag))
    version, awards = await services.profiles.awards(user_id)
    pages = await _pages(request, services, version)
    asked = asked._replace(languages=pages.languages(wanted))
    headers = _headers(pages.tag(stamp_of(awards), asked))
    return Response(pages.page(awards, asked), media_type="application/json", headers=headers)


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept-Language, Authorization"}


def check_user(user_id: str) -> None:
    """Raises Problem 422 for what can be no user's id."""
    if not 0 < len(user_id) <= LONGEST_USER or "\0" in user_id or any("\ud800" <= one <= "\udfff" for one in user_id):
        message = "A user's id has 1 to 200 characters, and no NUL among them."
        raise Problem(422, message, details=[{"path": "{user_id}", "message": message}])


def _top(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST_TOP:
        return int(text)
    raise _unfit("top", f"A whole number from 1 to {_MOST_TOP:,} must stand here.")


def _choice(name: str, text: str, choices: tuple[str, str]) -> str:
    if text in choices:
        return text
    raise _unfit(name, f"{choices[0]} or {choices[1]} must stand here.")


def _unfit(name: str, message: str) -> Problem:
    return Problem(422, message, details=[{"path": f"?{name}", "message": message}])


async def _pages(request: Request, services: Services, version: int) -> ProfilePages:
    kept: ProfilePages | None = getattr(request.app.state, "profile_pages", None)
    if kept is None or kept.view.version < version:
        kept = request.app.state.profile_pages = ProfilePages(await services.catalog.view())
    return kept


def _has(given: str | None, tag: str) -> bool:
    """Whether If-None-Match names a tag; weak ones compare alike."""
    if given is None:
        return False
    return given.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in given.split(","))
