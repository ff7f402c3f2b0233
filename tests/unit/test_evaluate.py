"""Applying events: when a badge is earned, what the award tells, how the user's state moves on."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests import oracle
from tests.unit.playing import NOON, catalog, earned, event, plan, play, why
from worker.rules.evaluate import apply, explain, replay
from worker.rules.plan import compile_plan
from worker.rules.state import Award, UserState

COMMENT = {"event": "comment.posted"}
LOGIN = {"event": "user.logged_in"}


def last(flow: Any, length: str = "7d") -> dict[str, Any]:
    """A flow over the last days."""
    return {"$timeWindow": {"last": length, "flow": flow}}


def test_an_award_says_who_what_when_and_why() -> None:
    """The award of an event carries that event's instant and identity, and the figures of all conditions."""
    flow = {"event": "comment.posted", "criteria": {"post_id": 3, "$eventCount": {"$gte": 2}}}
    history = [event("comment.posted", day, id=f"c{day}", post_id=3 - day % 2) for day in range(4)]
    assert play(plan(flow), history) == [
        Award(
            user_id="u",
            badge_key="b0",
            context="",
            awarded_us=history[2].occurred_us,
            trigger_id="c2",
            trigger_type="comment.posted",
            trigger_source="",
            metadata={"filtered_event_count": 2, "first_event_id": "c0", "last_event_id": "c2", "event_count": 2},
        )
    ]


def test_a_badge_is_given_once() -> None:
    """What is held is not given again, in this step or a later one; each context counts for itself."""
    compiled = plan({"flow": COMMENT, "per": "post_id"})
    history = [event("comment.posted", day, post_id=day % 2) for day in range(4)]
    assert earned(play(compiled, history)) == [
        ("b0", "0", "comment.posted@0"),
        ("b0", "1", "comment.posted@1"),
    ]
    assert play(compiled, history, {("b0", "0"): 0, ("b0", "1"): 0}) == []


def test_the_state_stands_after_the_event() -> None:
    """Applying an event moves `newest`, marks the scopes it changed and holds what it earned."""
    compiled = plan(COMMENT, {"flow": COMMENT, "per": "post_id"})
    state = UserState("u")
    one = event("comment.posted", post_id=5)
    apply(compiled, state, one)
    assert state.newest == one.order
    assert state.dirty == {"", "post_id=5"}
    assert set(state.scopes) == {"", "post_id=5"}
    assert state.held == {("b0", ""): NOON, ("b1", "5"): NOON}
    state.dirty = frozenset()
    apply(compiled, state, event("order.paid", 1))
    assert state.dirty == set()
    assert state.newest == event("order.paid", 1).order
    apply(compiled, state, event("comment.posted", 2))
    assert state.dirty == {""}
    for post in (6, 5, 6):
        apply(compiled, state, event("comment.posted", 3, id=f"p{post}", post_id=post))
    assert state.dirty == {"", "post_id=5", "post_id=6"}


def test_a_badge_that_is_asked_for_in_any_context_is_noted_with_the_user() -> None:
    """Its first award changes the user's own scope beside that of its context, so both are to be saved."""
    compiled = plan({"key": "per_post", "flow": COMMENT, "per": "post_id"}, {"badge": "per_post"})
    state = UserState("u")
    apply(compiled, state, event("comment.posted", post_id=5))
    assert state.dirty == {"", "post_id=5"}
    assert state.held == {("per_post", "5"): NOON, ("b1", ""): NOON}


def test_the_state_counts_what_was_tested() -> None:
    """A badge that is looked at counts as an evaluation, earned or not; one that is held is not looked at."""
    compiled = plan({"event": "comment.posted", "criteria": {"$eventCount": {"$lt": 0}}}, COMMENT)
    state = UserState("u")
    assert [apply(compiled, state, event("comment.posted", day)) != [] for day in range(3)] == [True, False, False]
    assert state.evaluations == 4
    assert state == UserState("u", state.scopes, state.held, state.newest, evaluations=state.evaluations, dirty={""})


def test_the_later_leaf_wins_a_key_that_a_window_makes_one() -> None:
    """Of three leaves in a window, the middle one in a window of its own, the last gives the figure of their key."""
    inner = last({"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 0}}}, "1d")
    flow = last({"$and": [COMMENT, inner, LOGIN]})
    history = [event("comment.posted", 0), event("comment.posted", 1), event("user.logged_in", 3)]
    [award] = play(plan(flow), history)
    assert award.metadata["window_filtered_event_count"] == 1
    assert award.metadata["window_event_count"] == 0
    _, figures = oracle.holds(flow, history, history[-1].occurred_us)
    assert award.metadata == figures


EVERY = {
    "$and": [
        {"$or": [COMMENT, {"$not": LOGIN}]},
        {
            "event": "comment.posted",
            "criteria": {
                "n": 1,
                "$eventCount": {"$gte": 1},
                "$distinctCount": {"field": "n", "$gte": 1},
                "$timePeriod": {"periodType": "day"},
                "$aggregate": {"type": "sum", "field": "n"},
                "$gap": {"minGapHours": 0},
                "$pattern": {"pattern": "consistent", "periodType": "day"},
            },
        },
        {"snapshot": {"comments": {"$gte": 1}, "joined": {"$lte": "$NOW"}}},
        {"badge": "first"},
        {"$sequence": {"sequence": ["comment.posted", "order.paid"]}},
        {"$duration": {"startEvent": {"type": "comment.posted"}, "endEvent": {"type": "order.paid"}}},
        last(COMMENT),
        {
            "$withinTimeWindow": {
                "window": "24h",
                "conditions": {"$and": [COMMENT, {"snapshot": {"comments": {"$gte": 1}}}]},
            }
        },
    ]
}


def test_a_tree_names_each_operator_at_its_place() -> None:
    """Node by node in the order written: pointer, operator, actual value and bound."""
    compiled = plan(
        {"key": "first", "flow": COMMENT},
        {"key": "all", "flow": EVERY},
        metrics={"comments": {"count": "comment.posted"}, "joined": {"first": "user.registered"}},
    )
    found = why(compiled, [event("comment.posted", 0, n=1), event("order.paid", 0.5)], "all")

    def told(node: dict[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
        yield node["path"].removeprefix("/badges/1/flow/$and"), node["operator"], node["actual"], node["bound"]
        for child in node["children"]:
            yield from told(child)

    series = {"reason": "1 of 3 periods", "period_keys": ["2024-03-01"], "period_counts": [1]}
    pair = {"start_event_id": "comment.posted@0", "end_event_id": "order.paid@0.5"}
    some, two = {"$gte": 1}, {"$gte": 2}
    assert list(told(dict(found.tree))) == [
        ("", "$and", 6, {"$gte": 8}),
        ("/0/$or", "$or", 2, some),
        ("/0/$or/0", "event", 1, some),
        ("/0/$or/1/$not", "$not", False, {"$eq": False}),
        ("/0/$or/1/$not", "event", 0, some),
        ("/1", "event", 4, {"$gte": 6}),
        ("/1/criteria/$eventCount", "$eventCount", 1, some),
        ("/1/criteria/$distinctCount", "$distinctCount", 1, some),
        ("/1/criteria/$timePeriod", "$timePeriod", 1, some),
        ("/1/criteria/$aggregate", "$aggregate", 1, some),
        ("/1/criteria/$gap", "$gap", {}, {"minGapHours": 0}),
        (
            "/1/criteria/$pattern",
            "$pattern",
            {"is_consistent": False, **series},
            {"pattern": "consistent", "minPeriods": 3, "maxDeviation": Decimal("0.2")},
        ),
        ("/2/snapshot", "snapshot", 1, two),
        ("/2/snapshot/comments", "snapshot", 1, some),
        ("/2/snapshot/joined", "snapshot", None, {"$lte": "2024-03-02T00:00:00.000000Z"}),
        ("/3/badge", "badge", "2024-03-01T12:00:00.000000Z", {"$eq": "first"}),
        ("/4/$sequence", "$sequence", 2, two),
        ("/5/$duration", "$duration", {**pair, "shortest_duration": 12, "longest_duration": 12}, {"unit": "hours"}),
        ("/6/$timeWindow", "$timeWindow", 1, some),
        ("/6/$timeWindow/flow", "event", 1, some),
        ("/7/$withinTimeWindow", "$withinTimeWindow", 2, two),
        ("/7/$withinTimeWindow/conditions/$and", "$and", 2, two),
        ("/7/$withinTimeWindow/conditions/$and/0", "event", 1, some),
        ("/7/$withinTimeWindow/conditions/$and/1/snapshot/comments", "snapshot", 1, some),
    ]


def test_states_are_replaced_not_changed() -> None:
    """A fold's state that someone else still holds stays what it was."""
    compiled = plan(
        last(COMMENT, "2m"), {"event": "comment.posted", "criteria": {"$timePeriod": {"periodType": "day"}}}
    )
    state = UserState("u")
    apply(compiled, state, event("comment.posted", 0))
    before = dict(state.scopes[""])
    copies = {key: list(value) for key, value in before.items()}
    apply(compiled, state, event("comment.posted", 1))
    assert before == copies
    assert state.scopes[""] != before


@pytest.mark.parametrize("bound", [{"$gte": "$NOW(-7d)"}, {"$gt": "$NOW(-7d)"}, {"$between": ["$NOW(-7d)", "$NOW"]}])
@pytest.mark.parametrize(
    "asked",
    [
        {"$eventCount": {"$gte": 99}},
        {"$distinctCount": {"field": "n", "$gte": 99}},
        {"$aggregate": {"type": "sum", "field": "n", "value": {"$gte": 9_999}}},
        {"$gap": {"minGapHours": 99}},
        {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 99}}},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_a_window_forgets_what_has_left_it(bound: dict[str, Any], asked: dict[str, Any]) -> None:
    """After four times as many days as a window has, it holds no more than after twice as many."""
    compiled = plan({"event": "comment.posted", "criteria": {"timestamp": bound, **asked}})
    state, sizes = UserState("u"), []
    for day in range(29):
        apply(compiled, state, event("comment.posted", day, n=100 + day))
        sizes.append(len(msgspec.json.encode(state.scopes)))
    assert sizes[28] <= sizes[14] * 1.1


def test_what_never_was_can_be_earned_at_any_trigger() -> None:
    """A flow that holds on an empty history is earned at the first trigger, though that event changes no fold."""
    flow = {"$not": {"event": "comment.posted", "criteria": {"spam": True}}}
    assert earned(play(plan(flow), [event("comment.posted", 0, spam=False)])) == [("b0", "", "comment.posted@0")]
    assert play(plan(flow), [event("comment.posted", 0, spam=True)]) == []


def test_time_alone_may_make_a_badge_hold() -> None:
    """What falls out of a window can make a condition true: it is earned at the next trigger, whatever that matches."""
    flow = {"$and": [LOGIN, {"$not": last(COMMENT)}]}
    history = [event("comment.posted", 0), event("user.logged_in", 1), event("user.logged_in", 9)]
    assert earned(play(plan(flow), history)) == [("b0", "", "user.logged_in@9")]


def test_time_alone_is_enough_at_a_trigger_that_changes_nothing() -> None:
    """The last condition to hold may be one that no event fulfils: it is seen at the next trigger all the same."""
    flow = {"$and": [{"event": "user.logged_in", "criteria": {"new": True}}, {"$not": last(COMMENT)}]}
    history = [
        event("comment.posted", 0),
        event("user.logged_in", 1, new=True),
        event("user.logged_in", 9, new=False),
    ]
    assert earned(play(plan(flow), history)) == [("b0", "", "user.logged_in@9")]


def test_each_way_of_an_or_is_looked_at() -> None:
    """A way that is no threshold is seen beside one that is."""
    flow = {"$or": [COMMENT, {"event": "user.logged_in", "criteria": {"$eventCount": {"$eq": 2}}}]}
    history = [event("user.logged_in", 0), event("user.logged_in", 1), event("comment.posted", 2)]
    assert earned(play(plan(flow), history)) == [("b0", "", "user.logged_in@1")]
    either = {
        "$or": [{"event": kind, "criteria": {"$eventCount": {"$gte": 2}}} for kind in ("order.paid", "comment.posted")]
    }
    assert earned(play(plan(either), [event("comment.posted", day) for day in range(3)])) == [
        ("b0", "", "comment.posted@1")
    ]


def test_a_window_by_the_calendar_may_step_back() -> None:
    """A month back from 31 March at 9 is earlier than from 30 March at 21: what comes in again counts, untouched."""
    flow = last({"event": "comment.posted", "criteria": {"good": True, "$eventCount": {"$gte": 3}}}, "1m")
    days = {-26 / 24: True, -25 / 24: True, 29.4: True, 29.42: True, 29.9: False}
    history = [event("comment.posted", day, good=good) for day, good in days.items()]
    (award,) = play(plan(flow), history)
    assert (award.trigger_id, award.metadata["window_event_count"]) == ("comment.posted@29.9", 4)
    assert play(compile_plan(catalog(flow), exact=True), history) == [award]


def test_a_trigger_of_ones_own_is_when_the_badge_is_given() -> None:
    """A snapshot with stated triggers is earned at the first of them at which it holds, not before."""
    compiled = plan(
        {"flow": {"snapshot": {"comments": {"$gte": 2}}}, "triggers": ["user.logged_in"]},
        metrics={"comments": {"count": "comment.posted"}},
    )
    history = [
        event("comment.posted", 0),
        event("user.logged_in", 1),
        event("comment.posted", 2),
        event("comment.posted", 3),
        event("user.logged_in", 4),
    ]
    assert [(award.trigger_id, award.metadata) for award in play(compiled, history)] == [
        ("user.logged_in@4", {"comments": 3})
    ]


def test_a_gauge_that_falls_and_rises_again_gives_nothing_twice() -> None:
    """Thresholds over a figure that may fall are crossed upwards, and once."""
    compiled = plan(
        metrics={"owned": {"count": "order.paid", "less": "comment.posted"}},
        ladders=[{"key": "owner", "metric": "owned", "levels": [1, 2]}],
    )
    kinds = ["order.paid", "comment.posted", "order.paid", "order.paid", "comment.posted", "order.paid"]
    history = [event(kind, day) for day, kind in enumerate(kinds)]
    assert earned(play(compiled, history)) == [("owner_1", "", "order.paid@0"), ("owner_2", "", "order.paid@3")]


def test_a_sum_may_jump_over_several_thresholds() -> None:
    """One event may cross more than one threshold, and land between two of them."""
    flows = [
        {"event": "order.paid", "criteria": {"$aggregate": {"type": "sum", "field": "n", "value": {operator: bound}}}}
        for operator, bound in (("$gte", 5), ("$gt", 5), ("$gte", 10), ("$gt", 10))
    ]
    history = [event("order.paid", 0, n=5), event("order.paid", 1, n=5), event("order.paid", 2, n=1)]
    assert earned(play(plan(*flows), history)) == [
        ("b0", "", "order.paid@0"),
        ("b1", "", "order.paid@1"),
        ("b2", "", "order.paid@1"),
        ("b3", "", "order.paid@2"),
    ]


def test_metadata_of_a_window_carries_the_prefix_once() -> None:
    """However deep the windows, `window_` is written once; keys of later leaves win."""
    flow = {"$and": [COMMENT, last(last({"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 1}}}), "2w")]}
    (award,) = play(plan(flow), [event("comment.posted", 0, id="c")])
    assert award.metadata == {
        "filtered_event_count": 1,
        "first_event_id": "c",
        "last_event_id": "c",
        "window_filtered_event_count": 1,
        "window_first_event_id": "c",
        "window_last_event_id": "c",
        "window_event_count": 1,
    }


def test_milestones_tell_when_and_where_they_were_achieved() -> None:
    """A milestone's award carries its figure, the instant and the event."""
    rule = {"rule_type": "count", "rule_data": {"field": "comments", "threshold": 2}}
    compiled = plan(
        metrics={"comments": {"count": "comment.posted"}},
        milestones=[
            {"code": "m", "title": "M", "description": "", "icon": "x", "trigger_event": "comment.posted", **rule}
        ],
    )
    (award,) = play(compiled, [event("comment.posted", 0), event("comment.posted", 1, id="c1")])
    assert award.metadata == {"value": 2, "awarded_at": "2024-03-02T12:00:00Z", "event_id": "c1"}


def test_a_replay_is_one_apply_after_the_other() -> None:
    """State and awards of a replay are those of applying the events one by one."""
    compiled = plan(COMMENT, last({"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 3}}}))
    history = [event("comment.posted", day) for day in range(5)]
    state = UserState("u")
    awards = [award for one in history for award in apply(compiled, state, one)]
    assert replay(compiled, "u", history, {}) == (state, awards)


def test_who_asks_for_a_held_award_is_tested_where_it_was_earned() -> None:
    """Of several events at one instant only the one that earned an award tests those who ask for it in a replay."""
    none_yet = {"$not": {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 1}}}}
    asks = {"$and": [{"badge": "b0"}, {"event": "user.logged_in"}]}
    compiled = plan(COMMENT, asks, {"$and": [*asks["$and"], none_yet]})
    history = [event("user.logged_in", 0, id="1"), event("order.paid", 1, id="2"), event("comment.posted", 1, id="3")]
    held, by = {("b0", ""): history[1].occurred_us}, {("b0", ""): "3"}
    given_ = replay(compiled, "u", history, held, by)[1]
    assert [(award.badge_key, award.trigger_id) for award in given_] == [("b1", "3")]
    assert [award.badge_key for award in replay(compiled, "u", history, held)[1]] == ["b1", "b2"]


def test_an_explanation_evaluates_every_branch() -> None:
    """Each branch is in the tree with its own verdict, also behind one that already decides."""
    found = why(plan({"$or": [COMMENT, {"$not": COMMENT}, LOGIN]}), [event("comment.posted")])
    assert found.passed
    assert [child["verdict"] for child in found.tree["children"]] == ["passed", "not_passed", "not_passed"]
    assert found.metadata["filtered_event_count"] == 0, "the later leaf wins"


def test_a_node_tells_operator_place_figure_bound_and_events() -> None:
    """A node of the tree has all that a page shows of it."""
    flow = last({"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 3}}})
    tree = why(plan(flow), [event("comment.posted", 0, id="a"), event("comment.posted", 1, id="b")], day=2).tree
    (node,) = tree["children"]
    assert node == {
        "operator": "$eventCount",
        "path": "/badges/0/flow/$timeWindow/flow/criteria/$eventCount",
        "events": ["comment.posted"],
        "actual": 2,
        "bound": {"$gte": 3},
        "verdict": "not_passed",
        "sentence": "2 of 3 comments in the last 7 days; 1 more to go",
        "window": {"start": "2024-02-25T12:00:00.000000Z", "end": "2024-03-03T12:00:00.000000Z"},
        "event_ids": ["a", "b"],
        "children": [],
    }
    assert tree["operator"] == "$timeWindow"
    assert tree["window"] == {"last": "7d", **node["window"]}
    assert (tree["actual"], tree["bound"], tree["verdict"]) == (2, {"$gte": 3}, "not_passed")


def test_several_operators_of_a_leaf_stand_side_by_side() -> None:
    """A leaf of one operator is that operator's node; of several, a node with one child for each."""
    periods = {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}}}
    leaf = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 1}, **periods}}
    tree = why(plan(leaf), [event("comment.posted")]).tree
    assert tree["operator"] == "event"
    assert [(child["operator"], child["verdict"]) for child in tree["children"]] == [
        ("$eventCount", "passed"),
        ("$timePeriod", "not_passed"),
    ]


def test_an_explanation_of_a_badge_that_is_not_tested_is_refused() -> None:
    """A locked badge has no folds in the plan, so nothing is made up about it."""
    with pytest.raises(KeyError):
        explain(plan({"flow": COMMENT, "status": "locked"}), "b0", UserState("u"), now_us=NOON)


def test_nearness_tells_how_far_a_user_is() -> None:
    """Nearness grows with the figure and is 1 only where the badge is earned."""
    compiled = plan({"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 3}}})
    steps = [why(compiled, [event("comment.posted", day) for day in range(count)]).nearness for count in range(5)]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[2] < 1
    assert steps[3] == steps[4] == 1
    strict = plan({"event": "comment.posted", "criteria": {"$eventCount": {"$gt": 3}}})
    assert why(strict, [event("comment.posted", day) for day in range(3)]).nearness < 1


def test_a_badge_is_tested_after_all_it_asks_for() -> None:
    """Of one event: who asks for the first and not for the second waits for both."""
    compiled = plan(
        {"key": "one", "flow": COMMENT},
        {"key": "two", "flow": COMMENT},
        {"key": "one_alone", "flow": {"$and": [{"badge": "one"}, {"$not": {"badge": "two"}}]}},
    )
    assert earned(play(compiled, [event("comment.posted", id="c")])) == [("one", "", "c"), ("two", "", "c")]


def test_a_badge_that_comes_of_another_is_tested_before_those_after_it() -> None:
    """Who asks not to have the second waits for it also where only the first one brings it."""
    compiled = plan(
        {"key": "one", "flow": COMMENT},
        {"key": "two", "flow": {"badge": "one"}},
        {"key": "not_two", "flow": {"$and": [COMMENT, {"$not": {"badge": "two"}}]}},
    )
    assert earned(play(compiled, [event("comment.posted", id="c")])) == [("one", "", "c"), ("two", "", "c")]
