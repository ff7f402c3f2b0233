"""The sentences of an explanation: each condition, earned and not yet, in the words of the house."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.playing import catalog, event, why
from worker.events import Event, parse_instant
from worker.rules.ir import Check
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.facts import check_fact
from worker.rules.phrases import moment, number, plural, short_instant
from worker.rules.plan import compile_plan

COMMENT = {"event": "comment.posted"}
LOGIN = {"event": "user.logged_in"}
METRICS = {
    "comments": {"count": "comment.posted"},
    "spent": {"sum": "n", "event": "comment.posted"},
    "joined": {"first": "user.registered"},
}
SOME = [event("comment.posted", day, score=5 + day, item=f"i{day % 2}", n=Decimal("1.5")) for day in range(3)]


def count(check: dict[str, Any], **criteria: Any) -> dict[str, Any]:
    """Comments, counted."""
    return {"event": "comment.posted", "criteria": {**criteria, "$eventCount": check}}


def leaf(**criteria: Any) -> dict[str, Any]:
    """Comments, with fields and operators; `_` stands for the $ of an operator."""
    written = {key.replace("_", "$") if key[0] == "_" else key: value for key, value in criteria.items()}
    return {"event": "comment.posted", "criteria": written}


def days(need: int, **more: Any) -> dict[str, Any]:
    """The operand of a `$timePeriod` by day."""
    return {"periodType": "day", "periodCount": {"$gte": need}, **more}


def figure(function: str, check: dict[str, Any]) -> dict[str, Any]:
    """An aggregate of n."""
    return leaf(_aggregate={"type": function, "field": "n", "value": check})


def window(flow: dict[str, Any], **bounds: Any) -> dict[str, Any]:
    """A flow in a window."""
    return {"$timeWindow": {**bounds, "flow": flow}}


def last(flow: dict[str, Any], length: str = "7d") -> dict[str, Any]:
    """A flow over the last days."""
    return window(flow, last=length)


def steps(*types: str, **more: Any) -> dict[str, Any]:
    """A sequence of these."""
    return {"$sequence": {"sequence": list(types), **more}}


def took(check: dict[str, Any]) -> dict[str, Any]:
    """Minutes from a comment to a payment of the same item."""
    ends = {"startEvent": {"type": "comment.posted", "score": {"$gte": 1}}, "endEvent": {"type": "order.paid"}}
    asked = {"duration": check} if check else {}
    return {"$duration": {**ends, "matchProperty": "item", "unit": "minutes", **asked}}


LOGGED = event("user.logged_in", -0.25)
PAIR = [event("comment.posted", 0, item="i1", score=2), event("order.paid", 1 / 32, item="i1")]
WORDS: list[tuple[Any, list[Event], bool, str]] = [
    (COMMENT, SOME, True, "3 comments"),
    (COMMENT, SOME[:1], True, "1 comment"),
    (COMMENT, [], False, "No comments"),
    (LOGIN, [event("user.logged_in")], True, "1 `user.logged_in` event"),
    (LOGIN, [], False, "No `user.logged_in` events"),
    (leaf(score={"$gte": 6}, item="i1"), SOME, True, "1 comment with item i1 and score at least 6"),
    (leaf(own={"$ne": False}, x={"$between": [1, 2]}, y={"$startsWith": "ab"}), [], False,
     "No comments with own not false, x 1 to 2 and y starting with ab"),
    (leaf(tag={"$in": ["a", "b"]}), [], False, "No comments with tag one of a and b"),
    (leaf(tag={"$in": list("abcdefg")}), [], False, "No comments with tag one of a, b, c, d, e and 2 more"),
    (count({"$gte": 3}), SOME, True, "3 comments; 3 needed"),
    (count({"$gte": 10}), SOME, False, "3 of 10 comments; 7 more to go"),
    (count({"$gte": 1}), [], False, "0 of 1 comment; 1 more to go"),
    (count({"$lt": 2}), SOME, False, "3 comments; fewer than 2 needed"),
    (count({"$gte": 2, "$lte": 5}), SOME, True, "3 comments; at least 2 and at most 5 needed"),
    (count({"$eq": 3}), SOME, True, "3 comments; exactly 3 needed"),
    (count({"$between": [5, 9]}), SOME, False, "3 comments; 5 to 9 needed"),
    (count({"$gte": 1200}), SOME, False, "3 of 1,200 comments; 1,197 more to go"),
    (last(count({"$gte": 3})), SOME, True, "3 comments in the last 7 days; 3 needed"),
    (last(count({"$gte": 4})), SOME, False,
     "3 of 4 comments in the last 7 days; 1 more to go. The oldest counted leaves the window on 2024-03-08"),
    (last(count({"$gte": 4}), "1d"), SOME, False,
     "2 of 4 comments in the last 1 day; 2 more to go. The oldest counted leaves the window on 2024-03-03"),
    (window(count({"$gte": 2}), last="2m", businessDaysOnly=True), SOME, False,
     ("1 of 2 comments in the last 2 months, weekends left out; 1 more to go. "
      "The oldest counted leaves the window on 2024-05-01")),
    (last(last(count({"$gte": 4}), "30d")), SOME, False,
     ("3 of 4 comments in the last 30 days in the last 7 days; 1 more to go. "
      "The oldest counted leaves the window on 2024-03-08")),
    (last(leaf(timestamp={"$gte": "$NOW(-3d)"}, _eventCount={"$gte": 4}), "30d"), SOME, False,
     ("3 of 4 comments in the last 3 days in the last 30 days; 1 more to go. "
      "The oldest counted leaves the window on 2024-03-04")),
    (window(COMMENT, start="2024-01-01T00:00:00Z", end="2024-01-31T23:59:59Z"), SOME, False,
     "No comments from 1 to 31 January 2024"),
    (window(COMMENT, start="2024-01-01T00:00:00Z", end="2024-03-02T23:59:59Z"), SOME, True,
     "2 comments from 1 January to 2 March 2024"),
    (window(COMMENT, start="2023-12-01T00:00:00Z", end="2024-03-02T23:59:59Z"), SOME, True,
     "2 comments from 1 December 2023 to 2 March 2024"),
    (window(COMMENT, start="2024-03-01T00:00:00Z", end="2024-03-01T23:59:59Z"), SOME, True,
     "1 comment on 1 March 2024"),
    (window(COMMENT, start="2024-03-01T00:00:00Z"), SOME, True, "3 comments since 1 March 2024"),
    (window(COMMENT, end="2024-03-01T13:00:00Z"), SOME, True, "1 comment until 2024-03-01 13:00:00Z"),
    (leaf(timestamp={"$gte": "$NOW(-1y-3M)", "$lt": "$NOW(-1d)"}), SOME, True,
     "1 comment in the last 1 year 3 months up to 1 day ago"),
    (leaf(_timePeriod=days(3)), SOME, True, "comments on 3 different days; 3 needed"),
    (leaf(_timePeriod=days(5)), SOME, False, "comments on 3 of 5 days; 2 more to go"),
    (leaf(_timePeriod=days(5, excludeWeekends=True, excludeHolidays=True, holidays=["2024-03-04"])), SOME, False,
     "comments on 1 of 5 days, weekends and holidays left out; 4 more to go"),
    ({"$timePeriod": days(2)}, SOME, True, "activity on 3 different days; 2 needed"),
    ({"$timePeriod": days(1)}, [], False, "activity on 0 of 1 day; 1 more to go"),
    (leaf(_distinctCount={"field": "item", "$gte": 2}), SOME, True, "2 different item; 2 needed"),
    (leaf(_distinctCount={"field": "item", "$gte": 5}), SOME, False, "2 of 5 different item; 3 more to go"),
    (figure("sum", {"$gte": 1000}), SOME, False, "Total n 4.5 of 1,000; 995.5 more to go"),
    (figure("sum", {"$gte": 4}), SOME, True, "Total n 4.5; at least 4 needed"),
    (figure("avg", {"$gt": 2}), SOME, False, "Average n 1.5; more than 2 needed"),
    (figure("avg", {"$lt": 2}), SOME, True, "Average n 1.5; less than 2 needed"),
    (figure("min", {"$lte": 2}), SOME, True, "Lowest n 1.5; at most 2 needed"),
    (figure("max", {"$gte": 2}), SOME, False, "Highest n 1.5; at least 2 needed"),
    (figure("count", {"$gte": 5}), SOME, False, "3 of 5 numbers in n; 2 more to go"),
    (figure("sum", {"$gte": 4}), [], False, "No number in n yet"),
    ({"snapshot": {"comments": {"$gte": 25}}}, SOME, False, "comments is 3 of 25; 22 more to go"),
    ({"snapshot": {"comments": {"$gte": 3}}}, SOME, True, "comments is 3; 3 needed"),
    ({"snapshot": {"spent": {"$lt": 4}}}, SOME, False, "spent is 4.5; less than 4 needed"),
    ({"snapshot": {"joined": {"$lte": "$NOW(-1y)"}}}, [], False,
     "joined is not known yet; no later than 2023-03-01 12:00:00Z needed"),
    ({"snapshot": {"joined": {"$gte": "2024-01-01T00:00:00Z"}}}, [event("user.registered")], True,
     "joined is 2024-03-01 12:00:00Z; no earlier than 2024-01-01 00:00:00Z needed"),
    (leaf(_gap={"minGapHours": 2, "maxGapHours": 24}), SOME, True,
     "Every pause 2 to 24 h: shortest 24, longest 24"),
    (last(leaf(_gap={"maxGapHours": 30})), SOME, True,
     "Every pause at most 30 h in the last 7 days: shortest 24, longest 24"),
    (leaf(_gap={"minGapHours": Decimal("24.001")}), SOME, False,
     "A pause of 24 h before 2024-03-02 12:00:00Z; at least 24.001 h allowed"),
    ({"$gap": {"minGapHours": 2, "maxGapHours": 20}}, SOME, False,
     "A pause of 24 h before 2024-03-02 12:00:00Z; 2 to 20 h allowed"),
    (leaf(_gap={"maxGapHours": 2}), SOME[:1], False, "1 of 2 comments; 1 more to go"),
    ({"$gap": {"maxGapHours": 2}}, [], False, "0 of 2 activity; 2 more to go"),
    (steps("user.logged_in", "comment.posted"), [LOGGED, *SOME], True,
     "`user.logged_in` event, then comment: 2024-03-01 06:00:00Z to 2024-03-01 12:00:00Z"),
    (steps("user.logged_in", "comment.posted", maxGapSeconds=43_200, requireStrict=True), [LOGGED, *SOME], True,
     ("`user.logged_in` event, then comment, each within 12 hours, nothing between:"
      " 2024-03-01 06:00:00Z to 2024-03-01 12:00:00Z")),
    (steps("comment.posted"), SOME, True, "comment: 2024-03-01 12:00:00Z"),
    (steps("user.logged_in", "comment.posted"), SOME, False, "No `user.logged_in` events"),
    (steps("comment.posted", "comment.posted", "user.logged_in"), SOME, False,
     "Came to comment (step 2 of 3) on 2024-03-03 12:00:00Z; no `user.logged_in` event after it"),
    (last(steps("user.logged_in", "comment.posted", maxGapSeconds=900)), [LOGGED, *SOME], False,
     ("Came to `user.logged_in` event (step 1 of 2) on 2024-03-01 06:00:00Z in the last 7 days;"
      " no comment within 15 minutes")),
    (steps("user.logged_in", "comment.posted", requireStrict=True), [LOGGED, event("order.paid", 0), SOME[1]], False,
     "Came to `user.logged_in` event (step 1 of 2) on 2024-03-01 06:00:00Z; `order.paid` event came between"),
    (steps("user.logged_in", "comment.posted", requireStrict=True, maxGapSeconds=1), [LOGGED, *SOME], False,
     "Came to `user.logged_in` event (step 1 of 2) on 2024-03-01 06:00:00Z; no comment within 1 second"),
    (took({"$gte": 30}), PAIR, True,
     "45 minutes from 2024-03-01 12:00:00Z to 2024-03-01 12:45:00Z (item i1); at least 30 needed"),
    (took({}), PAIR, True, "45 minutes from 2024-03-01 12:00:00Z to 2024-03-01 12:45:00Z (item i1)"),
    (took({"$gte": 60}), PAIR, False, "Longest of 1 pair 45 minutes; at least 60 needed"),
    (took({"$lt": 45}), PAIR, False, "Shortest of 1 pair 45 minutes; less than 45 needed"),
    (took({"$gte": 60}), PAIR[:1], False,
     "No `order.paid` event after a comment with score at least 1 of the same item"),
    ({"$and": [COMMENT, count({"$gte": 2})]}, SOME, True, "All 2 conditions hold"),
    ({"$and": [COMMENT, LOGIN, count({"$gte": 9})]}, SOME, False,
     "1 of 3 conditions holds. Missing: No `user.logged_in` events; 3 of 9 comments; 6 more to go"),
    ({"$or": [LOGIN, COMMENT]}, SOME, True, "1 of 2 ways holds: 3 comments"),
    ({"$or": [LOGIN, count({"$gte": 9}), count({"$gte": 90})]}, SOME, False,
     "None of 3 ways holds. Nearest: 3 of 9 comments; 6 more to go"),
    ({"$not": LOGIN}, SOME, True, "Must not hold, and does not: No `user.logged_in` events"),
    ({"$not": COMMENT}, SOME, False, "Must not hold, but does: 3 comments"),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "history", "passed", "sentence"), WORDS, ids=[row[3][:60] for row in WORDS])
def test_a_condition_is_said_in_the_words_of_the_house(
    flow: Any, history: list[Event], passed: bool, sentence: str
) -> None:
    """What there is, what is needed, what is missing."""
    compiled = compile_plan(catalog(flow, metrics=METRICS), exact=True)
    found = why(compiled, history, day=None if history else 0)
    assert (found.passed, found.sentence) == (passed, sentence)


def milestone(code: str, trigger: str, rule: str, **data: Any) -> dict[str, Any]:
    """A milestone of document 5's shape."""
    display = {"title": code, "description": "", "icon": "flame"}
    return {"code": code, **display, "trigger_event": trigger, "rule_type": rule, "rule_data": data}


GENERATED = {
    "metrics": METRICS,
    "milestones": [
        milestone("back", "user.logged_in", "return_after_gap", gap_days=14),
        milestone("momentum", "comment.posted", "window_count", event="comment.posted", count=5, window_days=14),
        milestone("lifetime", "comment.posted", "count", field="comments", threshold=3),
    ],
    "ladders": [{"key": "talker", "metric": "comments", "levels": [2, 50], "label": "Talker", "description": "-"}],
    "tenures": [
        {"key": "member", "since": "user.registered", "years": [1, 2], "label": "Member {level}", "description": "-"}
    ],
}
LOGINS = [event("user.logged_in", day) for day in (0, Decimal("13.96"), 30)]
YEARS = [event("user.registered", 0), event("cron.anniversary", 400)]


@pytest.mark.parametrize(
    ("key", "history", "sentence"),
    [
        ("back", [], "No login yet"),
        ("back", LOGINS[:1], "First login, nothing to measure from"),
        ("back", LOGINS[:2], "Away 13.96 of 14 days before this login"),
        ("back", LOGINS, "Back after 16.04 days; 14 needed"),
        ("momentum", SOME, "3 of 5 comments in the last 14 days; 2 more to go"),
        ("lifetime", SOME, "comments is 3; 3 needed"),
        ("talker_2", SOME, "3 comments; 2 needed"),
        ("talker_50", SOME, "3 of 50 comments; 47 more to go"),
        ("member_1y", [], "Member 1: no `user.registered` event yet"),
        ("member_1y", YEARS, "Member 1 since 2025-03-01"),
        ("member_2y", YEARS, "Member 2 on 2026-03-01"),
        ("b1", SOME, "Holds First steps since 2024-03-01"),
        ("b3", SOME, "Much comes first: 3 of 9 comments; 6 more to go"),
    ],
)
def test_what_the_catalog_generates_is_said_too(key: str, history: list[Event], sentence: str) -> None:
    """Milestones, ladders, tenures and prerequisites have their own words."""
    flows = [
        {"flow": COMMENT, "label": "First steps"},
        {"badge": "b0"},
        {"flow": count({"$gte": 9}), "label": "Much"},
        {"badge": "b2"},
    ]
    compiled = compile_plan(catalog(*flows, **GENERATED), exact=True)
    assert why(compiled, history, key, day=None if history else 0).sentence == sentence


@pytest.mark.parametrize(
    ("value", "checks", "text"),
    [
        (0, (), "0"),
        (1269, (), "1,269"),
        (-1269, (), "-1,269"),
        (Decimal("9.96"), (Check("$gte", 10),), "9.96"),
        (Decimal("9.996"), (Check("$gte", 10),), "9.996"),
        (Decimal("9.996"), (), "10"),
        (Fraction(2, 3), (), "0.67"),
        (Fraction(1, 3), (Check("$lt", Decimal("0.3333")),), "0.3333"),
        (Decimal("-0.004"), (), "0"),
        (10**37, (), "1.000000e+37"),
    ],
)
def test_figures_are_short_but_never_past_their_bound(value: Any, checks: tuple[Check, ...], text: str) -> None:
    """Two decimals, unless they would tell another verdict than the one that is given."""
    assert number(value, checks) == text


@given(st.fractions(-1000, 1000), st.sampled_from(["$gte", "$gt", "$lt", "$lte", "$eq"]), st.integers(-10, 10))
def test_a_figure_as_shown_passes_exactly_where_the_true_one_does(value: Fraction, operator: str, bound: int) -> None:
    """Who reads the figure and the bound comes to the verdict that is written beside them."""
    check, zone = Check(operator, bound), Calendar()
    shown = Fraction(number(value, (check,)).replace(",", ""))
    assert check_fact(check, shown, 0, zone) == check_fact(check, value, 0, zone)


def test_small_words() -> None:
    """Plurals and instants."""
    assert plural(1, "day") == "1 day"
    assert plural(0, "day") == "0 days"
    assert plural(1200, "day") == "1,200 days"
    at = parse_instant("2017-12-06T03:00:00.999999Z")
    assert moment(at) == "2017-12-06 03:00:00Z"
    assert short_instant(at) == "2017-12-06T03:00:00.999999Z"
    assert short_instant(parse_instant("2017-12-06T03:00:00Z")) == "2017-12-06T03:00:00Z"
