"""Grants, revocations and requests to recompute: events on the control topic, which the worker acts on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Annotated
from uuid import NAMESPACE_URL, uuid4, uuid5

from fastapi import Depends, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from worker.admin.answers import json_answer
from worker.admin.api.badges import found_badge
from worker.admin.api.users import check_user
from worker.admin.catalog_view import Known, View
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
from worker.rules.by_hand import act_faults
from worker.rules.plan import EVALUATED

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


@dataclass(frozen=True, slots=True)
class _Act:
    """What one request asks of the worker: an event on the control topic, and its line in the log of changes."""

    services: Services
    settings: Settings
    actor: Actor
    key: str | None

    async def badge(self, body: _ByHand, *, gives: bool) -> Known:
        """The badge that a grant (`gives`) or a revocation is of. Raises Problem where it cannot be given or taken."""
        known = found_badge(await self.services.catalog.view(), body.badge_key)
        badges = {} if known.badge is None else {known.key: known.badge}
        exists = await self.user(body.user_id)
        faults = act_faults(badges, body.user_id, known.key, body.context, body.note, gives=gives, known=exists)
        if faults:
            status = 404 if faults[0].unknown else 422
            raise _refusal(status, [(f"/{fault.field}", fault.message) for fault in faults])
        return known

    async def user(self, user_id: str) -> bool:
        """Whether there is such a user. Raises Problem 422 for what can be no user's id."""
        check_user(user_id)
        return await self.services.people.knows_user(user_id)

    async def sent(self, kind: str, body: BaseModel, line: AuditLine, made: Callable[..., ControlEvent]) -> str:
        """Send the event that `made` makes of an id and an instant; its id, once all replicas have it.

        Under a key both are those of the first one of the actor's acts of this kind, which leaves its line together
        with the key. Raises Problem 409 where the key was used for another act, TransientError, which is 503.
        """
        number, at_us = await self._begun(kind, body, line)
        event = made(id=number, at_us=at_us)
        async with noted(self.services.store, line, keyed=self.key is not None):
            await self.services.outlet.send([(self.settings.control_topic, Message(key=event.key, value=event.value))])
        return number

    async def _begun(self, kind: str, body: BaseModel, line: AuditLine) -> tuple[str, int]:
        now_us = self.services.now()
        if self.key is None:
            return str(uuid4()), now_us
        number = str(uuid5(NAMESPACE_URL, f"badgestream {kind} {self.actor.key} {self.key}"))
        asked = sha256(body.model_dump_json().encode()).digest()
        first, at_us = await self.services.store.first_request(sha256(number.encode()).digest(), asked, now_us, line)
        if first != asked:
            raise Problem(409, "This Idempotency-Key was used for another act.")
        return number, at_us


async def _act(services: Asked, settings: Set, actor: By, idempotency_key: IdempotencyKey = None) -> _Act:
    return _Act(services, settings, actor, idempotency_key)


Acting = Annotated[_Act, Depends(_act)]


@router.post("/grants", status_code=202, summary="Give a badge by hand", responses={202: {"model": Sent}})
@least(Role.SUPPORT)
async def grant(body: Grant, act: Acting) -> Response:
    """Give a badge to a user. Who has it already keeps what they have."""
    known, by = await act.badge(body, gives=True), act.actor.name
    awarded_us = None if body.awarded_at is None else _instant(body.awarded_at, act.services.now())
    line = award_line(by, "grant.added", body.user_id, known.key, body.context, body.note)
    event = partial(
        grant_added, body.user_id, known.key, note=body.note, actor=by, context=body.context, awarded_us=awarded_us
    )
    number = await act.sent("grant", body, line, event)
    return _sent(number, f"{known.key} is being given to {body.user_id}")


@router.post("/revocations", status_code=202, summary="Take a badge back by hand", responses={202: {"model": Sent}})
@least(Role.SUPPORT)
async def revoke(body: Revocation, act: Acting) -> Response:
    """Take a badge from a user, who is not given it again but by hand.

    Acts are done in the order in which they were sent, a grant just sent before its revocation; so whether the user
    holds the badge is not asked here but when the worker comes to it. Who does not hold it then loses nothing, nothing
    is published, and the criterion does not give it to them later either.
    """
    known, by = await act.badge(body, gives=False), act.actor.name
    line = award_line(by, "grant.revoked", body.user_id, known.key, body.context, body.note)
    event = partial(grant_revoked, body.user_id, known.key, note=body.note, actor=by, context=body.context)
    number = await act.sent("revocation", body, line, event)
    return _sent(number, f"{known.key} is being taken from {body.user_id}")


@router.post("/recompute", status_code=202, summary="Look at users again", responses={202: {"model": Sent}})
@least(Role.SUPPORT, Role.AUTHOR)
async def recompute(body: Recompute, act: Acting) -> Response:
    """Fold users again from the log; what was earned and is missing is given, what was given stays.

    Everybody is looked at by a job that a worker does, slice by slice; the same one asked for again is one job.
    """
    view, by = await act.services.catalog.view(), act.actor.name
    keys = _evaluated(view, body.badges)
    if body.user_id is None:
        return await _everybody(act.services, act.actor, view, keys, body)
    if body.trigger is not None:
        raise _refusal(422, [("/trigger", "A trigger goes with everybody: leave it or user_id out.")])
    if not await act.user(body.user_id):
        raise _refusal(404, [("/user_id", f"There is no user {body.user_id}: no event of theirs was ever read.")])
    after = {"badges": sorted(keys)}
    line = AuditLine(by, "recompute.requested", f"user {body.user_id}", after=after, note=body.note)
    event = partial(recompute_requested, body.user_id, actor=by, note=body.note, badges=keys)
    number = await act.sent("recompute", body, line, event)
    return _sent(number, f"{body.user_id} is being looked at again")


def _evaluated(view: View, refs: Sequence[str]) -> list[str]:
    """The keys of badges that can be given. Raises Problem 404 for one nobody knows, 422 for one given to nobody."""
    found = [found_badge(view, ref) for ref in refs]
    wrong = [
        (f"/badges/{place}", f"{known.key} is {known.status}: nobody is given it.")
        for place, known in enumerate(found)
        if known.status not in EVALUATED
    ]
    if wrong:
        raise _refusal(422, wrong)
    return [known.key for known in found]


async def _everybody(services: Services, actor: Actor, view: View, keys: list[str], body: Recompute) -> Response:
    if not keys and body.trigger is None:
        raise _refusal(422, [("", "Say for whom: a user_id, badges, or a trigger.")])
    if body.trigger is not None and view.catalog.dictionary.resolve(body.trigger) is None:
        raise _refusal(404, [("/trigger", f"The catalog has no event type {body.trigger}.")])
    try:
        number = await services.people.recompute(keys, body.trigger, by=actor.name, note=body.note)
    except OperatorError as error:
        raise Problem(409, " ".join(filter(None, [error.message, error.help]))) from None
    said = {"success": True, "event_id": None, "message": f"Job {number} looks at everybody again", "job_id": number}
    return json_answer(said, 202)


def _refusal(status: int, faults: Sequence[tuple[str, str]]) -> Problem:
    """Why an act cannot be: the pointer and the sentence of each fault, of which the first is said."""
    return Problem(status, faults[0][1], details=[{"path": path, "message": said} for path, said in faults])


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
    raise _refusal(422, [("/awarded_at", message)])
