"""A stream that is read whole before anything is done with it: in memory while it is short, else in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Final

from worker.admin.problems import unavailable

#: So much of a stream stays in memory, bytes; and so much is read of its file at a time.
_IN_MEMORY: Final = 1024 * 1024
_PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Spooled:
    """A stream that was read: the hash of its bytes, and the bytes."""

    sha256: bytes
    _file: SpooledTemporaryFile[bytes]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes once more."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece


@asynccontextmanager
async def spooled(stream: AsyncIterator[bytes], *, most: int) -> AsyncIterator[Spooled]:
    """The stream up to a byte beyond `most`; what lies behind is not read. Its file goes with the block."""
    hashed, left = sha256(), most + 1
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        try:
            async for part in stream:
                hashed.update(part[:left])
                file.write(part[:left])
                left -= len(part)
                if left <= 0:
                    break
        except OSError:
            raise unavailable("There is no room for this stream: the disk is full.", seconds=10) from None
        yield Spooled(hashed.digest(), file)
