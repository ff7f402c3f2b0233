"""When an event type counts as silent: after a day at least, and once what is usual is missing for long enough."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from tests.unit.playing import DAY, NOON
from worker.app.blockers import Silence
from worker.app.silent_types import silence_of, usual_per_day
from worker.exchange import TypeDays

LAST = date(2024, 3, 1)


def type_days(a_day: int, days: int, last: int = 1) -> TypeDays:
    """So many events on each of so many days before the last one."""
    counts = {LAST - timedelta(days=number): a_day for number in range(1, days + 1)}
    return TypeDays("edit.approved", NOON, LAST, last, LAST - timedelta(days=days), counts)


def test_what_never_came_is_silent() -> None:
    """A type without any event is silent, since never."""
    assert silence_of("edit.approved", None, NOON) == Silence("edit.approved", None)


@pytest.mark.parametrize(
    ("a_day", "silent_days", "silent"), [(120, 0.9, False), (120, 1.1, True), (1, 9.9, False), (1, 10.1, True)]
)
def test_a_silence_is_held_against_what_is_usual(a_day: int, silent_days: float, silent: bool) -> None:
    """A busy type is silent after a day, a rare one once ten events are missing."""
    found = silence_of("edit.approved", type_days(a_day, 28), NOON + round(silent_days * DAY))
    assert (found is not None) == silent
    if found is not None:
        assert (found.last_us, found.usual_per_day) == (NOON, float(a_day))
        assert found.seconds == pytest.approx(silent_days * 86_400)


def test_days_without_any_count_as_well() -> None:
    """Usual is the mean over all days since the type first came; of a first day what came on it."""
    assert usual_per_day(TypeDays("t", NOON, LAST, 3, LAST - timedelta(days=10), {LAST - timedelta(days=4): 5})) == 0.5
    assert usual_per_day(TypeDays("t", NOON, LAST, 3, LAST, {})) == 3.0
