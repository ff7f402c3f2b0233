"""What the panel tells of the whole system: figures found beside the pages, and what is usual of a day."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

from worker.app.lookout import Kept, Lookout, spikes_of, trend_of
from worker.config import load_settings
from worker.errors import TransientError
from worker.events.instants import DAY
from worker.exchange import AwardDay


class Source:
    """Counts up each time it is asked, or is away."""

    def __init__(self) -> None:
        self.count = 0
        self.away = False
        self.go = asyncio.Event()

    async def find(self) -> int:
        """The next figure, once `go` is set."""
        await self.go.wait()
        if self.away:
            raise TransientError("away")
        self.count += 1
        return self.count


async def test_nobody_waits_for_a_figure() -> None:
    """Who asks first waits a moment only; who asks later is told what is known, and lets it be found again when old."""
    source = Source()
    kept = Kept("figure", source.find, 0.0)
    assert await kept.get() is None
    source.go.set()
    assert await kept.get() == 1
    source.go.clear()
    assert await kept.get() == 1
    assert await kept.get() == 1
    await kept.close()
    assert source.count == 1


async def test_what_cannot_be_found() -> None:
    """An old figure stays while no new one can be found, unless it is one that an old one would belie."""
    for fleeting, after in ((False, 1), (True, None)):
        source = Source()
        source.go.set()
        kept = Kept("figure", source.find, 0.0, fleeting=fleeting)
        assert await kept.get() == 1
        source.away = True
        await kept.get()
        await asyncio.sleep(0)
        assert await kept.get() == after
        await kept.close()


def test_the_usual_band() -> None:
    """A day is held against the four weeks before it, of which one wild day moves nothing; days without any count."""
    counts = [(day, 10 + day % 3) for day in range(100, 156)] + [(140, 500), (155, 1)]
    trend = trend_of(counts, 155)
    assert (trend.first_day, len(trend.awards)) == (128, 28)
    assert trend.awards[140 - 128] == 500 + 10 + 140 % 3
    assert trend.awards[-1] == 10 + 155 % 3 + 1
    assert all(8 <= low <= 11 <= high <= 14 for low, high in zip(trend.low[-10:], trend.high[-10:], strict=True))
    empty = trend_of([], 155)
    assert (set(empty.awards), empty.usual) == ({0}, 0.0)


async def test_each_badge_has_its_own_band() -> None:
    """What is usual of a badge is told by its own days alone, from the same reading as that of all."""

    class Reads:
        async def days_before(self, now_us: int, first: int) -> list[AwardDay]:
            begun = date(1970, 1, 1)
            days = [begun + timedelta(days=number) for number in range(first, 156)]
            return [AwardDay(key, day, count, begun) for key, count in (("rare", 1), ("often", 40)) for day in days]

    reads: Any = Reads()
    lookout = Lookout(reads, load_settings(), None, lambda: 155 * DAY)  # type: ignore[arg-type]
    usual = {key: (await lookout.trend(key)).usual for key in ("rare", "often", "never", None)}  # type: ignore[union-attr]
    assert usual == {"rare": 1.0, "often": 40.0, "never": 0.0, None: 41.0}
    await lookout.close()


def test_every_spike_is_marked() -> None:
    """Each day is held against the days before it: two wild days are both marked, one every week is not."""
    today = date(2026, 4, 1)
    weekly = [AwardDay("weekly", today - timedelta(weeks=week), 200, date(2025, 1, 1)) for week in range(8)]
    wild = [AwardDay("wild", today - timedelta(days=before), 5_000, date(2025, 1, 1)) for before in (0, 9)]
    assert spikes_of([*weekly, *wild], (today - date(1970, 1, 1)).days) == {"weekly": (), "wild": (18, 27)}
