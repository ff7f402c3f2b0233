"""Reads users' logged events from PostgreSQL without locking anyone: for answers that write nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from worker.events import Event
from worker.rules.state import OrderKey
from worker.store.session import Database

_PAGE: Final = 2_000
#: In the year 0001, before any event.
BEFORE_ALL: Final[OrderKey] = (-62_135_596_800_000_000, "", "")

#: What the log holds was read strictly once; PostgreSQL writes its numbers out in full, beyond the bounds of input.
_read_payload = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_read_verdicts = msgspec.json.Decoder(dict[str, str]).decode


def logged_event(
    user_id: str, source: str, event_id: str, kind: str, occurred_us: int, payload: str, verdicts: str | None
) -> Event:
    """The event of a row of the log; the columns in the order in which the queries name them."""
    said = None if verdicts is None else _read_verdicts(verdicts)
    return Event(user_id, kind, occurred_us, source, event_id, _read_payload(payload), payload, said)


class HistoryTable(Database):
    """The event log, user by user."""

    async def history(self, user_id: str) -> list[Event]:
        """The user's events in order, as far as they were committed when each page was read; none where unknown."""
        return [event async for page in self.pages(user_id) for event in page]

    async def pages(self, user_id: str) -> AsyncIterator[list[Event]]:
        """The same by pages, for logs of any length."""
        after = BEFORE_ALL
        while True:
            rows = await self.rows("log_page", user_id, *after, _PAGE)
            page = [logged_event(user_id, *row) for row in rows]
            yield page
            if len(page) < _PAGE:
                return
            after = page[-1].order
