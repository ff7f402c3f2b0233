"""`$pattern`: how it is written, what is remembered for it, what it answers and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.playing import catalog, plan, play, why
from tests.unit.reading import Known, answer, event, exact, faults, read
from worker.events import Event, parse_instant
from worker.rules import ir
from worker.rules.operators.calendar import FIXED, Calendar
from worker.rules.operators.tally import MOST_PERIODS, Tally
from worker.rules.takes import Takes

NOW = parse_instant("2024-12-31T00:00:00Z")
MONDAY = parse_instant("2024-03-04T12:00:00Z")
DAY = FIXED["d"]
UTC = Calendar()
PERIOD = {"period": "day"}


def activity(*counts: int, type: str = "a", start: int = MONDAY, apart: int = DAY) -> list[Event]:
    """So many events on each day from a Monday on."""
    return [
        event(start + place * apart + number, type, id=f"{type}{place:04}{number:04}")
        for place, count in enumerate(counts)
        for number in range(count)
    ]


def asked(pattern: str = "consistent", period: str = "day", **more: Any) -> dict[str, Any]:
    """A flow over all of the user's events."""
    return {"$pattern": {"pattern": pattern, "periodType": period, **more}}


def found(flow: Any, events: Sequence[Event], now_us: int = NOW, zone: str = "UTC") -> tuple[bool, dict[str, Any]]:
    """Verdict and metadata."""
    return answer(read(exact(flow)), events, now_us, zone)


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_steady_series_shows_its_figures() -> None:
    """Average, deviation and spread are told with the series, whatever the verdict; without outliers both deviations
    are one."""
    assert found(asked(maxDeviation=0.2), activity(4, 5, 6)) == (
        True,
        {
            "is_consistent": True,
            "average": 5,
            "max_deviation": exact(0.2),
            "std_deviation": exact(0.816496580927726),
            "coefficient_var": exact(0.16329931618554522),
            "adjusted_max_deviation": exact(0.2),
            "period_keys": ["2024-03-04", "2024-03-05", "2024-03-06"],
            "period_counts": [4, 5, 6],
        },
    )
    assert found(asked(maxDeviation=0.19), activity(4, 5, 6))[0] is False


def test_an_isolated_outlier_is_left_aside() -> None:
    """In a long series the deviation without its few outliers is told and decides."""
    passed, told = found(asked(), activity(*[5] * 9, 20))
    assert passed
    assert told["adjusted_max_deviation"] == 0
    assert told["max_deviation"] == exact(2.0769230769230769)
    assert not found(asked(), activity(*[5] * 6, 20))[0]


def test_empty_periods_between_the_first_and_the_last_count_as_nothing() -> None:
    """A day without events is a day of 0; days before the first and after the last are not looked at."""
    told = found(asked(), activity(2, 0, 0, 2))[1]
    assert told["period_counts"] == [2, 0, 0, 2]
    assert told["average"] == 1


def test_a_rise_shows_its_steps_and_strength() -> None:
    """Average change, share of steps up and correlation are told."""
    assert found(asked("increasing", minIncreasePct=50), activity(1, 2, 3)) == (
        True,
        {
            "is_increasing": True,
            "average_percent_increase": 75,
            "increasing_periods_ratio": 1,
            "trend_strength": 1,
            "period_keys": ["2024-03-04", "2024-03-05", "2024-03-06"],
            "period_counts": [1, 2, 3],
        },
    )


@pytest.mark.parametrize(
    ("flow", "counts", "passed"),
    [
        (asked("increasing", minIncreasePct=75), (1, 2, 3), True),
        (asked("increasing", minIncreasePct=75.0000001), (1, 2, 3), False),
        (asked("increasing"), (3, 2, 1), False),
        (asked("increasing", minIncreasePct=0), (2, 2, 2), False),
        (asked("decreasing", maxDecreasePct=50), (8, 4, 2), True),
        (asked("decreasing", maxDecreasePct=49.9999999), (8, 4, 2), False),
        (asked("decreasing", maxDecreasePct=100), (1, 2, 3), False),
        (asked("decreasing", maxDecreasePct=0), (2, 2, 2), False),
        (asked("decreasing", maxDecreasePct=50), (20, 18, 16, 1, 4), False),
        (asked("consistent", minPeriods=1), (7,), True),
        (asked("consistent", minPeriods=2), (7,), False),
        (asked("increasing", minPeriods=2), (1, 2), True),
        (asked("increasing", minPeriods=4), (1, 2, 3), False),
        (asked("consistent", maxDeviation=0), (2, 2, 2), True),
        (asked("consistent"), (), False),
    ],
)
def test_bounds_are_inclusive_and_exact(flow: Any, counts: tuple[int, ...], passed: bool) -> None:
    """A figure that equals its bound passes, one beyond it by the least does not."""
    assert found(flow, activity(*counts))[0] is passed


def test_too_few_periods_are_a_reason() -> None:
    """With fewer periods than asked the answer is no, with the reason and the series but no figures."""
    word = {"is_increasing": False, "reason": "2 of 3 periods"}
    series = {"period_keys": ["2024-03-04", "2024-03-05"], "period_counts": [1, 2]}
    assert found(asked("increasing"), activity(1, 2)) == (False, {**word, **series})
    nothing = {"is_consistent": False, "reason": "0 of 3 periods", "period_keys": [], "period_counts": []}
    assert found(asked(), []) == (False, nothing)


@pytest.mark.parametrize(
    ("period", "keys"),
    [
        ("week", ["2023-W52", "2024-W01"]),
        ("month", ["2023-12", "2024-01"]),
        ("quarter", ["2023-Q4", "2024-Q1"]),
        ("year", ["2023", "2024"]),
    ],
)
def test_periods_go_by_their_calendar_names(period: str, keys: list[str]) -> None:
    """Weeks are ISO weeks, zero padded with their ISO year."""
    events = [event("2023-12-31T12:00:00Z"), event("2024-01-01T12:00:00Z", id="2")]
    assert found(asked(period=period), events)[1]["period_keys"] == keys


def test_days_are_those_of_the_zone() -> None:
    """An event late in the evening of UTC is one of the next day in Berlin."""
    events = [event("2024-03-04T23:30:00Z")]
    assert found(asked(), events, zone="Europe/Berlin")[1]["period_keys"] == ["2024-03-05"]


def test_inside_criteria_only_the_filtered_events_count() -> None:
    """A leaf's pattern is of its own events, a flow's of all that are counted."""
    events = [*activity(2, 2, 2), *activity(1, 5, 1, type="b"), *activity(9, type="cron.daily")]
    leaf = {"event": "a", "criteria": {"$pattern": {"pattern": "consistent", "periodType": "day"}}}
    assert found(leaf, events)[0]
    assert found(asked(), events)[1]["period_counts"] == [3, 7, 3]


def test_windows_bound_the_series() -> None:
    """Within a window, fixed or moving, the series is that of its events; its keys are said to be."""
    events = activity(9, 2, 2, 2, 9)
    fixed = {"$timeWindow": {"start": "2024-03-05T00:00:00Z", "end": "2024-03-07T23:59:59Z", "flow": asked()}}
    passed, told = found(fixed, events)
    assert passed
    assert told["window_period_counts"] == [2, 2, 2]
    moving = {"$timeWindow": {"last": "3d", "flow": asked()}}
    assert found(moving, activity(9, 2, 2, 2), MONDAY + 3 * DAY + DAY // 2)[0]
    assert found(moving, activity(9, 2, 2, 2), MONDAY + 2 * DAY + 9)[1]["window_period_counts"] == [9, 2, 2]
    assert found(moving, activity(9, 2, 2, 2), MONDAY + 30 * DAY)[1]["window_reason"] == "0 of 3 periods"


# -- what is remembered ------------------------------------------------------------------------------------------------


def grown(days: Sequence[int]) -> Any:
    """The memory of one event on each of these days."""
    state = None
    for number, day in enumerate(days):
        state = Tally().step(state, event(MONDAY + day * DAY, id=str(number)), PERIOD, UTC)
    return state


def test_an_event_in_the_newest_period_shares_the_older_ones() -> None:
    """However long the series, an event that opens no period copies none of it."""
    state = grown([*range(50), 49])
    assert Tally().step(state, event(MONDAY + 49 * DAY), PERIOD, UTC)[3] is state[3]


def test_the_series_is_bounded_at_the_newest_periods() -> None:
    """Older periods are forgotten but for there having been some: the series begins with empty ones then."""
    state = grown([0, 1, 2, MOST_PERIODS])
    facts = Tally().facts(state, PERIOD)
    assert facts["counts"] == [1, 1, *[0] * (MOST_PERIODS - 3), 1]
    assert len(state[3]) == 4
    assert grown([0, MOST_PERIODS])[3] == []
    assert len(grown([0, MOST_PERIODS - 1])[3]) == 2
    state = grown([0, 2 * MOST_PERIODS])
    assert Tally().facts(state, PERIOD)["counts"] == [*[0] * (MOST_PERIODS - 1), 1]
    assert state[3] == []
    assert grown([2 * MOST_PERIODS, 0]) == state
    assert grown([2 * MOST_PERIODS, MOST_PERIODS, 0]) == state
    assert grown([2 * MOST_PERIODS, MOST_PERIODS + 1])[3] == [state[1] - MOST_PERIODS + 1, 1]


def test_all_patterns_of_one_period_share_a_memory() -> None:
    """Neither the pattern nor its limits are part of what is remembered."""
    asking = (asked("increasing", minPeriods=2), asked("consistent", minPeriods=9, maxDeviation=0.5))
    assert len({fold.id for flow in asking for test in ir.tests(read(exact(flow))) for fold in [test.fold]}) == 1


# -- what is refused ---------------------------------------------------------------------------------------------------

PATH = "/$pattern"


@pytest.mark.parametrize(
    ("operand", "expected"),
    [
        ([], [("bad_operand", PATH)]),
        ({}, [("bad_operand", PATH), ("bad_operand", PATH)]),
        ({"pattern": "weekly", "periodType": "day"}, [("bad_operand", f"{PATH}/pattern")]),
        ({"pattern": "consistent", "periodType": "hour"}, [("bad_operand", f"{PATH}/periodType")]),
        ({"pattern": "consistent", "periodType": "day", "minPeriod": 3}, [("unknown_key", f"{PATH}/minPeriod")]),
        ({"pattern": "consistent", "periodType": "day", "minPeriods": 0}, [("bad_operand", f"{PATH}/minPeriods")]),
        ({"pattern": "consistent", "periodType": "day", "minPeriods": 2.5}, [("bad_operand", f"{PATH}/minPeriods")]),
        ({"pattern": "increasing", "periodType": "day", "minPeriods": 1}, [("bad_operand", f"{PATH}/minPeriods")]),
        ({"pattern": "decreasing", "periodType": "day", "minPeriods": 3651}, [("bad_operand", f"{PATH}/minPeriods")]),
        (
            {"pattern": "consistent", "periodType": "day", "maxDeviation": -0.1},
            [("bad_operand", f"{PATH}/maxDeviation")],
        ),
        (
            {"pattern": "consistent", "periodType": "day", "maxDeviation": "1"},
            [("bad_operand", f"{PATH}/maxDeviation")],
        ),
        (
            {"pattern": "increasing", "periodType": "day", "minIncreasePct": True},
            [("bad_operand", f"{PATH}/minIncreasePct")],
        ),
        (
            {"pattern": "increasing", "periodType": "day", "maxDeviation": None},
            [("bad_operand", f"{PATH}/maxDeviation")],
        ),
    ],
)
def test_what_is_written_wrong_is_refused_at_its_place(operand: Any, expected: list[tuple[str, str]]) -> None:
    """Each fault carries its code and the pointer to the smallest wrong place."""
    assert faults({"$pattern": exact(operand)}) == expected


def test_a_limit_of_another_pattern_has_no_effect() -> None:
    """Document 4 writes maxDeviation beside increasing: it is taken, with a warning at its place."""
    names = Known()
    read(exact(asked("increasing", maxDeviation=0.2)), names)
    assert [(one.code, one.path, one.severity) for one in names.faults] == [
        ("no_effect", f"{PATH}/maxDeviation", "warning")
    ]


# -- what it says ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "counts", "sentence"),
    [
        (asked(), (4, 5, 6), "Steady over 3 days: about 5 each, 20 % off; 20 % allowed"),
        (asked(maxDeviation=0.1), (4, 5, 6), "Not steady: 20 % off the average 5 over 3 days; 10 % allowed"),
        (asked(maxDeviation=0.33), (2, 3, 4), "Not steady: 33.33 % off the average 3 over 3 days; 33 % allowed"),
        (asked("increasing"), (1, 2, 3), "Rising 75 % a day over 3 days; 5 % needed"),
        (asked("increasing", minIncreasePct=80), (1, 2, 3), "Rising 75 %; 80 % needed"),
        (asked("increasing"), (2, 9, 1, 1, 4), "Up in 2 of 4 steps, trend 0; half and 0.5 needed"),
        (asked("decreasing", maxDecreasePct=50), (8, 4, 2), "Easing off 50 % a day over 3 days; at most 50 % allowed"),
        (asked("decreasing"), (8, 4, 2), "Falling 50 %; at most 5 % allowed"),
        (asked("decreasing"), (1, 2, 3), "Not falling over 3 days"),
        (asked(minPeriods=5), (1, 2), "2 of 5 days of activity; 3 more to go"),
    ],
)
def test_the_sentence_is_that_of_the_house(flow: Any, counts: tuple[int, ...], sentence: str) -> None:
    """Facts, then what is asked; a figure is not rounded past its bound."""
    assert why(plan(exact(flow)), activity(*counts, type="comment.posted")).sentence == sentence


def test_a_badge_is_earned_where_the_pattern_first_holds() -> None:
    """Each event is looked at: the award comes at the one with which the series follows the pattern."""
    compiled = plan(exact(asked("increasing")))
    events = activity(1, 2, 3, type="comment.posted")
    (award,) = play(compiled, events)
    assert award.trigger_id == events[4].id
    assert award.metadata["period_counts"] == [1, 2, 2]
    assert not play(compiled, events[:4])


def test_what_a_badge_takes_is_said_in_a_phrase() -> None:
    """The phrase needs neither user nor moment."""
    flows = [asked(minPeriods=7), asked("increasing", "week"), asked("decreasing", "month", maxDecreasePct=12.5)]
    badges = catalog(*exact(flows))
    assert [Takes(badges).of(badge) for badge in badges.badges] == [
        "activity steady within 20 % of its average over at least 7 days",
        "activity rising 5 % or more a week over at least 3 weeks",
        "activity easing off 12.5 % or less a month over at least 3 months",
    ]
