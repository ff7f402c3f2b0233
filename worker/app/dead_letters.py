"""Tries dead letters again after a fix, for the command and the panel alike: chosen, read whole, applied, noted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog

from worker.app.catalog import working_plan
from worker.app.conditions import FaultLog, refuse_unasked
from worker.app.services import limits_of
from worker.conditions import Door
from worker.config import Settings, Topics
from worker.errors import BadgesError, OperatorError, TransientError
from worker.events import Record
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.cache import Cache
from worker.pipeline.redrive import Redriven, Tried, redrive
from worker.rules.plan import Plan
from worker.store.dead_letters import BuriedLetter, LetterFilter
from worker.store.postgres import PostgresStore
from worker.stream import Reader, partitions_of

log = structlog.get_logger(__name__)

#: So many letters are read and tried at a time; each is 64 KiB at most, and a few are larger.
PAGE: Final = 200


async def redrive_letters(
    store: PostgresStore,
    settings: Settings,
    wanted: LetterFilter,
    *,
    dry: bool = False,
    most: int | None = None,
    told: Callable[[Redriven, int], None] | None = None,
) -> Redriven:
    """Try the letters that were not applied yet, oldest first, up to the newest of now; what came of them.

    `dry`: everything is tried and nothing changed. Of `most` so many are looked at. `told` hears on the way what came
    of how many until then, and may end it by what it raises. Raises OperatorError; what was tried until then is
    settled.
    """
    plan = await _plan(store, settings)
    count, newest = await store.count_letters(wanted)
    total, after = Redriven(), 0
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(Door(tell=FaultLog())) if settings.js == "on" else None
        applier = Applier(
            store,
            plan,
            limits_of(settings, past=True),
            cache=Cache(0),
            judge=None if door is None else door.judge,
        )
        bound = count + PAGE if most is None else most
        while page := await store.waiting_letters(
            wanted, after=after, upto=newest, limit=min(PAGE, bound - total.seen)
        ):
            after = page[-1].number
            total.seen += len(page)
            tried = await _whole(settings, page)
            total.lost += len(page) - len(tried)
            await _try(store, settings, applier, tried, total, dry=dry)
            if told is not None:
                told(total, count)
    return total


async def _plan(store: PostgresStore, settings: Settings) -> Plan:
    plan = await working_plan(store)
    if plan is None:
        raise OperatorError("The database holds no catalog.", help="badges catalog apply FILE makes one")
    refuse_unasked(plan.catalog, settings)
    return plan


async def _try(
    store: PostgresStore, settings: Settings, applier: Applier, tried: list[Tried], total: Redriven, *, dry: bool
) -> None:
    """One page; letters that a moved catalog left are tried with the new one, and count once."""
    left = {one.number: one for one in tried}
    for one in tried:
        while one.number in left:
            same = [other for other in left.values() if _line(other) == _line(one)]
            try:
                await redrive(applier, same, total, dry=dry)
            except CatalogMoved:
                applier.use(await _plan(store, settings))
                continue
            except TransientError as error:
                raise OperatorError(
                    f"{total.tried:,} were tried, then: {error.message}", help="run it again: the rest waits"
                ) from None
            for other in same:
                del left[other.number]


def _line(one: Tried) -> tuple[str, int, int]:
    return one.record.topic, one.record.partition, one.incarnation


async def _whole(settings: Settings, letters: Sequence[BuriedLetter]) -> list[Tried]:
    """The letters as records; those whose value was cut, or whose headers are not known, are read from their topic.

    What the topic no longer holds, or holds something else for, is left out if it was cut, and else taken as it is.
    """
    missing = [letter for letter in letters if _is_cut(letter) or letter.headers is None]
    read = await _read(settings, missing) if missing else {}
    tried = []
    for letter in letters:
        found = read.get(letter.number)
        if found is None and _is_cut(letter):
            continue
        record = found or Record(
            letter.topic,
            letter.partition,
            letter.offset,
            -1 if letter.recorded_us is None else letter.recorded_us // 1000,
            letter.key,
            letter.raw,
            letter.headers or (),
            received_ms=letter.buried_us // 1000,
        )
        tried.append(Tried(letter.number, record, letter.incarnation))
    return tried


def _is_cut(letter: BuriedLetter) -> bool:
    return letter.length > len(letter.raw or b"")


async def _read(settings: Settings, letters: Sequence[BuriedLetter]) -> dict[int, Record]:
    """The records of letters by their coordinates, of those that are still there; sha256 says whether they are."""
    found: dict[int, Record] = {}
    try:
        topics = Topics(names=tuple(sorted({letter.topic for letter in letters})))
        there = set(await partitions_of(settings, topics))
        places = {(letter.topic, letter.partition) for letter in letters} & there
        if not places:
            return found
        async with Reader(settings, places) as reader:
            for letter in letters:
                place = letter.topic, letter.partition
                record = await reader.record_at(place, letter.offset) if place in places else None
                if record is not None and hashlib.sha256(record.value or b"").digest() == letter.sha256:
                    found[letter.number] = record
    except BadgesError as error:
        log.warning("topic_not_read", reason=error.message)
    return found
