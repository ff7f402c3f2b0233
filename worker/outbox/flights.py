"""One flight: rows are sent with a producer that nobody else uses meanwhile, then marked; what cannot fly is parked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from worker.errors import PoisonBatch
from worker.exchange import Message, OutboxRow
from worker.outbox.leases import Held, Leases, lease_name
from worker.outbox.protocols import OutboxStore, Publisher, RelayHooks

log = structlog.get_logger(__name__)

#: How often a producer that never failed must be refused a message alone before it is set aside.
REFUSALS = 3
#: How long a send that is given up may take to end, seconds.
GIVE_UP_SECONDS = 4.0


class Place(NamedTuple):
    """One message of a row."""

    row: OutboxRow
    at: int

    @property
    def last(self) -> bool:
        """Whether the row ends with it."""
        return self.at == len(self.row.messages) - 1


@dataclass(slots=True)
class Flights:
    """Sends and marks rows; flights at the same time must be of different shards.

    `open_publisher` gives a started publisher. Those at rest never failed and wait for the next flight: there are as
    many as there once were flights at a time.
    """

    store: OutboxStore
    leases: Leases
    open_publisher: Callable[[], Awaitable[Publisher]]
    hooks: RelayHooks
    _resting: list[Publisher] = field(default_factory=list)

    async def fly(self, held: Mapping[int, Held], rows: Sequence[OutboxRow]) -> int:
        """1 send all rows in order; 2 mark them under the leases. Returns how many messages went or were set aside.

        Raises TransientError where sending or marking failed: whatever is not marked must be read and sent again.
        """
        try:
            await self._send(held, [(row.topic, message) for row in rows for message in row.messages])
        except PoisonBatch:
            return await self._single_out(held, [Place(row, at) for row in rows for at in range(len(row.messages))])
        return await self._mark(held, rows)

    async def rest(self) -> None:
        """Let go of the producers at rest."""
        resting, self._resting = self._resting, []
        if resting:
            await asyncio.gather(*(publisher.close() for publisher in resting))

    async def _send(self, held: Mapping[int, Held], messages: Sequence[tuple[str, Message]]) -> None:
        """Publish; the leases are kept alive meanwhile. After any failure the producer is thrown away.

        So are those at rest then: what the broker did to one it may have done to all.
        """
        publisher = self._resting.pop() if self._resting else await self.open_publisher()
        publishing = asyncio.ensure_future(publisher.publish(messages))
        try:
            while not publishing.done():
                ours = [one for one in held.values() if self.leases.keeps(one)]
                due = min((one.renew_at for one in ours), default=None)
                timeout = None if due is None else max(0.0, due - self.leases.clock())
                await asyncio.wait({publishing}, timeout=timeout)
                if not publishing.done():
                    await self.leases.keep(ours)
            publishing.result()
        except BaseException:
            publishing.cancel()
            await asyncio.wait({publishing}, timeout=GIVE_UP_SECONDS)
            if publishing.done() and not publishing.cancelled():
                publishing.exception()
            self._resting.append(publisher)
            await self.rest()
            raise
        self._resting.append(publisher)

    async def _mark(self, held: Mapping[int, Held], rows: Sequence[OutboxRow]) -> int:
        """Returns how many messages the rows have that were marked: all but those whose lease was lost."""
        ids: dict[str, list[int]] = {}
        for row in rows:
            ids.setdefault(lease_name(row.shard), []).append(row.id)
        tokens = {lease_name(row.shard): held[row.shard].token for row in rows}
        holding = await self.store.mark_published(ids, tokens)
        for shard in {row.shard for row in rows if lease_name(row.shard) not in holding}:
            self.leases.lost(held[shard])
        marked = [row for row in rows if lease_name(row.shard) in holding]
        for topic, count in _counted(marked).items():
            self.hooks.published(topic, count)
        return sum(len(row.messages) for row in marked)

    async def _single_out(self, held: Mapping[int, Held], places: Sequence[Place]) -> int:
        """Send everything before the first message that is refused alone, mark that, set the culprit aside."""
        count, reason = await self._find(held, places)
        whole = [place.row for place in places[:count] if place.last]
        sent = await self._mark(held, whole) if whole else 0
        if reason is not None:
            sent += await self._set_aside(held[places[count].row.shard], places[count], reason)
        return sent

    async def _find(self, held: Mapping[int, Held], places: Sequence[Place]) -> tuple[int, str | None]:
        """How many messages were sent before the first that is refused, and why that is; None where none is, alone.

        The first `low` are stored, and among those up to `high` one is at fault: the first half is tried each time.
        """
        messages = [(place.row.topic, place.row.messages[place.at]) for place in places]
        low, high = 0, len(places)
        reason, refusals = None, 0
        while refusals < REFUSALS and all(self.leases.keeps(held[place.row.shard]) for place in places):
            middle = (low + high + 1) // 2
            try:
                await self._send(held, messages[low:middle])
            except PoisonBatch as refused:
                if high - low == 1:
                    reason, refusals = refused.message, refusals + 1
                high = middle
            else:
                if middle == high:
                    return high, None
                low = middle
        return low, reason if refusals == REFUSALS else None

    async def _set_aside(self, held: Held, place: Place, reason: str) -> int:
        row, name, message = place.row, lease_name(held.shard), place.row.messages[place.at]
        rest = row.messages[place.at + 1 :]
        if not await self.store.park(row.id, name, held.token, message=message, rest=rest, reason=reason):
            self.leases.lost(held)
            return 0
        log.error("outbox_message_parked", row=row.id, topic=row.topic, reason=reason)
        if place.at:
            self.hooks.published(row.topic, place.at)
        self.hooks.parked(1)
        return place.at + 1


def _counted(rows: Sequence[OutboxRow]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row.topic] += len(row.messages)
    return counts
