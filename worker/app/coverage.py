"""Which event types badges listen to, and whether they come: empty, silent, never seen; from a catalog and the log."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean, median
from typing import Final, Literal

from worker.exchange import TypeDays
from worker.rules.catalog.definitions import Catalog
from worker.rules.ir import counted
from worker.rules.phrases import plural
from worker.rules.plan import EVALUATED
from worker.store.postgres import PostgresStore

State = Literal["silent", "never_seen", "empty", "ok"]

_DAY: Final = 86_400_000_000
#: Worst first.
_ORDER: Final[tuple[State, ...]] = ("silent", "never_seen", "empty", "ok")
#: The states in which badges wait for what does not come.
SILENT: Final[frozenset[State]] = frozenset(("silent", "never_seen"))
#: A silence counts once so many events would have come in it, by what is usual.
_MISSED: Final = 5
#: So many days before the last event say what is usual.
_DAYS: Final = 28


@dataclass(frozen=True, slots=True)
class Trigger:
    """One event type: the badges that listen to it, when it last came, what is usual a day, and what is wrong.

    `last_us` and `usual` are None where the log is not known, or never had one.
    """

    type: str
    badges: tuple[str, ...]
    last_us: int | None
    usual: float | None
    state: State
    sentence: str


def coverage(catalog: Catalog, days: Mapping[str, TypeDays] | None = None, upto_us: int = 0) -> list[Trigger]:
    """Each event type of the catalog, and each of the system's own that a badge listens to, worst first.

    `days` are the arrivals of every type that has any, counted up to `upto_us`; None where there is no log.
    """
    listening: dict[str, list[str]] = {}
    for badge in catalog.badges:
        if badge.status in EVALUATED:
            for name in badge.triggers:
                listening.setdefault(name, []).append(badge.key)
    every = listening.pop("*", [])
    names = {name for name, kind in catalog.dictionary.types.items() if not kind.builtin} | listening.keys()
    found = []
    for name in names:
        keys = tuple(sorted({*listening.get(name, ()), *(every if counted(name) else ())}))
        found.append(_trigger(name, keys, None if days is None else days.get(name), upto_us, known=days is not None))
    return sorted(found, key=lambda one: (_ORDER.index(one.state), -(one.usual or 0.0), one.type))


def _trigger(name: str, keys: tuple[str, ...], days: TypeDays | None, upto_us: int, *, known: bool) -> Trigger:
    usual = None if days is None else usual_of(days)
    last = None if days is None else days.last_us
    if not keys:
        return Trigger(name, keys, last, usual, "empty", f"no badge listens to {name}")
    if days is None or usual is None:
        remedy = "run badges schedule" if name.startswith("cron.") else "check the spelling"
        return Trigger(
            name, keys, last, usual, *(("never_seen", f"{name} was never seen: {remedy}") if known else ("ok", ""))
        )
    silence = (upto_us - days.last_us) / _DAY
    if silence >= 1 + _longest_gap(days) and silence * usual >= _MISSED:
        said = plural(int(silence), "day")
        return Trigger(name, keys, last, usual, "silent", f"no {name} for {said}; before that {rate(usual)}")
    return Trigger(name, keys, last, usual, "ok", "")


def rate(usual: float) -> str:
    """How many are usual, in words: `120 a day`, `3 a week`."""
    if usual >= 0.95:
        return f"{usual:,.0f} a day"
    weekly = usual * 7
    return f"{weekly:,.0f} a week" if weekly >= 0.95 else f"{usual * 30:,.1f} a month"


def usual_of(days: TypeDays) -> float:
    """Events a day in the four weeks before the last one came: the median, or the mean where most days had none."""
    counts = _counts(days)
    if not counts:
        return float(days.last_events)
    return float(median(counts)) or fmean(counts)


def _counts(days: TypeDays) -> list[int]:
    start = max(days.first_day, days.last_day - timedelta(days=_DAYS))
    return [days.counts.get(start + timedelta(days=number), 0) for number in range((days.last_day - start).days)]


def _longest_gap(days: TypeDays) -> int:
    """The longest row of days without any, in the four weeks before the last event."""
    longest = row = 0
    for count in _counts(days):
        row = 0 if count else row + 1
        longest = max(longest, row)
    return longest


async def logged_coverage(store: PostgresStore, catalog: Catalog) -> tuple[list[Trigger], bool]:
    """The coverage of a catalog by the database's log; False where what arrived is not counted yet."""
    upto = await store.arrivals_counted()
    if upto is None:
        return coverage(catalog), False
    return await counted_coverage(store, catalog, upto), True


async def counted_coverage(store: PostgresStore, catalog: Catalog, upto_us: int) -> list[Trigger]:
    """The coverage of a catalog by the database's log, whose arrivals are counted up to an instant."""
    names = {*catalog.dictionary.types, *(name for badge in catalog.badges for name in badge.triggers)}
    return coverage(catalog, await store.trigger_days(sorted(names)), upto_us)


async def silent_types(store: PostgresStore, catalog: Catalog, types: Collection[str]) -> Sequence[Trigger]:
    """Of these types those that never came or are silent, as far as arrivals are counted; none while that begins."""
    upto = await store.arrivals_counted()
    if upto is None:
        return []
    found = coverage(catalog, await store.trigger_days(sorted(types)), upto)
    return [one for one in found if one.type in types and one.state in SILENT]
