"""One change of the catalog by a request: refusals in words, and a line in the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query

from worker.admin.catalog_view import Change, Refused, View
from worker.admin.problems import Problem
from worker.admin.roles import Actor
from worker.admin.services import Services
from worker.rules.catalog.edits import Fixed, Taken

Expected = Annotated[
    int | None,
    Query(
        alias="expect_version",
        ge=0,
        le=2**31 - 1,
        description="Refuse (409) where another version rules",
    ),
]


async def change_catalog(
    services: Services,
    actor: Actor,
    change: Change,
    *,
    action: str,
    shown: Callable[[View, str], Any],
    expected: int | None = None,
) -> Any:
    """Make a change, write it down, and give what `shown` says of the entry afterwards (before: where it is gone).

    `action` is the line of the audit log, as `badge.created`. Raises Problem 409, AuthorError for 422.
    """
    noun = action.partition(".")[0].replace("_", " ")
    try:
        edit, before, after = await services.catalog.edit(change, by=actor.name, note=action, expected=expected)
    except (Taken, Fixed) as error:
        raise Problem(409, _said(error.message, error.help)) from None
    except Refused as error:
        details = [{"path": fault.path, "message": fault.message, "code": fault.code} for fault in error.faults]
        raise Problem(409, _said(error.message, error.help), details=details) from None
    was, became = shown(before, edit.key), shown(after, edit.key)
    await services.store.audit(actor.name, action, f"{noun} {edit.key}", before=was, after=became)
    return was if became is None else became


def _said(message: str, help: str | None) -> str:
    return message if help is None else f"{message} {help[:1].upper()}{help[1:]}."
