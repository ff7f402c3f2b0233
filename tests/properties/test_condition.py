"""A condition that says yes to n >= 2 gives the awards that a filter of n >= 2 gives, wherever in a flow it stands."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.events import Event
from worker.events.json_text import dumps
from worker.rules.catalog.load import catalog_from_document
from worker.rules.plan import compile_plan
from worker.rules.rehearse import outcomes
from worker.rules.state import Award

START = 1_704_067_200_000_000
HOUR = 3_600_000_000

LEAF = {"event": "a.done", "criteria": {"n": {"$gte": 2}}}
ASKED = {"event": "a.done", "criteria": {"$condition": {"type": "enough"}}}
OTHERS = (
    {"event": "b.done"},
    {"event": "a.done", "criteria": {"$eventCount": {"$gte": 3}}},
    {"event": "b.done", "criteria": {"n": {"$lt": 2}}},
)


def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A flow with another one in it."""
    other = st.sampled_from(OTHERS)
    return st.one_of(
        st.tuples(inner, other).map(lambda pair: {"$and": [*pair]}),
        st.tuples(other, inner).map(lambda pair: {"$or": [*pair]}),
        inner.map(lambda flow: {"$and": [{"$not": flow}, {"event": "b.done"}]}),
        inner.map(lambda flow: {"$timeWindow": {"last": "1d", "flow": flow}}),
        inner.map(lambda flow: {"$timeWindow": {"start": "2024-01-02T00:00:00Z", "flow": flow}}),
        inner.map(lambda flow: {"$withinTimeWindow": {"window": "6h", "conditions": flow}}),
    )


flows = st.recursive(st.just("LEAF"), around, max_leaves=3)
rows = st.lists(
    st.tuples(st.integers(0, 16), st.sampled_from("ab"), st.integers(0, 3), st.sampled_from("xy")), max_size=12
)


def awards(flow: Any, leaf: Any, events: list[Event], per: str | None) -> list[tuple[str, int]]:
    """When the badge is given, by context, with this leaf in the flow."""
    text = json.dumps(flow).replace(json.dumps("LEAF"), json.dumps(leaf))
    badge = {"key": "b", "flow": json.loads(text)} | ({"per": per} if per else {})
    document = {
        "version": 1,
        "events": {"a.done": {}, "b.done": {}},
        "condition_types": [{"name": "enough", "source": "(event) => event.payload.n >= 2"}],
        "badges": [badge],
    }
    catalog = catalog_from_document(document, 1)
    judged = [
        Event(e.user_id, e.type, e.occurred_us, e.source, e.id, e.payload, e.payload_json, said(e, catalog.conditions))
        for e in events
    ]
    found: list[Award] = [one.award for one in outcomes(compile_plan(catalog), judged)]
    return [(award.context, award.awarded_us) for award in found]


def said(event: Event, conditions: Any) -> dict[str, str]:
    """What the condition says of an event."""
    return dict.fromkeys(conditions, "yes" if event.payload["n"] >= 2 else "no") if event.type == "a.done" else {}


@given(flows, rows, st.sampled_from([None, "item"]))
def test_a_condition_is_as_good_as_a_filter(flow: Any, rows: list[tuple[int, str, int, str]], per: str | None) -> None:
    """Both give the same awards at the same instants, per user and per context."""
    events = []
    for number, (step, kind, n, item) in enumerate(sorted(rows)):
        payload = {"n": n, "item": item}
        at = START + step * 4 * HOUR
        events.append(Event("u", f"{kind}.done", at, "", f"{number:03}", payload, dumps(payload)))
    assert awards(flow, ASKED, events, per) == awards(flow, LEAF, events, per)
