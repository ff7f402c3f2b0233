"""The log of changes for acts that are not done in the transaction of their line: what is sent to workers, or tried.

The line comes first. Where the act fails another one says so, its action with `.unsent` behind it; where it is sent
again under its key and done after all, one with `.sent` is the last word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Literal, Protocol

from worker.errors import BadgesError
from worker.exchange import AuditLine


class ChangeLog(Protocol):
    """The append-only log of changes."""

    async def audit(self, line: AuditLine) -> None:
        """Append one change, for acts that are done elsewhere than in the database: before they are."""

    async def audit_sent(self, line: AuditLine) -> None:
        """Append the change with `.sent`, where the last that was said of it is that it was not sent."""


@asynccontextmanager
async def noted(log: ChangeLog, line: AuditLine | None, *, keyed: bool = False) -> AsyncIterator[None]:
    """Around the doing of an act: `line` comes before, and what became of it behind. What is raised goes on.

    Nothing is written where there is no line, as nothing is done then. `keyed`: the line was left together with the
    act's key, and this may be the second time that it is done.
    """
    if line is None:
        yield
        return
    if not keyed:
        await log.audit(line)
    try:
        yield
    except BadgesError as error:
        with suppress(BadgesError):
            await log.audit(replace(line, action=f"{line.action}.unsent", note=error.message))
        raise
    if keyed:
        await log.audit_sent(line)


def award_line(
    actor: str, action: Literal["grant.added", "grant.revoked"], user_id: str, badge_key: str, context: str, note: str
) -> AuditLine:
    """A badge given or taken by hand; the action is the name of the event that does it."""
    return AuditLine(actor, action, f"user {user_id}", after={"badge_key": badge_key, "context": context}, note=note)


def letters_line(actor: str, *, letters: int, chosen: Mapping[str, Any]) -> AuditLine:
    """So many dead letters tried again, which were chosen by these."""
    return AuditLine(actor, "dead_letters.replayed", "dead letters", after={"letters": letters, **chosen})


def replay_line(actor: str, *, records: int, **chosen: Any) -> AuditLine:
    """So many records of topics read again, which were chosen by these."""
    return AuditLine(actor, "records.replayed", "records", after={"records": records, **chosen})
