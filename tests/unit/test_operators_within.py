"""`$withinTimeWindow`: how it is written, which instants it looks at, what it remembers and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.playing import DAY, NOON, catalog, earned, event, plan, play, why
from tests.unit.reading import Known, exact, faults, read
from worker.events import Event
from worker.rules import ir
from worker.rules.evaluate import apply
from worker.rules.operators.latch import types_read
from worker.rules.operators.within import waits
from worker.rules.plan import compile_plan, needs_build
from worker.rules.rehearse import DryRun
from worker.rules.state import UserState
from worker.rules.takes import Takes

HOUR = 1 / 24
A, B = {"event": "comment.posted"}, {"event": "order.paid"}
BOTH = {"$and": [A, B]}


def within(conditions: Any, window: str = "24h") -> dict[str, Any]:
    """The flow."""
    return {"$withinTimeWindow": {"window": window, "conditions": conditions}}


def count(check: dict[str, Any], kind: str = "comment.posted") -> dict[str, Any]:
    """A leaf that counts."""
    return {"event": kind, "criteria": {"$eventCount": check}}


def commented(*hours: float) -> list[Event]:
    """Comments, so many hours after noon."""
    return [event("comment.posted", hour * HOUR, id=f"c{number}") for number, hour in enumerate(hours)]


def paid(*hours: float) -> list[Event]:
    """Orders."""
    return [event("order.paid", hour * HOUR, id=f"o{number}") for number, hour in enumerate(hours)]


def told(flow: Any, events: Sequence[Event], *, hours: float | None = None) -> tuple[bool, dict[str, Any]]:
    """Verdict and figures as of some hours after noon, by a plan that keeps all."""
    ordered = sorted(events, key=lambda one: one.order)
    at_us = ordered[-1].occurred_us if hours is None else NOON + round(hours * HOUR * DAY)
    (answer,) = DryRun(catalog(exact(flow))).answers("u", ordered, {"b0"}, at_us=at_us)
    return answer.passed, dict(answer.metadata)


def held(flow: Any, events: Sequence[Event], *, hours: float | None = None) -> bool:
    """The verdict."""
    return told(flow, events, hours=hours)[0]


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_window_belongs_to_an_event_and_includes_both_ends() -> None:
    """Events exactly a window apart are within it; a microsecond more and they are not."""
    assert held(within(BOTH), [*commented(0), *paid(24)])
    late = Event("u", "order.paid", NOON + DAY + 1, "", "o", {}, "{}")
    assert not held(within(BOTH), [*commented(0), late])
    assert held(within(BOTH), [*paid(0), *commented(3)])


def test_what_held_once_holds_for_ever() -> None:
    """However long ago it was, and whatever came after."""
    assert held(within(BOTH), [*commented(0), *paid(1)], hours=24 * 365)
    assert held(within(count({"$eq": 1})), commented(0, 1, 2, 3))


def test_all_that_happens_at_one_instant_is_seen_together() -> None:
    """A count that is passed over within one instant did not hold at it, though the badge is earned on the way."""
    events = commented(0, 0)
    assert not held(within(count({"$eq": 1})), events)
    assert held(within(count({"$eq": 2})), events)
    assert earned(play(plan(within(count({"$eq": 1}))), events)) == [("b0", "", "c0")]


def test_any_event_of_the_user_gives_an_instant_to_look_at() -> None:
    """What only holds by something's absence may hold at an event that the conditions do not name."""
    flow = within({"$not": A}, "1h")
    assert not held(flow, commented(0))
    assert held(flow, [*commented(0), *paid(2)])
    assert not held(flow, [*commented(0), event("cron.anniversary", 2 * HOUR)])
    assert held(within({"$and": [A, {"$not": B}]}, "3h"), [*paid(0), *commented(2), event("user.logged_in", 4 * HOUR)])
    assert not held(within({"$and": [A, {"$not": B}]}, "3h"), [*paid(0), *commented(2)])


def test_events_that_count_only_when_named_give_an_instant_when_named() -> None:
    """A schedule's event is looked at where the conditions name it, with or without all others."""
    cron = event("cron.anniversary", HOUR)
    assert held(within({"event": "cron.anniversary"}), [cron])
    flow = within({"$and": [{"event": "cron.anniversary"}, {"$not": A}]}, "2h")
    assert held(flow, [cron])
    assert held(flow, [*commented(0), cron, *paid(2.5)])
    assert not held(flow, [*commented(0), cron, *paid(3.5)])


def test_now_is_the_instant_looked_at() -> None:
    """$NOW and the look-back of a window inside are counted from the event's own time."""
    recent = {"event": "comment.posted", "criteria": {"timestamp": {"$lte": "$NOW(-2h)"}}}
    assert held(within({"$and": [recent, B]}), [*commented(0), *paid(2)], hours=500)
    assert not held(within({"$and": [recent, B]}), [*commented(0), *paid(1.9)], hours=500)
    two = {"$timeWindow": {"last": "1d", "flow": count({"$gte": 2})}}
    assert held(within(two, "1w"), commented(0, 24), hours=500)
    assert not held(within(two, "1w"), commented(0, 25), hours=500)


def test_a_window_around_limits_what_is_seen() -> None:
    """Only its events count, and only they give an instant; a moving one forgets what held."""
    flow = within(BOTH)
    fixed = {"$timeWindow": {"start": "2024-03-01T12:30:00Z", "end": "2024-03-03T00:00:00Z", "flow": flow}}
    assert not held(fixed, [*commented(0), *paid(1)])
    assert held(fixed, [*commented(1), *paid(2)])
    assert not held(fixed, [*commented(1), *paid(200)])
    moving = {"$timeWindow": {"last": "2d", "flow": flow}}
    events = [*commented(0), *paid(10)]
    assert held(moving, events, hours=48)
    assert not held(moving, events, hours=48.1)
    assert held({"$not": moving}, events, hours=49)


def test_one_may_stand_in_another() -> None:
    """The inner one looks at the events of the outer one's window only."""
    pair = within(count({"$gte": 2}), "1h")
    assert held(within({"$and": [pair, B]}), [*commented(0, 1), *paid(24)])
    assert not held(within({"$and": [pair, B]}), [*commented(0, 1), *paid(24.5)])


def test_patterns_pauses_and_days_stand_inside() -> None:
    """Each operator is asked of the window alone."""
    days = {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 3}}}
    assert held(within(days, "3d"), commented(0, 24, 48))
    assert not held(within(days, "3d"), commented(0, 24, 96))
    steady = {"$pattern": {"pattern": "consistent", "periodType": "day", "maxDeviation": 0}}
    assert held(within(steady, "60h"), commented(0, 1, 24, 48, 72), hours=900)
    assert held(within({"$gap": {"minGapHours": 5}}, "11h"), commented(0, 1, 6, 12))
    assert not held(within({"$gap": {"minGapHours": 6}}, "11h"), commented(0, 1, 6, 12))
    steps = {"$sequence": {"sequence": ["comment.posted", "order.paid"]}}
    assert held(within(steps, "1h"), [*paid(0, 2), *commented(1)])
    assert not held(within(steps, "1h"), [*paid(0, 2.1), *commented(1)])


def test_each_context_has_its_own() -> None:
    """A badge per item looks at that item's events."""
    events = [event("comment.posted", hour * HOUR, item=item) for hour, item in ((0, "x"), (1, "y"), (2, "x"))]
    badge = {"key": "b", "per": "item", "flow": within(count({"$gte": 2}))}
    assert earned(play(plan(badge), events)) == [("b", "x", events[2].id)]


# -- figures -----------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_first_instant_at_which_it_held() -> None:
    """They carry the prefix of a window, once; later events change none of them."""
    two = {"$timeWindow": {"last": "1d", "flow": count({"$gte": 2})}}
    figures = {
        "window_filtered_event_count": 2,
        "window_first_event_id": "c0",
        "window_last_event_id": "c1",
        "window_event_count": 2,
    }
    assert told(within(two, "3d"), commented(0, 3, 4, 90)) == (True, figures)
    assert told({"$timeWindow": {"last": "1q", "flow": within(two, "3d")}}, commented(0, 3, 4)) == (True, figures)


def test_without_one_they_are_those_of_the_last_event_looked_at() -> None:
    """Where the conditions never held: of the last event that they read; none before there was one."""
    assert told(within(count({"$gte": 3})), [*commented(0, 1, 100), *paid(101)])[1]["window_event_count"] == 1
    assert told(within(count({"$gte": 3})), paid(0)) == (False, {})
    flow = within({"$and": [count({"$gte": 3}), {"$not": B}]}, "1h")
    assert told(flow, [*commented(0, 1), event("user.logged_in", 30 * HOUR)])[1]["window_event_count"] == 2


def test_one_within_another_tells_its_figures_under_one_prefix() -> None:
    """And asks of every event's instant, so that each is one to tell of."""
    inner = within(count({"$gte": 2}), "1h")
    assert set(told(within(inner), commented(0, 1))[1]) == {
        *("window_filtered_event_count", "window_first_event_id", "window_last_event_id", "window_event_count")
    }
    assert types_read(read(inner)) == {"*", "comment.posted"}
    assert types_read(read(BOTH)) == {"comment.posted", "order.paid"}


# -- what is remembered ------------------------------------------------------------------------------------------------


def remembered(flow: Any, events: Sequence[Event], *, exactly: bool = False) -> Any:
    """The one memory of a badge after a history."""
    compiled = compile_plan(catalog(exact(flow)), exact=exactly)
    state = UserState("u")
    for one in events:
        apply(compiled, state, one)
    (found,) = state.scopes[""].values()
    return found


def test_nothing_changes_once_it_has_held() -> None:
    """The memory of a latch is the very object it was, however many events follow."""
    compiled = plan(within(BOTH))
    state = UserState("u")
    for one in [*commented(0), *paid(1)]:
        apply(compiled, state, one)
    (before,) = state.scopes[""].values()
    for one in commented(*range(2, 50)):
        apply(compiled, state, one)
    (after,) = state.scopes[""].values()
    assert after is before


def test_at_least_so_many_keeps_no_more_than_twice_as_many() -> None:
    """A threshold keeps the instants it takes, though the window holds more; an exact plan keeps the window."""
    events = commented(*(hour / 10 for hour in range(100)))
    (line,) = remembered(within(count({"$gte": 200}), "1h"), events)[2]
    assert len(line) // 2 == 11
    either = {"$or": [count({"$gte": 30}), count({"$gte": 3})]}
    compiled = compile_plan(catalog(exact(within(either, "1w"))))
    (memory,) = compiled.routes["comment.posted"].gates(events[0], compiled.calendar)[0].memories
    caps = {test.fold.cap for test in ir.leaves(dict(memory.fold.params)["conditions"])}
    assert caps == {30}
    assert earned(play(compiled, events)) == [("b0", "", "c2")]
    both = {"$and": [count({"$gte": 3}), A, B]}
    compiled = compile_plan(catalog(within(both, "1w")))
    (memory,) = compiled.routes["order.paid"].gates(events[0], compiled.calendar)[0].memories
    assert {test.fold.cap for test in ir.leaves(dict(memory.fold.params)["conditions"])} == {None}


@pytest.mark.parametrize(
    ("conditions", "types"),
    [
        (A, ("comment.posted",)),
        (BOTH, ("comment.posted", "order.paid")),
        ({"$or": [A, count({"$gt": 0}, "order.paid")]}, ("comment.posted", "order.paid")),
        ({"$timeWindow": {"last": "1d", "flow": A}}, ("comment.posted",)),
        ({"$timeWindow": {"last": "1m", "flow": A}}, ()),
        ({"$sequence": {"sequence": ["order.paid", "comment.posted"]}}, ("comment.posted", "order.paid")),
        ({"$sequence": {"sequence": ["order.paid", "comment.posted"], "requireStrict": True}}, ()),
        ({"$not": A}, ()),
        (count({"$lt": 3}), ()),
        (count({"$gte": 0}), ()),
        (count({"$gte": 1, "$lte": 3}), ()),
        ({"event": "comment.posted", "criteria": {"$aggregate": {"type": "avg", "field": "n"}}}, ()),
        ({"event": "comment.posted", "criteria": {"timestamp": {"$lt": "$NOW(-1h)"}}}, ()),
        ({"$timePeriod": {"periodType": "day"}}, ()),
        ({"$or": [{"event": "cron.anniversary"}, {"$not": A}]}, ("*", "cron.anniversary")),
        (within(A), ()),
    ],
)
def test_only_events_that_can_change_the_answer_are_looked_at(conditions: Any, types: tuple[str, ...]) -> None:
    """Conditions that ask for activity need the events they read; others, and others within, need all."""
    (test,) = ir.tests(read(exact(within(conditions))))
    assert test.fold.match.types == types
    assert not types or types[0] == "*" or waits(dict(test.fold.params)["conditions"])


def test_the_triggers_are_the_types_that_are_read() -> None:
    """Whatever gives an instant, the badge is looked at where an event of its flow comes."""
    (badge,) = catalog(within({"$not": A})).badges
    assert badge.triggers == {"comment.posted"}
    first, second = commented(0, 31)
    events = [first, *paid(30), second]
    assert earned(play(plan(within({"$not": A})), events)) == [("b0", "", "c1")]


def test_where_it_is_written_is_no_part_of_its_memory() -> None:
    """One memory serves two badges; another badge before it builds nothing anew; true is not 1."""
    compiled = plan(within(BOTH), {"$and": [within(BOTH), A]})
    assert len(compiled.routes["order.paid"].gates(paid(0)[0], compiled.calendar)) == 1
    first, second = (
        catalog({"key": "x", "flow": within(BOTH)}),
        catalog({"key": "y", "flow": A}, {"key": "x", "flow": within(BOTH)}),
    )
    assert compile_plan(first).sources(next(ir.tests(first.badges[0].formula))).id == (
        compile_plan(second).sources(next(ir.tests(second.badges[1].formula))).id
    )
    assert not needs_build(compile_plan(second), compile_plan(first))
    one, other = within({**A, "criteria": {"x": True}}), within({**A, "criteria": {"x": 1}})
    found = plan({"$or": [one, other]})
    assert len({test.fold.id for test in ir.tests(found.goals[0].badge.formula)}) == 2
    assert play(found, [event("comment.posted", x=1)])
    assert play(found, [event("comment.posted", x=True)])
    assert not play(found, [event("comment.posted", x="1")])


# -- what is refused ---------------------------------------------------------------------------------------------------

PATH = "/$withinTimeWindow"


@pytest.mark.parametrize(
    ("operand", "expected"),
    [
        ("24h", [("bad_operand", PATH)]),
        ({}, [("missing_field", PATH), ("missing_field", PATH)]),
        ({"window": "1h"}, [("missing_field", PATH)]),
        ({"conditions": A}, [("missing_field", PATH)]),
        ({"window": "1m", "conditions": A}, [("bad_window", f"{PATH}/window")]),
        ({"window": "1y", "conditions": A}, [("bad_window", f"{PATH}/window")]),
        ({"window": "h", "conditions": A}, [("bad_window", f"{PATH}/window")]),
        ({"window": "0h", "conditions": A}, [("bad_operand", f"{PATH}/window")]),
        ({"window": 24, "conditions": A}, [("bad_operand", f"{PATH}/window")]),
        ({"window": "1h", "conditions": {}}, [("flow_definition_required", f"{PATH}/conditions")]),
        ({"window": "1h", "conditions": [A]}, [("flow_definition_required", f"{PATH}/conditions")]),
        ({"window": "1h", "conditions": A, "flow": A}, [("unknown_key", f"{PATH}/flow")]),
        (
            {"window": "1x", "conditions": {"$and": []}},
            [("bad_window", f"{PATH}/window"), ("bad_operand", f"{PATH}/conditions/$and")],
        ),
        (
            {"window": "1h", "conditions": {"$or": [A, {"badge": "first_steps"}]}},
            [("unknown_operator", f"{PATH}/conditions/$or/1/badge")],
        ),
    ],
)
def test_what_is_written_wrong_is_refused_at_its_place(operand: Any, expected: list[tuple[str, str]]) -> None:
    """All faults at once, each with its code and the pointer to the smallest wrong place."""
    assert faults({"$withinTimeWindow": operand}) == expected


def test_a_figure_of_the_whole_user_is_refused_in_a_context() -> None:
    """Within a badge per post only metrics per post are of the window's events."""
    metric = within({"snapshot": {"login_count": {"$gte": 1}}})
    expected = [("bad_operand", f"{PATH}/conditions/snapshot/login_count")]
    assert faults(metric, Known(per="post_id")) == expected
    assert faults(metric) == []
    assert faults(within({"snapshot": {"likes_of_post": {"$gte": 1}}}), Known(per="post_id")) == []


@pytest.mark.parametrize("window", ["90s", "15min", "24h", "7d", "2w"])
def test_five_units_are_taken(window: str) -> None:
    """Seconds, minutes, hours, days, weeks."""
    assert faults(within(A, window)) == []


# -- what it says ------------------------------------------------------------------------------------------------------


def test_the_sentence_names_the_instant() -> None:
    """When the conditions held, or the last time they were looked at; the window is said once."""
    flow, compiled = within(count({"$gte": 2})), plan(within(count({"$gte": 2})))
    assert why(compiled, commented(0, 1)).sentence == (
        "Within 24 hours up to 2024-03-01 13:00:00Z: 2 comments; 2 needed"
    )
    assert why(compiled, commented(0, 30)).sentence == (
        "Never within 24 hours; closest up to 2024-03-02 18:00:00Z: 1 of 2 comments; 1 more to go"
    )
    assert why(compiled, []).sentence == "Never within 24 hours: 0 of 2 comments; 2 more to go"
    assert why(plan({"$not": flow}), commented(0)).sentence == (
        "Must not hold, and does not: Never within 24 hours; closest up to 2024-03-01 12:00:00Z: "
        "1 of 2 comments; 1 more to go"
    )


def test_the_tree_shows_the_conditions_as_of_the_instant() -> None:
    """Every branch is there with its place, also inside another one."""
    flow = within({"$or": [count({"$gte": 9}), within(BOTH, "1h")]}, "1d")
    tree = why(plan(flow), [*commented(0), *paid(1), *commented(20)]).tree
    (either,) = tree["children"]
    comments, inner = either["children"]
    (pair,) = inner["children"]
    root = "/badges/0/flow/$withinTimeWindow"
    assert tree["verdict"] == inner["verdict"] == pair["verdict"] == "passed"
    assert tree["window"] == {
        "within": "1d",
        "start": "2024-02-29T13:00:00.000000Z",
        "end": "2024-03-01T13:00:00.000000Z",
    }
    assert (comments["actual"], comments["verdict"]) == (1, "not_passed")
    assert comments["path"] == f"{root}/conditions/$or/0/criteria/$eventCount"
    assert inner["path"] == f"{root}/conditions/$or/1/$withinTimeWindow"
    assert [child["path"] for child in pair["children"]] == [
        f"{inner['path']}/conditions/$and/{place}" for place in (0, 1)
    ]


def test_how_far_a_user_is_says_the_nearest_condition() -> None:
    """Two of four comments are half of the way."""
    found = why(plan(within(count({"$gte": 4}))), commented(0, 1))
    assert 0.4 < found.nearness < 0.5


def test_what_a_badge_takes_is_said_in_a_phrase() -> None:
    """The conditions, and their window."""
    badges = catalog(within(BOTH), within(count({"$gte": 3}), "15min"))
    assert [Takes(badges).of(badge) for badge in badges.badges] == [
        "(1 comment and 1 `order.paid` event) within 24 hours",
        "3 comments within 15 minutes",
    ]


@pytest.mark.parametrize(("end", "held"), [("2024-03-01T12:00:00Z", False), ("2024-03-02T12:00:00Z", True)])
def test_a_fixed_end_alone_bounds_what_the_conditions_see(end: str, held: bool) -> None:
    """What lies after the end of a window within the conditions is no event of theirs, with nothing else to filter."""
    flow = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 2}}}
    conditions = {"$timeWindow": {"end": end, "flow": flow}}
    compiled = compile_plan(catalog({"$withinTimeWindow": {"window": "7d", "conditions": conditions}}))
    state = UserState("u")
    for day in range(2):
        apply(compiled, state, event("comment.posted", day))
    assert bool(state.held) is held
