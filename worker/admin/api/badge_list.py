"""The catalog of badges as sites show it: flat, with holders and share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastapi import Request, Response

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.api.badges import Ref, found_badge
from worker.admin.catalog_view import Known, View
from worker.admin.entries import flat_badge_json
from worker.admin.paging import Cursor, Limit, page, position
from worker.admin.problems import not_found
from worker.admin.roles import Actor, Role, least
from worker.admin.routes import By, guarded_router
from worker.admin.services import Asked, Services

router = guarded_router(prefix="/api/v1/badges", tags=["badges"])

_MANY: Final[Any] = {200: {"model": list[shapes.BadgeOut]}}
_SHOWN: Final = frozenset({"active", "locked"})
_UNSEEN: Final = frozenset({"draft", "hidden"})
_ALL: Final = frozenset({"draft", "active", "hidden", "locked", "deprecated"})


@router.get("", summary="The badges", responses=_MANY)
@least(Role.READER)
async def listed(request: Request, services: Asked, actor: By, limit: Limit = None, cursor: Cursor = None) -> Response:
    """The badges shown to everybody, active and locked, by id; authors see those of every status."""
    return await _page(request, services, _ALL if _is_author(actor) else _SHOWN, limit, cursor)


@router.get("/active", summary="The active badges", responses=_MANY)
@least(Role.READER)
async def active(request: Request, services: Asked, limit: Limit = None, cursor: Cursor = None) -> Response:
    """Exactly the badges whose status is active, by id."""
    return await _page(request, services, frozenset({"active"}), limit, cursor)


@router.get("/{ref}", summary="One badge", responses={200: {"model": shapes.BadgeOut}})
@least(Role.READER)
async def one(ref: Ref, services: Asked, actor: By) -> Response:
    """A badge by its id, key or name; drafts and hidden ones are there for authors only."""
    view = await services.catalog.view()
    known = found_badge(view, ref)
    if known.status in _UNSEEN and not _is_author(actor):
        raise not_found(f"badge {ref}")
    return json_answer((await _flat(services, view, [known]))[0])


def _is_author(actor: Actor) -> bool:
    return actor.may(Role.AUTHOR)


async def _page(
    request: Request, services: Services, statuses: frozenset[str], limit: int | None, cursor: str | None
) -> Response:
    view = await services.catalog.view()
    after = 0 if cursor is None else position(cursor, int, of="badges")
    rows = [known for known in view.shown(statuses) if known.facts.id > after]
    shown = rows if limit is None else rows[:limit]
    following = shown[-1].facts.id if len(shown) < len(rows) else None
    return page(request, await _flat(services, view, shown), following, of="badges")


async def _flat(services: Services, view: View, badges: Iterable[Known]) -> list[dict[str, Any]]:
    listed = list(badges)
    holders, shares = await services.catalog.holders([known.key for known in listed])
    return [
        flat_badge_json(
            view,
            known,
            holders=holders.get(known.key, 0),
            share=round(shares[known.key], 6) if known.key in shares else None,
        )
        for known in listed
    ]
