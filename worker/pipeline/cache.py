"""Users' memory between batches: what an owner need not read again, bounded in bytes, the longest unused goes first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice, repeat
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

#: A user of no usual kind as it is, with the token of its claim and what it weighs.
_Whole: TypeAlias = tuple[None, UUID, int, UserState]
#: A user found, or to be put: `opened` makes the state of it, `Cache.closed` makes it of a state.
Kept: TypeAlias = Flat | _Whole
#: Where nobody was found.
_NOBODY: Final[Mapping[str, Kept]] = {}
#: A packed user: the shape of what is flat, the token of its claim, the bytes.
_Packed: TypeAlias = tuple[Shape | None, UUID, bytes]
#: Where all room is taken, one of so many users from elsewhere still stays as it is: who comes often gets there soon,
#: and who comes once is packed at once, rather than to have another packed.
_ADMITTED: Final = 8
#: The part of the room that is for shapes.
_FOR_SHAPES: Final = 32


class Cache:
    """States by user, each valid only for the claim (by its token) under which it was put.

    A batch finds its users here and, once it is committed, puts what became of them in their place; one that failed has
    to `forget` them. Nothing here is ever trusted alone: the user's row says whether the claim still has the user
    (`Transaction.lock`).

    Where the room is taken, those who came the longest ago are packed into bytes, down to a quarter of the room for all
    others; only then are they forgotten. To pack and unpack a user costs a fifth of what it costs to read one again.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._shapes = Shapes(limit_bytes // _FOR_SHAPES)
        self._room = limit_bytes - limit_bytes // _FOR_SHAPES
        self._least_ready = self._room // 4
        #: Below that nobody needs to know who came the longest ago.
        self._crowded = self._room // 8 * 7
        self._ready: dict[str, Kept] = {}
        self._packed: dict[str, _Packed] = {}
        self._ready_bytes = 0
        self._packed_bytes = 0
        #: How often users who were kept as they are went, or went to another claim.
        self.moves = 0
        self._refused = 0
        self._hits = 0
        self._misses = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._packed)

    @property
    def taken_bytes(self) -> int:
        """The memory taken by users, about; the room for shapes is besides."""
        return self._ready_bytes + self._packed_bytes

    def find(self, users: Collection[str], home: Home) -> dict[str, Kept]:
        """What is kept of these users under this token, or under that of their own claim; see `opened`."""
        tokens = repeat(home) if isinstance(home, UUID) else map(home.__getitem__, users)
        found = {
            user_id: kept
            for user_id, kept, token in zip(users, map(self._ready.get, users), tokens)  # noqa: B905 (one may repeat)
            if kept is not None and (kept[1] is token or kept[1] == token)
        }
        if self._packed and len(found) < len(users):
            for user_id in users:
                if user_id in self._packed:
                    packed_user = self._packed[user_id]
                    if packed_user[1] == (home if isinstance(home, UUID) else home[user_id]):
                        found[user_id] = _unpacked(packed_user)
        self._hits += len(found)
        self._misses += len(users) - len(found)
        return found

    def closed(self, state: UserState, token: UUID, before: Kept | None = None) -> Kept:
        """What is kept of a state under a token; the state is not used any more. `before` is what was found."""
        if not state.dirty:
            before = None  # it was written, and is weighed
            if len(state.scopes) > 1:
                _page_out(state)
        elif before is not None and before[0] is None:
            before = None
        return self._shapes.flat(state, token, before) or (None, token, size_of(state), state)

    def put(
        self, users: Mapping[str, Kept], found: Mapping[str, Kept] = _NOBODY, grown_bytes: int = 0, *, moves: int = -1
    ) -> None:
        """Keep the users of a batch that was committed; what was unused longest makes room.

        `found` are those of them who were found here, at so many `moves`, and all of them take so much more than these
        took: that counts where nobody has gone since, and nobody else of them has come.
        """
        ready = self._ready
        if (
            moves != self.moves
            or self._packed
            or self.taken_bytes + grown_bytes > self._crowded
            or not ready.keys().isdisjoint(users.keys() - found.keys())
        ):
            self._put_in_line(users)
            return
        ready.update(users)
        self._ready_bytes += grown_bytes

    def _put_in_line(self, users: Mapping[str, Kept]) -> None:
        """Keep users as the ones who came last; where all room is taken, who was not here is packed at once."""
        ready = self._ready
        for user_id, entry in users.items():
            before = ready.pop(user_id, None)
            if before is not None:
                self._ready_bytes -= before[2]
                self.moves += before[1] is not entry[1]
            elif self._packed:
                self.forget((user_id,))
            if before is not None or self._admits():
                ready[user_id] = entry
                self._ready_bytes += entry[2]
            else:
                self._pack(user_id, entry)
        if self.taken_bytes > self._room:
            self.moves += 1
            self._pack_oldest()
            self._forget_oldest()

    def _admits(self) -> bool:
        """Whether a user who was not among those as they are comes to them."""
        if self.taken_bytes < self._room:
            return True
        self._refused = (self._refused + 1) % _ADMITTED
        return not self._refused

    def _pack(self, user_id: str, entry: Kept) -> None:
        shape, owner, _ = entry[:3]
        blob = packed(entry[3]) if shape is None else packed_flat(entry)
        self._packed[user_id] = (shape, owner, blob)
        self._packed_bytes += size_of_packed(blob)

    def _pack_oldest(self) -> None:
        """Pack until there is room, or what is not packed takes no more than is left to it."""
        while self.taken_bytes > self._room and self._ready_bytes > self._least_ready:
            for user_id in _first(self._ready):
                entry = self._ready.pop(user_id)
                self._ready_bytes -= entry[2]
                self._pack(user_id, entry)
                if self.taken_bytes <= self._room:
                    return

    def _forget_oldest(self) -> None:
        while self.taken_bytes > self._room and self._packed:
            for user_id in _first(self._packed):
                self._packed_bytes -= size_of_packed(self._packed.pop(user_id)[2])
                if self.taken_bytes <= self._room:
                    return

    def counted(self) -> tuple[int, int]:
        """How many users were found here and how many were not, since this was last asked."""
        found = (self._hits, self._misses)
        self._hits = self._misses = 0
        return found

    def drop(self, token: UUID) -> None:
        """Forget what was put under a token whose claim has ended."""
        for entries in (self._ready, self._packed):
            self.forget([user_id for user_id, entry in entries.items() if entry[1] == token])

    def forget(self, users: Iterable[str]) -> None:
        """Forget users of whom nobody can say what they are now, their batch having failed."""
        for user_id in users:
            entry = self._ready.pop(user_id, None)
            if entry is not None:
                self._ready_bytes -= entry[2]
                self.moves += 1
            found = self._packed.pop(user_id, None)
            if found is not None:
                self._packed_bytes -= size_of_packed(found[2])


def opened(user_id: str, kept: Kept) -> UserState:
    """The state of a user found. It costs less just before it is used: what was made long ago is out of reach."""
    return kept[3] if kept[0] is None else unfolded(user_id, kept)


def _unpacked(packed_user: _Packed) -> Kept:
    shape, owner, blob = packed_user
    return (None, owner, 0, unpacked(blob)) if shape is None else unpacked_flat(shape, owner, blob)


def _first(entries: Mapping[str, object]) -> list[str]:
    """The users who were put the longest ago, many at once: a dict that has lost its first keys is slow to say who."""
    return list(islice(entries, _AT_ONCE))


def _page_out(state: UserState) -> None:
    """Let go of the memory of single contexts, all of which is written: a user may have many thousands."""
    state.scopes = {"": state.scopes.get("", {})}
    state.held = {key: at for key, at in state.held.items() if not key[1]}
