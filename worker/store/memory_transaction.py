"""What the pipeline does inside one transaction, in memory (`pipeline.protocols.Transaction`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any
from uuid import UUID

from worker.errors import Fenced, TransientError
from worker.events import Event, json_text
from worker.exchange import BuildPage, Claim, DeadLetter, Grant, Message, Remembered, Seal, Step
from worker.rules.state import NEVER, UserState
from worker.store.blobs import outbox_rows, pack_state, unpack_messages, unpack_state
from worker.store.memory_repairs import MemoryRepairs
from worker.store.memory_tables import BuildRow, Locks, OutboxEntry, Tables, UserRow
from worker.store.memory_withheld import MemoryWithheld, check_text
from worker.store.removal import screened, user_hash


class MemoryTransaction(MemoryWithheld, MemoryRepairs):
    """One open transaction.

    What its locks protect changes in place and is put back by `undo`; what others could see waits for `commit`.
    """

    def __init__(self, tables: Tables, locks: Locks, *, now: float, next_id: Callable[[], int]) -> None:
        super().__init__(tables, now=now)
        self._locks = locks
        self._next_id = next_id
        self._erased: dict[bytes, int] = {}
        self._home: UUID | None = None
        self._homes: Mapping[str, UUID] = {}
        self._new_events: dict[str, dict[tuple[str, str], Event]] = {}
        self._rows: dict[int, OutboxEntry] = {}
        self._letters: list[DeadLetter] = []

    def commit(self) -> None:
        """Make everything visible; like PostgreSQL, a transaction with a refused statement in it is undone instead."""
        if self._failed:
            raise TransientError("the transaction was rolled back: a statement in it had failed")
        for user_id, events in self._new_events.items():
            self._tables.events.setdefault(user_id, {}).update(events)
            self._tables.arrived.setdefault(user_id, {}).update(dict.fromkeys(events, self._now))
        self._tables.outbox.update(self._rows)
        for letter in self._letters:
            self._tables.dead_letters.setdefault(_place_of(letter), (self._next_id(), letter, self._now))
        self._undo.clear()

    def undo(self) -> None:
        """Put back what was changed and not committed."""
        while self._undo:
            self._undo.pop()()

    async def fence(self, claim: Claim, step: Step) -> None:
        """Move the partition; raises Fenced where token or offset do not match."""
        with self._statement():
            key = (claim.topic, claim.partition)
            await self._locks.take(self, key)
            row = self._tables.partitions.get(key)
            if row is None or row.token != claim.token or row.next_offset != step.from_offset:
                raise Fenced(
                    f"partition {claim.partition} of {claim.topic} is not at {step.from_offset} for this owner"
                )
            moved = replace(
                row, next_offset=step.to_offset, last_offset=step.last_offset, last_sha=step.last_sha, attempts=0
            )
            self._set(self._tables.partitions, key, moved)
            self._home, self._partition = claim.token, key

    async def fence_together(self, moves: Sequence[tuple[Claim, Step]]) -> None:
        """Move several partitions; raises Fenced where token or offset of one do not match."""
        for claim, step in sorted(moves, key=lambda move: (move[0].topic, move[0].partition)):
            await self.fence(claim, step)
        first = moves[0][0]
        self._home, self._partition = None, (first.topic, first.partition)

    async def catalog_version(self) -> int:
        """The head version, under the shared lock."""
        with self._statement():
            await self._locks.share_catalog(self)
            return len(self._tables.catalogs)

    async def screen(self, events: Sequence[Event]) -> dict[int, str]:
        """Indexes of events that must not be taken, with the reason."""
        with self._statement():
            self._erased = {**self._tables.erased_users}
            return screened(events, self._tables.retention_floors, self._erased)

    async def remember(self, events: Sequence[Event]) -> Remembered:
        """Append events to the log; returns which were new and which conflict."""
        new, conflicts = [], []
        with self._statement():
            for index, event in enumerate(events):
                _check_event(event)
                await self._locks.take(self, ("event", event.user_id, event.source, event.id))
                identity = (event.source, event.id)
                logged = self._logged(event.user_id).get(identity)
                if logged is None:
                    self._new_events.setdefault(event.user_id, {})[identity] = event
                    new.append(index)
                elif not event.type.startswith("cron.") and not _same_content(logged, event):
                    conflicts.append(index)
        return Remembered(new, conflicts)

    async def lock(
        self,
        users: Collection[str],
        *,
        version: int,
        known: Collection[str] = (),
        homes: Mapping[str, UUID] | None = None,
    ) -> dict[str, UserState]:
        """Lock the users in sorted order and read the rows of those whose memory the caller does not have."""
        states = {}
        self._homes = homes or self._homes
        with self._statement():
            for user_id in sorted(users):
                await self._locks.take(self, ("user", user_id))
                self._locked.add(user_id)
                row, home = self._tables.users.get(user_id), self._homes.get(user_id, self._home)
                if row is None:
                    digest = user_hash(user_id)
                    if self._tables.erased_users.get(digest) != self._erased.get(digest):
                        raise TransientError("A user was erased while the batch ran; it is made again without them.")
                    self._set(self._tables.users, user_id, UserRow(built_version=version, home=home))
                    states[user_id] = UserState(user_id, scopes={"": {}})
                elif user_id not in known or row.home != home:
                    states[user_id] = UserState(
                        user_id,
                        scopes={"": unpack_state(row.state)},
                        newest=row.newest,
                        award_sequence=row.award_sequence,
                        built_version=row.built_version or 0,
                    )
        return states

    async def tails(self, states: Collection[UserState]) -> dict[str, list[Event]]:
        """The logged events after each state's newest one."""
        found = {}
        with self._statement():
            for state in states:
                self._must_hold(state.user_id)
                log = sorted(self._logged(state.user_id).values(), key=lambda event: event.order)
                tail = [event for event in log if state.newest is None or event.order > state.newest]
                if tail:
                    found[state.user_id] = tail
        return found

    async def read(self, states: Mapping[str, UserState], wants: Collection[tuple[str, str]]) -> None:
        """Add memory and awards of (user, scope) pairs to the states."""
        with self._statement():
            for user_id, scope in wants:
                self._must_hold(user_id)
                state = states[user_id]
                if scope:
                    state.scopes[scope] = unpack_state(self._tables.scopes.get((user_id, scope)))
                else:
                    sequences = [grant.sequence for grant in self._tables.awards_log if grant.user_id == user_id]
                    state.award_sequence = max(state.award_sequence, *sequences, 0)
                context = scope.partition("=")[2]
                for key, grant in self._tables.user_badges.get(user_id, {}).items():
                    if key[1] == context:
                        state.held[key] = grant.awarded_us
                        if grant.source == "manual":
                            state.fixed = {*state.fixed, key}
                for of, badge_key, of_context in self._tables.withheld:
                    if (of, of_context) == (user_id, context):
                        state.held[badge_key, context] = NEVER

    async def log_of(self, user_id: str) -> AsyncIterator[Event]:
        """The user's events in order."""
        with self._statement():
            self._must_hold(user_id)
            log = sorted(self._logged(user_id).values(), key=lambda event: event.order)
        for event in log:
            yield event

    async def sealed(self, user_id: str) -> Seal | None:
        """The memory in which the user's removed events live on."""
        with self._statement():
            self._must_hold(user_id)
            return self._tables.sealed.get(user_id)

    async def cut(self, user_id: str, seal: Seal, floors: Mapping[str, int]) -> int:
        """Keep the memory of a locked user at a cut, and remove the events below the floors; how many."""
        with self._statement():
            self._must_hold(user_id)
            self._set(self._tables.sealed, user_id, seal)
            events = self._tables.events.get(user_id, {})
            gone = [key for key, event in events.items() if event.occurred_us < floors.get(event.type, 0)]
            for key in gone:
                self._remove(events, key)
            return len(gone)

    async def grant_counts(self, wanted: Sequence[tuple[str, str, str]]) -> list[int]:
        """How often each (user, badge, context) was granted and taken back."""
        with self._statement():
            return [self._tables.revoked.count(award) for award in wanted]

    async def save(self, states: Collection[UserState]) -> None:
        """Write the users' rows and their dirty scopes."""
        with self._statement():
            for state in states:
                self._must_hold(state.user_id)
                self._save(state)

    def _save(self, state: UserState) -> None:
        old = self._tables.users[state.user_id]
        root = pack_state(state.scopes.get("", {})) if "" in state.dirty else old.state
        built = old.built_version if state.built_version is None else state.built_version
        row = UserRow(
            old.revision + 1,
            state.award_sequence,
            built,
            state.newest,
            root,
            self._homes.get(state.user_id, self._home),
        )
        self._set(self._tables.users, state.user_id, row)
        for scope in state.dirty - {""}:
            self._set(self._tables.scopes, (state.user_id, scope), pack_state(state.scopes.get(scope, {})))

    async def grant(self, grants: Sequence[Grant], *, topic: str) -> None:
        """Store awards, their log entries and their messages; a second one is refused."""
        with self._statement():
            for grant in grants:
                self._hold(grant)
                self._write(grant)
        keyed = [(grant.user_id, Message(key=grant.user_id.encode(), value=grant.message)) for grant in grants]
        await self.publish(topic, keyed)

    async def publish(self, topic: str, keyed: Sequence[tuple[str, Message]]) -> None:
        """Put messages into the outbox, visible after the commit."""
        with self._statement():
            for shard, blob in outbox_rows(keyed):
                self._rows[self._next_id()] = OutboxEntry(shard, topic, unpack_messages(blob), self._now)

    async def behind(self, version: int, *, limit: int) -> BuildPage | None:
        """Take the build of a version; the users behind it among the next ones, and the last one looked at."""
        with self._statement():
            row = self._tables.builds.get(version)
            if row is None:
                self._set(self._tables.builds, version, BuildRow())
                return None
            if row.done:
                return BuildPage(done=True)
            if not self._locks.try_take(self, ("build", version)):
                return None
            users = self._tables.users
            page = sorted(user_id for user_id in users if user_id > row.after)[:limit]
            if page:
                return BuildPage(tuple(one for one in page if users[one].built_version != version), page[-1])
            return BuildPage(again=any(user.built_version != version for user in users.values()))

    async def arrived_since(self, user_id: str, version: int) -> set[tuple[str, str]]:
        """(source, id) of the user's events that were logged since a version of the catalog was applied."""
        with self._statement():
            self._must_hold(user_id)
            if not 0 < version <= len(self._tables.catalogs):
                return set()
            applied = self._tables.catalogs[version - 1].applied_us / 1_000_000
            arrived = {**self._tables.arrived.get(user_id, {})}
            arrived.update(dict.fromkeys(self._new_events.get(user_id, {}), self._now))
            return {identity for identity, at in arrived.items() if at >= applied}

    async def move_build(self, version: int, *, after: str | None, users: int, awards: int) -> None:
        """Write down how far the build is."""
        with self._statement():
            old = self._tables.builds[version]
            kept = old.after if after is None else after
            moved = BuildRow(kept, old.users + users, old.awards + awards, after is None)
            self._set(self._tables.builds, version, moved)

    async def log_exceeds(self, user_id: str, events: int) -> bool:
        """Whether the user's log has more events than that."""
        with self._statement():
            self._must_hold(user_id)
            return len(self._logged(user_id)) > events

    async def queue(self, users: Collection[str], version: int) -> None:
        """Note users as to be folded again."""
        with self._statement():
            for user_id in sorted(users):
                self._must_hold(user_id)
                if user_id not in self._tables.queue:
                    self._set(self._tables.queue, user_id, version)

    async def queued(self, limit: int) -> list[tuple[str, int]]:
        """Some of the users noted, which nobody else has in hand."""
        with self._statement():
            free = (user for user in [*self._tables.queue] if self._locks.try_take(self, ("queued", user)))
            return [(user_id, self._tables.queue[user_id]) for user_id in islice(free, limit)]

    async def unqueue(self, users: Collection[str]) -> None:
        """Strike users off the queue."""
        with self._statement():
            for user_id in users:
                self._remove(self._tables.queue, user_id)

    async def bury(self, letters: Sequence[DeadLetter]) -> list[int]:
        """Store dead letters; the indexes of those that were not there."""
        with self._statement():
            there = {*self._tables.dead_letters, *map(_place_of, self._letters)}
            new = [index for index, letter in enumerate(letters) if _place_of(letter) not in there]
            self._letters += [letters[index] for index in new]
            return new

    async def redriven(self, passed: Sequence[int], kept: Mapping[int, DeadLetter]) -> None:
        """Note what became of dead letters that were tried again."""
        with self._statement():
            before = self._tables.replayed
            self._undo.append(lambda: setattr(self._tables, "replayed", before))
            self._tables.replayed = before | set(passed)
            for place, (number, _, at) in [*self._tables.dead_letters.items()]:
                if number in kept:
                    self._set(self._tables.dead_letters, place, (number, kept[number], at))

    def _logged(self, user_id: str) -> dict[tuple[str, str], Event]:
        return {**self._tables.events.get(user_id, {}), **self._new_events.get(user_id, {})}


def _place_of(letter: DeadLetter) -> tuple[str, int, int, int]:
    return letter.topic, letter.partition, letter.offset, letter.incarnation


def _same_content(one: Event, other: Event) -> bool:
    same = (one.type, one.occurred_us) == (other.type, other.occurred_us)
    return same and json_text.equal(one.payload, other.payload)


def _check_event(event: Event) -> None:
    for text in (event.user_id, event.source, event.id, event.type, event.payload_json):
        check_text(text)
    if "\\u" in event.payload_json:
        _check_value(event.payload)


def _check_value(value: Any) -> None:
    match value:
        case str():
            check_text(value)
        case dict():
            _check_value([*value, *value.values()])
        case list() | tuple():
            for child in value:
                _check_value(child)
