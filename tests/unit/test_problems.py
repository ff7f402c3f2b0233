"""What of the events' data criteria could not use is counted, and never raises or changes an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from worker.app.worker import observe_batch
from worker.events import Event, json_text
from worker.metrics import Metrics
from worker.pipeline.facts import BatchFacts
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import replay
from worker.rules.operators import problems
from worker.rules.plan import compile_plan


def found(criteria: Mapping[str, Any], *payloads: dict[str, Any], **catalog: Any) -> dict[str, int]:
    """What was counted while events with these payloads met a badge of these criteria."""
    document = {
        "version": 1,
        "events": {"game.won": {}},
        "badges": [{"key": "b", "label": "B", "description": "B", "flow": {"event": "game.won", "criteria": criteria}}],
        **catalog,
    }
    plan = compile_plan(catalog_from_document(document, 1))
    events = [
        Event("u", "game.won", number, "", str(number), payload, json_text.dumps(payload))
        for number, payload in enumerate(payloads)
    ]
    problems.taken()
    replay(plan, "u", events, {})
    return {kind: count for kind, count in problems.taken().items() if count}


@pytest.mark.parametrize(
    ("criteria", "payload", "kind"),
    [
        ({"score": {"$gte": 5}}, {}, "missing_field"),
        ({"score.best": {"$gte": 5}}, {"score": {}}, "missing_field"),
        ({"score": 5}, {}, "missing_field"),
        ({"score": {"$gte": 5}}, {"score": None}, "null"),
        ({"score": {"$gte": 5}}, {"score": "5"}, "wrong_type"),
        ({"score": {"$between": [1, 5]}}, {"score": [3]}, "wrong_type"),
        ({"name": {"$contains": "x"}}, {"name": 3}, "wrong_type"),
        ({"name": {"$startsWith": "x"}}, {"name": None}, "null"),
        ({"name": {"$regex": "x"}}, {"name": True}, "wrong_type"),
        ({"$aggregate": {"type": "sum", "field": "score", "value": {"$gte": 5}}}, {"score": "7"}, "wrong_type"),
        ({"$aggregate": {"type": "sum", "field": "score", "value": {"$gte": 5}}}, {}, "missing_field"),
        ({"$distinctCount": {"field": "score", "$gte": 5}}, {"score": [1]}, "wrong_type"),
    ],
)
def test_a_value_that_cannot_be_used_is_counted(criteria: dict[str, Any], payload: dict[str, Any], kind: str) -> None:
    """Missing, null, of another type than the operator compares: each is told apart."""
    assert found(criteria, payload) == {kind: 1}
    assert found(criteria, payload, payload, payload) == {kind: 3}


@pytest.mark.parametrize(
    ("criteria", "payload"),
    [
        ({"score": {"$gte": 5}}, {"score": 3}),
        ({"score": 5}, {"score": "5"}),
        ({"score": {"$eq": None}}, {"score": None}),
        ({"score": {"$between": "1,5"}}, {"score": 3}),
        ({"score": {"$between": "1,5"}}, {"score": "3"}),
        ({"name": {"$in": ["a"]}}, {"name": 3}),
    ],
)
def test_a_value_that_only_does_not_match_is_not_counted(criteria: dict[str, Any], payload: dict[str, Any]) -> None:
    """What an operator can compare, and what equality may look at, is no problem of the data."""
    assert found(criteria, payload) == {}


def test_an_index_counts_as_well() -> None:
    """Where many badges ask for numbers of a field, one look in the index counts once."""
    badges = [
        {
            "key": f"b{number}",
            "label": "B",
            "description": "B",
            "flow": {"event": "game.won", "criteria": {"score": {"$gte": number}}},
        }
        for number in range(40)
    ]
    assert found({"score": {"$gte": 5}}, {"score": "9"}, {}, badges=badges) == {"wrong_type": 1, "missing_field": 1}


def test_a_zone_that_is_none_is_counted() -> None:
    """The user keeps the zone of before."""
    zone = {"user_timezone": {"event": "game.won", "field": "zone"}}
    assert found({}, {"zone": "Mars/Olympus"}, {"zone": "Europe/Rome"}, {}, **zone) == {
        "no_zone": 1,
        "missing_field": 1,
    }


def test_the_counts_are_served() -> None:
    """A batch's metrics take what was counted, once."""
    metrics = Metrics()
    problems.taken()
    problems.note(problems.NULL)
    for _ in range(2):
        observe_batch(metrics, BatchFacts("t", 0, 1), now=0.0)
    assert metrics.registry.get_sample_value("badges_data_problems_total", {"kind": "null"}) == 1
