"""`catch_up_on_login`: what was lost or missed before a login is given at it, as the oracle finds it then."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests import oracle
from tests.properties.test_engine import expected_keys, in_order, keys, plan_of
from tests.strategies import catalogs, histories
from worker.events import Event
from worker.rules.evaluate import apply
from worker.rules.state import UserState

LOGINS = ("c.done", "UserLoggedIn")


@given(catalogs(), histories(), st.integers(0, 999), st.booleans())
def test_a_login_gives_all_that_holds_at_it(
    document: dict[str, Any], events: list[Event], seed: int, exact: bool
) -> None:
    """Of all that logins trigger, whatever of it the user no longer holds, and whether the login changes it or not."""
    plan, state, seen = plan_of({**document, "catch_up_on_login": True}, exact=exact), UserState("u"), list[Event]()
    dice = Random(seed)
    logged = [replace(e, type=LOGINS[seed % 2]) if n % 3 == seed % 3 else e for n, e in enumerate(events)]
    for event in in_order(logged):
        seen.append(event)
        if event.type not in LOGINS:
            apply(plan, state, event)
            continue
        # A badge that others ask for in whatever context is noted in the memory, too, and is not lost alone.
        state.held = {key: at for key, at in state.held.items() if key[0] in plan.marked or dice.random() < 0.5}
        world = oracle.World(document, dict(state.held))
        expected = list(oracle.ever(world, seen, len(seen) - 1))
        assert keys(apply(plan, state, event)) == expected_keys(expected)
