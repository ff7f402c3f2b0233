"""A book of the live tokens that follows their table: a revoked one ends within seconds, a new one works at once."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from time import monotonic
from typing import Final

from worker.admin.credentials import PREFIX, digest
from worker.admin.followed import FOLLOW_SECONDS, Followed
from worker.admin.roles import Actor, Role
from worker.admin.services import Tokens

_TOUCH_SECONDS: Final = 60.0


class TokenBook:
    """The live tokens by hash, and the one of BADGES_ADMIN_TOKEN, which is a token of role admin."""

    def __init__(self, tokens: Tokens, *, admin_token: str | None, clock: Callable[[], float] = monotonic) -> None:
        self._tokens = tokens
        self._admin = None if not admin_token else digest(admin_token)
        self._clock = clock
        self._known: dict[bytes, Actor] = {}
        self._any = False
        self._table = Followed(self._read, clock=clock)
        self._touched_at = clock()
        self._used: set[int] = set()

    async def actor(self, token: str, *, look_again: bool = True) -> Actor | None:
        """Whose token this is; None where it is nobody's.

        `look_again`: read the table once more for a token that is not in the book. Raises TransientError while the
        database is away and nothing is known.
        """
        hashed = digest(token)
        if self._admin is not None and hmac.compare_digest(hashed, self._admin):
            return Actor("admin token", Role.ADMIN, "token", "admin token")
        await self._table.follow(FOLLOW_SECONDS)
        if hashed not in self._known and look_again and token.startswith(PREFIX):
            await self._table.follow(0.0)
        found = self._known.get(hashed)
        if found is not None and found.token_id is not None:
            self._used.add(found.token_id)
        return found

    @property
    def has_admin(self) -> bool:
        """Whether the settings have a token."""
        return self._admin is not None

    async def live(self, token_id: int) -> bool:
        """Whether a token still stands, as of some seconds ago."""
        await self._table.follow(FOLLOW_SECONDS)
        return any(actor.token_id == token_id for actor in self._known.values())

    async def any_token(self) -> bool:
        """Whether a token was ever created, as of some seconds ago."""
        await self._table.follow(FOLLOW_SECONDS)
        return self._any

    async def _read(self) -> None:
        started = self._clock()
        live = await self._tokens.live_tokens()
        self._known = {
            token.sha256: Actor(token.name, Role(token.role), "token", f"token {token.id}", token.id) for token in live
        }
        self._any = bool(live) or await self._tokens.any_token()
        if self._used and started - self._touched_at >= _TOUCH_SECONDS:
            used, self._used, self._touched_at = self._used, set(), started
            await self._tokens.touch_tokens(used)
