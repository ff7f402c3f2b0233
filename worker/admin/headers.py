"""What every answer tells the browser: load scripts from here only, guess no types, show this in no other page."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' https: data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
#: What is said where an endpoint says nothing else.
ALWAYS: Final = HEADERS | {"cache-control": "no-store"}
_ALWAYS: Final = [(name.encode(), value.encode()) for name, value in ALWAYS.items()]


def add_safe(raw: list[tuple[bytes, bytes]], *, secure: bool) -> None:
    """Add them to the headers of an answer; what it says itself stays. `secure`: it goes out over HTTPS."""
    given = {name for name, _ in raw}
    raw += [header for header in _ALWAYS if header[0] not in given]
    if secure:
        raw.append((b"strict-transport-security", b"max-age=31536000"))


class SafeHeaders:
    """Middleware that adds them; what an endpoint says itself stays. Nothing is cached unless it says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_safe(message.setdefault("headers", []), secure=scope.get("scheme") == "https")
            await send(message)

        await self._app(scope, receive, answered if scope["type"] == "http" else send)
