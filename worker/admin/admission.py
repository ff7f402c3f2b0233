"""Lets a request in or not: by token, by session, or, where nobody ever made a token on this machine, openly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from worker.admin.limits import Bucket, Crowd, Failures
from worker.admin.problems import Problem, unavailable
from worker.admin.roles import Actor, Admission, Role
from worker.admin.services import Services
from worker.admin.sessions import (
    CSRF_FIELD,
    CSRF_HEADER,
    EndedSessions,
    csrf_matches,
    on_loopback,
    passed_on,
    signed_in,
)
from worker.admin.tokens import TokenBook
from worker.config import Settings, is_loopback

#: These change nothing; all others must show that a form or a program of ours sent them.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LONGEST_TOKEN: Final = 1_000
#: When to come again where there is no room, seconds.
_ROOM_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Gate:
    """What admission goes by: the tokens, the limits, whether someone may come in without any of them."""

    book: TokenBook
    bucket: Bucket
    failures: Failures
    ended: EndedSessions
    services: Services
    may_be_open: bool
    by_oidc: bool = False

    async def admit(self, request: Request, admission: Admission) -> Actor | None:
        """Who asks, where they may ask this; None where anybody may. Raises Problem 401, 403 or 429."""
        if admission.role is None:
            return None
        actor = await self._actor(request)
        if actor is None:
            raise Problem(
                401,
                "This needs a token: send `Authorization: Bearer TOKEN`; `badges tokens create` makes one.",
                headers={"WWW-Authenticate": 'Bearer realm="badges"'},
            )
        request.state.actor = actor  # a refusal is told to somebody, too
        if not admission.covers(actor):
            wanted = " or ".join((admission.role, *admission.others))
            raise Problem(403, f"This needs the role {wanted}; {actor.name} has {actor.role}.")
        wait = self.bucket.take(actor.key)
        if wait > 0:
            raise too_many("This token has sent too many requests.", wait, limit="rate")
        if actor.via != "token" and request.method not in SAFE:
            await _own_form(request, actor)
        return actor

    async def by_token(self, request: Request, token: str) -> Actor | None:
        """Whose token this is. A wrong one counts against the address; raises Problem 429 where there were too many."""
        wait = self.failures.wait(address_of(request))
        if wait > 0:
            # Tokens of the table cannot be guessed, so that those known go on: a stranger behind the same proxy must
            # not lock them out. The token of the settings was thought up by a person, and waits.
            found = await self.book.actor(token, look_again=False)
            if found is None or found.token_id is None:
                self.check_address(request)
            return found
        found = await self.book.actor(token) if len(token) <= _LONGEST_TOKEN else None
        if found is None:
            self.failed(request)
        return found

    def check_address(self, request: Request) -> None:
        """Refuse an address from which too many log-ins failed (429)."""
        wait = self.failures.wait(address_of(request))
        if wait > 0:
            raise too_many("Too many failed log-ins from this address.", wait, limit="logins")

    def failed(self, request: Request) -> None:
        """Count a failed log-in."""
        self.failures.note(address_of(request))

    async def _actor(self, request: Request) -> Actor | None:
        header = request.headers.get("authorization")
        if header is not None:
            return await self._bearer(request, header)
        person = signed_in(request, at=self.services.now())
        if person is not None:
            if not await self.ended.has(request) and await self._stands(person):
                return person
            request.session.clear()
        if self.may_be_open and on_loopback(request) and not passed_on(request) and not await self.book.any_token():
            return Actor("local", Role.ADMIN, "open", "local")
        return None

    async def still(self, actor: Actor) -> bool:
        """Whether somebody who was let in a while ago would be let in now, as of some seconds ago."""
        if actor.via == "open":
            return not await self.book.any_token()
        return await self._stands(actor)

    async def _stands(self, person: Actor) -> bool:
        """Whether what somebody signed in by is still good."""
        if person.token_id is not None:
            return await self.book.live(person.token_id)
        return self.by_oidc if person.key.startswith("oidc ") else self.book.has_admin

    async def _bearer(self, request: Request, header: str) -> Actor:
        scheme, _, token = header.partition(" ")
        found = await self.by_token(request, token.strip()) if scheme.lower() == "bearer" and token.strip() else None
        if found is None:
            raise Problem(
                401,
                "This token is not known, or was revoked; the header is `Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": 'Bearer realm="badges", error="invalid_token"'},
            )
        return found


def gate_of(services: Services, settings: Settings) -> Gate:
    """The gate of an app."""
    token = settings.admin_token
    return Gate(
        book=TokenBook(services.store, admin_token=None if token is None else token.get_secret_value()),
        bucket=Bucket.of(settings.rate_limit),
        failures=Failures(),
        ended=EndedSessions(services.store),
        services=services,
        may_be_open=token is None and settings.oidc_issuer is None and is_loopback(settings.admin_host),
        by_oidc=settings.oidc_issuer is not None,
    )


def too_many(message: str, wait: float, *, limit: str) -> Problem:
    """429 that says when to come again."""
    return Problem(429, message, headers={"Retry-After": str(max(1, math.ceil(wait)))}, limit=limit)


def check_room(crowd: Crowd, actor: Actor) -> None:
    """Refuse who would be one too many: 429 where their own are, 503 where others are."""
    if crowd.many_of(actor.key):
        raise too_many(f"{actor.name} has {crowd.each} {crowd.limit} open already.", _ROOM_SECONDS, limit=crowd.limit)
    if crowd.full:
        told = f"{crowd.most} {crowd.limit} are open, which is as many as one process bears."
        raise unavailable(told, seconds=_ROOM_SECONDS, limit=crowd.limit)


def address_of(request: Request) -> str:
    """The address a request comes from; of a trusted proxy, the one it names."""
    return request.client.host if request.client is not None else ""


async def _own_form(request: Request, actor: Actor) -> None:
    """Refuse a change that a page of somebody else made this browser send (403)."""
    check_origin(request)
    if actor.via == "session" and not csrf_matches(request, await _shown_token(request)):
        raise Problem(
            403, f"The form is out of date, or not from here: its {CSRF_FIELD} is missing or wrong.", code="csrf"
        )


def check_origin(request: Request) -> None:
    """Refuse what another site sends, as far as the browser tells (403)."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    other = site not in (None, "same-origin", "none")
    if other or (origin is not None and _host_of(origin) != request.headers.get("host", "").lower()):
        raise Problem(403, "This came from another site.", code="csrf")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


async def _shown_token(request: Request) -> str | None:
    header = request.headers.get(CSRF_HEADER)
    if header is not None:
        return header
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() in (
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ):
        value = (await request.form()).get(CSRF_FIELD)
        return value if isinstance(value, str) else None
    return None
