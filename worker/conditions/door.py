"""Asks conditions about events: what to ask, whom not to ask any more, what to make of a fault."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Any, Final, Self, TypeAlias

import msgspec

from worker.conditions.parking import Parking
from worker.conditions.process import KILL_SECONDS, Child, Died, check_engine
from worker.events import Event
from worker.events.instants import format_instant
from worker.rules.catalog.definitions import Condition

#: What to ask about the events of a type (`Plan.conditions`).
Asked = Mapping[str, Sequence[Condition]]

#: Told of a fault: the condition type, what was wrong, and where it is parked for that, how many there were lately (0).
Tell: TypeAlias = Callable[[str, str, int], None]

#: One request holds at most so many calls, and about so many bytes of events.
REQUEST_CALLS: Final = 1_000
REQUEST_BYTES: Final = 1024 * 1024
#: After the child died it is asked carefully, so many calls: it then says after each where it is.
CAREFUL_CALLS: Final = 100

#: What a fault begins with that is one of time: in the child, and where it had to be ended.
TOO_SLOW: Final = "it took longer than"
ENDED: Final = "the process that ran it had to be ended"

#: Keys sorted: what a condition sees must not depend on how a producer or the database orders them.
_encode: Final = msgspec.json.Encoder(decimal_format="number", order="sorted").encode
_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(slots=True)
class Told:
    """What the door did since it was last asked: verdicts by kind, faults by condition type, starts of the child.

    `cut` are the times that events were handed back unasked, for want of time.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    cut: int = 0


#: One call: the place of the event, and what is asked about it.
_Call: TypeAlias = tuple[int, Condition]


class Door:
    """The one way to run conditions: a child process behind it, started when first asked and again after its end.

    A condition type that fails whoever it is asked about (see `parking.py`) is parked until its source changes: its
    events get the verdict `parked` unasked. `tell` is told of each fault. With `seconds`, no `judge` asks for longer,
    by more than one event; without, it asks about all.
    """

    def __init__(
        self, *, tell: Tell | None = None, kill_seconds: float = KILL_SECONDS, seconds: float | None = None
    ) -> None:
        check_engine()
        self._child = Child(kill_seconds=kill_seconds)
        self._lock = asyncio.Lock()
        self._tell = tell
        self._told = Told()
        self._seconds = seconds
        self._parking = Parking()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the child."""
        await self._child.stop()

    @property
    def pid(self) -> int | None:
        """The number of the child's process; None where none runs."""
        return self._child.pid

    @property
    def parked(self) -> list[str]:
        """The names of the condition types that are not asked any more, sorted."""
        return self._parking.names

    def told(self) -> Told:
        """What was done since this was last asked."""
        found, self._told = self._told, Told()
        found.starts, self._child.starts = self._child.starts, 0
        return found

    async def judge(self, asked: Asked, events: Sequence[Event]) -> list[Event]:
        """The events with their verdicts; one that has a verdict already keeps it. All of them then have a mapping.

        Where time runs out, those from some event on, never the first, come back as they were. No fault of a condition
        is raised: its verdict is `error`, and `parked` where its type is. Raises TransientError where no child can be
        started.
        """
        found: list[dict[str, str]] = [dict(event.verdicts or _NOTHING) for event in events]
        calls = [
            (index, condition)
            for index, event in enumerate(events)
            for condition in asked.get(event.type, ())
            if condition.hash not in found[index]
        ]
        end = len(events)
        if calls:
            async with self._lock:
                try:
                    end = await self._ask(calls, events, found)
                except BaseException:
                    await self._child.stop()  # what it was asked, nobody reads
                    raise
        judged = zip(events[:end], found[:end], strict=True)
        return [*(msgspec.structs.replace(event, verdicts=verdicts) for event, verdicts in judged), *events[end:]]

    async def check(self, sources: Sequence[str]) -> list[str | None]:
        """For each source what is wrong with it as one JavaScript expression; None where nothing is."""
        found: list[str | None] = []
        async with self._lock:
            while len(found) < len(sources):
                left = sources[len(found) : len(found) + REQUEST_CALLS]
                try:
                    async for replies in self._child.request({"check": left, "careful": True}, len(left)):
                        found += [None if reply is True else str(reply) for reply in replies]
                except Died:
                    await self._child.stop()
                    found.append("it cannot be read in time")
        return found

    async def _ask(self, calls: Sequence[_Call], events: Sequence[Event], found: Sequence[dict[str, str]]) -> int:
        """Write down the verdict of each call; returns how many of the events there was time for.

        A child that dies is asked again from its last reply on, carefully: dies it again, the call it was at is to
        blame, and the next child goes on behind that.
        """
        waiting, careful, parked = self._left(calls, events, found), False, -1
        first, until = calls[0][0], None if self._seconds is None else monotonic() + self._seconds
        while waiting:
            if parked != (parked := len(self.parked)):
                waiting = self._left(waiting, events, found)
                continue
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0 and waiting[0][0] > first:
                self._told.cut += 1
                return waiting[0][0]
            batch = list(self._batch(waiting, events, CAREFUL_CALLS if careful else REQUEST_CALLS))
            request = self._request(batch, events, careful=careful)
            if left is not None:
                request |= {"seconds": max(left, 0), "least": sum(index == first for index, _ in batch)}
            replies = self._child.request(request, len(batch))
            try:
                async for bundle in replies:
                    for reply in bundle:
                        if reply is not None:
                            self._settle(waiting.popleft(), reply, events, found)
                    if len(self.parked) > parked:
                        break  # what was asked of it behind this is not waited for
                else:
                    careful = False
                    continue
            except Died:
                if careful:
                    self._settle(waiting.popleft(), ENDED, events, found)
                careful = True
            await replies.aclose()
            await self._child.stop()
        return len(events)

    def _left(self, calls: Iterable[_Call], events: Sequence[Event], found: Sequence[dict[str, str]]) -> deque[_Call]:
        """The calls that may still be made; what is asked of a parked type has its verdict at once."""
        left: deque[_Call] = deque()
        for call in calls:
            if self._parking.is_parked(call[1]):
                self._settle(call, None, events, found)
            else:
                left.append(call)
        return left

    def _settle(
        self, call: _Call, reply: bool | str | None, events: Sequence[Event], found: Sequence[dict[str, str]]
    ) -> None:
        """Write down the verdict of one call; without a reply nobody was asked."""
        index, condition = call
        if reply is None or self._parking.is_parked(condition):
            verdict = "parked"
        else:
            verdict = self._judged(condition, reply, events[index].user_id)
        found[index][condition.hash] = verdict
        self._told.verdicts[verdict] += 1

    @staticmethod
    def _batch(waiting: Iterable[_Call], events: Sequence[Event], most: int) -> Iterator[_Call]:
        """The next calls, as many as one request holds."""
        size, last = 0, -1
        for call in islice(waiting, most):
            if call[0] != last:
                if size > REQUEST_BYTES:
                    return
                last = call[0]
                size += len(events[last].payload_json)
            yield call

    def _request(self, batch: Sequence[_Call], events: Sequence[Event], *, careful: bool) -> dict[str, Any]:
        numbers = {index: number for number, index in enumerate(dict.fromkeys(index for index, _ in batch))}
        known = self._child.known
        new = {condition.hash: condition for _, condition in batch if condition.hash not in known}
        known.update(new)
        return {
            "conditions": [[one.hash, one.source, one.params] for one in new.values()],
            "events": [text_of(events[index]) for index in numbers],
            "careful": careful,
            "calls": [[condition.hash, numbers[index]] for index, condition in batch],
        }

    def _judged(self, condition: Condition, reply: bool | str, user_id: str) -> str:
        """The verdict; faults are counted, and the type is parked where it fails whoever is asked about."""
        if isinstance(reply, bool):
            self._parking.answered(condition)
            return "yes" if reply else "no"
        self._told.faults[condition.name] += 1
        lately = self._parking.failed(condition, user_id, slow=reply.startswith((TOO_SLOW, ENDED)))
        if self._tell is not None:
            self._tell(condition.name, reply, lately)
        return "error"


def text_of(event: Event) -> str:
    """The event as a condition sees it, JSON: id, type, user_id, occurred_at, source, payload."""
    return _encode(
        {
            "id": event.id,
            "type": event.type,
            "user_id": event.user_id,
            "occurred_at": format_instant(event.occurred_us),
            "source": event.source,
            "payload": event.payload,
        }
    ).decode()
