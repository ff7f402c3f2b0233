"""Tokens of the API, sessions that were ended, and the log of changes, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from worker.errors import OperatorError
from worker.events import json_text
from worker.exchange import AuditLine
from worker.store.session import Database, Session

#: So long may what stands in the audit log be, characters.
_MOST_NAME = 200
_MOST_NOTE = 2_000

#: So many changes are looked at where a second filter has no index.
_LOOKED_AT: Final = 20_000
_LAST_NUMBER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A token that may be used, and the hash it is known by."""

    id: int
    name: str
    role: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as a list shows it; instants in microseconds, None for never."""

    id: int
    name: str
    role: str
    created_us: int
    created_by: str
    used_us: int | None
    revoked_us: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the audit log; `before` and `after` are JSON texts."""

    id: int
    at_us: int
    actor: str
    action: str
    subject: str
    before: str | None
    after: str | None
    note: str


class AdminTables(Database):
    """Who may use the API, and what was changed by whom."""

    async def ping(self) -> None:
        """Answer, or raise what is wrong."""
        await self.rows("catalog_version")

    async def create_token(self, name: str, role: str, sha256: bytes, *, actor: str) -> int:
        """Store a token by its hash; its number. Raises OperatorError where a live one has the name."""
        async with self.work() as session:
            found = await session.rows("insert_token", name, role, sha256, actor)
            if not found:
                raise OperatorError(f"There is a token named {name} already.", help="take another name, or revoke it")
            number = int(found[0]["id"])
            after = {"name": name, "role": role}
            await write_line(session, AuditLine(actor, "token.created", f"token {number}", after=after))
        return number

    async def revoke_token(self, which: int | str, *, actor: str) -> LiveToken | None:
        """End a token by its number, or by a text that is its number or else its name; None where there is none live.

        One token at most ends: a name may be written as another's number.
        """
        text = str(which)
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
        async with self.work() as session:
            found = [] if number is None else await session.rows("revoke_token", number, None)
            if not found and isinstance(which, str):
                found = await session.rows("revoke_token", None, which)
            for row in found:
                before = {"name": row["name"], "role": row["role"]}
                await write_line(session, AuditLine(actor, "token.revoked", f"token {row['id']}", before=before))
        return LiveToken(found[0]["id"], found[0]["name"], found[0]["role"], b"") if found else None

    async def tokens(self) -> list[TokenRow]:
        """All tokens, the live ones first."""
        return [TokenRow(*row) for row in await self.rows("list_tokens")]

    async def live_tokens(self) -> list[LiveToken]:
        """All that are not revoked."""
        return [LiveToken(*row) for row in await self.rows("live_tokens")]

    async def any_token(self) -> bool:
        """Whether one was ever created."""
        return bool((await self.rows("any_token"))[0]["found"])

    async def touch_tokens(self, ids: Collection[int]) -> None:
        """Note that these were used now."""
        await self.execute("touch_tokens", list(ids))

    async def end_session(self, sha256: bytes, line: AuditLine | None = None) -> None:
        """Note that a session of the panel is over, by the hash of its token."""
        async with self.work() as session:
            await session.execute("end_session", sha256)
            await write_line(session, line)

    async def ended_sessions(self, seconds: float, most: int) -> list[bytes]:
        """The newest of the sessions that were ended within some seconds."""
        return [row["sha256"] for row in await self.rows("ended_sessions", seconds, most)]

    async def forget_sessions(self, seconds: float) -> int:
        """Remove those ended longer ago; returns how many."""
        return await self.execute("forget_sessions", seconds)

    async def audit(self, line: AuditLine) -> None:
        """Append one change, in a transaction of its own; see `write_line` for one within another."""
        async with self.work() as session:
            await write_line(session, line)

    async def audit_sent(self, line: AuditLine) -> None:
        """Append the change with `.sent`, where the last that was said of the same act is that it was not sent."""
        await self.execute("insert_audit_sent", *_columns(line))

    async def changes(
        self,
        *,
        before: int | None = None,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        limit: int = 50,
    ) -> list[Change]:
        """A page of the audit log, newest first; `before` is the number of the last one of the page before.

        With several filters the newest 20,000 of the subject, or else of the actor, are looked at.
        """
        start = _LAST_NUMBER if before is None else before
        if subject is not None:
            found = await self.rows("list_audit_of_subject", subject, actor, action, start, limit, _LOOKED_AT)
        elif actor is not None:
            found = await self.rows("list_audit_of_actor", actor, action, start, limit, _LOOKED_AT)
        elif action is not None:
            found = await self.rows("list_audit_of_action", action, start, limit)
        else:
            found = await self.rows("list_audit", start, limit)
        return [Change(*row) for row in found]


async def write_line(session: Session, line: AuditLine | None) -> None:
    """Append one change to the audit log, in the transaction that makes it; nothing where there is no line."""
    if line is not None:
        await session.execute("insert_audit", *_columns(line))


def _columns(line: AuditLine) -> tuple[str | None, ...]:
    return (
        line.actor[:_MOST_NAME],
        line.action,
        line.subject[:_MOST_NAME],
        None if line.before is None else json_text.dumps(line.before),
        None if line.after is None else json_text.dumps(line.after),
        line.note[:_MOST_NOTE],
    )
