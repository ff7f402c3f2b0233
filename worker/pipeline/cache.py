"""Users' memory between batches: what an owner need not read again, bounded in bytes, the longest unused goes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, TypeAlias
from uuid import UUID

from worker.pipeline.compact import (
    Flat,
    Shape,
    Shapes,
    packed,
    packed_flat,
    size_of,
    size_of_packed,
    unfolded,
    unpacked,
    unpacked_flat,
)
from worker.rules.state import UserState

#: Under which claim users are kept: the token of one, or each user's.
Home: TypeAlias = UUID | Mapping[str, UUID]

#: As much is kept where nothing else is said (`BADGES_CACHE_BYTES`).
CACHE_BYTES: Final = 64 * 1024 * 1024

#: So many users are looked for at a time where room is made.
_AT_ONCE: Final = 500

#: A user of no usual kind, as it is.
_Whole: TypeAlias = tuple[None, UUID, UserState]
#: A packed user: the shape of what is flat, else whose claim the state is of.
_Packed: TypeAlias = tuple[Shape | UUID, bytes]


class Cache:
    """States by user, each valid only for the claim (by its token) under which it was put.

    An entry is taken out while a batch changes it, and comes back when that batch is committed: what a batch that
    failed has changed is gone with it. Nothing here is ever trusted alone: the user's row says whether the claim still
    has the user (`Transaction.lock`).

    Where the room is taken, those who came the longest ago are packed into bytes, down to a quarter of the room for all
    others; only then are they forgotten. To pack and unpack a user costs a fifth of what it costs to read one again.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._room = limit_bytes
        self._least_ready = limit_bytes // 4
        self._ready: dict[str, Flat | _Whole] = {}
        self._packed: dict[str, _Packed] = {}
        self._ready_bytes = 0
        self._packed_bytes = 0
        self._shapes: dict[UUID, Shapes] = {}
        self._hits = 0
        self._misses = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._packed)

    @property
    def taken_bytes(self) -> int:
        """The memory taken, about."""
        return self._ready_bytes + self._packed_bytes

    def take(self, users: Iterable[str], home: Home) -> dict[str, UserState]:
        """Take out the states of these users that were put under this token, or under that of their own claim."""
        one = home if isinstance(home, UUID) else None
        taken: dict[str, UserState] = {}
        asked = 0
        for user_id in users:
            asked += 1
            state = self._take(user_id, one or home[user_id])  # type: ignore[index]
            if state is not None:
                taken[user_id] = state
        self._hits += len(taken)
        self._misses += asked - len(taken)
        return taken

    def _take(self, user_id: str, token: UUID) -> UserState | None:
        entry = self._ready.pop(user_id, None)
        if entry is None:
            return self._take_packed(user_id, token) if self._packed else None
        shape = entry[0]
        if shape is None:
            _, owner, state = entry
            self._ready_bytes -= state.weight
            state.weight = 0
            return state if owner == token else None
        self._ready_bytes -= shape.weight
        return unfolded(user_id, entry) if shape.token is token or shape.token == token else None

    def _take_packed(self, user_id: str, token: UUID) -> UserState | None:
        found = self._packed.pop(user_id, None)
        if found is None:
            return None
        kind, blob = found
        self._packed_bytes -= size_of_packed(blob)
        if isinstance(kind, UUID):
            return unpacked(blob) if kind == token else None
        return unfolded(user_id, unpacked_flat(kind, blob)) if kind.token == token else None

    def put(self, states: Iterable[UserState], home: Home) -> None:
        """Keep the states after the commit of a batch of this claim, or these; what was unused longest makes room."""
        ready = self._ready
        one = home if isinstance(home, UUID) else None
        shapes = None if one is None else self._shapes_of(one)
        taken = 0
        for state in states:
            if not state.dirty and len(state.scopes) > 1:
                _page_out(state)
            user_id = state.user_id
            if user_id in ready or user_id in self._packed:
                self._forget(user_id)
            mine = shapes or self._shapes_of(home[user_id])  # type: ignore[index]
            flat = mine.flat(state)
            if flat is None:
                state.weight = size_of(state)
                ready[user_id] = (None, mine.token, state)
                taken += state.weight
            else:
                ready[user_id] = flat
                taken += flat[0].weight
        self._ready_bytes += taken
        if self.taken_bytes > self._room:
            self._pack_oldest()
            self._forget_oldest()

    def _shapes_of(self, token: UUID) -> Shapes:
        shapes = self._shapes.get(token)
        if shapes is None:
            shapes = self._shapes[token] = Shapes(token)
        return shapes

    def _pack_oldest(self) -> None:
        """Pack until there is room, or what is not packed takes no more than is left to it."""
        while self.taken_bytes > self._room and self._ready_bytes > self._least_ready:
            for user_id in _first(self._ready):
                entry = self._ready.pop(user_id)
                shape = entry[0]
                if shape is None:
                    _, owner, state = entry
                    self._ready_bytes -= state.weight
                    self._put_packed(user_id, owner, packed(state))
                else:
                    self._ready_bytes -= shape.weight
                    self._put_packed(user_id, shape, packed_flat(entry))
                if self.taken_bytes <= self._room:
                    return

    def _put_packed(self, user_id: str, kind: Shape | UUID, blob: bytes) -> None:
        self._packed[user_id] = (kind, blob)
        self._packed_bytes += size_of_packed(blob)

    def _forget_oldest(self) -> None:
        while self.taken_bytes > self._room and self._packed:
            for user_id in _first(self._packed):
                self._packed_bytes -= size_of_packed(self._packed.pop(user_id)[1])
                if self.taken_bytes <= self._room:
                    return

    def counted(self) -> tuple[int, int]:
        """How many users were found here and how many were not, since this was last asked."""
        found = (self._hits, self._misses)
        self._hits = self._misses = 0
        return found

    def drop(self, token: UUID) -> None:
        """Forget what was put under a token whose claim has ended."""
        packed_items = self._packed.items()
        owners = [(user_id, entry[0].token if entry[0] else entry[1]) for user_id, entry in self._ready.items()]
        owners += [(user_id, kind if isinstance(kind, UUID) else kind.token) for user_id, (kind, _) in packed_items]
        for user_id, owner in owners:
            if owner == token:
                self._forget(user_id)
        self._shapes.pop(token, None)

    def _forget(self, user_id: str) -> None:
        entry = self._ready.pop(user_id, None)
        if entry is not None:
            self._ready_bytes -= entry[2].weight if entry[0] is None else entry[0].weight
        found = self._packed.pop(user_id, None)
        if found is not None:
            self._packed_bytes -= size_of_packed(found[1])


def _first(entries: Mapping[str, object]) -> list[str]:
    """The users who were put the longest ago, many at once: a dict that has lost its first keys is slow to say who."""
    return list(islice(entries, _AT_ONCE))


def _page_out(state: UserState) -> None:
    """Let go of the memory of single contexts, all of which is written: a user may have many thousands."""
    state.scopes = {"": state.scopes.get("", {})}
    state.held = {key: at for key, at in state.held.items() if not key[1]}
