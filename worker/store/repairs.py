"""What a slice of a job over users reads and writes beside a batch's statements (`pipeline.repair_protocols`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from worker.events import Event
from worker.exchange import Standing, UserJob
from worker.rules.state import UserState, award_key
from worker.store.blobs import unpack_state
from worker.store.histories import BEFORE_ALL, logged_event
from worker.store.session import Session
from worker.store.user_jobs import job_of

_encode: Final = msgspec.json.Encoder().encode


class RepairStatements:
    """The part of a transaction that looks at users' logs, memory and awards, and puts them right."""

    _session: Session

    async def take_user_job(self, job_id: int, driver: str, *, seconds: float) -> UserJob | None:
        """A job for one slice, locked to the end; None where it is finished or somebody else's."""
        found = await self._session.rows("take_user_job", job_id, driver, seconds)
        return job_of(found[0]) if found else None

    async def move_user_job(
        self, job: UserJob, *, after: str | None, users: int, events: int, awards: int, changes: Mapping[str, Any]
    ) -> None:
        """Write down how far a job is and all it has found; without `after` it is done."""
        await self.__moved(job, after, users, events, awards, changes, done=after is None)

    async def end_sweep(
        self, job: UserJob, *, after: str, users: int, events: int, awards: int, changes: Mapping[str, Any]
    ) -> None:
        """A sweep's share is done: the next one goes on after this user."""
        await self.__moved(job, after, users, events, awards, changes, done=True)

    async def __moved(
        self, job: UserJob, after: str | None, users: int, events: int, awards: int, changes: Any, *, done: bool
    ) -> None:
        text = _encode(changes).decode()
        await self._session.execute("move_user_job", job.id, after, users, events, awards, text, done)

    async def users_page(self, after: str, limit: int) -> list[str]:
        """The next users after one, by id: those with a row and those whom only the log knows."""
        return [row["user_id"] for row in await self._session.rows("users_page", after, limit)]

    async def users_built(self, after: str, limit: int) -> list[tuple[str, int]]:
        """The next users with a row after one, by id, each with the version it is built for."""
        found = await self._session.rows("users_built", after, limit)
        return [(user_id, version or 0) for user_id, version in found]

    async def held_of(self, users: Sequence[str], keys: Collection[str]) -> dict[str, dict[tuple[str, str], int]]:
        """When each of these users was given what they hold of some badges."""
        held: dict[str, dict[tuple[str, str], int]] = {}
        for user_id, key, context, at in await self._session.rows("held_among", users, list(keys)):
            held.setdefault(user_id, {})[award_key(key, context)] = at
        return held

    async def with_events(self, users: Sequence[str], types: Collection[str], badges: Collection[str]) -> list[str]:
        """Of some users those who have an event of one of these types, or were ever given one of these badges."""
        found = await self._session.rows("users_with_events", users, list(types), list(badges))
        return [row["user_id"] for row in found]

    async def look_at(self, users: Sequence[str]) -> dict[str, UserState]:
        """The rows of users as they stand, not locked; those without a row are left out."""
        return {row["user_id"]: state_of_row(row) for row in await self._session.rows("look_at_users", users)}

    async def memory_of(self, users: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """All memory of users that is kept for values of payload fields: user to scope to fold to state."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for user_id, scope, blob in await self._session.rows("scopes_of", users):
            found.setdefault(user_id, {})[scope] = unpack_state(blob)
        return found

    async def standing_of(self, users: Sequence[str]) -> dict[str, Standing]:
        """The awards of each of these users."""
        found = {user_id: Standing() for user_id in users}
        for user_id, badge, context, at, event_id, source, sequence, what in await self._session.rows(
            "standing_of", users
        ):
            standing, key = found[user_id], award_key(badge, context)
            if what == "first":
                standing.first[key] = (at, event_id)
            elif what.startswith("withheld "):
                barred = what == "withheld barred"
                standing.withheld[key] = "revoked" if barred else what.removeprefix("withheld ")
                if barred:
                    standing.barred.add(key)
            else:
                if what == "lost":
                    standing.lost[key], standing.numbers[key] = (at, event_id), sequence
                else:
                    standing.held[key] = (at, event_id)
                if source == "manual":
                    standing.by_hand.add(key)
        return found

    async def logs_of(
        self, users: Sequence[str], types: Collection[str] | None = None, *, page: int = 2_000
    ) -> AsyncGenerator[list[Event]]:
        """The logged events of users (sorted), user by user and in order, so many a page; nobody need be locked.

        The database reads the next page while one is worked on: who stops before the end closes this first.
        """
        wanted, kinds = frozenset(users), None if types is None else list(types)

        def read(after: tuple[Any, ...]) -> asyncio.Task[list[asyncpg.Record]]:
            return asyncio.create_task(self._session.rows("events_among", *after, users[-1], kinds, page))

        ahead = read((users[0], *BEFORE_ALL))
        try:
            while True:
                rows = await ahead
                more = len(rows) == page
                if more:
                    ahead = read(_following(rows[-1], users, wanted))
                yield [logged_event(*row) for row in rows if row[0] in wanted]
                if not more:
                    return
        finally:
            # a statement that runs is not cut off: the connection is needed
            await asyncio.wait({ahead})
            if not ahead.cancelled():
                ahead.exception()

    async def count_logged(self, users: Sequence[str], types: Collection[str] | None) -> dict[str, int]:
        """How many events each of these users has, of some types where these are given."""
        found = await self._session.rows("count_logged", users, None if types is None else list(types))
        return {row[0]: row[1] for row in found}

    async def floors(self) -> dict[str, int]:
        """Types of which retention removed old events, and up to when (microseconds)."""
        return {row["type"]: row["floor"] for row in await self._session.rows("retention_floors")}

    async def restore(self, awards: Collection[tuple[str, int]]) -> None:
        """Put awards back as the log of awards has them, by (user, sequence); nothing is published."""
        await self._session.execute("restore_awards", *zip(*awards, strict=True))

    async def store_verdicts(self, events: Sequence[Event]) -> None:
        """Write what conditions say of logged events, beside what was said of them before."""
        await self._session.rows("allow_rewriting")
        rows = [(one.user_id, one.source, one.id, _encode(one.verdicts or {}).decode()) for one in events]
        await self._session.execute("store_verdicts", *zip(*rows, strict=True))


def _following(row: asyncpg.Record, users: Sequence[str], wanted: Collection[str]) -> tuple[Any, ...]:
    """The key after which the next page begins: whoever lies between two of those asked for is passed over."""
    user_id, source, event_id, _, occurred_us, *_ = row
    if user_id in wanted:
        return user_id, occurred_us, source, event_id
    return next(one for one in users if one > user_id), *BEFORE_ALL


def state_of_row(row: asyncpg.Record) -> UserState:
    """The state that a row of `users` holds: its checkpoint."""
    newest = None
    if row["newest_at"] is not None:
        newest = (row["newest_at"], row["newest_source"], row["newest_id"])
    return UserState(
        row["user_id"],
        scopes={"": unpack_state(row["state"])},
        newest=newest,
        award_sequence=row["award_sequence"],
        # a row that no version was built for is behind every version
        built_version=row["built_version"] or 0,
    )
