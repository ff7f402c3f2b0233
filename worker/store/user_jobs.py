"""Jobs over users in PostgreSQL: asked for, listed, driven by one at a time, ended; and how live work is meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import asyncpg
import msgspec

from worker.exchange import AuditLine, LiveFigures, UserJob
from worker.store.admin import write_line
from worker.store.session import Database

_encode: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class UserJobTable(Database):
    """The jobs over users. A driver is whoever does a job's slices: its name, which it keeps by showing it in time."""

    async def create_user_job(
        self,
        kind: str,
        parameters: Mapping[str, Any],
        *,
        users: int = 0,
        requested_by: str = "",
        note: str = "",
        after: str = "",
        driver: str | None = None,
        line: Callable[[int], AuditLine] | None = None,
    ) -> int:
        """Write down a job; its id. Without a driver it waits for a worker. `users` is how many it will look at.

        `line` makes of the id what the log of changes says of it.
        """
        text = _encode(parameters).decode()
        async with self.work() as session:
            found = await session.rows("create_user_job", kind, text, users, requested_by, note, after, driver)
            number = int(found[0]["id"])
            await write_line(session, None if line is None else line(number))
        return number

    async def user_jobs(
        self, *, kind: str | None = None, state: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[UserJob]:
        """A page, newest first; `before` is the id of the last one of the page before."""
        return [job_of(row) for row in await self.rows("user_jobs", before, kind, state, limit)]

    async def user_job(self, job_id: int) -> UserJob | None:
        """One job; None where there is none of this id."""
        found = await self.rows("user_job", job_id)
        return job_of(found[0]) if found else None

    async def next_user_job(self, driver: str) -> int | None:
        """The oldest job that nobody else drives; None where there is none."""
        found = await self.rows("next_user_job", driver)
        return int(found[0]["id"]) if found else None

    async def unfinished_user_job(self, kind: str, parameters: Mapping[str, Any]) -> tuple[int, bool] | None:
        """The newest unfinished job that asks the same, and whether somebody drives it now."""
        found = await self.rows("unfinished_user_job", kind, _encode(parameters).decode())
        return (int(found[0]["id"]), bool(found[0]["driven"])) if found else None

    async def keep_user_job(self, job_id: int, driver: str, *, seconds: float) -> bool:
        """Stay its driver through a pause; False where it was cancelled, or is somebody else's by now."""
        return await self.execute("keep_user_job", job_id, driver, seconds) == 1

    async def cancel_user_job(self, job_id: int, *, note: str = "", line: AuditLine | None = None) -> bool:
        """End a job before its time, waiting for its running slice; what is done stays. False where it had ended."""
        return await self._changed(line, "end_user_job", job_id, "cancelled", note)

    async def fail_user_job(self, job_id: int, *, note: str) -> bool:
        """End a job that cannot go on; `note` says why."""
        return await self.execute("end_user_job", job_id, "failed", note) == 1

    async def resume_user_job(self, job_id: int, *, line: AuditLine | None = None) -> bool:
        """Let a cancelled or failed job go on where it stopped; False where it is neither."""
        return await self._changed(line, "resume_user_job", job_id)

    async def _changed(self, line: AuditLine | None, name: str, *arguments: Any) -> bool:
        """Whether a statement changed the job; then the log of changes has its line, of the same transaction."""
        async with self.work() as session:
            done = await session.execute(name, *arguments) == 1
            await write_line(session, line if done else None)
        return done

    async def last_sweep(self) -> str:
        """The user after whom the next sweep of a share begins."""
        found = await self.rows("last_sweep")
        return str(found[0]["after"]) if found else ""

    async def knows_user(self, user_id: str) -> bool:
        """Whether the user has a row or an event."""
        return bool(await self.rows("known_among", [user_id]))

    async def live_figures(self) -> LiveFigures:
        """How live work is now."""
        return LiveFigures(*(await self.rows("live_figures"))[0])

    async def live_positions(self, group_id: str, seconds: float) -> dict[tuple[str, int], int | None]:
        """A group's partitions, each with the next offset to be applied where a batch moved it within so long."""
        rows = await self.rows("live_positions", group_id, seconds)
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


def job_of(row: asyncpg.Record) -> UserJob:
    """The job of a row."""
    values = dict(row)
    return UserJob(**values | {name: _decode(values[name]) for name in ("parameters", "changes")})
