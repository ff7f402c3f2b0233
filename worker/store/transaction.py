"""What the pipeline does inside one transaction, in PostgreSQL (`pipeline.protocols.Transaction`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final
from uuid import UUID

import asyncpg
from msgspec.structs import astuple

from worker.errors import Fenced, TransientError
from worker.events import Event
from worker.exchange import BuildPage, Claim, DeadLetter, Grant, Message, Remembered, Seal, Step
from worker.rules.state import NEVER, UserState, award_key
from worker.store.blobs import (
    STATEMENT_BYTES,
    chunks,
    joined,
    outbox_rows,
    pack_headers,
    pack_state,
    storable,
    unpack_state,
)
from worker.store.histories import BEFORE_ALL, logged_event
from worker.store.remember import FEW, WritePath, remember
from worker.store.removal import screened, user_hash
from worker.store.repairs import RepairStatements, state_of_row
from worker.store.retention import seal_of
from worker.store.session import Session
from worker.store.withheld import AWARD_COLUMNS, WithheldAwards

_LOG_PAGE: Final = 500
_LAST_DATE_US: Final = 253_402_300_799_999_999
RAW_LIMIT: Final = 64 * 1024


class PostgresTransaction(WithheldAwards, RepairStatements):
    """One open transaction; see `pipeline.protocols.Transaction` for what each method promises."""

    def __init__(self, session: Session, *, group_id: str, path_of: Callable[[str, int], WritePath]) -> None:
        super().__init__(session)
        self._group_id = group_id
        self._path_of = path_of
        self._path = WritePath()
        self._home: UUID | None = None
        self._homes: Mapping[str, UUID] = {}
        self._version: int | None = None
        self._screening = True
        self._erased: dict[bytes, int] = {}
        self._revoking = True

    async def fence(self, claim: Claim, step: Step) -> None:
        """Move the partition; raises Fenced where token or offset do not match."""
        (found,) = await self._session.rows("fence", self._group_id, *_move_of(claim, step))
        if found["moved"] != 1:
            raise Fenced(f"partition {claim.partition} of {claim.topic} is not at {step.from_offset} for this owner")
        self._begin(claim, found)

    async def fence_together(self, moves: Sequence[tuple[Claim, Step]]) -> None:
        """Move several partitions; raises Fenced where token or offset of one do not match."""
        columns = zip(*(_move_of(claim, step) for claim, step in moves), strict=True)
        (found,) = await self._session.rows("fence_together", self._group_id, *map(list, columns))
        if found["moved"] != len(moves):
            raise Fenced(f"{len(moves) - found['moved']} of {len(moves)} partitions are not where this owner has them")
        self._begin(moves[0][0], found)
        self._home = None

    def _begin(self, claim: Claim, found: asyncpg.Record) -> None:
        self._path = self._path_of(claim.topic, claim.partition)
        self._partition = (claim.topic, claim.partition)
        self._home = claim.token
        self._version, self._screening = found["version"] or 0, found["screening"]
        self._revoking = found["revoking"]

    async def catalog_version(self) -> int:
        """The head version under the shared lock, with which the transaction began."""
        if self._version is None:
            found = await self._session.rows("catalog_version")
            self._version = int(found[0]["version"]) if found else 0
        return self._version

    async def screen(self, events: Sequence[Event]) -> dict[int, str]:
        """Indexes of events that must not be taken, with the reason."""
        rules = await self._session.rows("removal_rules") if self._screening else None
        if not rules:
            return {}
        floors = {kind: floor for kind, floor in rules if kind is not None}
        erased: dict[bytes, int] = {}
        if len(floors) < len(rules):
            hashes = sorted({user_hash(event.user_id) for event in events})
            found = await self._session.rows("erased_among", hashes)
            self._erased = erased = {row["user_hash"]: row["erased_at"] for row in found}
        return screened(events, floors, erased)

    async def remember(self, events: Sequence[Event]) -> Remembered:
        """Append events to the log; returns which were new and which conflict."""
        return await remember(self._session, events, self._path)

    async def lock(
        self,
        users: Collection[str],
        *,
        version: int,
        known: Collection[str] = (),
        homes: Mapping[str, UUID] | None = None,
    ) -> dict[str, UserState]:
        """Lock the users in sorted order, then read: what is read after the lock is what the last owner left."""
        ordered = sorted(users)
        self._homes = homes or self._homes
        at_home = known if isinstance(known, AbstractSet) else frozenset(known)
        rows = await self._session.rows("lock_users", *joined(ordered), *self._marked(ordered, at_home))
        states = {row["user_id"]: state_of_row(row) for row in rows if not row["missing"]}
        if len(states) < len(rows):
            missing = [row["user_id"] for row in rows if row["missing"]]
            made = await self._make(missing, version)
            states |= {user_id: UserState(user_id, scopes={"": {}}) for user_id in made}
            if len(made) < len(missing):  # some are another's who made them meanwhile: by now they can be locked
                states |= await self.lock(set(missing).difference(made), version=version)
        self._locked.update(ordered)
        return states

    def _marked(self, ordered: Sequence[str], at_home: AbstractSet[str]) -> tuple[list[int], list[UUID | None]]:
        """Of each user the number of the one who is to have the user in memory, as `lock_users` takes it; all these."""
        if not self._homes and len(at_home) == len(ordered):
            return [], [self._home]
        homes: dict[UUID | None, int] = {}
        marks = []
        for user_id in ordered:
            number = homes.setdefault(self._homes.get(user_id, self._home), len(homes) + 1)
            marks.append(number if user_id in at_home else -number)
        return marks, list(homes)

    async def _make(self, users: Sequence[str], version: int) -> list[str]:
        """Make the rows of users without one; those whom nobody else made meanwhile."""
        homes = [self._homes.get(user_id, self._home) for user_id in users]
        ((made, erased),) = await self._session.rows("make_users", users, homes, version)
        if erased:
            # Who was erased since this transaction screened its events is without a row: their events must not stay.
            for digest, at in await self._session.rows("erased_among", sorted(map(user_hash, made))):
                if self._erased.get(digest) != at:
                    raise TransientError("A user was erased while the batch ran; it is made again without them.")
        return list(made)

    async def tails(self, states: Collection[UserState]) -> dict[str, list[Event]]:
        """The logged events after each state's newest one."""
        keys = []
        for state in states:
            self._must_hold(state.user_id)
            keys.append((state.user_id, *(state.newest or BEFORE_ALL)))
        found: dict[str, list[Event]] = {}
        if keys:
            for row in await self._session.rows("log_tails", *zip(*keys, strict=True)):
                found.setdefault(row["user_id"], []).append(logged_event(*row))
        return found

    async def read(self, states: Mapping[str, UserState], wants: Collection[tuple[str, str]]) -> None:
        """Add memory and awards of (user, scope) pairs to the states."""
        for user_id, _ in wants:
            self._must_hold(user_id)
        scoped = [pair for pair in wants if pair[1]]
        if scoped:
            for user_id, scope in scoped:
                states[user_id].scopes[scope] = {}
            for user_id, scope, blob in await self._session.rows("load_scopes", *zip(*scoped, strict=True)):
                states[user_id].scopes[scope] = unpack_state(blob)
        contexts = {(user_id, scope.partition("=")[2]) for user_id, scope in wants}
        if contexts:
            for user_id, badge_key, context, at, by_hand in await self._session.rows(
                "load_held", *zip(*sorted(contexts), strict=True)
            ):
                state, key = states[user_id], award_key(badge_key, context)
                state.held[key] = NEVER if at is None else at
                if by_hand:
                    state.fixed = {*state.fixed, key}
        roots = [user_id for user_id, scope in wants if not scope]
        if roots:
            for user_id, sequence in await self._session.rows("last_sequences", roots):
                states[user_id].award_sequence = max(states[user_id].award_sequence, sequence)

    async def log_of(self, user_id: str) -> AsyncIterator[Event]:
        """The user's events in order, a page at a time."""
        self._must_hold(user_id)
        after = BEFORE_ALL
        while True:
            page = await self._session.rows("log_page", user_id, *after, _LOG_PAGE)
            for row in page:
                yield logged_event(user_id, *row)
            if len(page) < _LOG_PAGE:
                return
            after = (page[-1]["occurred_at"], page[-1]["source"], page[-1]["id"])

    async def sealed(self, user_id: str) -> Seal | None:
        """The memory in which the user's removed events live on."""
        self._must_hold(user_id)
        return seal_of(await self._session.rows("sealed_state", user_id))

    async def cut(self, user_id: str, seal: Seal, floors: Mapping[str, int]) -> int:
        """Keep the memory of a locked user at a cut, and remove the events below the floors; how many."""
        self._must_hold(user_id)
        scopes = {"": {}, **seal.scopes}
        await self._session.execute("unseal", user_id)
        packed = [pack_state(state) for state in scopes.values()]
        await self._session.execute("seal", user_id, list(scopes), packed, *seal.newest, sorted(seal.types))
        await self._session.rows("allow_removal")
        return await self._session.execute("cut_events", user_id, list(floors), list(floors.values()))

    async def grant_counts(self, wanted: Sequence[tuple[str, str, str]]) -> list[int]:
        """How often each (user, badge, context) was granted and taken back.

        For a few awards, not asked where nothing was taken back when the transaction began: `grant` looks again.
        """
        if not wanted or (len(wanted) <= FEW and not self._revoking):
            return [0] * len(wanted)
        return [count for (count,) in await self._session.rows("grant_counts", *zip(*wanted, strict=True))]

    async def save(self, states: Collection[UserState]) -> None:
        """Write the users' rows and their dirty scopes, sorted."""
        ordered = sorted(states, key=lambda state: state.user_id)
        rows = [
            (*_columns_of(state), _dirty_root(state), self._homes.get(state.user_id, self._home)) for state in ordered
        ]
        for state in ordered:
            self._must_hold(state.user_id)
        for part in chunks(rows, lambda row: len(row[-2] or b"") + 200, STATEMENT_BYTES):
            await self._session.execute("save_users", *zip(*part, strict=True))
        scopes = [
            (state.user_id, scope, pack_state(state.scopes.get(scope, {})))
            for state in ordered
            for scope in sorted(state.dirty)
            if scope
        ]
        for piece in chunks(scopes, lambda row: len(row[2]) + 200, STATEMENT_BYTES):
            await self._session.execute("save_scopes", *zip(*piece, strict=True))

    async def grant(self, grants: Sequence[Grant], *, topic: str) -> None:
        """Store awards, their log entries and their messages; the keys refuse a second one."""
        rows = [astuple(grant)[:-1] for grant in grants]
        keyed = [(grant.user_id, Message(key=grant.user_id.encode(), value=grant.message)) for grant in grants]
        if len(rows) <= FEW:
            if rows:
                shards, blobs = zip(*outbox_rows(keyed), strict=True)
                found = await self._session.rows("grant_few", *zip(*rows, strict=True), shards, topic, blobs)
                if found[0]["revoking"] and not self._revoking:
                    raise TransientError("the first award of all was taken back meanwhile: the ids may count it")
            return
        await self._session.copy("user_badges", AWARD_COLUMNS, rows)
        await self._session.copy("badge_awards_log", AWARD_COLUMNS, rows)
        await self.publish(topic, keyed)

    async def publish(self, topic: str, keyed: Sequence[tuple[str, Message]]) -> None:
        """Put messages into the outbox; ids are drawn under the locks of their users, so they order each user's."""
        for part in chunks(outbox_rows(keyed), lambda row: len(row[1]), STATEMENT_BYTES):
            shards, blobs = zip(*part, strict=True)
            await self._session.execute("publish", shards, topic, blobs)

    async def behind(self, version: int, *, limit: int) -> BuildPage | None:
        """Take the build of a version; the users behind it among the next ones, and the last one looked at."""
        known = await self._session.rows("build_is_done", version)
        if not known:
            await self._session.execute("begin_build", version)
            return None
        if known[0]["done"]:
            return BuildPage(done=True)
        taken = await self._session.rows("take_build", version)
        if not taken:
            return None
        page = await self._session.rows("users_behind", taken[0]["after"], version, limit)
        if page:
            return BuildPage(tuple(row["user_id"] for row in page if row["behind"]), page[-1]["user_id"])
        left = await self._session.rows("any_behind", version)
        return BuildPage(again=bool(left[0]["left_over"]))

    async def move_build(self, version: int, *, after: str | None, users: int, awards: int) -> None:
        """Write down how far the build is."""
        await self._session.execute("move_build", version, after, users, awards)

    async def arrived_since(self, user_id: str, version: int) -> set[tuple[str, str]]:
        """(source, id) of the user's events that were logged since a version of the catalog was applied."""
        self._must_hold(user_id)
        return {(source, id_) for source, id_ in await self._session.rows("arrived_since", user_id, version)}

    async def log_exceeds(self, user_id: str, events: int) -> bool:
        """Whether the user's log has more events than that."""
        self._must_hold(user_id)
        return bool((await self._session.rows("log_exceeds", user_id, events))[0]["longer"])

    async def queue(self, users: Collection[str], version: int) -> None:
        """Note users as to be folded again."""
        for user_id in users:
            self._must_hold(user_id)
        await self._session.execute("queue_users", sorted(users), version)

    async def queued(self, limit: int) -> list[tuple[str, int]]:
        """Some of the users noted, which nobody else has in hand."""
        return [(user_id, version) for user_id, version in await self._session.rows("queued_users", limit)]

    async def unqueue(self, users: Collection[str]) -> None:
        """Strike users off the queue."""
        await self._session.execute("unqueue_users", list(users))

    async def bury(self, letters: Sequence[DeadLetter]) -> list[int]:
        """Store dead letters; texts that PostgreSQL could not store are made storable first."""
        rows = [
            (
                letter.topic,
                letter.partition,
                letter.offset,
                letter.incarnation,
                letter.reason,
                storable(letter.detail),
                storable(letter.path),
                None if letter.user_id is None else storable(letter.user_id),
                letter.key,
                letter.raw[:RAW_LIMIT],
                letter.sha256,
                letter.length,
                instant_of(letter.timestamp_ms),
                None if letter.headers is None else pack_headers(letter.headers),
                None if letter.said_type is None else storable(letter.said_type),
            )
            for letter in letters
        ]
        new: list[int] = []
        start = 0
        for part in chunks(rows, lambda row: len(row[9]) + len(row[8] or b"") + 500, STATEMENT_BYTES):
            new += [start + place - 1 for (place,) in await self._session.rows("bury", *zip(*part, strict=True))]
            start += len(part)
        return new

    async def redriven(self, passed: Sequence[int], kept: Mapping[int, DeadLetter]) -> None:
        """Note what became of dead letters that were tried again."""
        if passed:
            await self._session.execute("letters_passed", list(passed))
        if kept:
            rows = [
                (number, one.reason, storable(one.detail), storable(one.path), one.user_id and storable(one.user_id))
                for number, one in kept.items()
            ]
            await self._session.execute("letters_kept", *zip(*rows, strict=True))


def _move_of(claim: Claim, step: Step) -> tuple[Any, ...]:
    return (
        claim.topic,
        claim.partition,
        claim.token,
        step.from_offset,
        step.to_offset,
        step.last_offset,
        step.last_sha,
    )


def instant_of(timestamp_ms: int) -> int | None:
    """A Kafka timestamp as microseconds; None where a producer set something that is no date up to the year 9999."""
    return timestamp_ms * 1000 if 0 <= timestamp_ms * 1000 <= _LAST_DATE_US else None


def _columns_of(state: UserState) -> tuple[str, int, int | None, int | None, str | None, str | None]:
    at, source, event_id = state.newest or (None, None, None)
    return (state.user_id, state.award_sequence, state.built_version, at, source, event_id)


def _dirty_root(state: UserState) -> bytes | None:
    return pack_state(state.scopes.get("", {})) if "" in state.dirty else None
