"""How near a badge of one event came: its best figure, of the events that are otherwise as they must be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from tests.unit.playing import DAY, NOON, catalog, event
from worker.rules.standing import Standing, exact_plan, fraction_of

NICE = {"event": "answer.scored", "criteria": {"score": {"$gte": 10}, "own": True}}
HISTORY = [
    event("answer.scored", 0, post_id=1, score=3, own=True),
    event("answer.scored", 1, post_id=2, score=7, own=True),
    event("answer.scored", 2, post_id=3, score=9, own=False),
    event("answer.scored", 3, post_id=4, score="8", own=True),
    event("comment.posted", 4, score=9, own=True),
]


def told(flow: Any, *, context: str | None = None, per: str | None = "post_id") -> tuple[str, str, Fraction]:
    """The context, the sentence and the fraction of a badge after the history."""
    found = catalog({"key": "b", "flow": flow, **({} if per is None else {"per": per})})
    standing = Standing(exact_plan(found), "u", {}, at_us=NOON + 9 * DAY, context=context)
    standing.take(HISTORY)
    where, explanation = standing.explained(found.badges[0], context)
    return where, explanation.sentence, fraction_of(explanation)


def test_the_best_of_the_right_events_is_told() -> None:
    """The largest number counts, of events that pass whatever else is asked; with its context and its share."""
    assert told(NICE) == ("2", "best score 7 with own true (post_id 2); at least 10 needed", Fraction(7, 10))
    assert told(NICE, per=None) == ("", "best score 7 with own true; at least 10 needed", Fraction(7, 10))


def test_of_one_context_only_its_own_events_count() -> None:
    """Asked about one value, the best of another says nothing."""
    assert told(NICE, context="1")[1:] == (
        "best score 3 with own true (post_id 1); at least 10 needed",
        Fraction(3, 10),
    )
    assert told(NICE, context="9")[1] == "No answers with own true and score at least 10"


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        ({"event": "answer.scored", "criteria": {"score": {"$lt": 1}}}, "No answers with score less than 1"),
        ({"event": "answer.scored", "criteria": {"score": {"$gte": 2}}}, "1 answer with score at least 2"),
        (
            {"event": "answer.scored", "criteria": {"score": {"$gte": 99}, "$eventCount": {"$gte": 2}}},
            "0 of 2 answers with score at least 99; 2 more to go",
        ),
    ],
)
def test_where_no_best_can_be_told_the_sentence_stands(flow: Any, sentence: str) -> None:
    """Upper bounds, counts and what is earned are told as ever."""
    assert told(flow)[1] == sentence
