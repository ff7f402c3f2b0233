"""What the pipeline asks of a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from worker.events import Event, Record
from worker.exchange import (
    BuildPage,
    Claim,
    DeadLetter,
    Grant,
    Message,
    Remembered,
    Revocation,
    Seal,
    Span,
    Step,
    Withheld,
)
from worker.rules.catalog.definitions import Condition
from worker.rules.state import Holdings, UserState

#: Where an award is: user, badge and context.
Place = tuple[str, str, str]


class Judge(Protocol):
    """Asks conditions in JavaScript, whatever runs them."""

    def __call__(self, asked: Mapping[str, Sequence[Condition]], events: Sequence[Event], /) -> Awaitable[list[Event]]:
        """The events with their verdicts; `asked` is by event type. Raises TransientError.

        Where that takes too long those from some event on, never the first, have None still.
        """


class Transaction(Protocol):
    """One open transaction. Methods raise TransientError (connection gone, outcome unknown), PoisonBatch or Fenced."""

    async def fence(self, claim: Claim, step: Step) -> None:
        """Move the partition; raises Fenced where token or `from_offset` do not match. Always the first statement."""

    async def fence_together(self, moves: Sequence[tuple[Claim, Step]]) -> None:
        """`fence` for several partitions; Fenced where one does not match. Who is locked then needs a home each."""

    async def catalog_version(self) -> int:
        """The head version (0: none), under the shared catalog lock, which is held to the end."""

    async def screen(self, events: Sequence[Event]) -> dict[int, str]:
        """Indexes of events that must not be taken, with the dead-letter code: `erased` or `too_old`."""

    async def remember(self, events: Sequence[Event]) -> Remembered:
        """Append events (sorted by user, source, id; no triple twice) to the log; duplicates vanish here."""

    async def lock(
        self,
        users: Collection[str],
        *,
        version: int,
        known: Collection[str] = (),
        homes: Mapping[str, UUID] | None = None,
    ) -> dict[str, UserState]:
        """Lock these users in sorted order and read their rows; new users get one, built for the catalog's `version`.

        `homes` are the tokens of the users' claims where several were fenced. Left out are the `known` ones, whose
        memory the caller has, where nobody else changed them since this claim did. What comes back stands at the user's
        last checkpoint: the log after `newest` is still to be folded, and the awards held are still to be read. A new
        user's `built_version` is None: there is nothing to fold or read but what this transaction logged.
        """

    async def tails(self, states: Collection[UserState]) -> dict[str, list[Event]]:
        """The logged events after the newest one of each locked user's state, in order; users without any left out."""

    async def read(self, states: Mapping[str, UserState], wants: Collection[tuple[str, str]]) -> None:
        """Add to the states the memory of (user, scope) pairs, with the awards held there.

        For the scope "", whose memory came with the lock, only the awards, and the number of the last one. What is
        withheld counts among the awards, held `NEVER`; what a person gave is in `fixed`.
        """

    def log_of(self, user_id: str) -> AsyncIterator[Event]:
        """All logged events of a locked user, in order (occurred_at, source, id), streamed."""

    async def sealed(self, user_id: str) -> Seal | None:
        """The memory in which a locked user's removed events live on; None where nothing was removed."""

    async def holdings_of(self, user_id: str) -> Holdings:
        """All that is stored of a locked user's awards."""

    async def grant_counts(self, wanted: Sequence[tuple[str, str, str]]) -> list[int]:
        """For each (user_id, badge_key, context) that is not held: how many times it was granted and taken back."""

    async def save(self, states: Collection[UserState]) -> None:
        """Write dirty scopes, newest event and award sequence of locked users: a checkpoint of their log.

        From then on the users are at home with the claim that was fenced (one of those: their own), or with nobody.
        """

    async def grant(self, grants: Sequence[Grant], *, topic: str) -> None:
        """Store awards and their log entries, and put their messages into the outbox, in order.

        The unique key refuses a second one (PoisonBatch).
        """

    async def hold(self, grants: Sequence[Grant]) -> None:
        """Store awards, without log entries and messages. The unique key refuses a second one (PoisonBatch)."""

    async def take_back(self, awards: Sequence[Place]) -> dict[Place, Grant]:
        """Remove awards of locked users from what they hold; what was there, without its message."""

    async def confirm(self, awards: Sequence[Place]) -> AbstractSet[Place]:
        """Of these awards of locked users those that are held: a person gave them, from now on."""

    async def note(self, entries: Sequence[Grant | Revocation], *, reason: str | None = None) -> None:
        """Write entries to the log of awards alone; with the reason for what is given, where there is one."""

    async def withhold(self, awards: Sequence[Withheld]) -> None:
        """Withhold awards of locked users; of what is withheld already, state and reason change."""

    async def lift(self, awards: Sequence[Place], state: str | None = None) -> list[Withheld]:
        """Withhold awards of locked users no longer, those in one state only where one is given; what was there."""

    async def tallied(self, spans: Collection[Span]) -> dict[Span, dict[str, int]]:
        """How many awards of each badge with a breaker were counted in each span, one of them at least."""

    async def tally(self, counted: Sequence[tuple[str, int, int]]) -> None:
        """Count awards for the partition that was fenced: (badge_key, minute in microseconds, number)."""

    async def forget_tallies(self, before_us: int) -> None:
        """Remove what the partition that was fenced counted before a minute."""

    async def usual(self) -> dict[str, float]:
        """How many awards a day are usual for each badge that has been given for a week or longer."""

    async def publish(self, topic: str, keyed: Sequence[tuple[str, Message]]) -> None:
        """Put messages into the outbox, (user id, message) pairs in order; one row per shard of users."""

    async def behind(self, version: int, *, limit: int) -> BuildPage | None:
        """Take the build of a version and look at the next `limit` users; None where another transaction has it."""

    async def arrived_since(self, user_id: str, version: int) -> set[tuple[str, str]]:
        """(source, id) of a locked user's events that were logged since a version of the catalog was applied."""

    async def move_build(self, version: int, *, after: str | None, users: int, awards: int) -> None:
        """Write down that users up to `after` are at the version (None: all are, the build is done)."""

    async def log_exceeds(self, user_id: str, events: int) -> bool:
        """Whether a locked user's log has more events than that."""

    async def queue(self, users: Collection[str], version: int) -> None:
        """Note locked users as to be folded again, by whoever is free; those already noted stay as they are."""

    async def queued(self, limit: int) -> list[tuple[str, int]]:
        """Some of the users noted, the longest waiting first, held to the end; each with the version of then."""

    async def unqueue(self, users: Collection[str]) -> None:
        """Strike users off the queue."""

    async def bury(self, letters: Sequence[DeadLetter]) -> Sequence[int]:
        """Store dead letters, one that is already there stays; returns the indexes of the new ones, in order."""

    async def redriven(self, passed: Sequence[int], kept: Mapping[int, DeadLetter]) -> None:
        """Note dead letters, by number, as applied after all; and of those that were not, the reason they have now."""


class Store(Protocol):
    """What the pipeline asks of the database."""

    async def claim(
        self, topic: str, partition: int, *, generation: int, owner: str, start_offset: int
    ) -> Claim | None:
        """Take the partition with a fresh token; None where a newer group generation holds it.

        The missing row is inserted with next_offset = `start_offset`.
        """

    async def release(self, claim: Claim) -> None:
        """Give the partition back cleanly (owner null, attempts 0) if the token still holds."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """BEGIN … COMMIT on leaving, ROLLBACK on an exception. A failed COMMIT is a TransientError: outcome unknown."""

    async def record_gap(self, topic: str, partition: int, from_offset: int, to_offset: int, cause: str) -> None:
        """Write down a hole in a partition's offsets that was accepted."""


class Stream(Protocol):
    """What the pipeline asks of a member of the consumer group. Partitions are (topic, partition) pairs."""

    async def poll(
        self, ready: Collection[tuple[str, int]], *, max_records: int, timeout_ms: int
    ) -> dict[tuple[str, int], list[Record]]:
        """The next records of the partitions named; TransientError means that every position must be sought again."""

    def seek(self, partition: tuple[str, int], offset: int) -> None:
        """Read on from `offset`."""

    def pause(self, partition: tuple[str, int]) -> None:
        """Read nothing of the partition until it is resumed."""

    def resume(self, partition: tuple[str, int]) -> None:
        """Read the partition again."""

    async def bounds(self, partition: tuple[str, int]) -> tuple[int, int]:
        """Beginning and end offsets as the broker has them now."""

    async def commit_hint(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Tell the broker how far the group is, for lag tools only."""
