"""Jobs over users in memory, and what their slices read and write, as `repairs` and `user_jobs` do in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import structs

from worker.events import Event
from worker.exchange import Grant, LiveFigures, Revocation, Standing, UserJob
from worker.rules.state import UserState, award_key
from worker.store.blobs import unpack_state
from worker.store.memory_tables import Locks, Tables

_LEASE_SECONDS: Final = 30.0
_OPEN: Final = ("waiting", "running")


@dataclass(slots=True)
class JobRow:
    """One row of `user_jobs`."""

    job: UserJob
    driver: str | None = None
    leased_until: float | None = None

    def free_for(self, driver: str, now: float) -> bool:
        """Whether this driver may do its next slice."""
        lease = self.leased_until
        return self.job.state in _OPEN and (lease is None or lease < now or self.driver == driver)


class MemoryJobs:
    """The jobs over users of a store."""

    tables: Tables
    _clock: Callable[[], float]

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
    ) -> int:
        """Write down a job; its id."""
        number, now = len(self.tables.user_jobs) + 1, self._clock()
        at_us = round(now * 1_000_000)
        state, started = ("waiting", None) if driver is None else ("running", at_us)
        job = UserJob(
            number, kind, parameters, state, after, 0, users, 0, 0, {}, requested_by, at_us, started, None, None, note
        )
        self.tables.user_jobs[number] = JobRow(job, driver, None if driver is None else now + _LEASE_SECONDS)
        return number

    async def user_jobs(
        self, *, kind: str | None = None, state: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[UserJob]:
        """A page, newest first."""
        jobs = [row.job for _, row in sorted(self.tables.user_jobs.items(), reverse=True)]
        found = [job for job in jobs if kind in (None, job.kind) and state in (None, job.state)]
        return [job for job in found if before is None or job.id < before][:limit]

    async def user_job(self, job_id: int) -> UserJob | None:
        """One job."""
        row: JobRow | None = self.tables.user_jobs.get(job_id)
        return None if row is None else row.job

    async def next_user_job(self, driver: str) -> int | None:
        """The oldest job that nobody else drives."""
        rows = sorted(self.tables.user_jobs.items())
        return next((number for number, row in rows if row.free_for(driver, self._clock())), None)

    async def unfinished_user_job(self, kind: str, parameters: Mapping[str, Any]) -> tuple[int, bool] | None:
        """The newest unfinished job that asks the same, and whether somebody drives it now."""
        for number, row in sorted(self.tables.user_jobs.items(), reverse=True):
            if row.job.state in _OPEN and row.job.kind == kind and row.job.parameters == parameters:
                return number, row.leased_until is not None and row.leased_until > self._clock()
        return None

    async def keep_user_job(self, job_id: int, driver: str, *, seconds: float) -> bool:
        """Stay its driver through a pause."""
        row = self.tables.user_jobs[job_id]
        if row.driver != driver or row.job.state != "running":
            return False
        row.leased_until = self._clock() + seconds
        return True

    async def cancel_user_job(self, job_id: int, *, note: str = "") -> bool:
        """End a job before its time."""
        return self._end(job_id, "cancelled", note)

    async def fail_user_job(self, job_id: int, *, note: str) -> bool:
        """End a job that cannot go on."""
        return self._end(job_id, "failed", note)

    def _end(self, job_id: int, state: str, note: str) -> bool:
        row = self.tables.user_jobs.get(job_id)
        if row is None or row.job.state not in _OPEN:
            return False
        job = replace(row.job, state=state, done_us=round(self._clock() * 1_000_000), note=note or row.job.note)
        self.tables.user_jobs[job_id] = JobRow(job)
        return True

    async def resume_user_job(self, job_id: int) -> bool:
        """Let a cancelled or failed job go on."""
        row = self.tables.user_jobs.get(job_id)
        if row is None or row.job.state not in ("cancelled", "failed"):
            return False
        self.tables.user_jobs[job_id] = JobRow(replace(row.job, state="waiting", done_us=None))
        return True

    async def last_sweep(self) -> str:
        """The user after whom the next sweep of a share begins."""
        done = await self.user_jobs(kind="sweep", state="done", limit=1)
        return done[0].after if done else ""

    async def knows_user(self, user_id: str) -> bool:
        """Whether the user has a row or an event."""
        return user_id in self.tables.users or user_id in self.tables.events

    async def live_figures(self) -> LiveFigures:
        """How live work is now: in memory nothing is slow."""
        return LiveFigures(None, 0.0, 0.0)


class MemoryRepairs:
    """The part of a transaction that looks at users' logs, memory and awards, and puts them right."""

    _tables: Tables
    _locks: Locks
    _now: float
    _set: Callable[..., None]
    _logged: Callable[[str], dict[tuple[str, str], Event]]

    async def take_user_job(self, job_id: int, driver: str, *, seconds: float) -> UserJob | None:
        """A job for one slice."""
        row: JobRow | None = self._tables.user_jobs.get(job_id)
        if row is None or not row.free_for(driver, self._now):
            return None
        if not self._locks.try_take(self, ("job", job_id)):  # type: ignore[arg-type]  # a transaction is a holder
            return None
        started = round(self._now * 1_000_000) if row.job.started_us is None else row.job.started_us
        job: UserJob = replace(row.job, state="running", started_us=started)
        self._set(self._tables.user_jobs, job_id, JobRow(job, driver, self._now + seconds))
        return job

    async def move_user_job(
        self, job: UserJob, *, after: str | None, users: int, events: int, awards: int, changes: Mapping[str, Any]
    ) -> None:
        """Write down how far a job is."""
        self._moved(job, after, users, events, awards, changes, done=after is None)

    async def end_sweep(
        self, job: UserJob, *, after: str, users: int, events: int, awards: int, changes: Mapping[str, Any]
    ) -> None:
        """A sweep's share is done."""
        self._moved(job, after, users, events, awards, changes, done=True)

    def _moved(
        self, job: UserJob, after: str | None, users: int, events: int, awards: int, changes: Any, *, done: bool
    ) -> None:
        at_us, count = round(self._now * 1_000_000), job.users_done + users
        moved = replace(
            job,
            after=job.after if after is None else after,
            users_done=count,
            users_total=count if done else max(count, job.users_total),
            events=job.events + events,
            awards=job.awards + awards,
            changes=changes,
            moved_us=at_us,
            done_us=at_us if done else None,
            state="done" if done else job.state,
        )
        row = self._tables.user_jobs[job.id]
        self._set(self._tables.user_jobs, job.id, JobRow(moved) if done else replace(row, job=moved))

    async def users_page(self, after: str, limit: int) -> list[str]:
        """The next users after one, by id."""
        return sorted(one for one in {*self._tables.users, *self._tables.events} if one > after)[:limit]

    async def users_built(self, after: str, limit: int) -> list[tuple[str, int]]:
        """The next users with a row after one, by id, each with the version it is built for."""
        rows = sorted(self._tables.users.items())
        return [(user_id, row.built_version or 0) for user_id, row in rows if user_id > after][:limit]

    async def held_of(self, users: Sequence[str], keys: Collection[str]) -> dict[str, dict[tuple[str, str], int]]:
        """When each of these users was given what they hold of some badges."""
        tables = {user_id: self._tables.user_badges.get(user_id, {}) for user_id in users}
        return {
            user_id: {award_key(*key): grant.awarded_us for key, grant in held.items() if key[0] in keys}
            for user_id, held in tables.items()
        }

    async def with_events(self, users: Sequence[str], types: Collection[str], badges: Collection[str]) -> list[str]:
        """Of some users those who have an event of one of these types, or were ever given one of these badges."""
        given = {grant.user_id for grant in self._tables.awards_log if grant.badge_key in badges}
        return [one for one in users if one in given or any(e.type in types for e in self._logged(one).values())]

    async def look_at(self, users: Sequence[str]) -> dict[str, UserState]:
        """The rows of users as they stand."""
        return {
            user_id: UserState(
                user_id,
                scopes={"": unpack_state(row.state)},
                newest=row.newest,
                award_sequence=row.award_sequence,
                built_version=row.built_version or 0,
            )
            for user_id in users
            if (row := self._tables.users.get(user_id)) is not None
        }

    async def memory_of(self, users: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """All memory of users that is kept for values of payload fields."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for (user_id, scope), blob in self._tables.scopes.items():
            if user_id in users:
                found.setdefault(user_id, {})[scope] = unpack_state(blob)
        return found

    async def standing_of(self, users: Sequence[str]) -> dict[str, Standing]:
        """The awards of each of these users."""
        found = {user_id: Standing() for user_id in users}
        for user_id, standing in found.items():
            for key, grant in self._tables.user_badges.get(user_id, {}).items():
                standing.held[award_key(*key)] = (grant.awarded_us, grant.trigger_id)
                if grant.source == "manual":
                    standing.by_hand.add(award_key(*key))
            self._read_log(user_id, standing)
        return found

    def _read_log(self, user_id: str, standing: Standing) -> None:
        """What is withheld, and what the log of awards says of what is not held."""
        for (of, *kept), (row, _) in self._tables.withheld.items():
            if of == user_id:
                standing.withheld[award_key(*kept)] = row.state
                if row.state == "revoked" and row.trigger_type != "grant.revoked":
                    standing.barred.add(award_key(*kept))
        log = [entry for entry in self._tables.awards_log if entry.user_id == user_id]
        log.sort(key=lambda entry: entry.sequence)
        taken = {(e.badge_key, e.context) for e in log if isinstance(e, Revocation) and e.source == "manual"}
        for entry in reversed(log):
            key = award_key(entry.badge_key, entry.context)
            if key in taken and isinstance(entry, Grant):
                standing.first[key] = (entry.awarded_us, entry.trigger_id)
        for key, entry in {award_key(one.badge_key, one.context): one for one in log}.items():
            if key in standing.held or key in standing.withheld:
                continue
            if isinstance(entry, Grant):
                standing.lost[key], standing.numbers[key] = (entry.awarded_us, entry.trigger_id), entry.sequence
                if entry.source == "manual":
                    standing.by_hand.add(key)
            elif entry.source == "manual":
                standing.withheld[key] = "revoked"

    async def logs_of(
        self,
        users: Sequence[str],
        types: Collection[str] | None = None,
        *,
        page: int = 2_000,  # noqa: ARG002 - a user's log is a page here
    ) -> AsyncGenerator[list[Event]]:
        """The logged events of users, user by user and in order."""
        for user_id in users:
            log = sorted(self._logged(user_id).values(), key=lambda event: event.order)
            yield [event for event in log if types is None or event.type in types]

    async def count_logged(self, users: Sequence[str], types: Collection[str] | None) -> dict[str, int]:
        """How many events each of these users has, of some types where these are given."""
        logs = {user_id: self._logged(user_id).values() for user_id in users}
        counts = {user_id: sum(types is None or e.type in types for e in log) for user_id, log in logs.items()}
        return {user_id: count for user_id, count in counts.items() if count}

    async def floors(self) -> dict[str, int]:
        """Types of which retention removed old events."""
        return dict(self._tables.retention_floors)

    async def restore(self, awards: Collection[tuple[str, int]]) -> None:
        """Put awards back as the log of awards has them."""
        given = (entry for entry in self._tables.awards_log if isinstance(entry, Grant))
        logged = {(grant.user_id, grant.sequence): grant for grant in given}
        for key in awards:
            grant = logged[key]
            held = self._tables.user_badges.setdefault(grant.user_id, {})
            self._set(held, (grant.badge_key, grant.context), grant)

    async def store_verdicts(self, events: Sequence[Event]) -> None:
        """Write what conditions say of logged events."""
        for event in events:
            log = self._tables.events[event.user_id]
            old = log[event.source, event.id]
            said = {**(old.verdicts or {}), **(event.verdicts or {})}
            self._set(log, (event.source, event.id), structs.replace(old, verdicts=said))
