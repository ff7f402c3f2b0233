"""What a preview says of a few users: who would gain, who came close, and which events it needs to know that."""

from __future__ import annotations

from tests.unit.playing import catalog, event
from worker.rules.changes import BY_HAND
from worker.rules.preview import Preview

TEN = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 10}}}
SCORED = {"flow": {"event": "answer.scored", "criteria": {"score": {"$gte": 10}}}, "per": "post_id", "key": "scored"}


def comments(count: int) -> list:
    return [event("comment.posted", day) for day in range(count)]


def test_a_badge_that_asks_for_one_that_is_held() -> None:
    """Who holds what a new badge asks for gains it at the instant of that award, though it is not given again."""
    preview = Preview(catalog(TEN, {"key": "second", "flow": {"badge": "b0"}}), {"second"})
    history = comments(12)
    preview.begin("u", {("b0", ""): history[9].occurred_us})
    for one in history:
        preview.take(one)
    preview.close()
    gain = preview.gains["second"]
    assert (gain.awards, gain.first_us) == (1, history[9].occurred_us)
    assert preview.keys == ["b0", "second"]


def test_close_is_80_per_cent_of_what_is_asked() -> None:
    """Eight of ten is close, seven is not, ten is no longer; of a score what counts is the best of each context."""
    preview = Preview(catalog(TEN, SCORED), {"b0", "scored"})
    for user, count in (("seven", 7), ("eight", 8), ("nine", 9), ("ten", 10)):
        preview.begin(user, {})
        for one in comments(count):
            preview.take(one)
    preview.begin("scored", {})
    for post, score in ((1, 8), (1, 9), (2, 7), (3, 10), (4, 8)):
        preview.take(event("answer.scored", post, id=f"{post}{score}", post_id=post, score=score))
    preview.close()
    assert (preview.gains["b0"].close, preview.gains["b0"].users) == (2, 1)
    assert (preview.gains["scored"].close, preview.gains["scored"].awards) == (2, 1)


def test_only_the_events_that_matter_are_asked_for() -> None:
    """The types the badges look at, and those at which what they ask for may have been given; all where any counts."""
    second = {"key": "second", "flow": {"$and": [{"badge": "b0"}, {"event": "order.paid"}]}}
    assert Preview(catalog(TEN, SCORED, second), {"scored"}).types == {"answer.scored"} | BY_HAND
    assert Preview(catalog(TEN, SCORED, second), {"second"}).types == {"comment.posted", "order.paid"} | BY_HAND
    anything = {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 3}}}
    assert Preview(catalog(TEN, anything), {"b1"}).types is None


def test_who_holds_it_gains_nothing() -> None:
    """An award that is held is counted as held, not as gained."""
    preview = Preview(catalog(TEN), {"b0"})
    history = comments(12)
    preview.begin("u", {("b0", ""): history[9].occurred_us})
    for one in history:
        preview.take(one)
    preview.close()
    gain = preview.gains["b0"]
    assert (gain.awards, gain.holding, gain.close, gain.samples) == (0, 1, 0, [])
