"""Ladders, tenures and milestones: the badges they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.rules import ir
from worker.rules.catalog.generators import roman
from worker.rules.catalog.load import Source, load_catalog, read_catalog
from worker.rules.ir import All, Check, Fold, Match

BASE = """
events: {comment.posted: {schema: {properties: {post: {}}}}, user.registered: {}, UserLoggedIn: {}, HabitCompleted: {}}
metrics:
  comments: {count: comment.posted}
  per_post: {count: comment.posted, per: post}
  habits: {count: HabitCompleted}
"""


def load(text: str):
    return load_catalog([Source("base.yaml", BASE), Source("extra.yaml", text)])


def test_a_ladder_gives_one_badge_a_level():
    """Keys by level, labels by Roman tier, tiers from 1, sort scores that rise, one fold, texts filled in."""
    badges = load(
        """
        ladders:
        - {key: commentator, family: talk, metric: comments, levels: [10, 50, 2.5e2], label: Commentator, sort_score: 7,
           description: "{level} comments, tier {tier}", icon: chat, status: hidden,
           translations: {de: {label: Kommentator, description: "{level} Kommentare"}, fr: {label: "{level} fois"}}}
        """
    ).badges
    assert [badge.key for badge in badges] == ["commentator_10", "commentator_50", "commentator_250"]
    assert [badge.label for badge in badges] == ["Commentator I", "Commentator II", "Commentator III"]
    assert [badge.description for badge in badges][1] == "50 comments, tier II"
    assert [(badge.tier, badge.sort_score) for badge in badges] == [(1, 7), (2, 8), (3, 9)]
    assert badges[1].translations == {
        "de": {"label": "Kommentator II", "description": "50 Kommentare"},
        "fr": {"label": "50 fois"},
    }
    assert {(badge.kind, badge.family, badge.icon, badge.status) for badge in badges} == {
        ("ladder", "talk", "chat", "hidden")
    }
    assert {badge.triggers for badge in badges} == {frozenset({"comment.posted"})}
    found = [next(ir.tests(badge.formula)) for badge in badges]
    assert {test.fold for test in found} == {Fold("count", Match(types=("comment.posted",)))}
    assert [test.checks for test in found] == [(Check("$gte", level),) for level in (10, 50, 250)]
    assert badges[0].flow == {"snapshot": {"comments": {"$gte": 10}}}


def test_a_ladder_inherits_the_context_of_its_metric():
    """A ladder over a metric that is kept per post is given per post."""
    badge = load("ladders: [{key: hot, metric: per_post, levels: [3], triggers: [comment.posted]}]").badges[0]
    assert badge.per == "post"
    assert next(ir.tests(badge.formula)).fold.per == "post"


def test_levels_may_be_fractions_but_keys_stay_keys():
    """A level of 2.5 gives the key `_2.5`; a key that grows too long is refused at its level."""
    badges = load("ladders: [{key: l, metric: comments, levels: [2.50, 3]}]").badges
    assert [badge.key for badge in badges] == ["l_2.5", "l_3"]
    found = read_catalog(
        [Source("b", BASE), Source("x", f"ladders: [{{key: {'a' * 99}, metric: comments, levels: [1, 10]}}]")]
    )[1]
    errors = [(fault.code, fault.path) for fault in found if fault.severity == "error"]
    assert errors == [("invalid_key", "/ladders/0/levels/0"), ("invalid_key", "/ladders/0/levels/1")]


def test_a_ladder_over_an_instant_is_refused_once():
    """A first or last time has no levels; the fault is filed once, however many levels there are."""
    text = "metrics: {since: {first: user.registered}}\nladders: [{key: l, metric: since, levels: [1, 2, 3]}]"
    found = [fault for fault in read_catalog([Source("b", BASE), Source("x", text)])[1] if fault.severity == "error"]
    assert [(fault.code, fault.path) for fault in found] == [("bad_operand", "/ladders/0/metric")]


def test_keys_of_generators_are_names_like_any_other():
    """A badge may require a ladder's level, and may not take its key."""
    catalog = load(
        "ladders: [{key: l, metric: comments, levels: [1, 5]}]\n"
        "badges: [{key: a, flow: {badge: l_5}}]\n"
        "tenures: [{key: m, since: user.registered, years: [1]}]"
    )
    assert [badge.key for badge in catalog.badges] == ["a", "l_1", "l_5", "m_1y"]
    assert catalog.badges[0].triggers == {"comment.posted"}
    text = "ladders: [{key: l, metric: comments, levels: [1, 5]}]\nbadges: [{key: l_5, flow: {event: comment.posted}}]"
    found = [fault for fault in read_catalog([Source("b", BASE), Source("x", text)])[1] if fault.severity == "error"]
    assert [(fault.code, fault.path) for fault in found] == [("duplicate_key", "/ladders/0/levels/1")]


def test_a_tenure_gives_one_badge_a_year():
    """Keys by year, triggered by the anniversary, `{since}` left for the holder's own date."""
    badges = load(
        "feb_29: mar_1\n"
        'tenures: [{key: member, since: user.registered, years: [1, 5], label: "{level} years", '
        'description: "Member since {since}"}]'
    ).badges
    assert [badge.key for badge in badges] == ["member_1y", "member_5y"]
    assert [badge.label for badge in badges] == ["1 years", "5 years"]
    assert {badge.description for badge in badges} == {"Member since {since}"}
    assert {badge.triggers for badge in badges} == {frozenset({"cron.anniversary"})}
    assert [badge.tier for badge in badges] == [None, None]
    assert next(ir.tests(badges[1].formula)).checks == (Check("$years", (5, "mar_1")),)


def test_a_milestone_is_a_badge_with_its_code_as_key():
    """Document 5's shape, verbatim, with display keys and translations beside it."""
    catalog = load(
        """
        milestones:
        - {code: momentum, title: Momentum, description: D, icon: flame, trigger_event: HabitCompleted,
           rule_type: window_count, rule_data: {event: HabitCompleted, count: 5, window_days: 14}, is_active: true,
           animation: {kind: confetti}, translations: {de: {title: Schwung}}}
        - {code: many, trigger_event: HabitCompleted, rule_type: count, rule_data: {field: habits, threshold: 100},
           is_active: false}
        - {code: back, title: Back, trigger_event: UserLoggedIn, rule_type: return_after_gap, rule_data: {gap_days: 14}}
        """
    )
    momentum, many, back = catalog.badges
    assert (momentum.key, momentum.label, momentum.kind, momentum.ever) == ("momentum", "Momentum", "milestone", True)
    assert momentum.translations == {"de": {"label": "Schwung"}}
    assert momentum.triggers == {"HabitCompleted"}
    assert (many.status, many.label, back.status) == ("deprecated", "many", "active")
    assert back.triggers == {"UserLoggedIn"}
    assert not isinstance(momentum.formula, All)


def test_a_milestone_says_once_whether_it_is_active():
    """`is_active` beside `status` is refused."""
    text = (
        "milestones: [{code: m, title: M, trigger_event: HabitCompleted, rule_type: count, is_active: true, "
        "status: draft, rule_data: {field: habits, threshold: 1}}]"
    )
    found = [fault for fault in read_catalog([Source("b", BASE), Source("x", text)])[1] if fault.severity == "error"]
    assert [(fault.code, fault.path) for fault in found] == [("bad_operand", "/milestones/0/is_active")]


@pytest.mark.parametrize(
    ("number", "written"),
    [(1, "I"), (4, "IV"), (9, "IX"), (14, "XIV"), (40, "XL"), (1994, "MCMXCIV"), (3999, "MMMCMXCIX")],
)
def test_tiers_are_roman(number: int, written: str):
    """Tiers are written as Romans wrote them."""
    assert roman(number) == written


@given(st.integers(1, 3999))
def test_a_roman_tier_reads_back(number: int):
    """The value of a numeral, read letter by letter, is the number it was made from."""
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}[letter] for letter in roman(number)]
    pairs = zip(values, [*values[1:], 0], strict=True)
    assert sum(-value if value < after else value for value, after in pairs) == number
