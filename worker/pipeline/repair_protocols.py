"""What a slice of a job over users asks of a store, beside what a batch does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from worker.events import Event
from worker.exchange import LiveFigures, Standing, UserJob
from worker.pipeline.protocols import Transaction
from worker.rules.state import UserState


class RepairTransaction(Transaction, Protocol):
    """One open transaction of a slice."""

    async def take_user_job(self, job_id: int, driver: str, *, seconds: float) -> UserJob | None:
        """The job, held to the end and this driver's for so long; None where it has ended or is somebody else's."""

    async def move_user_job(
        self, job: UserJob, *, after: str | None, users: int, events: int, awards: int, changes: Mapping[str, Any]
    ) -> None:
        """Write down that users up to `after` are done (None: all are, the job is done) and all that was found."""

    async def end_sweep(
        self, job: UserJob, *, after: str, users: int, events: int, awards: int, changes: Mapping[str, Any]
    ) -> None:
        """Write down that a sweep is done, and after whom the next one goes on."""

    async def users_page(self, after: str, limit: int) -> list[str]:
        """The next users after one, by id: those with a row and those whom only the log knows."""

    async def users_built(self, after: str, limit: int) -> list[tuple[str, int]]:
        """The next users with a row after one, by id, each with the version it is built for (0: none)."""

    async def held_of(self, users: Sequence[str], keys: Collection[str]) -> dict[str, dict[tuple[str, str], int]]:
        """When each of these users was given what they hold of some badges."""

    async def with_events(self, users: Sequence[str], types: Collection[str], badges: Collection[str]) -> list[str]:
        """Of some users those who have an event of one of these types, or were ever given one of these badges."""

    async def look_at(self, users: Sequence[str]) -> dict[str, UserState]:
        """The users' rows as `lock` gives them, without locking; those without a row are left out."""

    async def memory_of(self, users: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """All memory kept for values of payload fields: user to scope to fold to state."""

    async def standing_of(self, users: Sequence[str]) -> dict[str, Standing]:
        """The awards of each of these users."""

    def logs_of(
        self, users: Sequence[str], types: Collection[str] | None = None, *, page: int = 2_000
    ) -> AsyncGenerator[list[Event]]:
        """The events of users (sorted), user by user and in order, so many a page; nobody need be locked.

        Only those of some types, where these are given. It reads ahead: who stops before its end closes it (`aclosing`)
        before anything else is asked.
        """

    async def count_logged(self, users: Sequence[str], types: Collection[str] | None) -> dict[str, int]:
        """How many events each of these users has, of some types where these are given; who has none is left out."""

    async def floors(self) -> dict[str, int]:
        """Types of which retention removed old events, and up to when (microseconds)."""

    async def restore(self, awards: Collection[tuple[str, int]]) -> None:
        """Put awards back as the log of awards has them, by (user, sequence); nothing is published."""

    async def store_verdicts(self, events: Sequence[Event]) -> None:
        """Write what conditions say of logged events, beside what was said of them before."""


class RepairStore(Protocol):
    """What whoever drives a job asks of the database."""

    def transaction(self) -> AbstractAsyncContextManager[RepairTransaction]:
        """As `protocols.Store.transaction`."""

    async def next_user_job(self, driver: str) -> int | None:
        """The oldest job that nobody else drives."""

    async def keep_user_job(self, job_id: int, driver: str, *, seconds: float) -> bool:
        """Stay its driver through a pause; False where it was cancelled or is somebody else's."""

    async def fail_user_job(self, job_id: int, *, note: str) -> bool:
        """End a job that cannot go on."""

    async def live_figures(self) -> LiveFigures:
        """How live work is now."""
