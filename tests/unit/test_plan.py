"""The plan: which badges are tested when, which scopes an event touches, what is kept and for whom."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.unit.playing import DAY, NOON, catalog, earned, event, plan, play
from worker.errors import AuthorError
from worker.events.instants import parse_instant
from worker.rules.ir import Fold
from worker.rules.operators.calendar import Calendar
from worker.rules.plan import Plan, Tally, compile_plan, context_of, scope_of
from worker.rules.plan.model import FigureLadder

COMMENT = {"event": "comment.posted"}
LOGIN = {"event": "user.logged_in"}


def count(kind: str, check: Any, **criteria: Any) -> dict[str, Any]:
    """A flow that counts events."""
    return {"event": kind, "criteria": {**criteria, "$eventCount": check}}


def last(flow: Any, length: str = "7d") -> dict[str, Any]:
    """A flow over the last days."""
    return {"$timeWindow": {"last": length, "flow": flow}}


def folds(compiled: Plan) -> list[Fold]:
    """The folds behind the gates that a plain event of each type passes, each once."""
    found = {}
    for kind in [*compiled.routes, "any.other"]:
        for gate in compiled.route(kind).gates(event(kind, post_id=1), compiled.calendar):
            found |= {memory.id: memory.fold for memory in gate.memories}
    return list(found.values())


# -- contexts and scopes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (35, "35"),
        ("35", "35"),
        (Decimal("35.0"), "35"),
        (Decimal("1.50"), "1.5"),
        (Decimal("-0.0"), "0"),
        (Decimal("12E+3"), "12000"),
        (Decimal("-2.5E-3"), "-0.0025"),
        (Decimal("99999999999999999999999999999999999999"), "9" * 38),
        (10**38 - 1, "9" * 38),
        (True, "true"),
        (False, "false"),
        ("", ""),
        ("x" * 200, "x" * 200),
        ("x" * 201, None),
        (Decimal("1E+300"), None),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_a_context_is_the_scalars_canonical_text(value: Any, text: str | None) -> None:
    """Scalars give one text per value; what is null, compound or too long gives none."""
    assert context_of({"f": value}, "f") == text
    assert scope_of({"f": value}, "f") == (None if text is None else f"f={text}")


def test_a_context_may_lie_deeper_in_the_payload() -> None:
    """A `per` field is looked up as every field is: a literal key first, then a path."""
    assert context_of({"post": {"id": 7}}, "post.id") == "7"
    assert context_of({"post.id": 8, "post": {"id": 7}}, "post.id") == "8"
    assert context_of({}, "post.id") is None


def test_an_event_without_its_context_does_not_exist_for_that_badge() -> None:
    """A badge per post neither counts nor looks at events without a post."""
    compiled = plan({"flow": count("answer.scored", {"$gte": 2}), "per": "post_id"})
    history = [
        event("answer.scored", 0, post_id=1),
        event("answer.scored", 1),
        event("answer.scored", 2, post_id=[1]),
        event("answer.scored", 3, post_id="1"),
    ]
    assert earned(play(compiled, history)) == [("b0", "1", "answer.scored@3")]


def test_scopes_are_those_of_the_filters_an_event_passes() -> None:
    """What must be loaded for an event: contexts where their folds match, the user where any of the type might."""
    compiled = plan(
        {"flow": {"event": "answer.scored", "criteria": {"score": {"$gte": 10}}}, "per": "post_id"},
        {"flow": {"event": "answer.scored", "criteria": {"own": True}}},
    )
    assert compiled.scopes(event("answer.scored", post_id=3, score=9)) == ("",)
    assert set(compiled.scopes(event("answer.scored", post_id=3, score=10))) == {"", "post_id=3"}
    assert compiled.scopes(event("answer.scored", own=True)) == ("",)
    assert set(compiled.scopes(event("answer.scored", post_id=3, score=10, own=True))) == {"", "post_id=3"}
    assert compiled.scopes(event("answer.scored", score=10)) == ("",)
    assert compiled.scopes(event("comment.posted")) == ()


def test_scopes_reach_as_far_as_a_grant_may_lead() -> None:
    """A grant makes badges look that ask for it: their contexts are loaded with the event that may bring it."""
    compiled = plan(
        {"flow": COMMENT},
        {
            "flow": {"$and": [{"badge": "b0"}, {"event": "comment.posted", "criteria": {"good": True}}]},
            "per": "post_id",
        },
    )
    assert set(compiled.scopes(event("comment.posted", post_id=3))) == {"", "post_id=3"}


def test_a_badge_that_asks_in_another_context_has_its_own_loaded_with_the_user() -> None:
    """Whether the other is held in any context is noted with the user; the badge itself is held in its own."""
    compiled = plan(
        {"key": "per_post", "flow": COMMENT, "per": "post_id"},
        {"flow": {"badge": "per_post"}, "per": "thread", "triggers": ["user.logged_in"]},
    )
    assert set(compiled.scopes(event("user.logged_in", thread=1))) == {"", "thread=1"}


def test_a_badge_that_looks_at_every_trigger_has_its_scope_loaded_at_each() -> None:
    """Where time alone may make it hold, a badge per context needs that context at every trigger."""
    compiled = plan({"flow": {"$not": last(LOGIN)}, "per": "device"})
    assert compiled.scopes(event("user.logged_in", device="a")) == ("device=a",)


# -- routes


def test_types_that_no_badge_names_go_where_all_events_are_counted() -> None:
    """A flow over all events sees types known to the dictionary only and types known to nobody, but not our own."""
    days = {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}}}
    for kind, seen in (("order.paid", 1), ("never.heard.of", 1), ("cron.monthly", 0), ("badge.awarded", 0)):
        awards = play(plan(days), [event("comment.posted", 0), event(kind, 1)])
        assert len(awards) == seen, kind
    assert not play(plan(days), [event("comment.posted", 0), event("user.erased", 1)])


DAYS = {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}}}


def test_what_any_event_may_take_back_is_looked_at_at_each() -> None:
    """A badge over all events that is taken back may fall at every type that counts, also one known to nobody."""
    compiled = plan({"flow": {"$not": DAYS}, "revocable": "auto"}, {"flow": COMMENT, "revocable": "auto"}, LOGIN)
    kinds = ("comment.posted", "user.logged_in", "never.heard.of", "cron.monthly")
    assert {kind: compiled.falling_at(kind) for kind in kinds} == {
        "comment.posted": (0, 1),
        "user.logged_in": (0,),
        "never.heard.of": (0,),
        "cron.monthly": (),
    }
    assert compiled.falling == {"b0", "b1"}
    assert plan(LOGIN).falling_at("user.logged_in") == ()


def test_what_an_event_may_take_back_is_loaded_with_it() -> None:
    """Whether a badge still holds is asked of its own memory, also at an event that does not pass its filter."""
    before = {"$timeWindow": {"end": "2024-03-10T00:00:00Z", "flow": DAYS}}
    ones = {"event": "comment.posted", "criteria": {"n": 1}}
    for flow, kind in ((before, "order.paid"), (before, "never.heard.of"), (ones, "comment.posted")):
        badge = {"flow": flow, "per": "post_id"}
        at_one = event(kind, 40, post_id=1, n=2)
        assert plan({**badge, "revocable": "auto"}).scopes(at_one) == ("post_id=1",)
        assert plan(badge).scopes(at_one) == ()


def test_a_badge_is_not_tested_at_events_that_cannot_bring_it() -> None:
    """Where every step of its memory is one of its triggers, a badge waits for the step that may complete it."""
    kinds = ("comment.posted", "order.paid", "any.other", "cron.monthly")
    for flow in (COMMENT, {"$and": [COMMENT, LOGIN]}, {"$and": [DAYS, COMMENT]}, {"$or": [LOGIN, DAYS]}):
        assert [plan(flow).route(kind).watchers for kind in kinds] == [()] * 4, flow
    compiled = plan({"flow": {"$and": [COMMENT, LOGIN]}, "triggers": ["user.logged_in"]})
    assert compiled.route("user.logged_in").watchers == (0,)
    assert compiled.route("comment.posted").watchers == ()


def test_filters_that_look_below_a_field_are_found_there() -> None:
    """Many filters over one path are told apart by what stands at its end."""
    found = [{"event": "comment.posted", "criteria": {"o.p": value}} for value in ("a", "b", "c", "d")]
    history = [event("comment.posted", 0, o={"p": "c"}), event("comment.posted", 1, **{"o.p": "b"})]
    assert [award.badge_key for award in play(plan(*found), history)] == ["b2", "b1"]


def test_counts_name_the_badges_per_trigger() -> None:
    """Each badge that is tested counts once for each of its triggers."""
    compiled = plan(COMMENT, {"$and": [COMMENT, LOGIN]}, {"$timePeriod": {"periodType": "day"}})
    assert compiled.counts == {"comment.posted": 2, "user.logged_in": 1, "*": 1}


@pytest.mark.parametrize("status", ["draft", "locked", "deprecated"])
def test_badges_that_are_not_given_are_not_tested(status: str) -> None:
    """Draft, locked and deprecated badges cost nothing and earn nothing, but they are known."""
    compiled = plan({"flow": COMMENT, "status": status})
    assert play(compiled, [event("comment.posted")]) == []
    assert compiled.counts == {}
    assert not compiled.goals
    assert compiled.badges["b0"].status == status


def test_hidden_badges_are_given() -> None:
    """Hidden is a matter of display."""
    assert play(plan({"flow": COMMENT, "status": "hidden"}), [event("comment.posted")])


def test_a_badge_asked_for_by_name_is_tested_whatever_its_status() -> None:
    """`only` tests what it names and what that needs, and nothing else."""
    known = catalog(
        {"flow": COMMENT, "status": "draft"},
        {"flow": {"badge": "b2"}},
        {"flow": LOGIN},
        {"flow": COMMENT},
        {"flow": {"badge": "b0"}},
    )
    assert list(compile_plan(known, only={"b0"}).numbers) == ["b0"]
    assert list(compile_plan(known, only={"b1"}).numbers) == ["b2", "b1"]
    assert list(compile_plan(known, only={"b4"}).numbers) == ["b4"], "a draft is not given for being asked for"
    assert list(compile_plan(known).numbers) == ["b2", "b1", "b3", "b4"]


def test_a_plan_carries_the_version_of_its_catalog() -> None:
    """The version that batches compare."""
    assert compile_plan(catalog(COMMENT, version=7)).version == 7


# -- what is kept


def test_thresholds_share_one_fold() -> None:
    """Ladder, badges and leaves over one filter keep one count."""
    compiled = plan(
        *(count("comment.posted", {"$gte": level}) for level in (1, 5, 9)),
        metrics={"comments": {"count": "comment.posted"}},
        ladders=[{"key": "ladder", "metric": "comments", "levels": [3, 30]}],
    )
    assert len(folds(compiled)) == 1


def test_true_and_one_are_different_filters() -> None:
    """A filter for true and one for 1 are two folds, though Python holds them equal; 1 and 1.0 are one."""
    compiled = plan(*({"event": "order.paid", "criteria": {"x": value}} for value in (True, 1, Decimal("1.0"))))
    assert earned(play(compiled, [event("order.paid", x=1)])) == [
        ("b1", "", "order.paid@0"),
        ("b2", "", "order.paid@0"),
    ]
    assert [award.badge_key for award in play(compiled, [event("order.paid", x=True)])] == ["b0"]


@pytest.mark.parametrize(
    ("flow", "cap"),
    [
        (last(count("comment.posted", {"$gte": 10})), 10),
        (last(count("comment.posted", {"$gt": 10})), 11),
        (last(count("comment.posted", {"$gte": 10}), "2m"), 10),
        ({"$and": [last(count("comment.posted", {"$gte": 10}))]}, 10),
        (last(COMMENT), 1),
        (last(count("comment.posted", {"$gte": 10, "$lte": 20})), 21),
        (last(count("comment.posted", {"$eq": 10})), 11),
        (last(count("comment.posted", {"$ne": 10})), None),
        (last(count("comment.posted", {"$lt": 10}), "1m"), 10),
        (last(count("comment.posted", {"$lt": 0})), 1),
        (last(count("comment.posted", {"$between": [2, 5]})), 6),
        ({"$not": last(count("comment.posted", {"$gte": 10}))}, 10),
        ({"$not": last(count("comment.posted", {"$lte": 10}))}, None),
        ({"$and": [last(count("comment.posted", {"$lt": 10})), LOGIN]}, 10),
        ({"$or": [last(count("comment.posted", {"$lt": 10})), LOGIN]}, None),
        ({"$and": [last(count("comment.posted", {"$gte": 10})), LOGIN]}, None),
        (count("comment.posted", {"$gte": 10}, timestamp={"$lte": "$NOW(-1d)"}), None),
        (count("comment.posted", {"$gte": 10}), None),
    ],
)
def test_a_moving_window_is_capped_only_where_nothing_shows_it(flow: Any, cap: int | None) -> None:
    """A cap is set at the highest threshold, or at the first number that is too many for a part that must hold."""
    assert [fold.cap for fold in folds(plan(flow)) if fold.match.types == ("comment.posted",)] == [cap]


def test_a_cap_is_that_of_the_highest_threshold() -> None:
    """Badges that share a window share a cap; one that needs the whole window lifts it for all."""
    low, high = (last(count("comment.posted", {"$gte": level})) for level in (3, 8))
    assert [fold.cap for fold in folds(plan(low, high))] == [8]
    assert [fold.cap for fold in folds(plan(high, low))] == [8]
    assert [fold.cap for fold in folds(plan(low, high, {"$or": [low, high]}))] == [8]
    assert [fold.cap for fold in folds(plan(low, {"$and": [high, LOGIN]})) if "user" not in fold.match.types[0]] == [
        None
    ]
    assert [fold.cap for fold in folds(compile_plan(catalog(low, high), exact=True))] == [None]


def test_a_badge_that_is_tested_later_shows_all_of_its_window() -> None:
    """Where other events than those it counts are its triggers, more may have come than it asks for."""
    known = catalog(
        {"flow": last({"snapshot": {"comments": {"$gte": 2}}}), "triggers": ["user.logged_in"]},
        metrics={"comments": {"count": "comment.posted"}},
    )
    history = [event("comment.posted", day / 10) for day in range(7)]
    (award,) = play(compile_plan(known), [*history, event("user.logged_in", 1)])
    assert award.metadata == {"window_comments": 7}


def test_a_ladder_gives_the_thresholds_between_two_figures() -> None:
    """Above the old figure and not above the new one; a strict threshold is above the figure it equals."""
    keys = ((5, False), (5, True), (10, False), (10, True))
    ladder = FigureLadder(level=lambda state, _now, _calendar: state, keys=keys, goals=(0, 1, 2, 3))
    for before, after, expected in (
        (None, 5, [0]),
        (4, 5, [0]),
        (5, 6, [1]),
        (5, 5, []),
        (6, 10, [2]),
        (6, 11, [2, 3]),
        (0, 99, [0, 1, 2, 3]),
        (99, 7, []),
        (3, None, []),
    ):
        due: list[int] = []
        ladder.crossed(before, after, 0, Calendar(), due)
        assert due == expected, (before, after)


def test_sets_are_capped_beside_figures_that_are_not() -> None:
    """A badge of days keeps no more days than it needs; the leaf's own count, which it shows, is kept whole."""
    flow = {"event": "comment.posted", "criteria": {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 5}}}}
    assert {fold.kind: fold.cap for fold in folds(plan(flow))} == {"count": None, "periods": 5}


def test_different_values_are_kept_up_to_the_first_that_is_too_many() -> None:
    """At most two: the third value ends it for good, and the fourth changes nothing; awards tell the same."""
    flow = {"event": "comment.posted", "criteria": {"$distinctCount": {"field": "item", "$lte": 2}}}
    known = catalog({"$and": [flow, LOGIN]})
    assert {fold.kind: fold.cap for fold in folds(compile_plan(known)) if fold.match.types == ("comment.posted",)} == {
        "count": None,
        "distinct": 3,
    }
    for login in (1.5, 2.5, 9.5):
        history = [event("comment.posted", day, item=-day) for day in range(9)]
        history = sorted([*history, event("user.logged_in", login)], key=lambda one: one.order)
        awards = play(compile_plan(known), history)
        assert [award.metadata["distinct_count"] for award in awards] == ([2] if login == 1.5 else [])
        assert awards == play(compile_plan(known, exact=True), history)


def test_caps_change_neither_awards_nor_what_they_tell() -> None:
    """At the event that brings a capped window to its threshold, all figures are those of the whole window."""
    flow = last({"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 4}}}, "1m")
    known = catalog(flow, last(count("comment.posted", {"$gte": 6}), "1m"))
    days = [0, 20, 27.9, 28.3, 28.6, 28.9, 29.2, 29.3, 29.9, 30.1, 30.2, 30.6]
    history = [event("comment.posted", day, id=f"{number:02}") for number, day in enumerate(days)]
    assert play(compile_plan(known), history) == play(compile_plan(known, exact=True), history)


@pytest.mark.parametrize("criterion", ["$eventCount", "$distinctCount"])
def test_a_cap_tells_all_where_a_month_back_steps_back(criterion: str) -> None:
    """On 31 March at 01:00 a month back is earlier than on 30 March at 20:00: of one event in the window it makes four,
    and the badge for three tells all of them."""
    asked = {"$gte": 3} if criterion == "$eventCount" else {"field": "item", "$gte": 3}
    known = catalog(last({"event": "comment.posted", "criteria": {criterion: asked}}, "1m"))
    instants = ["2024-02-29T12:00:00Z", "2024-02-29T13:00:00Z", "2024-03-30T20:00:00Z", "2024-03-31T01:00:00Z"]
    days = [(parse_instant(text) - NOON) / DAY for text in instants]
    history = [event("comment.posted", day, id=str(number), item=number) for number, day in enumerate(days)]
    awards = play(compile_plan(known), history)
    assert [award.metadata["window_" + criterion[1:].replace("C", "_c")] for award in awards] == [4]
    assert awards == play(compile_plan(known, exact=True), history)


@pytest.mark.parametrize(
    ("criterion", "fact"),
    [
        ({"$distinctCount": {"field": "item", "$gte": 2}}, "distinct_count"),
        ({"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}}}, "unique_period_count"),
        ({"$eventCount": {"$gte": 2}}, "event_count"),
    ],
)
def test_a_threshold_is_met_also_where_an_instant_is_left_out(criterion: Any, fact: str) -> None:
    """Such a window is no more than a list; the badge is given where the list comes to the threshold."""
    timestamp = {"$gte": "$NOW(-3d)", "$ne": "2024-01-02T12:00:00Z"}
    compiled = plan({"event": "comment.posted", "criteria": {"timestamp": timestamp, **criterion}})
    left_out = (parse_instant(timestamp["$ne"]) - NOON) / DAY
    days = [left_out - 5, left_out - 1, left_out, left_out + 1]
    awards = play(compiled, [event("comment.posted", day, id=str(n), item=n) for n, day in enumerate(days)])
    assert [(award.trigger_id, award.metadata[fact]) for award in awards] == [("3", 2)]


def test_a_tally_counts_the_work() -> None:
    """A plan with a tally counts checks, steps and tests."""
    tally = Tally()
    compiled = compile_plan(catalog({"event": "order.paid", "criteria": {"x": {"$ne": 1}}}), tally=tally)
    play(compiled, [event("order.paid", x=1), event("order.paid", 1, x=2)])
    assert (tally.checks, tally.steps, tally.tests) == (2, 1, 1)


def test_two_memories_of_one_identity_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should two folds ever hash alike, the catalog is refused rather than one memory read as the other."""
    monkeypatch.setattr(Fold, "id", property(lambda fold: "0" * 16))
    with pytest.raises(AuthorError, match="same identity"):
        plan(COMMENT, LOGIN)


# -- prerequisites


def test_a_badge_comes_after_the_one_it_asks_for_in_the_same_step() -> None:
    """However they stand in the catalog, a chain of badges is earned at one event, in the order of need."""
    compiled = plan({"flow": {"badge": "b1"}}, {"flow": {"badge": "b2"}}, {"flow": COMMENT})
    assert [award.badge_key for award in play(compiled, [event("comment.posted")])] == ["b2", "b1", "b0"]


def test_a_grant_is_a_trigger_whatever_event_brought_it() -> None:
    """A badge that asks for another is tested when that is given, also at an event that is no trigger of its own."""
    compiled = plan({"flow": COMMENT}, {"flow": {"$and": [{"badge": "b0"}, LOGIN]}, "triggers": ["user.logged_in"]})
    history = [event("user.logged_in", 0), event("comment.posted", 1)]
    assert earned(play(compiled, history)) == [("b0", "", "comment.posted@1"), ("b1", "", "comment.posted@1")]


def test_what_is_held_only_later_does_not_count_yet() -> None:
    """A prerequisite counts from its `awarded_at` on."""
    compiled = plan({"flow": LOGIN}, {"flow": {"$and": [{"badge": "b0"}, COMMENT]}})
    history = [event("comment.posted", 1), event("comment.posted", 3)]
    held = {("b0", ""): NOON + 2 * DAY}
    assert earned(play(compiled, history, held)) == [("b1", "", "comment.posted@3")]


def test_a_prerequisite_with_the_same_contexts_is_asked_for_in_the_same_context() -> None:
    """Two badges per post: the second needs the first for that very post."""
    per = {"per": "post_id"}
    compiled = plan(
        {"flow": {"event": "answer.scored", "criteria": {"score": {"$gte": 10}}}, **per},
        {"flow": {"$and": [{"badge": "b0"}, {"event": "comment.posted"}]}, **per},
    )
    history = [
        event("answer.scored", 0, post_id=1, score=10),
        event("comment.posted", 1, post_id=2),
        event("comment.posted", 2, post_id=1),
    ]
    assert earned(play(compiled, history))[1:] == [("b1", "1", "comment.posted@2")]


def test_a_prerequisite_with_contexts_is_held_in_any_where_they_differ() -> None:
    """A badge once per user needs the other for some post, remembered also when that post is no longer in view."""
    compiled = plan(
        {"flow": {"event": "answer.scored", "criteria": {"score": {"$gte": 10}}}, "per": "post_id"},
        {"flow": {"$and": [{"badge": "b0"}, count("comment.posted", {"$gte": 2})]}},
    )
    comments = [event("comment.posted", 1), event("comment.posted", 2)]
    assert play(compiled, comments) == []
    awards = play(compiled, [event("answer.scored", 0, post_id=1, score=10), *comments])
    assert earned(awards) == [("b0", "1", "answer.scored@0"), ("b1", "", "comment.posted@2")]
    held = {("b0", "7"): NOON}
    assert earned(play(compiled, comments, held)) == [("b1", "", "comment.posted@2")]


# -- metrics set by hand


def test_a_metric_set_by_hand_stands_wherever_a_snapshot_reads_it() -> None:
    """An override replaces the figure for snapshots and milestones, not for flows that count the same events."""
    known = catalog(
        {"snapshot": {"comments": {"$gte": 25}}},
        count("comment.posted", {"$gte": 25}),
        metrics={"comments": {"count": "comment.posted"}, "joined": {"first": "user.registered"}},
        ladders=[{"key": "ladder", "metric": "comments", "levels": [10, 50]}],
    )
    compiled = compile_plan(known, overrides={"comments": 25})
    awards = play(compiled, [event("comment.posted")])
    assert [(award.badge_key, award.metadata) for award in awards] == [
        ("b0", {"comments": 25}),
        ("ladder_10", {"comments": 25}),
    ]


def within(conditions: dict[str, Any]) -> dict[str, Any]:
    """Conditions on the events of a day."""
    return {"$withinTimeWindow": {"window": "24h", "conditions": conditions}}


def test_a_metric_set_by_hand_stands_for_conditions_over_windows_too() -> None:
    """It replaces the figure of a snapshot however deep in windows it is read, and no count beside it."""
    asks = {"snapshot": {"comments": {"$gte": 25}, "logins": {"$gte": 1}}}
    known = catalog(
        within(asks),
        within({"$or": [asks, within(asks)]}),
        within({"$and": [asks, count("comment.posted", {"$gte": 2})]}),
        within(count("comment.posted", {"$gte": 25})),
        metrics={"comments": {"count": "comment.posted"}, "logins": {"count": "user.logged_in"}},
    )
    history = [event("user.logged_in", 0), event("comment.posted", 0.1)]
    assert play(compile_plan(known), history) == []
    awards = play(compile_plan(known, overrides={"comments": 30}), history)
    assert earned(awards) == [("b0", "", "user.logged_in@0"), ("b1", "", "user.logged_in@0")]
    assert [award.metadata["window_comments"] for award in awards] == [30, 30]
    set_to_none = compile_plan(known, overrides={"comments": 0})
    assert play(set_to_none, [event("comment.posted", number / 100) for number in range(30)])[0].badge_key == "b3"


def test_conditions_that_end_before_now_keep_what_is_older() -> None:
    """Of a window that leaves the last hour out more events are needed than those that came last."""
    some = {"timestamp": {"$between": ["$NOW(-12h)", "$NOW(-1h)"]}, "$eventCount": {"$gte": 2}}
    minutes = [0, 30, *range(36, 84, 2), 93]
    history = [event("comment.posted", minute / 1440, id=f"c{minute}") for minute in minutes]
    awards = play(plan(within({"event": "comment.posted", "criteria": some})), history)
    assert earned(awards) == [("b0", "", "c93")]


def test_an_instant_set_by_hand_stands_for_the_metrics() -> None:
    """A metric that is a point in time is overridden by one, and shown as one."""
    known = catalog(
        {"flow": {"snapshot": {"joined": {"$lte": "$NOW(-1y)"}}}, "triggers": ["comment.posted"]},
        metrics={"joined": {"first": "user.registered"}},
    )
    (award,) = play(compile_plan(known, overrides={"joined": NOON - 366 * DAY}), [event("comment.posted")])
    assert award.metadata == {"joined": "2023-03-01T12:00:00.000000Z"}
