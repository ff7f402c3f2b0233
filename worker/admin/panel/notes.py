"""What a page says of the change that led to it: sealed in the address, so that no link makes the panel say more."""

from __future__ import annotations

from typing import Final

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request

from worker.admin.roles import Actor

#: A note is shown so long after the change, seconds; a link that is sent on says nothing of it.
SECONDS: Final = 60
_MOST_CHARACTERS: Final = 500
_MOST_SEALED: Final = 4_000


class Notes:
    """Seals notes for who made a change, and opens what was sealed here for who asks; all else is no note."""

    def __init__(self, secret: str) -> None:
        self._signer = URLSafeTimedSerializer(secret, salt="badges note")

    def seal(self, text: str, actor: Actor | None) -> str:
        """A note as it stands in an address."""
        return str(self._signer.dumps([_key(actor), text[:_MOST_CHARACTERS]]))

    def read(self, sealed: str, actor: Actor | None) -> str:
        """What it says; nothing where it was sealed elsewhere, for somebody else, or a while ago."""
        if not 0 < len(sealed) <= _MOST_SEALED:
            return ""
        try:
            key, text = self._signer.loads(sealed, max_age=SECONDS)
        except (BadSignature, ValueError, TypeError):
            return ""
        return str(text) if key == _key(actor) else ""


def notes_of(request: Request) -> Notes:
    """The notes of the app that serves a request."""
    found: Notes = request.app.state.notes
    return found


def _key(actor: Actor | None) -> str:
    return "" if actor is None else actor.key
