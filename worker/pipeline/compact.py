"""Users' states in little memory: as a tuple whose shape many users share, and as bytes.

Half of what a state takes as it is are its dicts, and their keys are the same for thousands of users. So a state of a
usual kind becomes one flat tuple of its values, with a `Shape` that says what they are the values of: a third of the
memory. Bytes take half of that, and twice the time to make and to read.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
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

    `folds` are the ids of the folds, each with the slice that is its list, or the index of its one value; `held` are
    the awards with the indexes of their instants.
    """

    built_version: int | None
    dirty: frozenset[str]
    folds: tuple[tuple[str, slice | int], ...]
    held: tuple[tuple[AwardKey, int], ...]


class Shapes:
    """The shapes of users' states, as many as find room; those of an older catalog make way."""

    def __init__(self, room_bytes: int) -> None:
        self._room = room_bytes
        self._left = room_bytes
        self._newest = -1
        self._known: dict[tuple[Any, ...], Shape] = {}

    def flat(self, state: UserState, token: UUID, before: Flat | None = None) -> Flat | None:
        """The state as a tuple; None where it is of no usual kind: with contexts, awards by hand, deeper lists.

        None also where its shape is a new one, and there is no room for it. Between two checkpoints a user changes
        little, and weighs what it weighed `before` and a little for each value that came; only else is it looked at
        for deeper lists, and weighed.
        """
        own = state.scopes.get("")
        if own is None or len(state.scopes) != 1 or state.fixed:
            return None
        held = state.held
        values: list[Any] = []
        lengths: list[int] = []
        for memory in own.values():
            if type(memory) is list and (length := len(memory)) <= _MOST_FLAT:
                lengths.append(length)
                values += memory
            else:
                lengths.append(-1)
                values.append(memory)
        count = len(values) + len(held)
        if before is None:
            size = _size_of_values(values)
            if size is None:
                return None
            # What is equal is one object nearly always; the newest event, and instants of awards, are in a fold, too.
            weight = _USER_BYTES + size + 8 * (_FIRST + count)
        else:
            weight = max(_USER_BYTES, before[2] + _GROWN_BYTES * (count - len(before) + _FIRST))
        # Ids are texts, lengths numbers and awards tuples: no two shapes are one key.
        asked = (state.built_version, not state.dirty, *own, *lengths, *held)
        shape = self._known.get(asked) or self._shape(asked, state, lengths)
        if shape is None:
            return None
        newest = state.newest or _NEVER
        return (shape, token, weight, *newest, state.award_sequence, state.unsaved, *values, *held.values())

    def _shape(self, asked: tuple[Any, ...], state: UserState, lengths: Sequence[int]) -> Shape | None:
        built, own, held = state.built_version, state.scopes[""], state.held
        if built is not None and built > self._newest:  # nobody comes with the older ones any more
            self._known.clear()
            self._newest, self._left = built, self._room
        size = _SHAPE_BYTES + _PART_BYTES * (len(own) + len(held))
        if size > self._left:
            return None
        self._left -= size
        folds: list[tuple[str, slice | int]] = []
        at = _FIRST
        for fold_id, length in zip(own, lengths, strict=True):
            folds.append((fold_id, at if length < 0 else slice(at, at + length)))
            at += abs(length)
        instants = tuple((award_key(*key), place) for place, key in enumerate(held, at))
        self._known[asked] = shape = Shape(built, OWN_SCOPE if state.dirty else _NOTHING, tuple(folds), instants)
        return shape


def _size_of_values(values: Sequence[Any]) -> int | None:
    """What values and the items of lists among them take; None where one is neither single nor a list of singles."""
    lists = [value for value in values if type(value) is list]
    singles = [value for value in values if type(value) is not list] if lists else values
    if not all(_SCALARS.issuperset(map(type, some)) for some in (singles, *lists)):
        return None
    return sum(map(getsizeof, {*singles})) + sum(_GROWN_BYTES + sum(map(getsizeof, one)) for one in lists)


def unfolded(user_id: str, flat: Flat) -> UserState:
    """The state that `Shapes.flat` made a tuple of."""
    shape: Shape = flat[0]
    values, own, held = [*flat], {}, {}
    for fold_id, place in shape.folds:
        own[fold_id] = values[place]
    for key, at in shape.held:
        held[key] = flat[at]
    newest = None if flat[3] is None else flat[3:6]
    return UserState(user_id, {"": own}, held, newest, flat[6], shape.built_version, 0, shape.dirty, flat[7])


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
