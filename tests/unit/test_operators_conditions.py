"""What each operator remembers and asks, from flows as authors write them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.unit.reading import Known, answer, event, exact, facts, first_time, read
from worker.events import Event, parse_instant
from worker.rules import ir
from worker.rules.operators import KINDS
from worker.rules.operators.calendar import Calendar, holidays_version
from worker.rules.operators.count import Count
from worker.rules.operators.moving import Moving, may_cap
from worker.rules.operators.tenure import tenure_test
from worker.rules.parse import parse_milestone

NOW = parse_instant("2024-12-31T00:00:00Z")
JANUARY = {"start": "2024-01-01T00:00:00Z", "end": "2024-01-31T23:59:59Z"}


def days(*dates: str, type: str = "a", payload: dict[str, Any] | None = None) -> list[Event]:
    """An event at noon of each date."""
    return [event(f"{day}T12:00:00Z", type, payload, f"{index:04}") for index, day in enumerate(dates, 1)]


def holds(flow: Any, events: list[Event], now: str | int = NOW, zone: str = "UTC") -> bool:
    """The answer of a flow as of now."""
    return answer(read(exact(flow)), events, parse_instant(now) if isinstance(now, str) else now, zone)[0]


def shown(flow: Any, events: list[Event], now_us: int = NOW) -> dict[str, Any]:
    """The metadata of a flow as of now."""
    return answer(read(exact(flow)), events, now_us)[1]


# -- leaves and windows ------------------------------------------------------------------------------------------------


def test_a_leaf_shows_its_first_and_last_event_by_order() -> None:
    """First and last are by time, then id by code point, not by arrival; the figures count the filtered events."""
    events = [
        event("2024-01-02T00:00:00Z", id="b"),
        event("2024-01-02T00:00:00Z", id="a"),
        event("2024-01-03T00:00:00Z", id="9", payload={"x": 1}),
        event("2024-01-03T00:00:00Z", id="10"),
    ]
    found = shown({"event": "a"}, events)
    assert found == {"filtered_event_count": 4, "first_event_id": "a", "last_event_id": "9"}
    assert shown({"event": "a", "criteria": {"x": 1}}, events)["first_event_id"] == "9"
    assert shown({"event": "b"}, events) == {"filtered_event_count": 0}


@pytest.mark.parametrize(
    ("condition", "dates"),
    [
        ("2024-01-02T12:00:00Z", [2]),
        ({"$eq": "2024-01-02T13:00:00+01:00"}, [2]),
        ({"$ne": "2024-01-02T12:00:00Z"}, [1, 3, 4]),
        ({"$gt": "2024-01-02T12:00:00Z"}, [3, 4]),
        ({"$gte": "2024-01-02T12:00:00Z", "$lt": "2024-01-04T12:00:00Z"}, [2, 3]),
        ({"$between": ["2024-01-02T12:00:00Z", "2024-01-03T12:00:00Z"]}, [2, 3]),
        ({"$between": "2024-01-02T12:00:00Z,2024-01-03T12:00:00Z"}, [2, 3]),
        ({"$gte": "$NOW(-2d)"}, [3, 4]),
        ({"$gt": "$NOW(-2d)"}, [4]),
        ({"$lte": "$NOW(-2d)"}, [1, 2, 3]),
        ({"$lt": "$NOW(-2d)"}, [1, 2]),
        ({"$eq": "$NOW(-2d)"}, [3]),
        ({"$ne": "$NOW(-2d)"}, [1, 2, 4]),
        ({"$between": ["$NOW(-3d)", "$NOW(-1d-12h)"]}, [2, 3]),
        ({"$lte": "$NOW"}, [1, 2, 3, 4]),
        ({"$lte": "$NOW()"}, [1, 2, 3, 4]),
        ({"$gte": "$NOW(-2d)", "$lt": "2024-01-04T00:00:00Z"}, [3]),
    ],
)
def test_timestamp_filters_by_when_it_happened(condition: Any, dates: list[int]) -> None:
    """`timestamp` compares the event's instant with fixed ones and with now, which is an argument."""
    events = days("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04")
    node = read({"event": "a", "criteria": {"timestamp": condition}})
    passed, metadata = answer(node, events, parse_instant("2024-01-05T12:00:00Z"))
    assert passed
    assert metadata["filtered_event_count"] == len(dates)
    assert metadata["first_event_id"] == f"{dates[0]:04}"
    assert metadata["last_event_id"] == f"{dates[-1]:04}"


def test_a_field_named_timestamp_is_the_payloads_under_payload() -> None:
    """Under `payload`, `timestamp` is a field of the payload like any other."""
    flow = {"event": "a", "criteria": {"payload": {"timestamp": "noon"}}}
    assert holds(flow, days("2024-01-01", payload={"timestamp": "noon"}))
    assert not holds(flow, days("2024-01-01"))


def test_nested_windows_intersect() -> None:
    """What lies in the inner window but not in the outer one is not seen, fixed or moving."""
    inner = {"$timeWindow": {"start": "2024-01-20T00:00:00Z", "flow": {"event": "a"}}}
    flow = {"$timeWindow": {**JANUARY, "flow": inner}}
    assert shown(flow, days("2024-01-10", "2024-01-25", "2024-02-05"))["window_filtered_event_count"] == 1
    moving = {"$timeWindow": {"last": "30d", "flow": inner}}
    assert holds(moving, days("2024-01-25"), "2024-02-20T00:00:00Z")
    assert not holds(moving, days("2024-01-25"), "2024-03-20T00:00:00Z")
    assert not holds(moving, days("2024-01-19"), "2024-02-01T00:00:00Z")


def test_a_window_applies_to_every_fold_below_it() -> None:
    """A snapshot inside a window is of the window's events, whatever else is joined with it."""
    below = {"$or": [{"snapshot": {"total_wins": {"$gte": 2}}}, {"$not": {"event": "a"}}]}
    flow = {"$timeWindow": {**JANUARY, "flow": below}}
    wins = days("2023-12-30", "2024-01-02", "2024-02-01", type="WinLogged")
    assert not holds(flow, wins + days("2024-01-05"))
    assert holds(flow, wins + days("2024-01-03", type="WinLogged") + days("2024-01-05"))
    assert all(test.fold.match.start_us == parse_instant(JANUARY["start"]) for test in ir.tests(read(flow)))


def test_business_days_leave_out_weekends_and_given_holidays() -> None:
    """Saturday, a listed day and a public holiday do not count; without `businessDaysOnly` they do."""
    window: dict[str, Any] = {"last": "60d", "businessDaysOnly": True, "holidays": ["DE", "company", "2026-12-23"]}
    events = days("2026-12-19", "2026-12-21", "2026-12-23", "2026-12-24", "2026-12-25")
    now_us = parse_instant("2026-12-31T00:00:00Z")
    flow = {"$timeWindow": {**window, "flow": {"event": "a"}}}
    assert shown(flow, events, now_us)["window_filtered_event_count"] == 1
    flow["$timeWindow"]["businessDaysOnly"] = False
    assert shown(flow, events, now_us)["window_filtered_event_count"] == 5


def test_a_window_is_named_for_the_explanation() -> None:
    """The node keeps what was written: the bounds, the look-back, the days."""
    node = read({"$timeWindow": {"last": "1q", "businessDaysOnly": True, "flow": {"event": "a"}}})
    assert isinstance(node, ir.Windowed)
    assert (node.last, node.days) == (ir.Moment(((-1, "q"),)), ir.Days(exclude_weekends=True))
    node = read({"$timeWindow": {**JANUARY, "flow": {"event": "a"}}})
    assert isinstance(node, ir.Windowed)
    assert (node.start_us, node.end_us, node.last) == (*map(parse_instant, JANUARY.values()), None)


# -- periods, figures, distinct values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("period", "count"), [("day", 5), ("week", 4), ("month", 3), ("quarter", 2), ("year", 2)])
def test_periods_with_activity_are_counted_once_each(period: str, count: int) -> None:
    """Gaps are allowed, order does not matter, a week is the ISO week."""
    events = days("2024-01-01", "2023-12-31", "2024-01-01", "2024-02-05", "2024-02-11", "2024-02-12")
    flow = {"$timePeriod": {"periodType": period, "periodCount": {"$eq": count}}}
    assert shown(flow, events) == {"unique_period_count": count}
    assert holds(flow, events)


def test_all_events_are_the_users_own() -> None:
    """As a flow of its own `$timePeriod` takes every type but those of the system."""
    events = days("2024-01-01", type="cron.daily") + days("2024-01-02") + days("2024-01-03", type="badge.granted")
    assert shown({"$timePeriod": {"periodType": "day"}}, events) == {"unique_period_count": 1}
    named = {"event": "cron.daily", "criteria": {"$timePeriod": {"periodType": "day"}}}
    assert holds(named, events)


def test_a_period_is_of_the_users_zone() -> None:
    """One instant is one day in UTC and two days apart where the date line lies between."""
    events = [event("2024-01-01T22:30:00Z", id="1"), event("2024-01-01T23:30:00Z", id="2")]
    flow = {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}}}
    assert not holds(flow, events)
    assert holds(flow, events, zone="Europe/Berlin")


def test_holidays_of_a_country_are_another_memory_in_another_edition() -> None:
    """The edition of the maintained calendar is part of the fold's identity."""
    flow = {"$timePeriod": {"periodType": "day", "excludeHolidays": True, "holidays": "DE-BY"}}
    (test,) = ir.tests(read(flow))
    assert test.fold.match.days == (ir.Days(countries=(f"DE-BY@{holidays_version()}",)),)
    assert shown(flow, days("2024-11-01", "2024-11-04")) == {"unique_period_count": 1}


@pytest.mark.parametrize(
    ("function", "figure"),
    [
        ("count", 4),
        ("sum", Decimal("0.6")),
        ("avg", Decimal("0.15")),
        ("min", Decimal("-0.3")),
        ("max", Decimal("0.6")),
    ],
)
def test_figures_are_exact(function: str, figure: Any) -> None:
    """0.1 + 0.2 means 0.3; texts, booleans, null and what is missing are no numbers."""
    values = ["0.1", "0.2", "0.6", "-0.3"]
    events = [
        *(event("2024-01-01T00:00:00Z", payload={"n": Decimal(value)}, id=f"{n}") for n, value in enumerate(values)),
        *(event("2024-01-01T00:00:00Z", payload={"n": odd}, id=str(odd)) for odd in ("7", True, None, [1])),
        event("2024-01-01T00:00:00Z", id="none"),
    ]
    for spelling in (("type", "field", "value"), ("function", "property", "result")):
        flow = {"$aggregate": dict(zip(spelling, (function, "n", {"$eq": figure}), strict=True))}
        assert holds(flow, events)
        assert shown(flow, events) == {f"{function}_n": figure}


def test_a_figure_of_no_numbers_is_no_answer() -> None:
    """Without a value nothing holds, whatever is asked; without a comparison one value is asked for."""
    for check in ({"$lt": 5}, {"$ne": 5}, {"$eq": 0}):
        assert not holds({"$aggregate": {"type": "sum", "field": "n", "value": check}}, days("2024-01-01"))
    assert not holds({"$aggregate": {"type": "count", "field": "n", "value": {"$eq": 0}}}, days("2024-01-01"))
    open_end = {"$aggregate": {"type": "sum", "field": "n"}}
    assert not holds(open_end, days("2024-01-01"))
    assert holds(open_end, days("2024-01-01", payload={"n": -5}))


def test_a_sum_of_extreme_numbers_is_exact() -> None:
    """The largest and the smallest number together lose nothing, and what is taken away again is gone."""
    values = [Decimal("1E+308"), Decimal("1E-308"), Decimal("-1E+308")]
    events = [event("2024-01-01T00:00:00Z", payload={"n": value}, id=f"{n}") for n, value in enumerate(values)]
    assert holds({"$aggregate": {"type": "sum", "field": "n", "value": {"$eq": Decimal("1E-308")}}}, events)


def test_different_values_are_counted_by_json_equality() -> None:
    """1 and 1.0 are one value, "1" another, true a third; null, objects and arrays are none; long texts differ."""
    values = [1, Decimal("1.0"), "1", True, None, {}, [1], "x" * 500 + "a", "x" * 500 + "b", Decimal("1E2"), 100]
    events = [event("2024-01-01T00:00:00Z", payload={"n": value}, id=f"{n:02}") for n, value in enumerate(values)]
    flow = {"event": "a", "criteria": {"$distinctCount": {"field": "n", "$gte": 6}}}
    assert holds(flow, events)
    assert shown(flow, events)["distinct_count"] == 6
    state = None
    for one in events:
        state = KINDS["distinct"].step(state, one, {"field": "n"}, Calendar())
    assert max(len(text) for text in state) <= 65


# -- snapshot and tenure -----------------------------------------------------------------------------------------------


def test_a_snapshot_compares_instants_with_now() -> None:
    """A metric that is a point in time is held against now or a fixed instant, and shown as one."""
    joined = days("2023-12-31", "2024-06-01", type="user.registered")
    flow = {"snapshot": {"joined_at": {"$lte": "$NOW(-1y)"}}}
    assert holds(flow, joined, "2024-12-31T12:00:00Z")
    assert not holds(flow, joined, "2024-12-31T11:59:59Z")
    assert not holds(flow, [], "2024-12-31T12:00:00Z")
    assert shown(flow, joined) == {"joined_at": "2023-12-31T12:00:00.000000Z"}
    assert holds({"snapshot": {"joined_at": {"$lt": "2024-01-01T00:00:00Z"}}}, joined)


def test_several_metrics_are_anded_and_shown_by_name() -> None:
    """Every metric of a snapshot must pass; each is shown under its name."""
    wins = days("2024-01-01", "2024-01-02", type="WinLogged")
    flow = {"snapshot": {"total_wins": {"$gte": 2}, "login_count": {"$lt": 1}}}
    assert holds(flow, wins)
    assert shown(flow, wins) == {"total_wins": 2, "login_count": 0}
    assert not holds(flow, wins + days("2024-01-03", type="UserLoggedIn"))


def test_a_tenure_holds_from_its_local_day() -> None:
    """Two years after joining, from the first instant of the day in the user's zone; the award says since when."""
    test = tenure_test("user.registered", 2, path="/tenures/0", feb_29="mar_1")
    joined = days("2020-02-29", type="user.registered")
    assert not answer(test, joined, parse_instant("2022-02-28T22:59:59Z"), "Europe/Berlin")[0]
    passed, metadata = answer(test, joined, parse_instant("2022-02-28T23:00:00Z"), "Europe/Berlin")
    assert passed
    assert metadata == {"since": "2020-02-29T12:00:00.000000Z"}
    assert not answer(test, [], NOW)[0]


# -- milestones --------------------------------------------------------------------------------------------------------


def milestone(rule: str, data: dict[str, Any], trigger: str = "UserLoggedIn", names: Known | None = None) -> ir.Node:
    """The formula of a milestone that must be clean."""
    definition = {"rule_type": rule, "rule_data": data, "trigger_event": trigger}
    names = names or Known()
    found = parse_milestone(definition, path="", names=names)
    assert found is not None, names.faults
    return found[0]


def test_the_first_login_is_no_return() -> None:
    """Without a previous login there is nothing to measure from; fractions of a day count."""
    node = milestone("return_after_gap", {"gap_days": Decimal("1.5")})
    logins = [event("2024-01-01T00:00:00Z", "UserLoggedIn"), event("2024-01-02T12:00:00Z", "user.logged_in", id="2")]
    assert answer(node, logins[:1], NOW) == (False, {})
    assert answer(node, logins, NOW) == (True, {"gap_days": Decimal("1.5")})


def test_a_return_is_measured_from_the_login_just_before() -> None:
    """A short gap after a long one is no return any more, and the long one was."""
    node = milestone("return_after_gap", {"gap_days": 10})
    logins = days("2024-01-01", "2024-02-01", "2024-02-02", type="UserLoggedIn")
    assert not answer(node, logins, NOW)[0]
    earned = first_time(node, logins, NOW, "UserLoggedIn")
    assert earned is not None
    assert (earned[0].id, earned[1]["gap_days"]) == ("0002", 31)


def test_a_window_count_looks_back_whole_days_of_24_hours() -> None:
    """The far end is included; the window is counted back from the trigger."""
    node = milestone("window_count", {"event": "a", "count": 2, "window_days": 7})
    events = [event("2024-03-08T12:00:00Z", id="1"), event("2024-03-09T12:00:00Z", id="2")]
    assert answer(node, events, parse_instant("2024-03-15T12:00:00Z")) == (True, {"event_count": 2})
    assert not answer(node, events, parse_instant("2024-03-15T12:00:00.000001Z"))[0]


# -- memory of moving windows ------------------------------------------------------------------------------------------


def test_a_moving_window_forgets_what_it_can_never_see_again() -> None:
    """The memory of a look-back of a week is of a week, and with a cap of the newest few."""
    flow = {"$timeWindow": {"last": "1w", "flow": {"event": "a", "criteria": {"$eventCount": {"$gte": 3}}}}}
    fold = next(iter(ir.tests(read(flow)))).fold
    assert may_cap(fold)
    for cap, most in ((None, 8), (3, 3)):
        window, state = Moving(Count(), fold.match.bounds, cap), None
        for day in range(100):
            state = window.step(state, event(NOW + day * 86_400_000_000, id=f"{day:03}"), {}, Calendar())
        assert len(state) == 2 * most


def test_a_cap_is_refused_where_it_would_change_an_answer() -> None:
    """A near side that moves, or a figure that an event may lower, may need more than the newest few."""
    near = {"event": "a", "criteria": {"timestamp": {"$lt": "$NOW(-7d)"}, "$eventCount": {"$gte": 3}}}
    total = {"$timeWindow": {"last": "7d", "flow": {"$aggregate": {"type": "sum", "field": "n"}}}}
    for flow in (near, total):
        assert not any(may_cap(test.fold) for test in ir.tests(read(flow)))


def test_a_month_back_is_right_when_the_month_end_clamps_backwards() -> None:
    """From 30 March noon a month back is 29 February noon, from 31 March morning earlier: nothing was forgotten."""
    node = read({"$timeWindow": {"last": "1m", "flow": {"event": "a"}}})
    fold = next(iter(ir.tests(node))).fold
    events = [
        event("2024-02-29T09:00:00Z", id="1"),
        event("2024-03-30T12:00:00Z", id="2"),
        event("2024-03-31T08:00:00Z", id="3"),
    ]
    assert facts(fold, events, events[1].occurred_us, Calendar())["event_count"] == 1
    assert facts(fold, events, events[2].occurred_us, Calendar())["event_count"] == 3
