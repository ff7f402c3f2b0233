"""One change of the catalog by a request: refusals in words, and a line in the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Query, Response

from worker.admin.answers import json_answer
from worker.admin.catalog_view import Change, Refused, View
from worker.admin.problems import Problem
from worker.admin.roles import Actor
from worker.admin.routes import By
from worker.admin.services import Asked, Services
from worker.exchange import AuditLine
from worker.rules.catalog.edits import Edit, Fixed, Taken, entry_of
from worker.rules.compare import badge_in_place


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """A request that changes the catalog: who asks, and the version it must find (None: any)."""

    services: Services
    actor: Actor
    expected: int | None

    async def made(self, action: str, shown: Callable[[View, str], Any], change: Change) -> Any:
        """Make a change, and give what `shown` says of the entry afterwards (before: where it is gone).

        What is given by the old test of a badge stays: then `warnings` say so. `action` is the line of the audit log,
        as `badge.created`. Raises Problem 409, AuthorError for 422.
        """
        catalog, noun = self.services.catalog, action.partition(".")[0].replace("_", " ")
        try:
            edit, before, after = await catalog.edit(
                change, by=self.actor.name, note=action, line=partial(self._line, action, noun), expected=self.expected
            )
        except (Taken, Fixed) as error:
            raise Problem(409, _said(error.message, error.help)) from None
        except Refused as error:
            details = [{"path": fault.path, "message": fault.message, "code": fault.code} for fault in error.faults]
            raise Problem(409, _said(error.message, error.help), details=details) from None
        became = shown(after, edit.key)
        if became is None:
            return shown(before, edit.key)
        warnings = await self._in_place(edit, before, after) if noun == "badge" else []
        return {**became, "warnings": warnings} if warnings else became

    async def _in_place(self, edit: Edit, before: View, after: View) -> list[dict[str, str]]:
        found = await asyncio.to_thread(badge_in_place, before.catalog, after.catalog, edit.key)
        if found is None or (held := await self.services.catalog.awards_held(edit.key)) == 0:
            return []
        message = f"{edit.key}: {found.sentence(held)}; {found.help}."
        flows = [entry_of(view.catalog.document, "badge", edit.key) or {} for view in (before, after)]
        path = "/flow_definition" if flows[0].get("flow") != flows[1].get("flow") else ""
        return [{"code": "changed_in_place", "path": path, "message": message}]

    def _line(self, action: str, noun: str, edit: Edit, view: View, _version: int) -> AuditLine:
        """What the log of changes says: the entry as authors write it, before and after."""
        was, became = (entry_of(document, noun, edit.key) for document in (view.catalog.document, edit.document))
        return AuditLine(self.actor.name, action, f"{noun} {edit.key}", before=was, after=became)

    async def answered(
        self, action: str, shown: Callable[[View, str], Any], change: Change, *, status: int = 200
    ) -> Response:
        """The answer to a request that makes a change; see `made`."""
        return json_answer(await self.made(action, shown, change), status)


async def _change(
    services: Asked,
    actor: By,
    expected: Annotated[
        int | None,
        Query(alias="expect_version", ge=0, le=2**31 - 1, description="Refuse (409) where another version rules"),
    ] = None,
) -> CatalogChange:
    return CatalogChange(services, actor, expected)


#: What endpoints write: `async def make(body: JsonBody, asked: Changing)`.
Changing = Annotated[CatalogChange, Depends(_change)]


def _said(message: str, help: str | None) -> str:
    return message if help is None else f"{message} {help[:1].upper()}{help[1:]}."
