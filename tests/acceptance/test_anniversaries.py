"""Anniversaries at full size: ten years on PostgreSQL, at every quarter of an hour at which a day begins somewhere.

`BADGES_TEST_YEARS` says which years: `2025-2034`.
"""

from __future__ import annotations

import os
from datetime import date, timedelta

import pytest

from tests.integration.test_anniversaries import World, began, hold
from tests.unit.test_anniversaries import ZONES

pytestmark = [pytest.mark.anniversaries, pytest.mark.timeout(2400)]


def whenever_a_day_begins(world: World) -> list[int]:
    """Every quarter of an hour at which a day begins in one of the zones."""
    days = [
        date(world.first, 12, 30) + timedelta(days=number) for number in range(366 * (world.last - world.first + 1))
    ]
    begun = {began(zone, day) for zone in ZONES for day in days}
    return sorted(at for at in begun | {world.begin_us, world.end_us} if world.begin_us <= at <= world.end_us)


@pytest.mark.parametrize("feb_29", ["feb_28", "mar_1"])
async def test_ten_years_in_twelve_zones(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, feb_29: str) -> None:
    """Users born on each day of a leap year in each of 12 zones have one event a year, though replicas are killed."""
    first, last = map(int, os.environ.get("BADGES_TEST_YEARS", "2025-2034").split("-"))
    died = await hold(postgres_dsn, monkeypatch, (first, last), whenever_a_day_begins, feb_29)
    assert died > last - first + 1, "more than one a year"
