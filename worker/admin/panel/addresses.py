"""Addresses of users' pages: an id stands in the path where it can, else in the query, so that each has its pages."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from markupsafe import Markup

#: Stands in the path for an id that stands in the query.
ELSEWHERE: Final = "~"
_ASKED: Final = "user"
#: What browsers, proxies and routes read as more than a part of a path, however it is written there.
_MORE: Final = re.compile(r"[/\\%;\x00-\x1f\x7f]")
_DOTS: Final = ("", ".", "..", ELSEWHERE)


def user_address(user_id: str, *steps: str, **asked: object) -> str:
    """The address of a user's page below the panel's root, or of one below that; `asked` is its query."""
    given = {name: str(value) for name, value in asked.items() if value}
    if in_path(user_id):
        place = quote(user_id, safe="")
    else:
        place, given = ELSEWHERE, {_ASKED: user_id, **given}
    path = "/".join(["/users", place, *(quote(step, safe="") for step in steps)])
    return path + (f"?{urlencode(given)}" if given else "")


def user_field(user_id: str) -> Markup:
    """What a form that asks by its query holds so that it keeps the user; nothing where the path names them."""
    if in_path(user_id):
        return Markup("")
    return Markup('<input type="hidden" name="{}" value="{}">').format(_ASKED, user_id)


def in_path(user_id: str) -> bool:
    """Whether an id can stand in a path."""
    return user_id not in _DOTS and _MORE.search(user_id) is None


async def _named(request: Request, user_id: str) -> str:
    return request.query_params.get(_ASKED, user_id) if user_id == ELSEWHERE else user_id


#: What endpoints below `/users/{user_id}` write: `async def history(page: Opened, user_id: Named)`.
Named = Annotated[str, Depends(_named)]
