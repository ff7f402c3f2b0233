"""Which event types are silent: how long none has come, held against what came a day before that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from worker.app.blockers import Silence
from worker.app.silence import EVERY
from worker.exchange import TypeDays
from worker.store.postgres import PostgresStore

#: A type is silent after a day at the least, and once so many events are missing of what is usual: fewer may be chance.
LEAST_DAYS: Final = 1.0
MISSING: Final = 10.0
#: So many days before the last event say what is usual.
_BEFORE: Final = 28
_SECONDS_A_DAY: Final = 86_400


async def silent_types(store: PostgresStore, types: Collection[str]) -> Sequence[Silence]:
    """Of these types those that never came or are silent, as far as arrivals are counted; none while that begins."""
    wanted = sorted(set(types) - {EVERY})
    upto = await store.arrivals_counted()
    if upto is None or not wanted:
        return []
    found = await store.trigger_days(wanted)
    judged = (silence_of(name, found.get(name), upto) for name in wanted)
    return [one for one in judged if one is not None]


def silence_of(event_type: str, days: TypeDays | None, upto_us: int) -> Silence | None:
    """The silence of a type up to an instant; None where it is not silent. `days` is None where none ever came."""
    if days is None:
        return Silence(event_type, None)
    seconds = max(0, upto_us - days.last_us) / 1_000_000
    usual = usual_per_day(days)
    silent_days = seconds / _SECONDS_A_DAY
    if silent_days < LEAST_DAYS or silent_days * usual < MISSING:
        return None
    return Silence(event_type, days.last_us, seconds, usual)


def usual_per_day(days: TypeDays) -> float:
    """How many came a day, in the four weeks before the last one; those of that day where there was none before."""
    start = max(days.first_day, days.last_day - timedelta(days=_BEFORE))
    length = (days.last_day - start).days
    return sum(days.counts.values()) / length if length else float(days.last_events)
