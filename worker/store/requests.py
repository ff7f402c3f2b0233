"""What the intake of events over HTTP asks of PostgreSQL: was this asked before, is it applied, what did it earn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.exchange import AuditLine
from worker.store.admin import write_line
from worker.store.session import Database

#: A request may be sent again for so many days.
KEPT_DAYS = 7


@dataclass(frozen=True, slots=True)
class EarnedAward:
    """An award that a certain event earned."""

    badge_key: str
    context: str
    awarded_us: int
    origin: str


class RequestTables(Database):
    """Requests that may come again, and what became of the events they brought."""

    async def first_request(
        self, name: bytes, body: bytes, occurred_us: int, line: AuditLine | None = None
    ) -> tuple[bytes, int]:
        """The hash of the body and the instant that a request of this name first came with.

        The first one leaves `line` in the log of changes.
        """
        if line is None:
            (row,) = await self.rows("first_request", name, body, occurred_us)
        else:
            async with self.work() as session:
                (row,) = await session.rows("first_request", name, body, occurred_us)
                await write_line(session, line if row["made"] else None)
        return row["body"], row["occurred_at"]

    async def forget_requests(self) -> int:
        """Remove requests older than `KEPT_DAYS`; returns how many."""
        return await self.execute("forget_requests", KEPT_DAYS)

    async def logged(self, events: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """Those of these events (user, source, id) that are logged."""
        columns = [list(column) for column in zip(*events, strict=True)] or [[], [], []]
        return [(row[0], row[1], row[2]) for row in await self.rows("logged_events", *columns)]

    async def awards_by(self, user_id: str, event_id: str) -> list[EarnedAward]:
        """What the user holds that this event earned, in the order it was given."""
        return [EarnedAward(*row) for row in await self.rows("awards_by_event", user_id, event_id)]
