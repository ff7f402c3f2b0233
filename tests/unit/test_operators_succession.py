"""What comes one after the other: `$gap`, `$sequence`, `$duration`, alone, in windows, per context, and in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.playing import catalog, earned, event, plan, play, why
from tests.unit.reading import Known, answer, faults, read
from tests.unit.reading import event as plain_event
from worker.cli.tree import _bounds, _figures
from worker.events import Event, parse_instant
from worker.rules import ir
from worker.rules.compare import compare
from worker.rules.normalize import triggers, true_on_empty
from worker.rules.operators import TRAILS, always
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.pairs import MOST_OPEN
from worker.rules.operators.pauses import Pauses
from worker.rules.operators.sequence import MAX_STEPS
from worker.rules.plan import compile_plan, needs_build
from worker.rules.plan.timing import drift
from worker.rules.takes import Takes

START = parse_instant("2024-03-01T00:00:00Z")
SECOND = 1_000_000
HOUR = 3600 * SECOND
LATER = START + 10**6 * HOUR


def history(text: str, **payloads: dict[str, Any]) -> list[Event]:
    """`a0 b2.5`: an event of type a at once, one of type b after two and a half hours; ids by place."""
    found = []
    for place, word in enumerate(text.split(), 1):
        kind, hours = word[0], float(word[1:])
        found.append(plain_event(START + round(hours * HOUR), kind, payloads.get(kind, {}), f"{place:04}"))
    return found


def sequence(*types: str, **more: Any) -> dict[str, Any]:
    return {"$sequence": {"sequence": list(types), **more}}


def duration(start: dict[str, Any] | None = None, end: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"$duration": {"startEvent": start or {"type": "a"}, "endEvent": end or {"type": "b"}, **more}}


def ways(flow: Any, events: list[Event], now_us: int = LATER) -> tuple[bool, list[int]]:
    """Whether a sequence was found, and by which events, by their places."""
    passed, metadata = answer(read(flow), events, now_us)
    return passed, [int(one) for one in metadata.get("sequence_event_ids", ())]


@pytest.mark.parametrize(
    ("types", "more", "events", "found"),
    [
        ("ab", {}, "a0 a1 b2", [2, 3]),
        ("ab", {}, "a0 b1 a2 b3", [1, 2]),
        ("abc", {}, "a0 b1 a2 c3", [1, 2, 4]),
        ("abc", {"maxGapSeconds": 3600}, "a0 b1 a1.5 b2 c3", [3, 4, 5]),
        ("abc", {"maxGapSeconds": 3600}, "a0 b1 b2 c2.5", []),
        ("abc", {"maxGapSeconds": 5400}, "a0 b1 a2 b3 c2.5 c4", [1, 2, 5]),
        ("ab", {}, "a0 b0", []),
        ("ab", {}, "a0 a1 b1", [1, 3]),
        ("ab", {"maxGapSeconds": 3599}, "a0 a1 b1", []),
        ("aa", {}, "a0 a0 a1", [2, 3]),
        ("aba", {}, "a0 b0 a0 b1 b1 a1 a2", [3, 5, 7]),
        ("a", {}, "b0 a1", [2]),
        ("ab", {"requireStrict": True}, "a0 c1 b1", [1, 3]),
        ("ab", {"requireStrict": True}, "a0 c0 b1", [1, 3]),
        ("ab", {"requireStrict": True}, "a0 c0.5 b1", []),
        ("ab", {"requireStrict": True}, "a0 c1 b1 b2", [1, 3]),
        ("ab", {"requireStrict": True}, "a0 c1 b2 a3 b4", [4, 5]),
        ("abc", {"requireStrict": True}, "a0 b1 a1 c2", [1, 2, 4]),
        ("aab", {"requireStrict": True}, "a0 a1 a2 b3", [2, 3, 4]),
        ("ab", {"requireStrict": True, "maxGapSeconds": 3600}, "a0 b1.5 a2 b3", [3, 4]),
        ("ab", {"maxGapSeconds": 0.5}, "a0 b0.0001", [1, 2]),
        ("ab", {"maxGapSeconds": 0.3}, "a0 b0.0001", []),
    ],
)
def test_a_sequence_is_found_where_there_is_one(types: str, more: Any, events: str, found: list[int]) -> None:
    """Exact existence: the first that ends, of its beginnings the latest, whatever else happened."""
    assert ways(sequence(*types, **more), history(events)) == (bool(found), found)


def test_what_is_found_stays_as_it_was_told() -> None:
    """Later ways to the end change neither the verdict nor what is told of it."""
    assert ways(sequence("a", "b"), history("a0 b1 a2 b3 a4")) == (True, [1, 2])


@pytest.mark.parametrize(
    ("events", "strict", "missing"),
    [("", False, "a"), ("b0", False, "a"), ("a0", False, "b"), ("a0 b1", False, "c"), ("a0 b1 a2", True, "c")],
)
def test_a_sequence_says_what_is_missing(events: str, strict: bool, missing: str) -> None:
    """The type that the furthest way ever gone still lacked."""
    passed, metadata = answer(read(sequence("a", "b", "c", requireStrict=strict)), history(events), LATER)
    assert (passed, metadata) == (False, {"sequence_found": False, "missing_event_type": missing})


def test_a_strict_sequence_sees_what_it_names_of_the_system() -> None:
    """Of cron and badge events only those that are named count; the rest comes between nothing."""
    flow = sequence("a", "cron.anniversary", requireStrict=True)
    between = [
        plain_event(START, "a", id="1"),
        plain_event(START + HOUR, "cron.yearly", id="2"),
        plain_event(START + 2 * HOUR, "cron.anniversary", id="3"),
    ]
    assert ways(flow, between) == (True, [1, 3])
    assert triggers(read(flow)) == {"*", "cron.anniversary"}
    document = {"a": {}, "b": {}}
    compiled = compile_plan(catalog({"key": "m", "flow": flow}, events=document))
    assert earned(play(compiled, between)) == [("m", "", "3")]
    twice = [between[0], plain_event(START + 1, "b", id="2"), between[2]]
    assert earned(play(compiled, twice)) == []


def test_a_sequence_keeps_one_way_to_each_step() -> None:
    """However long the history, the memory is no larger than the steps need."""
    trail, params = TRAILS["steps"], {"sequence": ("a", "b", "c"), "strict": False}
    state: Any = None
    for one in history(" ".join(f"{'ab'[n % 2]}{n}" for n in range(200))):
        state = trail.step(state, one, params, Calendar())
    assert len(str(state)) < 250
    assert trail.step(state, plain_event(LATER, "z"), params, Calendar()) is state


@pytest.mark.parametrize(
    ("operand", "faulty"),
    [
        ([], [("bad_operand", "/$sequence")]),
        ({}, [("bad_operand", "/$sequence")]),
        ({"sequence": []}, [("bad_operand", "/$sequence/sequence")]),
        ({"sequence": "ab"}, [("bad_operand", "/$sequence/sequence")]),
        ({"sequence": ["a", 1, "", "no.such"]},
         [("bad_operand", "/$sequence/sequence/1"), ("bad_operand", "/$sequence/sequence/2"),
          ("unknown_event", "/$sequence/sequence/3")]),
        ({"sequence": ["a"] * (MAX_STEPS + 1)}, [("bad_operand", "/$sequence/sequence")]),
        ({"sequence": ["a"], "maxGapSeconds": 0}, [("bad_operand", "/$sequence/maxGapSeconds")]),
        ({"sequence": ["a"], "maxGapSeconds": "9"}, [("bad_operand", "/$sequence/maxGapSeconds")]),
        ({"sequence": ["a"], "requireStrict": 1}, [("bad_operand", "/$sequence/requireStrict")]),
        ({"sequence": [], "maxGapSeconds": -1, "requiresStrict": True},
         [("unknown_key", "/$sequence/requiresStrict"), ("bad_operand", "/$sequence/sequence"),
          ("bad_operand", "/$sequence/maxGapSeconds")]),
    ],
)  # fmt: skip
def test_a_faulty_sequence_is_refused(operand: Any, faulty: list[tuple[str, str]]) -> None:
    """Each fault at its place, all at once."""
    assert faults({"$sequence": operand}) == faulty


def test_as_many_steps_as_may_be() -> None:
    """The longest sequence is read; aliases are their types."""
    node = read(sequence(*["CommentPosted"] * MAX_STEPS))
    assert isinstance(node, ir.Test)
    assert dict(node.fold.params)["sequence"] == ("comment.posted",) * MAX_STEPS


# -- $gap --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "events", "passed", "metadata"),
    [
        ({"minGapHours": 1}, "", False, {}),
        ({"minGapHours": 0}, "a0", False, {}),
        ({"minGapHours": 0}, "a0 a0", True, {"min_gap_hours": 0, "max_gap_hours": 0}),
        ({"maxGapHours": 0}, "a0 b0", True, {"min_gap_hours": 0, "max_gap_hours": 0}),
        ({"minGapHours": 2, "maxGapHours": 3}, "a0 a2 a5", True, {"min_gap_hours": 2, "max_gap_hours": 3}),
        ({"minGapHours": 2}, "a0 a1 a9", False,
         {"min_gap_hours": 1, "max_gap_hours": 8, "gap_criterion_failed": "min_gap"}),
        ({"maxGapHours": 7}, "a0 a1 a9", False,
         {"min_gap_hours": 1, "max_gap_hours": 8, "gap_criterion_failed": "max_gap"}),
        ({"minGapHours": 2, "maxGapHours": 7}, "a0 a8 a9", False,
         {"min_gap_hours": 1, "max_gap_hours": 8, "gap_criterion_failed": "min_gap"}),
    ],
)  # fmt: skip
def test_every_pause_is_held_to_both_bounds(bounds: Any, events: str, passed: bool, metadata: Any) -> None:
    """Inclusive, exact, two events at least; where both bounds are broken the lower one is named."""
    assert answer(read({"$gap": bounds}), history(events), LATER) == (passed, metadata)


@pytest.mark.parametrize(
    ("operand", "faulty"),
    [
        (3, [("bad_operand", "/$gap")]),
        ({"periodType": "day"}, [("missing_field", "/$gap")]),
        ({"periodType": "moon", "minGapHours": 1}, [("bad_operand", "/$gap/periodType")]),
        ({"minGapHours": -1, "maxGapHours": True},
         [("bad_operand", "/$gap/minGapHours"), ("bad_operand", "/$gap/maxGapHours")]),
        ({"minGapHours": 3, "maxGapHours": 2}, [("bad_operand", "/$gap/maxGapHours")]),
        ({"minGapHour": 3}, [("unknown_key", "/$gap/minGapHour"), ("missing_field", "/$gap")]),
    ],
)  # fmt: skip
def test_a_faulty_gap_is_refused(operand: Any, faulty: list[tuple[str, str]]) -> None:
    """Each fault at its place; in `criteria` as well."""
    assert faults({"$gap": operand}) == faulty
    inside = [(code, "/criteria" + path) for code, path in faulty]
    assert faults({"event": "a", "criteria": {"$gap": operand}}) == inside


def test_a_period_of_a_gap_is_warned_of() -> None:
    """`periodType` is taken and has no effect."""
    names = Known()
    assert read({"$gap": {"maxGapHours": 1, "periodType": "week"}}, names) == read({"$gap": {"maxGapHours": 1}})
    assert [(one.code, one.path, one.severity) for one in names.faults] == [
        ("no_effect", "/$gap/periodType", "warning")
    ]


# -- $duration ---------------------------------------------------------------------------------------------------------


def pairs(flow: Any, events: list[Event], now_us: int = LATER) -> tuple[bool, list[Any]]:
    """The verdict, the places of the pair that is told, and the shortest and longest."""
    passed, told = answer(read(flow), events, now_us)
    return passed, [int(told[key]) for key in told if key.endswith("id")] + [told[key] for key in told if "dur" in key]


@pytest.mark.parametrize(
    ("more", "events", "passed", "told"),
    [
        ({}, "a0 b1", True, [1, 2, 1, 1]),
        ({}, "a0 b0", False, []),
        ({}, "b0 a1", False, []),
        ({}, "a0 a1 b2", True, [2, 3, 1, 1]),
        ({}, "a0 a1 b2 b4", True, [2, 3, 1, 4]),
        ({"duration": {"$gte": 4}}, "a0 a1 b2 b4", True, [1, 4, 1, 4]),
        ({"duration": {"$gte": 5}}, "a0 a1 b2 b4", False, [1, 4, 1, 4]),
        ({}, "a0 b1 b2", True, [1, 2, 1, 1]),
        ({}, "a0 a1 b1", True, [1, 3, 1, 1]),
        ({"duration": {"$lt": 1}, "unit": "days"}, "a0 b24 a30 b31.2", True, [3, 4, 0.05, 1]),
        ({"duration": {"$gt": 1, "$lt": 2}}, "a0 b1 a3 b6 a7 b8.5", True, [5, 6, 1, 3]),
        ({"duration": {"$eq": 5400}, "unit": "seconds"}, "a0 b1.5", True, [1, 2, 5400, 5400]),
    ],
)
def test_an_end_closes_the_latest_open_start(more: Any, events: str, passed: bool, told: list[Any]) -> None:
    """Strictly later, each start once; any pair will do, told is the first that does, else the last."""
    found = pairs(duration(**more), history(events))
    assert found[0] is passed
    assert [float(one) for one in found[1]] == [float(one) for one in told]


def test_an_event_may_end_and_start() -> None:
    """Ends first: from one such event to the next."""
    flow = duration({"type": "a"}, {"type": "a"}, duration={"$gte": 2})
    assert pairs(flow, history("a0 a1 a3"))[1][:2] == [2, 3]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True), ("1", 1, False), (True, 1, False), (None, None, True), ([1, "x"], [1, "x"], True),
        ([1, "x"], ["x", 1], False), ({"p": 1, "q": 2}, {"q": 2, "p": 1}, True), ("x" * 500, "x" * 500, True),
        ("x" * 500, "x" * 499 + "y", False), (..., 1, False), (..., ..., False),
    ],
)  # fmt: skip
def test_pairs_share_a_value_as_json_has_it(one: Any, other: Any, same: bool) -> None:
    """Numbers by value, text exactly, objects in any order; without the field there is no pair."""
    events = history("a0 b1", a={} if one is ... else {"o": {"p": one}}, b={} if other is ... else {"o": {"p": other}})
    assert answer(read(duration(matchProperty="o.p")), events, LATER)[0] is same


def test_both_ends_have_conditions() -> None:
    """Every key beside `type` is a condition on a payload field, with the operators of fields."""
    flow = duration({"type": "a", "mode": {"$in": ["x", "y"]}, "n": {"$gte": 2}}, {"type": "b", "ok": True})
    assert answer(read(flow), history("a0 b1", a={"mode": "x", "n": 2}, b={"ok": True}), LATER)[0]
    assert not answer(read(flow), history("a0 b1", a={"mode": "x", "n": 1}, b={"ok": True}), LATER)[0]
    assert not answer(read(flow), history("a0 b1", a={"mode": "z", "n": 2}, b={"ok": True}), LATER)[0]
    assert not answer(read(flow), history("a0 b1", a={"mode": "x", "n": 2}, b={"ok": 1}), LATER)[0]


def test_conditions_that_differ_as_json_does_are_other_memories() -> None:
    """`true` is not 1: two badges that differ in nothing else keep a memory each."""
    compiled = plan(
        *(
            duration({"type": "comment.posted", "ok": value}, {"type": "order.paid"}, duration={"$gte": 0})
            for value in (True, 1)
        )
    )
    events = [event("comment.posted", 0, ok=1), event("order.paid", 1)]
    assert earned(play(compiled, events)) == [("b1", "", "order.paid@1")]


def test_so_many_starts_stay_open() -> None:
    """The newest thousand; an older one is closed by nothing any more."""
    params = {"start": ("a", ()), "end": ("b", ()), "checks": (), "unit": "hours"}
    trail, state = TRAILS["pairs"], None
    for number in range(MOST_OPEN + 1):
        state = trail.step(state, plain_event(START + number, "a", id=f"{number}"), params, Calendar())
    for number in range(MOST_OPEN + 1):
        state = trail.step(state, plain_event(LATER + number, "b", id=f"e{number}"), params, Calendar())
    found = trail.facts(state, LATER, params, Calendar())
    assert (found["pairs"], found["start_event_id"]) == (MOST_OPEN, str(MOST_OPEN))


@pytest.mark.parametrize(
    ("operand", "faulty"),
    [
        ([], [("bad_operand", "/$duration")]),
        ({}, [("missing_field", "/$duration"), ("missing_field", "/$duration")]),
        ({"startEvent": "a", "endEvent": {}},
         [("bad_operand", "/$duration/startEvent"), ("bad_operand", "/$duration/endEvent")]),
        ({"startEvent": {"type": ""}, "endEvent": {"type": "no.such", "scroe": 1, "x": {"$nope": 1}}},
         [("bad_operand", "/$duration/startEvent/type"), ("unknown_event", "/$duration/endEvent/type"),
          ("unknown_operator", "/$duration/endEvent/x/$nope")]),
        ({"startEvent": {"type": "a", "scroe": 1}, "endEvent": {"type": "b"}, "matchProperty": "scroe"},
         [("unknown_field", "/$duration/startEvent/scroe"), ("unknown_field", "/$duration/matchProperty")]),
        ({"startEvent": {"type": "a"}, "endEvent": {"type": "b"}, "unit": "weeks", "matchProperty": 3, "duration": {}},
         [("bad_operand", "/$duration/unit"), ("bad_operand", "/$duration/matchProperty"),
          ("bad_operand", "/$duration/duration")]),
        ({"startEvent": {"type": "a"}, "endEvent": {"type": "b"}, "duration": {"$gte": "30"}, "unti": "hours"},
         [("unknown_key", "/$duration/unti"), ("bad_operand", "/$duration/duration/$gte")]),
    ],
)  # fmt: skip
def test_a_faulty_duration_is_refused(operand: Any, faulty: list[tuple[str, str]]) -> None:
    """Each fault at its place, all at once."""
    assert faults({"$duration": operand}) == faulty


@pytest.mark.parametrize("word", ["$sequence", "$duration"])
def test_what_stands_alone_may_not_stand_in_criteria(word: str) -> None:
    """Sequences and durations are of the user's events, not of one type's; it is said where they go."""
    names = Known()
    assert faults({"event": "a", "criteria": {word: {}}}, names) == [("unknown_operator", f"/criteria/{word}")]
    assert names.faults[0].help == f"Write {word} as a flow of its own, beside this one in an $and."


# -- windows, contexts, occasions --------------------------------------------------------------------------------------


def test_a_window_moves_over_a_sequence() -> None:
    """As of a later now only what lies in the window counts, and only that comes between."""
    flow = {"$timeWindow": {"last": "1d", "flow": sequence("a", "b")}}
    events = history("a0 b20 c21")
    assert answer(read(flow), events, START + 24 * HOUR)[0]
    passed, metadata = answer(read(flow), events, START + 24 * HOUR + 1)
    assert (passed, metadata) == (False, {"window_sequence_found": False, "window_missing_event_type": "a"})


def test_a_moving_badge_is_looked_at_as_time_passes() -> None:
    """What time alone makes true is tested at the next trigger: an old pause leaves the window."""
    paused = {"event": "comment.posted", "criteria": {"$gap": {"maxGapHours": 24}}}
    compiled = plan({"$timeWindow": {"last": "3d", "flow": paused}})
    events = [event("comment.posted", day) for day in (0, 2, 3, 4, 5)]
    assert earned(play(compiled, events)) == [("b0", "", "comment.posted@4")]
    assert why(compiled, events, day=9).passed is False


def test_windows_stand_in_windows_around_logic() -> None:
    """Nested windows intersect, weekends are left out, and each leaf sees what is left."""
    inner = {"$timeWindow": {"start": "2024-03-01T00:00:00Z", "end": "2024-03-05T23:59:59Z", "flow": {
        "$and": [{"$gap": {"maxGapHours": 72}}, {"$not": sequence("c", "a")}]}}}  # fmt: skip
    flow = {"$timeWindow": {"last": "1w", "businessDaysOnly": True, "flow": inner}}
    events = history("a0 c30 a72 a120")  # Friday, Saturday, Monday, and Wednesday: outside
    passed, metadata = answer(read(flow), events, START + 150 * HOUR)
    assert passed
    assert metadata == {
        "window_min_gap_hours": 72, "window_max_gap_hours": 72,
        "window_sequence_found": False, "window_missing_event_type": "c",
    }  # fmt: skip


def test_each_context_goes_its_own_way() -> None:
    """With `per`, steps, pauses and what comes between are those of one value's events."""
    strict = {"$sequence": {"sequence": ["comment.posted", "order.paid"], "requireStrict": True}}
    compiled = plan({"flow": strict, "per": "item"})
    events = [
        event("comment.posted", 0, item="x"),
        event("comment.posted", 1, item="y"),
        event("order.paid", 2, item="x"),
        event("user.logged_in", 3, item="y"),
        event("order.paid", 4, item="y"),
    ]
    assert earned(play(compiled, events)) == [("b0", "x", "order.paid@2")]


def test_a_badge_per_field_asks_it_of_each_step() -> None:
    """A type whose schema lacks the field cannot be a step, strict or not."""
    kinds = {
        "a.done": {"schema": {"type": "object", "properties": {"k": {}}}},
        "b.done": {"schema": {"properties": {}}},
    }
    for strict in (True, False):
        with pytest.raises(Exception, match=r"b\.done has no field") as refused:
            catalog({"flow": sequence("a.done", "b.done", requireStrict=strict), "per": "k"}, events=kinds)
        assert [fault.code for fault in refused.value.faults] == ["unknown_field"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "flow", [{"$gap": {"maxGapHours": 1}}, sequence("a", "b"), duration(), duration(duration={"$lt": 5})]
)
def test_nothing_follows_from_an_empty_history(flow: Any) -> None:
    """Without events there is no pause, no sequence and no pair; not having one is what a warning is for."""
    node = read(flow)
    assert not true_on_empty(node)
    assert true_on_empty(read({"$not": flow}))
    assert drift(node) == 0
    assert drift(read({"$timeWindow": {"last": "1d", "flow": flow}})) == 3
    assert not any(always(test) for test in ir.tests(node))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ({"$gap": {"maxGapHours": 1}}, {"$gap": {"maxGapHours": 1.0}}, True),
        ({"$gap": {"maxGapHours": 1}}, {"$gap": {"maxGapHours": 2}}, False),
        ({"$gap": {"maxGapHours": 1}}, {"$gap": {"minGapHours": 1}}, False),
        (duration(duration={"$gte": 1}), duration(duration={"$gte": 2}), False),
        (duration(), duration(unit="hours"), True),
        (sequence("a", "b"), sequence("a", "b", requireStrict=False), True),
        (sequence("a", "b"), sequence("a", "b", maxGapSeconds=1), False),
        (sequence("a", "b"), sequence("b", "a"), False),
    ],
)
def test_another_threshold_is_another_test(old: Any, new: Any, same: bool) -> None:
    """The comparison of catalogs and the decision to build see what a verdict hangs on."""
    kinds = {"a": {}, "b": {}}
    was, now = catalog(old, events=kinds), catalog(new, events=kinds)
    assert bool(compare(was, now).badges) is not same
    assert needs_build(compile_plan(was), compile_plan(now)) is not same


def test_one_memory_serves_all_bounds() -> None:
    """What a pause must be is no part of what is remembered of pauses."""
    compiled = plan({"$gap": {"maxGapHours": 1}}, {"$gap": {"minGapHours": 2}}, {"$gap": {"maxGapHours": 72}})
    events = [event("comment.posted", 0), event("order.paid", 1)]
    assert earned(play(compiled, events)) == [("b1", "", "order.paid@1"), ("b2", "", "order.paid@1")]
    assert len({compiled.sources(test).id for goal in compiled.goals for test in ir.tests(goal.badge.formula)}) == 1


@pytest.mark.parametrize(
    ("flow", "phrase"),
    [
        ({"$gap": {"maxGapHours": 24}}, "activity with every pause at most 24 h"),
        ({"event": "comment.posted", "criteria": {"n": 1, "$gap": {"minGapHours": 2, "maxGapHours": 24.5}}},
         "comments with n 1 with every pause 2 to 24.5 h"),
        (sequence("comment.posted", "order.paid", maxGapSeconds=90, requireStrict=True),
         "comment, then `order.paid` event, each within 90 seconds, nothing between"),
        ({"$timeWindow": {"last": "7d", "flow": sequence("comment.posted")}}, "comment in the last 7 days"),
        (duration({"type": "comment.posted", "n": 1}, {"type": "order.paid"}, duration={"$gte": 30}, unit="minutes"),
         "at least 30 minutes from comment with n 1 to `order.paid` event"),
        (duration({"type": "comment.posted"}, {"type": "order.paid"}, matchProperty="item"),
         "from comment to `order.paid` event of the same item"),
    ],
)  # fmt: skip
def test_what_they_take_is_said_in_a_phrase(flow: Any, phrase: str) -> None:
    """Without a user and without a moment."""
    made = catalog(flow)
    assert Takes(made).of(made.badges[0]) == phrase


def test_an_explanation_names_figures_thresholds_and_events() -> None:
    """A node that is no check of one fact tells all its figures against all its thresholds."""
    timed = duration({"type": "comment.posted"}, {"type": "order.paid"}, duration={"$gte": 30}, unit="hours")
    events = [event("comment.posted", 0), event("order.paid", 1)]
    tree = why(plan(timed), events).tree
    assert (tree["operator"], tree["verdict"], tree["bound"]) == (
        "$duration", "not_passed", {"duration": {"$gte": 30}, "unit": "hours"},
    )  # fmt: skip
    assert tree["actual"] == {
        "start_event_id": "comment.posted@0", "end_event_id": "order.paid@1",
        "shortest_duration": 24, "longest_duration": 24,
    }  # fmt: skip
    assert tree["event_ids"] == ["comment.posted@0", "order.paid@1"]
    assert _bounds(tree["bound"]) == "duration at least 30 and unit hours"
    assert _figures({"min_gap_hours": 1200}) == "min_gap_hours 1,200"
    steps = why(plan(sequence("comment.posted", "order.paid", "user.logged_in")), events).tree
    assert (steps["actual"], steps["bound"]) == (2, {"$gte": 3})
    whole = why(plan(sequence("comment.posted", "order.paid")), events).tree
    assert whole["event_ids"] == ["comment.posted@0", "order.paid@1"]


def test_pauses_tell_what_they_remember() -> None:
    """Of the events at 1, 4 and 6 seconds; of none there is nothing to tell."""
    pauses, utc = Pauses(), Calendar("UTC")
    told = ("event_count", "first_us", "last_us", "min_gap_us", "min_gap_end_us", "max_gap_us", "max_gap_end_us")
    assert pauses.facts([3, 1, 6, 2, 6, 3, 4], 9, {}, utc) == dict(zip(told, (3, 1, 6, 2, 6, 3, 4), strict=True))
    assert pauses.facts(None, 9, {}, utc) == dict(zip(told, (0, *[None] * 6), strict=True))


def test_a_pair_that_began_where_the_window_begins_is_in_it() -> None:
    """The start may be as old as the window is long, and no older."""
    flow = {"$duration": {"startEvent": {"type": "user.logged_in"}, "endEvent": {"type": "order.paid"}}}
    compiled = plan({"$timeWindow": {"start": "$NOW(-2d)", "flow": flow}})
    for length, given in ((2, 1), (2 + 1 / 86_400, 0)):
        assert len(play(compiled, [event("user.logged_in"), event("order.paid", length)])) == given
