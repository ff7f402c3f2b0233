"""Users' memory between batches: what an owner need not read again, bounded in bytes, the longest unused goes first."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

from worker.rules.state import OWN_SCOPE, UserState, award_key

Item = TypeVar("Item")
#: Under which claim users are kept: the token of one, or each user's.
Home: TypeAlias = UUID | Mapping[str, UUID]

#: As much is kept where nothing else is said (`BADGES_CACHE_BYTES`).
CACHE_BYTES: Final = 64 * 1024 * 1024

#: What a user takes in memory, about: objects and keys, each scope, each memory and award held, items of a memory.
_USER_BYTES: Final = 800
_SCOPE_BYTES: Final = 230
_MEMORY_BYTES: Final = 60
_HELD_BYTES: Final = 60
_ITEM_BYTES: Final = 45
_ENTRY_BYTES: Final = 320
#: What a packed user takes besides the packed bytes.
_PACKED_BYTES: Final = 220
#: Where all room for states as they are is taken, one of so many users from elsewhere still gets some: who comes often
#: gets there soon, and who comes once costs no more than being packed.
_ADMITTED: Final = 8
_OWN: Final = ("",)


class Cache:
    """States by user, each valid only for the claim (by its token) under which it was put.

    An entry is taken out while a batch changes it, and comes back when that batch is committed: what a batch that
    failed has changed is gone with it. Nothing here is ever trusted alone: the user's row says whether the claim still
    has the user (`Transaction.lock`). A quarter of the room is for the states of those who come often, as they are, the
    rest for states packed into bytes: packing and unpacking costs a fifth of what it costs to read a user from the
    database again, which is what becomes of those that fall out of there.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._live_room = limit_bytes // 4
        self._packed_room = limit_bytes - self._live_room
        self._live: dict[str, tuple[UUID, UserState]] = {}
        self._packed: dict[str, tuple[UUID, bytes]] = {}
        self._live_bytes = 0
        self._packed_bytes = 0
        self._hits = 0
        self._misses = 0
        self._refused = 0

    def __len__(self) -> int:
        return len(self._live) + len(self._packed)

    @property
    def bytes(self) -> int:
        """The memory taken, about."""
        return self._live_bytes + self._packed_bytes

    def take(self, users: Iterable[str], home: Home) -> dict[str, UserState]:
        """Take out the states of these users that were put under this token, or under that of their own claim."""
        taken: dict[str, UserState] = {}
        if isinstance(home, UUID):
            self._take(users, home, taken)
        else:
            for user_id in users:
                self._take((user_id,), home[user_id], taken)
        return taken

    def _take(self, users: Iterable[str], token: UUID, taken: dict[str, UserState]) -> None:
        before, asked = len(taken), 0
        for user_id in users:
            asked += 1
            entry = self._live.pop(user_id, None)
            if entry is not None:
                self._live_bytes -= entry[1].weight
                if entry[0] == token:
                    taken[user_id] = entry[1]
            elif (packed := self._packed.pop(user_id, None)) is not None:
                self._packed_bytes -= len(packed[1]) + _PACKED_BYTES
                if packed[0] == token:
                    taken[user_id] = unpacked(packed[1])
        found = len(taken) - before
        self._hits += found
        self._misses += asked - found

    def put(self, states: Iterable[UserState], home: Home) -> None:
        """Keep the states after the commit of a batch of this claim, or these; what was unused longest makes room."""
        live, in_packed = self._live, self._packed
        one = home if isinstance(home, UUID) else None
        for state in states:
            token = one or home[state.user_id]  # type: ignore[index]
            if not state.dirty and len(state.scopes) > 1:
                _page_out(state)
            if state.user_id in live or state.user_id in in_packed:
                self._forget(state.user_id)
            if state.weight or self._admits(state):
                if not state.weight or not state.dirty:
                    state.weight = size_of(state)  # weighed again with each checkpoint: between two it grows little
                live[state.user_id] = (token, state)
                self._live_bytes += state.weight
            else:
                self._put_packed(state, token)
        if self._live_bytes > self._live_room:
            for user_id in _oldest(self._live_bytes - self._live_room, live, lambda entry: entry.weight):
                owner, state = live.pop(user_id)
                self._live_bytes -= state.weight
                self._put_packed(state, owner)
        if self._packed_bytes > self._packed_room:
            excess = self._packed_bytes - self._packed_room
            for user_id in _oldest(excess, in_packed, lambda entry: len(entry) + _PACKED_BYTES):
                self._packed_bytes -= len(in_packed.pop(user_id)[1]) + _PACKED_BYTES

    def _admits(self, state: UserState) -> bool:
        """Whether a user who was not there is kept among the states as they are."""
        if self._live_bytes >= self._live_room:
            self._refused = (self._refused + 1) % _ADMITTED
            if self._refused:
                return False
        if state.held:  # which awards are held is said by objects that all states share
            state.held = {award_key(*award): at for award, at in state.held.items()}
        return True

    def _put_packed(self, state: UserState, token: UUID) -> None:
        blob = packed(state)
        self._packed[state.user_id] = (token, blob)
        self._packed_bytes += len(blob) + _PACKED_BYTES

    def counted(self) -> tuple[int, int]:
        """How many users were found here and how many were not, since this was last asked."""
        found = (self._hits, self._misses)
        self._hits = self._misses = 0
        return found

    def drop(self, token: UUID) -> None:
        """Forget what was put under a token whose claim has ended."""
        for entries in (self._live, self._packed):
            for user_id in [user_id for user_id, entry in entries.items() if entry[0] == token]:
                self._forget(user_id)

    def _forget(self, user_id: str) -> None:
        entry = self._live.pop(user_id, None)
        if entry is not None:
            self._live_bytes -= entry[1].weight
        if (packed := self._packed.pop(user_id, None)) is not None:
            self._packed_bytes -= len(packed[1]) + _PACKED_BYTES


def packed(state: UserState) -> bytes:
    """A state as bytes, a fifth of the memory. They mean something to this process only, and are stored nowhere."""
    return marshal.dumps(
        (
            state.user_id,
            state.scopes,
            state.held,
            state.newest,
            state.award_sequence,
            state.built_version,
            tuple(state.dirty),
            state.unsaved,
            tuple(state.fixed),
        )
    )


def unpacked(blob: bytes) -> UserState:
    """The state that was packed."""
    found = marshal.loads(blob)  # noqa: S302 (`packed` wrote it)
    user_id, scopes, held, newest, sequence, built, dirty, unsaved, fixed = found
    changed = OWN_SCOPE if dirty == _OWN else frozenset(dirty)
    state = UserState(user_id, scopes, held, newest, sequence, built, 0, changed, unsaved)
    if fixed:
        state.fixed = frozenset(fixed)
    return state


def _page_out(state: UserState) -> None:
    """Let go of the memory of single contexts, all of which is written: a user may have many thousands."""
    state.scopes = {"": state.scopes.get("", {})}
    state.held = {key: at for key, at in state.held.items() if not key[1]}


def _oldest(excess: int, entries: Mapping[str, tuple[UUID, Item]], weight: Callable[[Item], int]) -> list[str]:
    """The users who were put the longest ago and weigh so much together.

    They are found in one pass: a dict that has lost its first keys is slow to say which is first now.
    """
    found = []
    for user_id, (_, entry) in entries.items():
        if excess <= 0:
            break
        found.append(user_id)
        excess -= weight(entry)
    return found


def size_of(state: UserState) -> int:
    """About how many bytes of memory a state takes."""
    size = _USER_BYTES + _HELD_BYTES * len(state.held)
    for memories in state.scopes.values():
        size += _SCOPE_BYTES
        for memory in memories.values():
            size += _MEMORY_BYTES
            if type(memory) is list and memory:
                size += len(memory) * (_ENTRY_BYTES if type(memory[0]) is list else _ITEM_BYTES)
            elif type(memory) is dict:
                size += len(memory) * _ENTRY_BYTES
    return size
