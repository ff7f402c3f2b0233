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

#: A flat state: its shape, instant, source and id of the newest event, award sequence, events since the state was
#: written, then the values of all folds, then the instants of all awards held.
Flat: TypeAlias = tuple[Any, ...]

_FIRST: Final = 6
#: What a user takes besides the values: the id, the place among the users kept, the tuple.
_USER_BYTES: Final = 160
#: What bytes take besides what is in them: the id, the place among the users kept, the objects around.
_PACKED_BYTES: Final = 220
#: What a user takes as objects, about: objects and keys, each scope, each memory and award held, items of a memory.
_LIVE_BYTES: Final = 800
_SCOPE_BYTES: Final = 230
_MEMORY_BYTES: Final = 60
_HELD_BYTES: Final = 60
_ITEM_BYTES: Final = 45
_ENTRY_BYTES: Final = 320
#: So many shapes are known at a time; a user whose shape was forgotten keeps it.
_MOST_SHAPES: Final = 10_000
_SCALARS: Final = frozenset({int, str, bool, float, type(None)})
_NOTHING: Final[frozenset[str]] = frozenset()


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What the values of a flat state are the values of.

    `folds` are the ids of the folds, each with the length of its list, or -1 where its memory is a single value; `held`
    are the awards. `weight` is what a user of this shape takes in memory, about, in bytes.
    """

    token: UUID
    built_version: int | None
    dirty: frozenset[str]
    folds: tuple[tuple[str, int], ...]
    held: tuple[AwardKey, ...]
    weight: int


class Shapes:
    """The shapes of the states of one claim."""

    def __init__(self, token: UUID) -> None:
        self.token = token
        self._known: dict[tuple[Any, ...], Shape] = {}

    def flat(self, state: UserState) -> Flat | None:
        """The state as a tuple; None where it is of no usual kind: with contexts, lists in lists, awards by hand."""
        if len(state.scopes) != 1 or state.fixed:
            return None
        own, held = state.scopes.get(""), state.held
        if own is None:
            return None
        values = [None, *(state.newest or (None, "", "")), state.award_sequence, state.unsaved]
        lengths = []
        for memory in own.values():
            if type(memory) is list:
                lengths.append(len(memory))
                values += memory
            else:
                lengths.append(-1)
                values.append(memory)
        if not _SCALARS.issuperset(map(type, values)):
            return None
        changed = bool(state.dirty)
        asked = (state.built_version, changed, tuple(own), tuple(lengths), tuple(held))
        shape = self._known.get(asked)
        if shape is None:
            shape = self._made(asked, values)
        values[0] = shape
        values += held.values()
        return tuple(values)

    def _made(self, asked: tuple[Any, ...], values: Sequence[Any]) -> Shape:
        """A new shape. The newest event, and instants of awards, are also in the memory of a fold: counted once."""
        built, changed, own, lengths, held = asked
        weight = _USER_BYTES + 8 * (len(values) + len(held)) + sum(map(_size, values[_FIRST:]))
        if len(self._known) >= _MOST_SHAPES:
            self._known.clear()
        shape = Shape(
            self.token,
            built,
            OWN_SCOPE if changed else _NOTHING,
            tuple(zip(own, lengths, strict=True)),
            tuple(award_key(*key) for key in held),
            weight,
        )
        self._known[asked] = shape
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
    newest = None if flat[1] is None else flat[1:4]
    held = dict(zip(shape.held, flat[at:], strict=True)) if shape.held else {}
    return UserState(user_id, {"": own}, held, newest, flat[4], shape.built_version, 0, shape.dirty, flat[5])


def packed_flat(flat: Flat) -> bytes:
    """A flat state without its shape as bytes. They mean something to this process only, and are stored nowhere."""
    return marshal.dumps(flat[1:])


def unpacked_flat(shape: Shape, blob: bytes) -> Flat:
    """The flat state that was packed."""
    return (shape, *marshal.loads(blob))  # noqa: S302 (`packed_flat` wrote it)


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


def _size(value: Any) -> int:
    """What a value takes of its own: small numbers and single characters are there once."""
    return 0 if value is None or (type(value) is int and -5 <= value <= 256) or value == "" else getsizeof(value)
