"""`catch_up_on_login`: at a login everything that logins trigger is tested, and only then."""

from __future__ import annotations

import pytest

from tests.unit.playing import event
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.evaluate import apply
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import UserState

CATALOG = """
version: 1
catch_up_on_login: CATCH_UP
events:
  user.logged_in: {description: A login., aliases: [UserLoggedIn]}
  win.logged: {description: A win.}
metrics:
  logins: {count: user.logged_in}
  wins: {count: win.logged}
ladders:
  - {key: regular, metric: logins, levels: [2, 5, 9], label: Regular, description: "{level} logins"}
badges:
  - {key: winner, flow: {snapshot: {wins: {$gte: 2}}}}
milestones:
  - {code: lucky, title: Lucky, description: Two wins., icon: star, trigger_event: UserLoggedIn, rule_type: count,
     rule_data: {field: wins, threshold: 2}, is_active: true}
"""


def plan_of(*, catch_up: bool) -> Plan:
    """The plan with the option on or off."""
    text = CATALOG.replace("CATCH_UP", "true" if catch_up else "false")
    return compile_plan(load_catalog([Source("catalog.yaml", text)]))


@pytest.mark.parametrize("catch_up", [True, False])
def test_a_login_gives_what_should_have_been_given(catch_up: bool) -> None:
    """Who came past a level without being given it gets it at the next login, where the option is on."""
    plan = plan_of(catch_up=catch_up)
    state = UserState("u")
    for day in range(7):
        apply(plan, state, event("user.logged_in", day))
    state.held.clear()
    (awards,) = [apply(plan, state, event("user.logged_in", 8))]
    assert {award.badge_key for award in awards} == ({"regular_2", "regular_5"} if catch_up else set())


@pytest.mark.parametrize("catch_up", [True, False])
def test_a_milestone_of_a_login_is_tested_at_logins(catch_up: bool) -> None:
    """What other events earned is given at the next login, with or without the option; other badges are left alone."""
    plan = plan_of(catch_up=catch_up)
    state = UserState("u")
    for day in range(3):
        apply(plan, state, event("win.logged", day))
    assert ("winner", "") in state.held
    assert ("lucky", "") not in state.held
    state.held.clear()
    assert [award.badge_key for award in apply(plan, state, event("user.logged_in", 4))] == ["lucky"]
