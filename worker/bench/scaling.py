"""How much faster several workers of one group are than one: the same stream, sent while they own its partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from time import monotonic
from typing import Final

from worker.bench.load import counts, fill
from worker.bench.runs import Bench
from worker.bench.streams import PARTITIONS, Stream
from worker.errors import OperatorError

_DEADLINE_SECONDS: Final = 300.0

Said = Callable[[str], None]


async def scaling(bench: Bench, stream: Stream, processes: tuple[int, ...], said: Said) -> dict[str, float]:
    """Events per second by the number of processes, from the first record sent to the last award published."""
    return {str(count): await _shared(bench, stream, count, said) for count in processes}


async def _shared(bench: Bench, stream: Stream, processes: int, said: Said) -> float:
    ends = counts(stream.records, PARTITIONS)
    nothing = [[0] * PARTITIONS]
    async with bench.filled(()) as topic, bench.schema(stream) as schema:
        before = await bench.award_topic.ends()

        async def owners() -> set[str]:
            rows = await bench.ground.ask(
                f'SELECT owner FROM "{schema}".partitions WHERE topic = $1 AND owner IS NOT NULL',  # noqa: S608
                topic,
            )
            return {row[0] for row in rows} if len(rows) == PARTITIONS else set()

        async def finished() -> bool:
            (row,) = await bench.ground.ask(
                f'SELECT coalesce(sum(next_offset), 0), (SELECT count(*) FROM "{schema}".outbox '  # noqa: S608
                f'WHERE published_at IS NULL) FROM "{schema}".partitions WHERE topic = $1',
                topic,
            )
            return int(row[0]) >= sum(ends) and not row[1]

        async with AsyncExitStack() as stack:
            workers = [await stack.enter_async_context(bench.worker(topic, schema, nothing)) for _ in range(processes)]
            await asyncio.gather(*(worker.expect("done") for worker in workers))
            deadline = monotonic() + _DEADLINE_SECONDS
            while len(await owners()) < processes:
                await _pause(deadline, f"{processes} workers share the partitions")
            begun = monotonic()
            await fill(bench.ground.settings, topic, stream.records, PARTITIONS)
            while not await finished():
                await _pause(deadline, "everything that was sent is applied and published")
            seconds = monotonic() - begun
        await bench.check(stream, schema, before)
    found = len(stream.records) / seconds
    said(f"{processes} process{'' if processes == 1 else 'es'}: {found:,.0f} events/s, while they are sent")
    return found


async def _pause(deadline: float, what: str) -> None:
    if monotonic() > deadline:
        raise OperatorError(f"Not within {_DEADLINE_SECONDS:.0f} s: {what}.")
    await asyncio.sleep(0.05)
