"""Lists in pages: a cursor that says where the next one begins, and the `Link` that carries it."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2s
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import Query, Request, Response

from worker.admin.answers import json_answer
from worker.admin.problems import Problem

#: A page holds so many entries at most.
MOST: Final = 1_000

Limit = Annotated[int | None, Query(ge=1, le=MOST, description="How many at most; `Link` then names the next page")]
Cursor = Annotated[str | None, Query(max_length=2_000, description="Where the page begins, as `Link` gave it")]

_SUM_BYTES: Final = 6
_Position = TypeVar("_Position")


def cursor(position: Any, *, of: str) -> str:
    """The cursor of a position in the list `of`: opaque, and recognised when it comes back."""
    body = msgspec.json.encode(position)
    return urlsafe_b64encode(_sum(body, of) + body).decode().rstrip("=")


def position(text: str, kind: type[_Position], *, of: str) -> _Position:
    """The position a cursor names. Raises Problem 400 for one that this API did not give for this list."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        body = data[_SUM_BYTES:]
        if data[:_SUM_BYTES] == _sum(body, of):
            return msgspec.json.decode(body, type=kind)
    except (ValueError, msgspec.DecodeError):
        pass
    message = "This cursor is none of this list: take it from the `Link` of the page before, as it is."
    raise Problem(400, message, code="bad_cursor", details=[{"path": "?cursor", "message": message}])


def page(request: Request, rows: Sequence[Any], following: Any, *, of: str) -> Response:
    """A page of a list as a bare array; `following` is the position the next one begins at (None: it was the last)."""
    if following is None:
        return json_answer(rows)
    url = request.url.include_query_params(cursor=cursor(following, of=of))
    return json_answer(rows, headers={"Link": f'<{url.path}?{url.query}>; rel="next"'})


def _sum(body: bytes, of: str) -> bytes:
    return blake2s(body, digest_size=_SUM_BYTES, key=b"badgestream cursor", person=of.encode()[:8]).digest()
