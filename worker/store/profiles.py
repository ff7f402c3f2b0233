"""Reads awards from PostgreSQL for profile pages and for the feed; writes where one stands on a profile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from worker.exchange import AuditLine
from worker.store.admin import write_line
from worker.store.session import Database

#: No transaction of this project is open for so long (its statements and its idling are bounded), microseconds.
_LONGEST_US: Final = 30_000_000
_PAGE: Final = 500


# A tuple: one request for a profile makes a dozen of them.
class ProfileAward(NamedTuple):
    """One award a user holds; `metadata` is JSON text as PostgreSQL writes it, instants are microseconds.

    `stamp` is another number wherever badge, context, instant, place or sequence is another.
    """

    badge_key: str
    context: str
    awarded_us: int
    sort_override: int | None
    origin: str
    source: str
    sequence: int
    metadata: str
    stamp: int


@dataclass(frozen=True, slots=True)
class LoggedAward:
    """One row of the log of awards; `kind` is awarded or revoked, `metadata` JSON text, instants microseconds."""

    user_id: str
    badge_key: str
    context: str
    award_id: UUID
    kind: str
    awarded_us: int
    source: str
    origin: str
    sequence: int
    trigger_id: str | None
    trigger_type: str | None
    metadata: str
    reason: str | None
    logged_us: int


@dataclass(frozen=True, slots=True)
class FeedPlace:
    """How far a reader of the log is: everything that `snapshot` (PostgreSQL's text) showed at `at_us` is read."""

    snapshot: str
    at_us: int


class ProfileTables(Database):
    """Awards as people look at them; nobody is locked."""

    async def awards_of_users(self, users: Sequence[str]) -> tuple[int, list[list[ProfileAward]]]:
        """The version of the catalog that rules (0: none), and the awards of each user, in the order asked."""
        found: list[list[ProfileAward]] = [[] for _ in users]
        version = 0
        for row in await self.rows("awards_of_users", users):
            version = row[0] or 0
            if row[2] is not None:
                found[row[1] - 1].append(ProfileAward(*row[2:]))
        return version, found

    async def stamps_of_users(self, users: Sequence[str]) -> tuple[int, list[int]]:
        """The version of the catalog that rules (0: none), and of each user the stamps of all awards, xor-ed."""
        rows = await self.rows("stamps_of_users", users)
        return (rows[0][0] or 0 if rows else 0), [row[1] for row in rows]

    async def set_sort_override(
        self,
        user_id: str,
        badge_key: str,
        context: str | None,
        value: int | None,
        line: Callable[[int], AuditLine] | None = None,
    ) -> int:
        """Place awards of a badge by hand (None as context: all of them; as value: no more); how many there were.

        `line` makes of their number what the log of changes says; nothing where there was none.
        """
        async with self.work() as session:
            found = len(await session.rows("set_sort_override", user_id, badge_key, context, value))
            await write_line(session, line(found) if found and line is not None else None)
        return found

    async def awards_page(
        self,
        *,
        since_us: int,
        before: tuple[int, str, int],
        limit: int,
        badge_key: str | None = None,
        trigger: str | None = None,
        origin: str | None = None,
        user_id: str | None = None,
    ) -> list[LoggedAward]:
        """The log from `before` (logged instant, user, sequence; left out itself) back to `since_us`, newest first."""
        asked = (since_us, *before, badge_key, trigger, origin, limit)
        if user_id is None:
            rows = await self.rows("awards_page", *asked)
        else:
            rows = await self.rows("awards_page_of_user", *asked, user_id)
        return [LoggedAward(*row) for row in rows]

    async def feed_now(self) -> FeedPlace:
        """The place of a reader who begins now."""
        row = (await self.rows("feed_now"))[0]
        return FeedPlace(row["snapshot"], row["at"])

    async def feed_between(self, old: FeedPlace, new: FeedPlace) -> AsyncIterator[list[LoggedAward]]:
        """Pages of what `new` shows and `old` did not, in the order of the log: each award once, none left out."""
        after: tuple[Any, ...] = (None, None, None)
        floor = old.at_us - _LONGEST_US
        while True:
            rows = await self.rows("feed_between", old.snapshot, new.snapshot, floor, *after, _PAGE)
            if rows:
                yield [LoggedAward(*row) for row in rows]
            if len(rows) < _PAGE:
                return
            after = (rows[-1]["logged_at"], rows[-1]["user_id"], rows[-1]["sequence"])
