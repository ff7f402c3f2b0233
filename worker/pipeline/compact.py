"""Users' states in little memory: as a tuple whose shape many users share, and as bytes.

Half of what a state takes as it is are its dicts, and their keys are the same for thousands of users. So a state of a
usual kind becomes one flat tuple of its values, with a `Shape` that says what they are the values of: a third of the
memory. Bytes take half of that, and twice the time to make and to read.
"""

from __future__ import annotations

import marshal
from sys import getsizeof
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from worker.rules.state import OWN_SCOPE, AwardKey, UserState, award_key

#: A flat state: its shape, the token of its claim, what it weighs, instant, source and id of the newest event, award
#: sequence, events since the state was written, then the values of all folds, then the instants of all awards held.
Flat: TypeAlias = tuple[Any, ...]

_FIRST: Final = 8
#: Longer lists stay lists: so many lengths, so many shapes.
_MOST_FLAT: Final = 8
#: What a user takes besides the values: the id, the place among the users kept, the tuple.
_USER_BYTES: Final = 160
#: What a shape takes besides its folds and awards, and what each of these adds, in the shape and in its key.
_SHAPE_BYTES: Final = 600
_PART_BYTES: Final = 100
#: What one value more takes, about: an instant 40, the id of an event 90.
_GROWN_BYTES: Final = 64
#: What bytes take besides what is in them: the id, the place among the users kept, the objects around.
_PACKED_BYTES: Final = 220
#: What a user takes as objects, about: objects and keys, each scope, each memory and award held, items of a memory.
_LIVE_BYTES: Final = 800
_SCOPE_BYTES: Final = 230
_MEMORY_BYTES: Final = 60
_HELD_BYTES: Final = 60
_ITEM_BYTES: Final = 45
_ENTRY_BYTES: Final = 320
_SCALARS: Final = frozenset({int, str, bool, float, type(None)})
_NOTHING: Final[frozenset[str]] = frozenset()
_NEVER: Final = (None, "", "")


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What the values of a flat state are the values of.

    `folds` are the ids of the folds, each with the length of its list, or -1 where its memory is one value; `held` are
    the awards.
    """

    built_version: int | None
    dirty: frozenset[str]
    folds: tuple[tuple[str, int], ...]
    held: tuple[AwardKey, ...]


class Shapes:
    """The shapes of users' states, as many as find room; those of an older catalog make way."""

    def __init__(self, room_bytes: int) -> None:
        self._room = room_bytes
        self._left = room_bytes
        self._newest = -1
        self._known: dict[tuple[Any, ...], Shape] = {}

    def flat(self, state: UserState, token: UUID, before: tuple[int, int] | None = None) -> Flat | None:
        """The state as a tuple; None where it is of no usual kind: with contexts, lists in lists, awards by hand.

        None also where its shape is a new one, and there is no room for it. `before` says what the user weighed and how
        many values that were, if it is to be reckoned from there: between two checkpoints a user changes little.
        """
        if len(state.scopes) != 1 or state.fixed:
            return None
        own, held = state.scopes.get(""), state.held
        if own is None:
            return None
        values: list[Any] = []
        lengths = []
        singles, long, listed = values, 0, 0
        for memory in own.values():
            if type(memory) is not list:
                lengths.append(-1)
                values.append(memory)
            elif (length := len(memory)) <= _MOST_FLAT:
                lengths.append(length)
                values += memory
            elif _SCALARS.issuperset(map(type, memory)):
                lengths.append(-1)
                values.append(memory)
                listed += 0 if before else _GROWN_BYTES + sum(map(getsizeof, memory))
                long += 1
            else:
                return None
        if long:
            singles = [value for value in values if type(value) is not list]
        if len(values) - len(singles) != long or not _SCALARS.issuperset(map(type, singles)):
            return None
        shape = self._shape(state, tuple(own), tuple(lengths))
        if shape is None:
            return None
        count = len(values) + len(held)
        if before is None:
            # What is equal is one object nearly always; the newest event, and instants of awards, are in a fold, too.
            weight = _USER_BYTES + listed + sum(map(getsizeof, {*singles})) + 8 * (_FIRST + count)
        else:
            weight = max(_USER_BYTES, before[0] + _GROWN_BYTES * (count - before[1]))
        newest = state.newest or _NEVER
        return (shape, token, weight, *newest, state.award_sequence, state.unsaved, *values, *held.values())

    def _shape(self, state: UserState, own: tuple[str, ...], lengths: tuple[int, ...]) -> Shape | None:
        built, changed, held = state.built_version, bool(state.dirty), tuple(state.held)
        asked = (built, changed, own, lengths, held)
        shape = self._known.get(asked)
        if shape is None:
            if built is not None and built > self._newest:  # nobody comes with the older ones any more
                self._known.clear()
                self._newest, self._left = built, self._room
            size = _SHAPE_BYTES + _PART_BYTES * (len(own) + len(held))
            if size > self._left:
                return None
            self._left -= size
            folds = tuple(zip(own, lengths, strict=True))
            keys = tuple(award_key(*key) for key in held)
            shape = self._known[asked] = Shape(built, OWN_SCOPE if changed else _NOTHING, folds, keys)
        return shape


def unfolded(user_id: str, flat: Flat) -> UserState:
    """The state that `Shapes.flat` made a tuple of."""
    shape: Shape = flat[0]
    at, own = _FIRST, {}
    for fold_id, length in shape.folds:
        if length < 0:
            own[fold_id] = flat[at]
            at += 1
        else:
            end = at + length
            own[fold_id] = [*flat[at:end]]
            at = end
    newest = None if flat[3] is None else flat[3:6]
    held = dict(zip(shape.held, flat[at:], strict=True)) if shape.held else {}
    return UserState(user_id, {"": own}, held, newest, flat[6], shape.built_version, 0, shape.dirty, flat[7])


def weighed(flat: Flat) -> tuple[int, int]:
    """What a flat state weighs, and how many values that are."""
    return flat[2], len(flat) - _FIRST


def packed_flat(flat: Flat) -> bytes:
    """A flat state without its shape and its claim as bytes. They mean something to this process only."""
    return marshal.dumps(flat[2:])


def unpacked_flat(shape: Shape, token: UUID, blob: bytes) -> Flat:
    """The flat state that was packed."""
    return (shape, token, *marshal.loads(blob))  # noqa: S302 (`packed_flat` wrote it)


def packed(state: UserState) -> bytes:
    """A state of any kind as bytes. They mean something to this process only, and are stored nowhere."""
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
    state = UserState(user_id, scopes, held, newest, sequence, built, 0, frozenset(dirty), unsaved)
    if fixed:
        state.fixed = frozenset(fixed)
    return state


def size_of_packed(blob: bytes) -> int:
    """About how many bytes of memory a packed user takes."""
    return len(blob) + _PACKED_BYTES


def size_of(state: UserState) -> int:
    """About how many bytes of memory a state takes as it is."""
    size = _LIVE_BYTES + _HELD_BYTES * len(state.held)
    for memories in state.scopes.values():
        size += _SCOPE_BYTES
        for memory in memories.values():
            size += _MEMORY_BYTES
            if type(memory) is list and memory:
                size += len(memory) * (_ENTRY_BYTES if type(memory[0]) is list else _ITEM_BYTES)
            elif type(memory) is dict:
                size += len(memory) * _ENTRY_BYTES
    return size
