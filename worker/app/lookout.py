"""What pages tell of the whole system: counts, the trend of awards, coverage, lag; found beside them, now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import chain
from time import monotonic
from typing import Any, Final, Generic, TypeVar

import structlog

from worker.app.coverage import Trigger, logged_coverage
from worker.config import Settings
from worker.errors import BadgesError
from worker.events.instants import DAY, SECOND
from worker.exchange import AwardDay
from worker.jobs.spikes import DAYS, baseline, is_spike
from worker.rules.catalog.definitions import Catalog
from worker.store.panel import BadgeCount, PanelTables, counted_by_badge
from worker.store.postgres import PostgresStore
from worker.stream.reader import Reader

log = structlog.get_logger(__name__)

Found = TypeVar("Found")

#: So old a figure may be at most, seconds, before it is found again; what is found quickly is found again sooner.
COUNT_SECONDS: Final = 600.0
TREND_SECONDS: Final = 60.0
COVERAGE_SECONDS: Final = 30.0
LAG_SECONDS: Final = 10.0
#: A figure is found again after so many times what finding it took, and this many seconds at least.
_REST: Final = 200
_SOONEST_SECONDS: Final = 5.0
#: So long a page waits for what was never found yet, seconds.
PATIENCE: Final = 0.05
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Trend:
    """Awards of each day (UTC, the last one today so far), and between which figures a day is usual."""

    first_day: int
    awards: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    usual: float


@dataclass(frozen=True, slots=True)
class _Past:
    """Awards of the last eight weeks by badge, as (day since 1970, awards), up to today; and the trend of all."""

    days: Mapping[str, Sequence[tuple[int, int]]]
    today: int
    whole: Trend


@dataclass(frozen=True, slots=True)
class Lag:
    """How many records wait to be read, and for how many seconds no batch has moved where some do."""

    records: int
    seconds: float


class PanelReads(PostgresStore, PanelTables):
    """The store with the panel's reads."""

    async def kept_counts(self, now_us: int, *, days: int = DAYS) -> dict[str, BadgeCount] | None:
        """Holders and awards by badge from what the scheduler counted, but for today; None where it never did.

        Backfills are left out.
        """
        if await self.baselines_day() is None:
            return None
        first = now_us // DAY - days + 1
        usual = {key: one.usual for key, one in (await self.badge_baselines()).items()}
        awards = await self._kept_days(now_us, first)
        counted = ((one.badge_key, _number(one.day), one.awards) for one in awards)
        found = counted_by_badge(await self.holder_counts(), counted, usual, first, days)
        shares = await self.badge_shares()
        return {key: replace(one, share=shares.get(key)) for key, one in found.items()}

    async def days_before(self, now_us: int, first: int) -> list[AwardDay]:
        """Awards by badge and day from a day (since 1970) on: as the scheduler counted them, else counted here."""
        if await self.baselines_day() is not None:
            return await self._kept_days(now_us, first)
        found = [
            (row["badge_key"], _day(row["day"]), row["awards"]) for row in await self.rows("panel_days", first * DAY)
        ]
        begun: dict[str, date] = {}
        for key, day, _ in found:
            begun[key] = min(day, begun.get(key, day))
        return [AwardDay(key, day, count, begun[key]) for key, day, count in found]

    async def _kept_days(self, now_us: int, first: int) -> list[AwardDay]:
        today = _day(now_us // DAY)
        awards = await self.award_days(_day(first), today)
        begun = {one.badge_key: one.first_day for one in awards}
        since = await self.awards_since(now_us // DAY * DAY)
        return awards + [AwardDay(key, today, count, begun.get(key, today)) for key, count in since.items()]


class Kept(Generic[Found]):
    """A figure that is found beside who asks for it, and found again by who asks when it is old.

    Where it cannot be found the old one stays; one that is `fleeting` is forgotten.
    """

    def __init__(
        self, name: str, find: Callable[[], Awaitable[Found]], seconds: float, *, fleeting: bool = False
    ) -> None:
        self._name = name
        self._find = find
        self._seconds = self._age = seconds
        self._fleeting = fleeting
        self._found: Found | None = None
        self._at = -seconds
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> Found | None:
        """The figure, perhaps an old one; None while it is found first, or could not be found."""
        if self._task is None and monotonic() - self._at >= self._age:
            self._task = asyncio.create_task(self._run(), name=f"panel {self._name}")
        if self._found is None and self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE)
        return self._found

    async def _run(self) -> None:
        started = monotonic()
        try:
            self._found = await self._find()
            self._age = min(self._seconds, max(_SOONEST_SECONDS, (monotonic() - started) * _REST))
        except BadgesError as error:
            log.info("panel_unknown", figure=self._name, reason=error.message)
            if self._fleeting:
                self._found = None
        finally:
            self._at = monotonic()
            self._task = None

    async def close(self) -> None:
        """Leave off finding it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


class Lookout:
    """The figures of one database and its topics; `catalog` is the one that rules, `now` microseconds since 1970."""

    def __init__(
        self,
        reads: PanelReads,
        settings: Settings,
        catalog: Callable[[], Awaitable[Catalog | None]],
        now: Callable[[], int],
    ) -> None:
        self._reads = reads
        self._settings = settings
        self._catalog = catalog
        self._now = now
        self._counts = Kept("counts", self._count, COUNT_SECONDS)
        self._trend = Kept("trend", self._look_back, TREND_SECONDS)
        self._coverage = Kept("coverage", self._cover, COVERAGE_SECONDS)
        self._letters = Kept("letters", self._count_letters, COVERAGE_SECONDS)
        self._lag = Kept("lag", self._measure, LAG_SECONDS, fleeting=True)
        self._all: tuple[Kept[Any], ...] = (self._counts, self._trend, self._coverage, self._letters, self._lag)

    async def open(self) -> None:
        """Begin to find all of them, before anybody asks."""
        await asyncio.gather(*(one.get() for one in self._all))

    async def close(self) -> None:
        """Leave off finding them."""
        await asyncio.gather(*(one.close() for one in self._all))

    async def counts(self) -> Mapping[str, BadgeCount] | None:
        """Holders and awards of 28 days by badge, as of some minutes ago; None while they are counted first."""
        return await self._counts.get()

    async def trend(self, key: str | None = None) -> Trend | None:
        """Awards of 28 days, of a badge or of all, and what was usual, as of a minute ago."""
        past = await self._trend.get()
        if past is None or key is None:
            return None if past is None else past.whole
        return trend_of(past.days.get(key, ()), past.today)

    async def coverage(self) -> tuple[Sequence[Trigger], bool]:
        """Each event type, worst first; False where what arrived is not counted yet."""
        return await self._coverage.get() or ((), False)

    async def letters(self) -> Mapping[str, int] | None:
        """How many dead letters say that they are of each type or alias of the catalog, at most 1,001 each.

        As of some seconds ago; those with none are left out. None while they are counted first.
        """
        return await self._letters.get()

    async def lag(self) -> Lag | None:
        """How far behind the workers are, as of some seconds ago; None where the broker does not tell."""
        return await self._lag.get()

    async def _count(self) -> Mapping[str, BadgeCount]:
        now = self._now()
        kept = await self._reads.kept_counts(now)
        found = await self._reads.panel_counts(now) if kept is None else kept
        awards = await self._reads.days_before(now, now // DAY - 2 * DAYS + 1)
        spikes = await asyncio.to_thread(spikes_of, awards, now // DAY)
        return {key: replace(one, spikes=spikes.get(key, ())) for key, one in found.items()}

    async def _look_back(self) -> _Past:
        now = self._now()
        today = now // DAY
        found: dict[str, list[tuple[int, int]]] = {}
        for one in await self._reads.days_before(now, today - 2 * DAYS + 1):
            found.setdefault(one.badge_key, []).append((_number(one.day), one.awards))
        return _Past(found, today, trend_of(chain.from_iterable(found.values()), today))

    async def _cover(self) -> tuple[Sequence[Trigger], bool]:
        catalog = await self._catalog()
        return ((), False) if catalog is None else await logged_coverage(self._reads, catalog)

    async def _count_letters(self) -> Mapping[str, int]:
        catalog = await self._catalog()
        kinds = () if catalog is None else catalog.dictionary.types.values()
        return await self._reads.panel_letter_types({name for kind in kinds for name in (kind.name, *kind.aliases)})

    async def _measure(self) -> Lag:
        stands = await self._reads.panel_positions(self._reads.group_id)
        places = [(one.topic, one.partition) for one in stands]
        if not places:
            return Lag(0, 0.0)
        async with Reader(self._settings, places) as reader:
            bounds = await reader.all_bounds(places)
        behind = [
            (bounds[one.topic, one.partition][1] - one.next_offset, one.progressed_us)
            for one in stands
            if bounds[one.topic, one.partition][1] > one.next_offset
        ]
        waited = max((self._now() - moved for _, moved in behind), default=0)
        return Lag(sum(count for count, _ in behind), max(0, waited) / SECOND)


def spikes_of(counted: Iterable[AwardDay], today: int) -> dict[str, tuple[int, ...]]:
    """Which of the last 28 days, by their place, were far from usual, for each badge that has awards."""
    awards: dict[str, dict[date, int]] = {}
    begun: dict[str, date] = {}
    for one in counted:
        awards.setdefault(one.badge_key, {})[one.day] = one.awards
        begun[one.badge_key] = one.first_day
    days = [_day(today - before) for before in reversed(range(DAYS))]
    return {
        key: tuple(place for place, day in enumerate(days) if is_spike(found, begun[key], day))
        for key, found in awards.items()
    }


def trend_of(counted: Iterable[tuple[int, int]], today: int) -> Trend:
    """The last 28 days of counts by day (since 1970), each with what the 28 days before it say is usual."""
    awards: dict[date, int] = {}
    for number, count in counted:
        day = _day(number)
        awards[day] = awards.get(day, 0) + count
    last = _day(today)
    days = [last - timedelta(days=before) for before in reversed(range(DAYS))]
    begun = min(awards, default=last)
    usual = [baseline(awards, begun, day) for day in days]
    return Trend(
        first_day=today - DAYS + 1,
        awards=tuple(awards.get(day, 0) for day in days),
        low=tuple(round(max(0.0, one.usual - one.spread), 1) for one in usual),
        high=tuple(round(one.usual + one.spread, 1) for one in usual),
        usual=usual[-1].usual,
    )


def _day(number: int) -> date:
    return _EPOCH + timedelta(days=number)


def _number(day: date) -> int:
    return (day - _EPOCH).days
