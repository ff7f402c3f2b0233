"""How the store writes what SQL does not look into: fold states and messages as msgpack, texts of dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeVar
from zlib import crc32

import msgspec

from worker.exchange import SHARDS, Message

Item = TypeVar("Item")

#: A statement carries about so many bytes at most: PostgreSQL takes 1 GB in a message, and both sides hold it whole.
STATEMENT_BYTES: Final = 16 * 1024 * 1024
#: A row of the outbox holds about so many bytes at most, so that a relay that reads many rows stays small.
ROW_BYTES: Final = 1024 * 1024

_BIG_INTEGER: Final = 1
#: What may stand between texts: no NUL, no halves of pairs; more characters than the users of a batch can hold.
_SEPARATORS: Final = (range(1, 0xD800), range(0xE000, 0x110000))
_MSGPACK_INTEGERS: Final = range(-(2**63), 2**64)

_encoder = msgspec.msgpack.Encoder()
_message_decoder = msgspec.msgpack.Decoder(list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]])
_header_decoder = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]])


def pack_state(state: Mapping[str, Any]) -> bytes:
    """Fold states (JSON-like, integers of any length) as msgpack; tuples come back as lists."""
    try:
        return _encoder.encode(state)
    except OverflowError:
        return _encoder.encode(_with_big_integers(state))


def unpack_state(blob: bytes | None) -> dict[str, Any]:
    """What `pack_state` packed; nothing packed is no state."""
    return {} if blob is None else _state_decoder.decode(blob)


def _with_big_integers(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() if value not in _MSGPACK_INTEGERS:
            return msgspec.msgpack.Ext(_BIG_INTEGER, str(value).encode())
        case list() | tuple():
            return [_with_big_integers(child) for child in value]
        case dict():
            return {key: _with_big_integers(child) for key, child in value.items()}
    return value


def _extension(code: int, data: memoryview) -> int:
    if code != _BIG_INTEGER:
        raise ValueError(f"a fold state holds an extension {code} that this version does not know")
    return int(bytes(data))


_state_decoder = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_extension)


def pack_messages(messages: Sequence[Message]) -> bytes:
    """Messages of one outbox row."""
    return _encoder.encode([(message.key, message.value, message.headers) for message in messages])


def unpack_messages(blob: bytes) -> tuple[Message, ...]:
    """What `pack_messages` packed."""
    return tuple(Message(key, value, tuple(headers)) for key, value, headers in _message_decoder.decode(blob))


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers of a record."""
    return _encoder.encode(headers)


def unpack_headers(blob: bytes | None) -> tuple[tuple[str, bytes | None], ...] | None:
    """What `pack_headers` packed; None where they are not known."""
    return None if blob is None else tuple(_header_decoder.decode(blob))


def shard_of(user_id: str) -> int:
    """The outbox shard of a user, the same in every process and version."""
    return crc32(user_id.encode("utf-8", "surrogatepass")) % SHARDS


def outbox_rows(keyed: Sequence[tuple[str, Message]]) -> list[tuple[int, bytes]]:
    """(shard, packed messages) rows, in the order they must be inserted; each user's messages keep their order."""
    shards: dict[int, list[Message]] = {}
    for user_id, message in keyed:
        shards.setdefault(shard_of(user_id), []).append(message)
    return [
        (shard, pack_messages(part))
        for shard, messages in sorted(shards.items())
        for part in chunks(messages, _size, ROW_BYTES)
    ]


def _size(message: Message) -> int:
    return len(message.key or b"") + len(message.value or b"")


def chunks(items: Sequence[Item], size: Callable[[Item], int], limit: int) -> Iterator[Sequence[Item]]:
    """Consecutive pieces of at most `limit` bytes, or of one item that is larger alone."""
    start, total = 0, 0
    for index, item in enumerate(items):
        length = size(item)
        if total + length > limit and index > start:
            yield items[start:index]
            start, total = index, 0
        total += length
    if start < len(items):
        yield items[start:]


def joined(*lists: Sequence[str]) -> tuple[str, ...]:
    """Lists of texts, each as one text, and last the separator, a character that none of them holds."""
    separator = "\x1f"
    texts = [separator.join(texts) for texts in lists]
    if sum([text.count(separator) for text in texts]) != sum([max(0, len(one) - 1) for one in lists]):
        used = {char for one in lists for text in one for char in text}
        separator = next(char for char in map(chr, chain(*_SEPARATORS)) if char not in used)
        texts = [separator.join(one) for one in lists]
    return (*texts, separator)


def storable(text: str) -> str:
    """The text with what PostgreSQL cannot store (NUL, lone surrogates) replaced: a dead letter must always fit."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
