"""What is usual of a badge: no single day moves it, weekdays count, a new badge is known to be new."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.exchange import Baseline
from worker.jobs.spikes import LEAST, SPIKE, baseline, change_ratio, is_spike

MONDAY = date(2026, 3, 30)


def days(*counts: int, day: date = MONDAY) -> dict[date, int]:
    """So many awards on each of the days before one."""
    first = day - timedelta(days=len(counts))
    return {first + timedelta(days=number): count for number, count in enumerate(counts) if count}


def test_one_wild_day_moves_nothing() -> None:
    """A day of thousands among days of ten leaves ten usual."""
    counts = days(*[10] * 20, 5_000, *[10] * 7)
    assert baseline(counts, date(2025, 1, 1), MONDAY) == Baseline(10.0, 0.0, 28)


def test_a_badge_of_mondays_is_usual_on_mondays() -> None:
    """A badge that comes once a week has its weekday's figure on that day, and none on another."""
    counts = {MONDAY - timedelta(weeks=number): 70 for number in range(1, 5)}
    assert baseline(counts, date(2025, 1, 1), MONDAY).usual == 70
    assert baseline(counts, date(2025, 1, 1), MONDAY + timedelta(days=1)).usual == 0


def test_a_new_badge_is_known_by_its_days() -> None:
    """Days before the first award do not count; on the first day nothing is usual."""
    assert baseline(days(4, 6, 8), MONDAY - timedelta(days=3), MONDAY) == Baseline(6.0, 1.4826 * 2, 3)
    assert baseline({}, MONDAY, MONDAY) == Baseline(0.0, 0.0, 0)


def test_spread() -> None:
    """Days that differ widen what is expected; the ratio is against usual and spread, one award at least."""
    found = baseline(days(*[0, 10, 20, 30] * 7), date(2025, 1, 1), MONDAY)
    assert (found.usual, round(found.spread, 3)) == (15.0, 14.826)
    assert change_ratio(300, found) > 10 > change_ratio(290, found)
    assert change_ratio(7, None) == 7
    assert change_ratio(0, found) == 0


@given(st.lists(st.integers(0, 1_000), min_size=28, max_size=28), st.integers(0, 27), st.integers(0, 10**9))
def test_no_day_reaches_far(counts: list[int], place: int, wild: int) -> None:
    """Whatever one day was, what is usual stays within what the other days were."""
    day = baseline(days(*[*counts[:place], wild, *counts[place + 1 :]]), date(2025, 1, 1), MONDAY)
    rest = [*counts[:place], *counts[place + 1 :]]
    assert min(rest) <= day.usual <= max(rest)


@pytest.mark.parametrize(
    ("counts", "spike"),
    [
        ([*[0] * 27, 5_000], True),
        ([5_000], True),
        ([*[0] * 6, 200] * 4 + [*[0] * 6, 200], False),
        ([*[0] * 6, 200] * 4 + [200], True),
        ([*[20] * 28, 200], False),
        ([*[20] * 28, 201], True),
        ([*[0] * 28, 100], False),
        ([*[0] * 28, 101], True),
        ([*[1] * 28, 40], False),
        ([], False),
    ],
)
def test_which_days_are_spikes(counts: list[int], spike: bool) -> None:
    """A day far above what the days before it and its weekday's say is one, a weekly one is not, nor a few awards."""
    day = MONDAY - timedelta(days=1)
    found = days(*counts)
    assert is_spike(found, min(found, default=MONDAY), day) is spike
    assert change_ratio(found.get(day, 0), baseline(found, min(found, default=MONDAY), day)) > SPIKE or not spike


def test_the_alert_asks_as_the_panel_does() -> None:
    """The alert on a badge's day asks for the same ratio, and for as many awards."""
    rules = (Path(__file__).parents[2] / "deploy" / "prometheus-rules.yaml").read_text()
    _, alert = rules.split("- alert: BadgesHoldersJump")
    ratio, awards = alert.partition("for:")[0].split("\n          and on (badge) ")
    assert ratio.endswith(f"max by (badge) (badges_holders_change_ratio) > {SPIKE}")
    assert awards.rstrip().endswith(f"[1d])) > {LEAST}")
