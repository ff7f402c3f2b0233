"""Users with zones of their own: what the engine remembers is what a naive reading of the history gives."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from worker.events import Event, parse_instant
from worker.events.json_text import dumps
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import apply, explain, replay
from worker.rules.ir import Bound, Fold, Match, Moment
from worker.rules.operators import KINDS, memory, params_of
from worker.rules.operators.calendar import Calendar, calendar_of
from worker.rules.plan import compile_plan
from worker.rules.state import UserState

#: Days of 23 and 25 hours, summer time of half an hour, 45 minutes off, both sides of the date line, a day left out.
ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
    *("Pacific/Kiritimati", "Pacific/Pago_Pago", "Pacific/Apia", "America/St_Johns"),
)
NO_ZONES = ("Nowhere/Atall", "utc", "localtime", "", "../UTC", "a\0b", 3, None, ["UTC"])
#: Around these, days and weeks, months and years begin and clocks change.
EDGES = (
    "2011-12-30T10",
    "2011-12-31T00",
    "2024-02-29T00",
    "2024-03-10T07",
    "2024-03-31T01",
    "2024-10-27T01",
    "2024-12-30T00",
)
HOUR = 3_600_000_000
PERIODS = ("day", "week", "month", "quarter", "year")
DEFAULT = "America/New_York"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

instants = st.builds(
    lambda edge, quarters: parse_instant(f"{edge}:00:00Z") + quarters * HOUR // 4,
    st.sampled_from(EDGES),
    st.integers(-120, 120),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """One user's events in order, every third of them about the zone; some at one instant."""
    events = []
    for number, us in enumerate(draw(st.lists(instants, min_size=1, max_size=14))):
        payload: dict[str, Any] = {}
        if draw(st.integers(0, 2)) == 0:
            payload["zone"] = draw(st.sampled_from([*ZONES, *ZONES, *NO_ZONES]))
        kind = "zone.named" if "zone" in payload and draw(st.booleans()) else "a.done"
        name = draw(st.sampled_from("ab"))
        events.append(Event("u", kind, us, "", f"{name}{number}", payload, dumps(payload)))
    return sorted(events, key=lambda event: event.order)


def zone_at(event: Event, events: list[Event], kind: str) -> ZoneInfo:
    """The zone that was named last up to an event."""
    named = [
        one.payload["zone"]
        for one in events
        if one.order <= event.order and one.type == kind and one.payload.get("zone") in ZONES
    ]
    return ZoneInfo([DEFAULT, *named][-1])


def day_of(event: Event, events: list[Event], kind: str) -> date:
    """The local date of an event by the zone's own rules."""
    return (EPOCH + timedelta(microseconds=event.occurred_us)).astimezone(zone_at(event, events, kind)).date()


def period_of(day: date, period: str) -> tuple[int, ...]:
    """The name of a period as numbers."""
    return {
        "day": (day.toordinal(),),
        "week": day.isocalendar()[:2],
        "month": (day.year, day.month),
        "quarter": (day.year, (day.month + 2) // 3),
        "year": (day.year,),
    }[period]


def document(kind: str) -> dict[str, Any]:
    """A badge for each period, one without weekends, and a tenure; the zone comes from events of `kind`."""

    def periods(period: str, **more: Any) -> dict[str, Any]:
        asked = {"periodType": period, "periodCount": {"$gte": 99}, **more}
        return {"key": period if not more else "workday", "flow": {"$timePeriod": asked}}

    return {
        "version": 1,
        "timezone": DEFAULT,
        "events": {"a.done": {}, "zone.named": {}},
        "user_timezone": {"event": kind, "field": "zone"},
        "badges": [*map(periods, PERIODS), periods("day", excludeWeekends=True)],
        "tenures": [{"key": "since", "since": "a.done", "years": [1]}],
    }


PLANS = {kind: compile_plan(catalog_from_document(document(kind), 1), exact=True) for kind in ("a.done", "zone.named")}


@given(histories(), st.sampled_from(sorted(PLANS)), st.sets(st.integers(0, 13)))
def test_periods_are_those_of_the_zone_in_force(events: list[Event], kind: str, cuts: set[int]) -> None:
    """Each event counts in the day, week, month, quarter and year it had where the user was then; so after any cut."""
    plan, state = PLANS[kind], UserState("u")
    for index, event in enumerate(events):
        if index in cuts:
            state.scopes = json.loads(json.dumps(state.scopes))
        apply(plan, state, event)
    days = [day_of(event, events, kind) for event in events]
    for period in PERIODS:
        found = explain(plan, period, state, now_us=events[-1].occurred_us)
        assert found.metadata["unique_period_count"] == len({period_of(day, period) for day in days}), period
    workdays = {day for day in days if day.isoweekday() < 6}
    found = explain(plan, "workday", state, now_us=events[-1].occurred_us)
    assert found.metadata["unique_period_count"] == len(workdays)
    first = next((event for event in events if event.type == "a.done"), None)
    shown = None if first is None else day_of(first, events, kind).isoformat()
    assert explain(plan, "since_1y", state, now_us=events[-1].occurred_us).tree["actual"] == shown


@given(histories(), st.sampled_from(sorted(PLANS)), st.randoms(use_true_random=False))
def test_what_is_remembered_is_the_fold_of_the_sorted_log(events: list[Event], kind: str, dice: Any) -> None:
    """Folded again at every late event, in whatever order they come, a user's memory ends as that of the history."""
    plan = PLANS[kind]
    arrived = list(events)
    dice.shuffle(arrived)
    state = UserState("u")
    for index, event in enumerate(arrived):
        if state.newest is not None and event.order < state.newest:
            state, _ = replay(plan, "u", sorted(arrived[: index + 1], key=lambda one: one.order), state.held)
        else:
            apply(plan, state, event)
    whole, _ = replay(plan, "u", events, {})
    assert msgspec.json.encode(state.scopes) == msgspec.json.encode(whole.scopes)


@given(
    st.lists(st.tuples(instants, st.sampled_from(ZONES)), min_size=1, max_size=10),
    st.sampled_from([((-1, "M"),), ((-1, "q"),), ((-1, "y"), (-1, "M")), ((-2, "M"), (3, "d"))]),
    st.sampled_from(["count", "periods"]),
    st.tuples(st.integers(0, 40), st.sampled_from(ZONES)),
)
def test_a_window_of_months_holds_for_whoever_moves(
    steps: list[tuple[int, str]], moment: tuple[tuple[int, str], ...], name: str, later: tuple[int, str]
) -> None:
    """Nothing was let go of that a window by the calendar of any later zone would hold."""
    steps = sorted(steps)
    fold = Fold(name, Match(bounds=(Bound("$gte", Moment(moment)),)), (("period", "day"),) * (name == "periods"))
    window, kind, params, state = memory(fold), KINDS[name], params_of(fold), None
    events = [Event("u", "a.done", us, "", f"{number:02}", {}, "{}") for number, (us, _) in enumerate(steps)]
    for event, (_, zone) in zip(events, steps, strict=True):
        state = window.step(state, event, params, calendar_of(zone))
    now_us, calendar = steps[-1][0] + later[0] * 6 * HOUR, Calendar(later[1])
    start = calendar.shift(now_us, Moment(moment))
    expected = None
    for event, (us, zone) in zip(events, steps, strict=True):
        if us >= start:
            expected = kind.merge(expected, kind.lift(event, params, calendar_of(zone)))
    fact = kind.unit_fact
    assert fact is not None
    assert window.facts(state, now_us, params, calendar)[fact] == kind.facts(expected, params)[fact]
