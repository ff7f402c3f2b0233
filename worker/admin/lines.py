"""A stream of events, one a line: read in pieces, sent in pieces, with a result for each line."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias

from worker.admin.answers import as_json
from worker.admin.intake import YOUNGER, Taken, refusal, take
from worker.admin.problems import Problem, unavailable
from worker.errors import BadgesError, TransientError
from worker.events import Dictionary, Rejected
from worker.events.json_text import MAX_BYTES
from worker.exchange import Message

#: So many lines are decoded and sent together: about 10 ms in which nobody else is answered.
_TOGETHER: Final = 400
#: A stream has so many lines at most: each is answered, so that their number, not their length, takes the memory.
MOST_LINES: Final = 200_000
#: So many such pieces may be on their way to Kafka while the next is read.
_ON_THE_WAY: Final = 4
#: So much of a stream's key stands in the ids of its lines.
_KEY_CHARACTERS: Final = 180

#: A line's number, from 1, and its bytes; None where it is longer than an event may be, or the stream too long.
Line: TypeAlias = tuple[int, bytes | None]


async def lines_of(
    stream: AsyncIterator[bytes], *, most: int, most_lines: int = MOST_LINES
) -> AsyncIterator[list[Line]]:
    """Pieces of the lines that are not blank.

    What lies behind `most` bytes or `most_lines` lines is not read: a line without bytes says so.

    Memory is bounded by a piece and a line.
    """
    number, left, rest, cut = 0, most, b"", False
    lines: list[Line] = []
    async for part in stream:
        *whole, rest = (rest + part[:left]).split(b"\n")
        for text in whole:
            number += 1
            if number > most_lines:
                yield [*lines, (number, None)]
                return
            if cut or len(text) > MAX_BYTES:
                lines.append((number, None))
                cut = False
            elif text.strip():
                lines.append((number, text))
            if len(lines) >= _TOGETHER:
                yield lines
                lines = []
        if len(rest) > MAX_BYTES or len(part) > left:
            rest, cut = b"", True
        left -= len(part)
        if left < 0:
            break
    if cut or rest.strip():
        lines.append((number + 1, None if cut else rest))
    if lines:
        yield lines


class Batch:
    """The lines of one request: their events on the way, and what became of each, as JSON lines in `told`.

    `stored` counts events that the broker has; `away` says why some could not be sent, or judged.
    """

    def __init__(
        self,
        *,
        dictionary: Dictionary,
        again: Callable[[], Awaitable[Dictionary]],
        deliver: Callable[[list[Message]], Awaitable[None]],
        now_us: int,
        max_future_us: int,
        key: str | None = None,
    ) -> None:
        self._dictionary = dictionary
        self._again: Callable[[], Awaitable[Dictionary]] | None = again
        self._unseen: str | None = None
        self._deliver = deliver
        self._now_us = now_us
        self._max_future_us = max_future_us
        self._key = None if key is None else _short(key)
        self._on_the_way: deque[tuple[asyncio.Task[None] | None, list[dict[str, Any]]]] = deque()
        self.told: list[bytes] = []
        self.stored = 0
        self.away: str | None = None

    async def add(self, lines: Sequence[Line]) -> None:
        """Decode lines and send their events, in order; waits where too much is on its way."""
        messages: list[Message] = []
        results: list[dict[str, Any]] = []
        for number, text in lines:
            found = await self._take(number, text)
            if isinstance(found, Rejected):
                refused = self._undecided(found) or refusal(found)
                results.append({"line": number, "success": False, **refused.body()})
                continue
            results.append({"line": number, "success": True, "event_id": found.event.id})
            messages.append(found.message())
        if len(self._on_the_way) >= _ON_THE_WAY:
            await self._settle()
        sending = asyncio.create_task(self._send(messages, results)) if messages else None
        self._on_the_way.append((sending, results))
        await asyncio.sleep(0)

    async def finish(self) -> None:
        """Wait for all that is on its way."""
        while self._on_the_way:
            await self._settle()

    async def _settle(self) -> None:
        """Wait for the oldest piece, and keep what is told of it as the text it will be."""
        sending, results = self._on_the_way.popleft()
        if sending is not None:
            await sending
        self.told.append(b"".join(as_json(result) + b"\n" for result in results))

    async def _take(self, number: int, text: bytes | None) -> Taken | Rejected:
        if text is None:
            return Rejected(
                "too_large", f"the line has more than {MAX_BYTES:,} bytes, or the stream with it more than it may have"
            )
        key = None if self._key is None else f"{self._key}:{number}"
        found = self._decoded(text, key)
        if isinstance(found, Rejected) and found.code in YOUNGER and self._again is not None:
            again, self._again = self._again, None  # once for a stream
            try:
                self._dictionary = await again()
            except BadgesError as error:
                self._unseen = error.message
            else:
                found = self._decoded(text, key)
        return found

    def _undecided(self, found: Rejected) -> Problem | None:
        """The answer to a line that a catalog nobody could look at may take; None for one that is refused for good."""
        if self._unseen is None or found.code not in YOUNGER:
            return None
        self.away = self._unseen
        return unavailable(self._unseen)

    def _decoded(self, text: bytes, key: str | None) -> Taken | Rejected:
        return take(text, self._dictionary, now_us=self._now_us, max_future_us=self._max_future_us, key=key)

    async def _send(self, messages: list[Message], results: list[dict[str, Any]]) -> None:
        try:
            await self._deliver(messages)
        except TransientError as error:
            self.away = error.message
            for result in results:
                if not result["success"]:
                    continue
                result["success"] = False
                result.update(unavailable(error.message).body())
        else:
            self.stored += len(messages)


def _short(key: str) -> str:
    """A key that leaves room for the number of a line in an id; what is cut of a long one is told apart by its hash."""
    return (
        key if len(key) <= _KEY_CHARACTERS else f"{key[: _KEY_CHARACTERS - 33]}-{sha256(key.encode()).hexdigest()[:32]}"
    )
