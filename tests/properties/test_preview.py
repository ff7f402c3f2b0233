"""A preview counts what a build would give, from the events it asks for alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.properties.examples import tried
from tests.strategies import catalogs, histories
from worker.events import Event
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import replay
from worker.rules.plan import compile_plan
from worker.rules.preview import Preview


@tried(50)
@given(catalogs(), st.lists(histories(), min_size=1, max_size=2), st.data())
def test_a_preview_counts_what_replaying_gives(
    document: dict[str, Any], drawn: list[list[Event]], data: st.DataObject
) -> None:
    """For any badges of any catalog: awards, users and instants are those of a replay that knows what is held."""
    catalog = catalog_from_document(document, 1)
    plan = compile_plan(catalog)
    keys = {goal.badge.key for goal in plan.goals if data.draw(st.booleans())}
    preview = Preview(catalog, keys)
    wanted: Counter[str] = Counter()
    users: Counter[str] = Counter()
    for number, events in enumerate(drawn):
        log = sorted(events, key=lambda event: event.order)
        everything = replay(plan, f"u{number}", log, {})[1]
        # all that others than the chosen badges give is held, and now and then one of theirs
        held = {(a.badge_key, a.context): a.awarded_us for a in everything if a.badge_key not in keys}
        held |= {(a.badge_key, a.context): a.awarded_us for a in everything[::3]}
        expected = [a for a in replay(plan, f"u{number}", log, held)[1] if a.badge_key in keys]
        wanted.update(a.badge_key for a in expected)
        users.update({a.badge_key for a in expected})
        types = preview.types
        kept = {one: at for one, at in held.items() if one[0] in preview.keys}
        started = False
        for event in log:
            if types is None or event.type in types:
                if not started:
                    preview.begin(f"u{number}", kept)
                    started = True
                preview.take(event)
    preview.close()
    assert {key: gain.awards for key, gain in preview.gains.items() if gain.awards} == dict(wanted)
    assert {key: gain.users for key, gain in preview.gains.items() if gain.users} == dict(users)
    for gain in preview.gains.values():
        assert len(gain.samples) == gain.users
        assert gain.new_holders <= gain.users
