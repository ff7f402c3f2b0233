"""How far workers are behind the topics, by the clock: what jobs over users yield to beside what the database tells."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

import structlog

from worker.config import Settings
from worker.errors import BadgesError
from worker.pipeline.driving import GONE_SECONDS
from worker.store.postgres import PostgresStore
from worker.stream.reader import Reader

log = structlog.get_logger(__name__)

Partition = tuple[str, int]

#: How often the broker is asked; who does not ask for so long is forgotten, and so is the connection, seconds.
LOOK_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 30.0
#: A figure that is so old is none; how long a broker that does not answer is left alone, seconds.
STALE_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 10.0
#: So many looks are remembered of a partition; of more, every other one.
_LOOKS: Final = 64


class Backlog:
    """For how many seconds, at least, the oldest record that is not applied has waited: found by looking repeatedly.

    Of each look it is remembered where partitions ended. What was there then and is not applied now has waited since,
    so the first look finds none, and an operator's clock or a record's own time does not matter.
    """

    def __init__(self) -> None:
        self._ends: dict[Partition, deque[tuple[float, int]]] = {}

    def look(self, at: float, ends: Mapping[Partition, int], applied: Mapping[Partition, int]) -> float:
        """Seconds behind at an instant (monotonic), from where partitions end and the next offsets to be applied.

        Partitions of which none is given are forgotten.
        """
        self._ends = {place: self._ends.get(place, deque()) for place in applied}
        behind = 0.0
        for place, offset in applied.items():
            looks = self._ends[place]
            while looks and looks[0][1] <= offset:
                looks.popleft()
            if looks:
                behind = max(behind, at - looks[0][0])
            end = ends[place]
            if end > offset and (not looks or end > looks[-1][1]):
                looks.append((at, end))
            if len(looks) > _LOOKS:
                self._ends[place] = deque(list(looks)[::2])
        return behind


class Tails:
    """What lies beyond the applied offsets of partitions where those do not move: a record that waits, or none.

    Offsets also go to markers of transactions and to records of aborted ones, which no worker is ever shown: a
    partition that ends with them is applied to its end. Each stretch is read once, and only where a group stands still.
    """

    def __init__(self) -> None:
        #: where the group stood at the last look, where the next record is or would come, whether one is there
        self._seen: dict[Partition, tuple[int, int, bool]] = {}

    async def skip(
        self, reader: Reader, ends: Mapping[Partition, int], applied: Mapping[Partition, int]
    ) -> dict[Partition, int]:
        """The next offsets to be applied, moved past what is no record. Raises TransientError."""
        seen = {place: self._seen.get(place, (-1, 0, False)) for place in applied}
        self._seen = {
            place: seen[place] if seen[place][0] == offset else (offset, offset, False)
            for place, offset in applied.items()
        }
        unread = {
            place: (upto, ends[place])
            for place, (offset, upto, waits) in self._seen.items()
            if not waits and upto < ends[place] and seen[place][0] == offset
        }
        found = await reader.first_records(unread) if unread else {}
        for place, (_, end) in unread.items():
            record = found.get(place)
            self._seen[place] = (applied[place], end if record is None else record.offset, record is not None)
        return {place: upto for place, (_, upto, _) in self._seen.items()}


class LiveLag:
    """Keeps an eye on the group's lag while somebody asks for it; asking never waits.

    Partitions in which no batch was applied for `GONE_SECONDS` do not count: one that is halted waits for a person, a
    group that is gone for nobody.
    """

    def __init__(self, store: PostgresStore, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._behind = 0.0
        self._found_at = self._asked_at = -STALE_SECONDS
        self._task: asyncio.Task[None] | None = None

    def seconds(self) -> float:
        """How far live work is behind, as of a moment ago; 0 while that is not known."""
        self._asked_at = now = self._clock()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="live lag")
        return self._behind if now - self._found_at < STALE_SECONDS else 0.0

    async def close(self) -> None:
        """Leave off looking; who asks again begins anew."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        try:
            while self._is_asked():
                await self._watch(Backlog(), Tails())
        except BadgesError as error:
            # a broker that is away keeps live work waiting, not jobs
            log.info("lag_unknown", reason=error.message)
            await asyncio.sleep(RETRY_SECONDS)

    def _is_asked(self) -> bool:
        return self._clock() - self._asked_at < FORGET_SECONDS

    async def _watch(self, backlog: Backlog, tails: Tails) -> None:
        """Look again and again, until nobody asks any more, or there are other partitions than at first."""
        places = await self._store.live_positions(self._store.group_id, GONE_SECONDS)
        if not places:
            await asyncio.sleep(LOOK_SECONDS)
            return
        async with Reader(self._settings, places) as reader:
            while self._is_asked():
                found = await self._store.live_positions(self._store.group_id, GONE_SECONDS)
                if not found.keys() <= places.keys():
                    return
                applied = {place: offset for place, offset in found.items() if offset is not None}
                at = self._clock()
                bounds = await reader.all_bounds(applied) if applied else {}
                ends = {place: end for place, (_, end) in bounds.items()}
                self._behind = backlog.look(at, ends, await tails.skip(reader, ends, applied))
                self._found_at = self._clock()
                await asyncio.sleep(LOOK_SECONDS)
