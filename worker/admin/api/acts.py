"""Grants, revocations and requests to recompute: events on the control topic, which the worker acts on."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated
from uuid import NAMESPACE_URL, uuid4, uuid5

from fastapi import Header, Response
from pydantic import BaseModel, ConfigDict, Field

from worker.admin.answers import json_answer
from worker.admin.api.badges import found_badge
from worker.admin.api.users import check_user
from worker.admin.catalog_view import Known
from worker.admin.problems import Problem
from worker.admin.roles import Actor, Role, least
from worker.admin.routes import By, guarded_router
from worker.admin.services import Asked, Services, Set
from worker.auditing import award_line, noted
from worker.config import Settings
from worker.control import MOST_BADGES, NOTE_CHARACTERS, ControlEvent, grant_added, grant_revoked, recompute_requested
from worker.errors import OperatorError
from worker.events import parse_instant
from worker.exchange import AuditLine, Message

router = guarded_router(prefix="/api/v1/admin", tags=["acts"])

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=200, description="An act sent again under its key is done once"),
]


class _ByHand(BaseModel):
    """What a grant and a revocation are of, and why."""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field(min_length=1, max_length=200)
    badge_key: str = Field(min_length=1, max_length=200, description="The badge's id, key or name")
    context: str = Field("", max_length=200)
    note: str = Field(min_length=1, max_length=NOTE_CHARACTERS, description="Why; stands in the user's history")


class Grant(_ByHand):
    """A badge to be given by hand."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"user_id": "u1", "badge_key": "simple_badge", "note": "was there in 2019"}}
    )

    awarded_at: str | None = Field(None, max_length=64, description="Since when it counts as earned; not ahead")


class Revocation(_ByHand):
    """A badge to be taken back by hand: it is not given again but by hand."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"user_id": "u1", "badge_key": "simple_badge", "note": "imported twice"}}
    )


class Recompute(BaseModel):
    """One user to be looked at again from the log; without one, everybody, for some badges or those of a trigger."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"user_id": "u1"}})

    user_id: str | None = Field(None, min_length=1, max_length=200)
    badges: list[str] = Field([], max_length=MOST_BADGES, description="Which badges it is asked for")
    trigger: str | None = Field(None, min_length=1, max_length=200, description="The badges that look at this type")
    note: str = Field("", max_length=NOTE_CHARACTERS)


class Sent(BaseModel):
    """The act is on its way: the worker does it when it comes to it, within a second as a rule."""

    success: bool
    event_id: str | None
    message: str
    job_id: int | None = Field(None, description="The job that looks at all users")


@router.post("/grants", status_code=202, summary="Give a badge by hand", responses={202: {"model": Sent}})
@least(Role.SUPPORT)
async def grant(
    body: Grant, services: Asked, settings: Set, actor: By, idempotency_key: IdempotencyKey = None
) -> Response:
    """Give a badge to a user. Who has it already keeps what they have."""
    known = await _checked(services, body.user_id, body.badge_key)
    awarded_us = None if body.awarded_at is None else _instant(body.awarded_at, services.now())
    line = award_line(actor.name, "grant.added", body.user_id, known.key, body.context, body.note)
    number, at_us = await _begun(services, "grant", actor, idempotency_key, body, line)
    event = grant_added(
        body.user_id,
        known.key,
        note=body.note,
        actor=actor.name,
        id=number,
        at_us=at_us,
        context=body.context,
        awarded_us=awarded_us,
    )
    await _send(services, settings, event, line, idempotency_key)
    return _sent(number, f"{known.key} is being given to {body.user_id}")


@router.post("/revocations", status_code=202, summary="Take a badge back by hand", responses={202: {"model": Sent}})
@least(Role.SUPPORT)
async def revoke(
    body: Revocation, services: Asked, settings: Set, actor: By, idempotency_key: IdempotencyKey = None
) -> Response:
    """Take a badge from a user."""
    known = await _checked(services, body.user_id, body.badge_key)
    line = award_line(actor.name, "grant.revoked", body.user_id, known.key, body.context, body.note)
    number, at_us = await _begun(services, "revocation", actor, idempotency_key, body, line)
    event = grant_revoked(
        body.user_id,
        known.key,
        note=body.note,
        actor=actor.name,
        id=number,
        at_us=at_us,
        context=body.context,
    )
    await _send(services, settings, event, line, idempotency_key)
    return _sent(number, f"{known.key} is being taken from {body.user_id}")


@router.post("/recompute", status_code=202, summary="Look at users again", responses={202: {"model": Sent}})
@least(Role.SUPPORT, Role.AUTHOR)
async def recompute(
    body: Recompute, services: Asked, settings: Set, actor: By, idempotency_key: IdempotencyKey = None
) -> Response:
    """Fold users again from the log; what was earned and is missing is given, what was given stays.

    Everybody is looked at by a job that a worker does, slice by slice; the same one asked for again is one job.
    """
    view = await services.catalog.view()
    keys = [found_badge(view, ref).key for ref in body.badges]
    if body.user_id is None:
        return await _everybody(services, actor, keys, body)
    if body.trigger is not None:
        message = "A trigger goes with everybody: leave it or user_id out."
        raise Problem(422, message, details=[{"path": "/trigger", "message": message}])
    check_user(body.user_id)
    after = {"badges": sorted(keys)}
    line = AuditLine(actor.name, "recompute.requested", f"user {body.user_id}", after=after, note=body.note)
    number, at_us = await _begun(services, "recompute", actor, idempotency_key, body, line)
    event = recompute_requested(body.user_id, actor=actor.name, id=number, at_us=at_us, note=body.note, badges=keys)
    await _send(services, settings, event, line, idempotency_key)
    return _sent(number, f"{body.user_id} is being looked at again")


async def _everybody(services: Services, actor: Actor, keys: list[str], body: Recompute) -> Response:
    if not keys and body.trigger is None:
        message = "Say for whom: a user_id, badges, or a trigger."
        raise Problem(422, message, details=[{"path": "", "message": message}])
    try:
        number = await services.people.recompute(keys, body.trigger, by=actor.name, note=body.note)
    except OperatorError as error:
        raise Problem(409, " ".join(filter(None, [error.message, error.help]))) from None
    said = {"success": True, "event_id": None, "message": f"Job {number} looks at everybody again", "job_id": number}
    return json_answer(said, 202)


async def _checked(services: Services, user_id: str, ref: str) -> Known:
    check_user(user_id)
    return found_badge(await services.catalog.view(), ref)


async def _send(services: Services, settings: Settings, event: ControlEvent, line: AuditLine, key: str | None) -> None:
    """Put an event on the control topic; back when all replicas have it. Raises TransientError, which is 503."""
    async with noted(services.store, line, keyed=key is not None):
        await services.outlet.send([(settings.control_topic, Message(key=event.key, value=event.value))])


async def _begun(
    services: Services, kind: str, actor: Actor, key: str | None, body: BaseModel, line: AuditLine
) -> tuple[str, int]:
    """Id and instant of the act's event: those of the first one for one actor's acts of one kind under one key.

    The first one under a key leaves its line in the log of changes with it. Raises Problem 409 where the key was used
    for another act.
    """
    if key is None:
        return str(uuid4()), services.now()
    number = str(uuid5(NAMESPACE_URL, f"badgestream {kind} {actor.key} {key}"))
    asked = sha256(body.model_dump_json().encode()).digest()
    name = sha256(number.encode()).digest()
    first, at_us = await services.store.first_request(name, asked, services.now(), line)
    if first != asked:
        raise Problem(409, "This Idempotency-Key was used for another act.")
    return number, at_us


def _sent(number: str, message: str) -> Response:
    return json_answer({"success": True, "event_id": number, "message": message}, 202)


def _instant(text: str, now_us: int) -> int:
    try:
        found = parse_instant(text)
    except ValueError as error:
        message = f"{error}."
    else:
        if found <= now_us:
            return found
        message = "This lies ahead: a badge cannot be earned before its time."
    raise Problem(422, message, details=[{"path": "/awarded_at", "message": message}])
