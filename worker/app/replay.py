"""Ties a replay together: settings and what was asked to a reader without a group, a store of its own rows, a plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from worker.app.catalog import first_plan, working_plan
from worker.app.conditions import FaultLog, refuse_unasked
from worker.app.ranges import Asked, check_order, chosen, resolve
from worker.app.services import check_surroundings, limits_of, open_store, subscription, until_schema
from worker.auditing import noted, replay_line
from worker.conditions import Door
from worker.config import Settings
from worker.errors import OperatorError, TransientError
from worker.exchange import AuditLine
from worker.pipeline.batch import Applier
from worker.pipeline.brake import Brake
from worker.pipeline.cache import Cache
from worker.pipeline.pace import Pace
from worker.pipeline.replay import PARALLEL, Range, Replay, ReplayFacts
from worker.rules.plan import Plan
from worker.store.pool import SCHEMA
from worker.store.postgres import PostgresStore
from worker.store.replays import ReplayTable
from worker.stream import Reader, check_topics, partitions_of

#: Connections beside those of the transactions.
SPARE: Final = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay read, and what came of it."""

    ranges: tuple[Range, ...]
    facts: ReplayFacts


async def replay(
    settings: Settings,
    asked: Asked,
    *,
    actor: str,
    begins: Callable[[tuple[Range, ...]], None],
    told: Callable[[ReplayFacts], None],
    rate: float | None = None,
    schema: str = SCHEMA,
) -> Outcome:
    """Read parts of the topics again, outside the group; when this returns, what was read is committed.

    The log of changes is told that `actor` does it, `begins` the ranges, `told` the facts on the way. Raises
    OperatorError: with nothing changed where what was asked cannot be read, else with what was read until then
    committed.
    """
    check_surroundings(settings)
    check_order(asked)
    async with open_store(settings, name="badges replay", schema=schema) as store:
        await until_schema(store, seconds=0)
        await check_topics(settings, (settings.award_topic, settings.dead_letter_topic))
        places = chosen(asked, await partitions_of(settings, subscription(settings)))
        async with Reader(settings, places) as reader:
            try:
                ranges = tuple(await resolve(asked, places, reader, control_topic=settings.control_topic))
            except TransientError as error:
                raise OperatorError(f"{error.message} Nothing was read.", help=error.help) from None
            plan = await first_plan(store, settings)
            begins(ranges)
            if not ranges:
                return Outcome(ranges, ReplayFacts())
            async with noted(store, _line(actor, asked, ranges, rate)):
                facts = await _run(settings, store, plan, reader, ranges, told, rate=rate, schema=schema)
    return Outcome(ranges, facts)


def _line(actor: str, asked: Asked, ranges: Sequence[Range], rate: float | None) -> AuditLine:
    """What the log of changes says of a replay: which records, and how."""
    given = {"allow_gaps": asked.allow_gaps or None, "rate": rate}
    return replay_line(
        actor,
        records=sum(one.length for one in ranges),
        ranges=[one.as_json() for one in ranges],
        **{name: value for name, value in given.items() if value is not None},
    )


def replay_name(group_id: str, ranges: tuple[Range, ...]) -> str:
    """The group under whose rows a replay keeps its positions: the same for the same starts, so that it goes on."""
    starts = sorted(f"{one.topic}:{one.partition}:{one.start}" for one in ranges)
    return f"{group_id}/replay/{sha256(' '.join(starts).encode()).hexdigest()[:16]}"


async def _run(
    settings: Settings,
    live: PostgresStore,
    plan: Plan,
    reader: Reader,
    ranges: tuple[Range, ...],
    told: Callable[[ReplayFacts], None],
    *,
    rate: float | None,
    schema: str,
) -> ReplayFacts:
    name = replay_name(settings.group_id, ranges)
    own = settings.model_copy(update={"group_id": name})
    async with (
        _judge(settings) as door,
        open_store(own, name="badges replay", connections=PARALLEL + SPARE, schema=schema) as store,
    ):
        applier = Applier(
            store,
            plan,
            limits_of(settings, past=True),
            cache=Cache(settings.cache_bytes),
            judge=None if door is None else door.judge,
        )
        table = ReplayTable(live.pool)
        starts = {one.place: one.start for one in ranges}
        run = Replay(
            name=name,
            applier=applier,
            stream=reader,
            ranges=ranges,
            positions=await table.begin_replay(name, starts, group_id=settings.group_id),
            pace=Pace(max_events=settings.batch_max_events, queue_records=2 * settings.batch_max_events),
            brake=Brake(settings.dead_letter_limit),
            told=told,
            moved=_reloading(live, applier, settings),
            rate=rate,
        )
        facts = await run.run()
        await table.end_replay(name)
    return facts


@asynccontextmanager
async def _judge(settings: Settings) -> AsyncIterator[Door | None]:
    """Who asks conditions in JavaScript, where they may run."""
    if settings.js != "on":
        yield None
        return
    async with Door(tell=FaultLog(), seconds=settings.js_batch_seconds) as door:
        yield door


def _reloading(store: PostgresStore, applier: Applier, settings: Settings) -> Callable[[int], Awaitable[None]]:
    """What is done when the catalog's head has moved. Raises OperatorError for a version that may not run here."""
    loading = asyncio.Lock()

    async def moved(head: int) -> None:
        async with loading:
            if applier.plan.version != head and (plan := await working_plan(store)) is not None:
                refuse_unasked(plan.catalog, settings)
                applier.use(plan)

    return moved
