"""Dry runs and simulations over HTTP: what would happen, with nothing written."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from worker.admin import shapes
from worker.admin.answers import json_answer
from worker.admin.bodies import checked, described_body
from worker.admin.catalog_view import Refused
from worker.admin.problems import Problem
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked

router = guarded_router(prefix="/api/v1/admin", tags=["rehearsal"])

_EVENT: Final = {
    "type": "simple_event",
    "user_id": "u1",
    "occurred_at": "2026-03-01T12:00:00Z",
    "payload": {"value": 75},
}


class DryRun(BaseModel):
    """A question about one user: does the user earn a badge, as of an instant, perhaps with one event more?"""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field(min_length=1, max_length=200)
    badge_key: str | None = Field(None, max_length=200, description="An id, key or name; without it all the event asks")
    at: str | None = Field(None, max_length=64, description="RFC 3339; without it the user's newest event")
    context: str | None = Field(None, max_length=200)
    event: shapes.JsonObject | None = Field(None, description="One more event, as if it had happened")


class Answer(BaseModel):
    """Whether and why; `explanation` is a tree of nodes with operator, actual value, bound and verdict."""

    user_id: str
    badge_key: str
    at: str
    context: str
    passed: bool
    metadata: shapes.JsonObject
    explanation: shapes.JsonObject


class Simulation(BaseModel):
    """Events to play against the catalog that rules, in order of time, whatever their order here."""

    model_config = ConfigDict(extra="forbid")

    events: list[shapes.JsonObject] = Field(max_length=10_000)
    until: str | None = Field(None, max_length=64, description="Leave out the events after this instant")
    set: dict[str, int | float | str] | None = Field(None, description="Metrics with a value of your own")


class WouldBe(BaseModel):
    """An award that would be given; of one that would be taken back again, when and why."""

    user_id: str
    badge_key: str
    context: str
    awarded_at: str
    event_id: str
    metadata: shapes.JsonObject
    why: str
    revoked_at: str | None = None
    revoked_why: str | None = None


class Played(BaseModel):
    """What came of it; `conflicts` are events left out because another one has their id."""

    awards: list[WouldBe]
    events: int
    conflicts: int


@router.post(
    "/dry-run",
    summary="Would this user earn it, and why",
    responses={200: {"model": list[Answer]}},
    openapi_extra=described_body(DryRun, {"user_id": "u1", "badge_key": "simple_badge"}),
)
@least(Role.SUPPORT, Role.AUTHOR)
async def dry_run(body: Annotated[dict[str, Any], Depends(checked(DryRun))], services: Asked) -> Response:
    """An answer for each badge asked about, from the user's log; a user without events has an empty history."""
    view = await services.catalog.view()
    try:
        return json_answer(await services.rehearsal.dry_run(view, body, now_us=services.now()))
    except Refused as error:
        raise _conflict(error) from None


@router.post(
    "/simulate",
    summary="What would these events earn",
    responses={200: {"model": Played}},
    openapi_extra=described_body(Simulation, {"events": [_EVENT]}),
)
@least(Role.SUPPORT, Role.AUTHOR)
async def simulate(body: Annotated[dict[str, Any], Depends(checked(Simulation))], services: Asked) -> Response:
    """One line for each award, with the sentence that says why."""
    view = await services.catalog.view()
    try:
        return json_answer(await services.rehearsal.simulate(view, body))
    except Refused as error:
        raise _conflict(error) from None


def _conflict(error: Refused) -> Problem:
    return Problem(409, " ".join(filter(None, [error.message, error.help])))
