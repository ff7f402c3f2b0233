"""Users' memory between batches: what an owner need not read again, bounded in bytes, the longest unused goes first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from worker.rules.state import UserState

#: As much is kept where nothing else is said (`BADGES_CACHE_BYTES`).
CACHE_BYTES: Final = 64 * 1024 * 1024

#: What a user takes in memory, roughly, beside what is counted: objects, keys, the order key of the newest event.
_USER_BYTES: Final = 900
_SCOPE_BYTES: Final = 250
_MEMORY_BYTES: Final = 150
_HELD_BYTES: Final = 120
#: An item of a memory that is a number or a text, and one that is a list itself.
_ITEM_BYTES: Final = 60
_ENTRY_BYTES: Final = 320


class Cache:
    """States by user, each valid only for the claim (by its token) under which it was put.

    An entry is taken out while a batch changes it, and comes back when that batch is committed: what a batch that
    failed has changed is gone with it. Nothing here is ever trusted alone: the user's row says whether the claim still
    has the user (`Transaction.lock`).
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._hits = 0
        self._misses = 0
        self._entries: dict[str, tuple[UUID, UserState, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, users: Iterable[str], token: UUID) -> dict[str, UserState]:
        """Take out the states of these users that were put under this token."""
        taken: dict[str, UserState] = {}
        entries = self._entries
        for user_id in users:
            entry = entries.pop(user_id, None)
            if entry is None:
                self._misses += 1
                continue
            self.bytes -= entry[2]
            if entry[0] == token:
                self._hits += 1
                taken[user_id] = entry[1]
            else:
                self._misses += 1
        return taken

    def put(self, states: Iterable[UserState], token: UUID) -> None:
        """Keep the states after the commit of a batch of this claim; what was unused the longest makes room."""
        entries = self._entries
        for state in states:
            if not state.dirty and len(state.scopes) > 1:
                _page_out(state)
            size = size_of(state)
            old = entries.pop(state.user_id, None)
            if old is not None:
                self.bytes -= old[2]
            entries[state.user_id] = (token, state, size)
            self.bytes += size
        while self.bytes > self.limit_bytes and entries:
            _, _, size = entries.pop(next(iter(entries)))
            self.bytes -= size

    def counted(self) -> tuple[int, int]:
        """How many users were found here and how many were not, since this was last asked."""
        found = (self._hits, self._misses)
        self._hits = self._misses = 0
        return found

    def drop(self, token: UUID) -> None:
        """Forget what was put under a token whose claim has ended."""
        for user_id in [user_id for user_id, entry in self._entries.items() if entry[0] == token]:
            self.bytes -= self._entries.pop(user_id)[2]


def _page_out(state: UserState) -> None:
    """Let go of the memory of single contexts, all of which is written: a user may have many thousands."""
    state.scopes = {"": state.scopes.get("", {})}
    state.held = {key: at for key, at in state.held.items() if not key[1]}


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
