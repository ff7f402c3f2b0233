"""Log-in by OpenID Connect: code flow with PKCE, state and nonce; what the issuer says of a person becomes a role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from fastapi import Request
from joserfc.errors import JoseError
from starlette.responses import RedirectResponse, Response

from worker.admin import sessions
from worker.admin.panel.frame import inside
from worker.admin.problems import Problem, not_found, unavailable
from worker.admin.roles import Actor, Role, anybody
from worker.admin.routes import guarded_router
from worker.admin.services import Asked, note_login
from worker.config import Settings, is_loopback
from worker.errors import OperatorError

#: How long the issuer may take to answer, seconds.
_PATIENCE_SECONDS: Final = 10.0
#: Signatures that only the issuer can make. One by a shared secret, or none, is not taken, whatever the issuer lists.
_SIGNATURES: Final = frozenset(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)) | {
    "EdDSA",
    "Ed25519",
}
#: Addresses that the issuer gives, and that are asked or led to.
_ASKED: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")
_NAMES: Final = ("preferred_username", "email", "name", "sub")
_MOST_NAME: Final = 100
#: Who has several roles gets the first of these: an actor has one.
_ORDER: Final = (Role.ADMIN, Role.AUTHOR, Role.SUPPORT, Role.PRODUCER, Role.READER)

router = guarded_router(prefix="/panel/oidc", include_in_schema=False)


class Oidc:
    """The issuer of the settings. Raises OperatorError where they cannot work."""

    def __init__(self, settings: Settings, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        issuer, secret = (settings.oidc_issuer or "").rstrip("/"), settings.oidc_client_secret
        parts = urlsplit(issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise OperatorError("BADGES_OIDC_ISSUER is no https address.", help="write https://login.example.com")
        if not settings.oidc_client_id:
            raise OperatorError("BADGES_OIDC_CLIENT_ID is not set: BADGES_OIDC_ISSUER needs it.")
        self._issuer = issuer
        self._claim = settings.oidc_role_claim
        self._roles = settings.oidc_roles
        options: dict[str, Any] = {
            "scope": settings.oidc_scope,
            "code_challenge_method": "S256",
            "timeout": _PATIENCE_SECONDS,
            **({} if transport is None else {"transport": transport}),
        }
        self._client: Any = OAuth().register(
            "oidc",
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_id=settings.oidc_client_id,
            client_secret=None if secret is None else secret.get_secret_value(),
            client_kwargs=options,
        )

    async def begin(self, request: Request, back_to: str) -> Response:
        """Send the browser to the issuer, to come back to this address."""
        await self._metadata()
        sent: Response = await self._client.authorize_redirect(request, back_to)
        return sent

    async def finish(self, request: Request) -> Actor:
        """Who comes back. Raises Problem 401 for an answer that is not the issuer's, 403 for one without a role."""
        await self._metadata()
        token = await self._client.authorize_access_token(request)
        claims = token.get("userinfo")
        if not claims:
            raise Problem(401, "The issuer sent no ID token.")
        return self.actor(claims)

    def actor(self, claims: Mapping[str, Any]) -> Actor:
        """The person these claims describe."""
        name = next((str(claims[key]) for key in _NAMES if claims.get(key)), "")[:_MOST_NAME]
        role = self._role(_values(claims, self._claim))
        if role is None:
            raise Problem(403, f"{name} has no role here; the claim {self._claim} names none that is known.")
        return Actor(name, role, "session", f"oidc {claims.get('sub', name)}")

    def _role(self, values: Sequence[str]) -> Role | None:
        known = dict(self._roles) or {role.value: role.value for role in Role}
        found = {known[value] for value in values if value in known}
        return next((role for role in _ORDER if role.value in found), None)

    def _trusted(self, address: str) -> bool:
        """Whether an address is as safe as the issuer's: what is asked there decides who comes in."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return False
        return parts.scheme == "https" or (parts.scheme, parts.netloc) == urlsplit(self._issuer)[:2]

    async def _metadata(self) -> None:
        """What the issuer says of itself, read once; it must be itself, and only strong signatures count."""
        found = await self._client.load_server_metadata()
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            raise unavailable("The issuer of BADGES_OIDC_ISSUER calls itself otherwise.")
        for name in _ASKED:
            if name in found and not self._trusted(str(found[name])):
                raise unavailable(f"The issuer of BADGES_OIDC_ISSUER names no https address as its {name}.")
        listed = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        found["id_token_signing_alg_values_supported"] = [name for name in listed if name in _SIGNATURES] or ["RS256"]


def _values(claims: Mapping[str, Any], path: str) -> Sequence[str]:
    """The texts of a claim: `roles`, or `realm_access.roles` within another."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for step in path.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [value for value in found if isinstance(value, str)] if isinstance(found, list) else []


@router.get("")
@anybody()
async def leave(request: Request, next: str = "") -> Response:
    """To the issuer."""
    oidc = _oidc_of(request)
    request.session.clear()  # what other attempts left
    request.session["next"] = next[:1000]
    back = request.url.replace(path=f"{router.prefix}/callback", query="", fragment="")
    try:
        return await oidc.begin(request, str(back))
    except (httpx2.HTTPError, AuthlibBaseError, ValueError, RuntimeError) as error:
        raise unavailable(f"The issuer does not answer as it should ({type(error).__name__}).") from None


@router.get("/callback")
@anybody()
async def come_back(request: Request, services: Asked) -> Response:
    """From the issuer: a session for who may have one."""
    oidc = _oidc_of(request)
    gate = request.app.state.gate
    gate.check_address(request)
    next_page = str(request.session.get("next", ""))
    try:
        actor = await oidc.finish(request)
    except httpx2.HTTPError as error:
        raise unavailable(f"The issuer does not answer as it should ({type(error).__name__}).") from None
    except (AuthlibBaseError, JoseError, ValueError, KeyError, RuntimeError) as error:
        gate.failed(request)
        raise Problem(401, f"This log-in is not valid, or is over ({type(error).__name__}): begin again.") from None
    await note_login(services, actor, "oidc")
    sessions.begin(request, actor, at=services.now())
    return RedirectResponse(inside(next_page), 303)


def _oidc_of(request: Request) -> Oidc:
    oidc: Oidc | None = request.app.state.oidc
    if oidc is None:
        raise not_found("log-in by OpenID Connect here: BADGES_OIDC_ISSUER is not set")
    return oidc
