"""Sessions of people: a signed cookie that no script reads, its CSRF token, and where it ends."""

from __future__ import annotations

import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Collection
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec
from fastapi import Request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.admin.followed import FOLLOW_SECONDS, Followed
from worker.admin.roles import Actor, Role
from worker.config import is_loopback
from worker.exchange import AuditLine

#: A session ends so long after its last request, and so long after its beginning; seconds.
IDLE_SECONDS: Final = 15 * 60
LONGEST_SECONDS: Final = 12 * 3600
#: Its cookie is written anew when it is older than this.
_RENEW_SECONDS: Final = 60
_SECURE_NAME: Final = "__Host-badges"
_HOST: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
#: So many sessions that people ended are remembered.
_MOST_ENDED: Final = 10_000
#: What proxies add to a request.
_PROXIES: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_LOOPBACK_NAME: Final = "badges"
#: A cookie larger than this is none of ours.
_MOST_BYTES: Final = 4_000

CSRF_HEADER: Final = "x-csrf-token"
CSRF_FIELD: Final = "csrf_token"


class Sessions:
    """Middleware that reads the session of a request and writes what became of it.

    The cookie is `HttpOnly; Secure; SameSite=Lax` and bound to the host; on plain HTTP from this machine to a loopback
    name, and only there, it is not `Secure`, because browsers would not keep it.
    """

    def __init__(self, app: ASGIApp, *, secret: str) -> None:
        self._app = app
        self._signer = URLSafeTimedSerializer(secret, salt="badges session")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = any(name == b"cookie" for name, _ in scope["headers"])
        before = self._read(HTTPConnection(scope)) if given else {}
        session: dict[str, Any] = dict(before)
        scope["session"] = session

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start" and session != before:
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", self._cookie(_cookie_name(HTTPConnection(scope)), session))
                headers.add_vary_header("Cookie")
            await send(message)

        await self._app(scope, receive, answered)

    def _read(self, connection: HTTPConnection) -> dict[str, Any]:
        text = connection.cookies.get(_cookie_name(connection))
        if not text or len(text) > _MOST_BYTES:
            return {}
        try:
            found = self._signer.loads(text, max_age=IDLE_SECONDS)
        except (BadSignature, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _cookie(self, name: str, session: dict[str, Any]) -> str:
        secure = "; Secure" if name == _SECURE_NAME else ""
        value, age = (str(self._signer.dumps(session)), IDLE_SECONDS) if session else ("", 0)
        return f"{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"


def _cookie_name(connection: HTTPConnection) -> str:
    return _LOOPBACK_NAME if on_loopback(connection) else _SECURE_NAME


def on_loopback(connection: HTTPConnection) -> bool:
    """Whether a request came in plain HTTP from this machine to a loopback name."""
    client = connection.client
    return (
        connection.url.scheme == "http"
        and client is not None
        and is_loopback(client.host)
        and is_loopback(_host_of(connection))
    )


def passed_on(connection: HTTPConnection) -> bool:
    """Whether a proxy says that a request came through it: then it is not this machine that asks."""
    return any(name in connection.headers for name in _PROXIES)


def _host_of(connection: HTTPConnection) -> str:
    """The name that a request was sent to, as it says itself; empty where that is none.

    The address of the framework's URL would be the server's own one in that case: this machine.
    """
    found = _HOST.fullmatch(connection.headers.get("host", ""))
    return "" if found is None else found[1]


def begin(request: Request, actor: Actor, *, at: int) -> None:
    """Sign somebody in: a session that has nothing of what was there before; `at` in microseconds."""
    seconds = at // 1_000_000
    session = request.session
    session.clear()
    session.update(
        name=actor.name,
        role=actor.role.value,
        token=actor.token_id,
        key=actor.key,
        csrf=secrets.token_urlsafe(24),
        since=seconds,
        seen=seconds,
    )


class EndedTable(Protocol):
    """The table of sessions that people ended, by hash."""

    async def end_session(self, sha256: bytes, line: AuditLine | None = None) -> None:
        """Note that one is over, and what the log of changes says of it."""

    async def ended_sessions(self, seconds: float, most: int) -> Collection[bytes]:
        """The newest of those that were ended within some seconds."""


class EndedSessions:
    """Sessions that people ended: a copy of the cookie is worth nothing, here at once and elsewhere within seconds."""

    def __init__(self, table: EndedTable) -> None:
        self._table = table
        self._known: frozenset[bytes] = frozenset()
        self._own: OrderedDict[bytes, None] = OrderedDict()
        self._followed = Followed(self._read)

    async def end(self, request: Request, line: AuditLine) -> None:
        """Sign out; `line` is what the log of changes says of it."""
        hashed = _hash_of(request)
        request.session.clear()
        if hashed is not None:
            self._own[hashed] = None
            if len(self._own) > _MOST_ENDED:
                self._own.popitem(last=False)
            await self._table.end_session(hashed, line)

    async def has(self, request: Request) -> bool:
        """Whether the session of a request was ended, as of some seconds ago. Raises TransientError."""
        await self._followed.follow(FOLLOW_SECONDS)
        hashed = _hash_of(request)
        return hashed in self._own or hashed in self._known

    async def _read(self) -> None:
        self._known = frozenset(await self._table.ended_sessions(LONGEST_SECONDS, _MOST_ENDED))


def _hash_of(request: Request) -> bytes | None:
    """What a session is known by when it is over; None where there is none."""
    token = request.session.get("csrf")
    return sha256(token.encode()).digest() if isinstance(token, str) else None


def signed_in(request: Request, *, at: int) -> Actor | None:
    """Who is signed in by the session; None where nobody is or the session has ended."""
    session = request.session
    if "role" not in session:
        return None
    seconds = at // 1_000_000
    try:
        found = msgspec.convert(session, _SignedIn)
    except msgspec.ValidationError:
        session.clear()
        return None
    if seconds - found.since > LONGEST_SECONDS or seconds - found.seen > IDLE_SECONDS:
        session.clear()
        return None
    if seconds - found.seen > _RENEW_SECONDS:
        session["seen"] = seconds
    return Actor(found.name, found.role, "session", found.key, found.token)


class _SignedIn(msgspec.Struct):
    name: str
    role: Role
    key: str
    since: int
    seen: int
    token: int | None = None


def csrf_token(request: Request) -> str:
    """The token that state-changing forms of this session carry (field `csrf_token`, or header `X-CSRF-Token`)."""
    token = request.session.get("csrf")
    if not isinstance(token, str):
        token = request.session["csrf"] = secrets.token_urlsafe(24)
    return token


def csrf_matches(request: Request, given: str | None) -> bool:
    """Whether a form's token is the session's."""
    token = request.session.get("csrf")
    return isinstance(token, str) and given is not None and hmac.compare_digest(token.encode(), given.encode())
