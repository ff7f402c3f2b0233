"""One user seen through a whole catalog: reasons of awards, what is missing, progress, the closest moment."""

from __future__ import annotations

from fractions import Fraction

from tests.unit.playing import DAY, NOON, catalog, event
from worker.rules.standing import Given, Search, Standing, exact_plan, fraction_of

COUNTED = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 4}}}
WEEK = {"$timeWindow": {"last": "7d", "flow": {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 4}}}}}
LADDER = {"key": "talker", "metric": "comments", "levels": [2, 10, 20], "label": "Talker", "description": ""}
CATALOG = catalog(
    COUNTED,
    WEEK,
    {"flow": {"event": "order.paid"}, "key": "payer", "status": "locked"},
    metrics={"comments": {"count": "comment.posted"}},
    ladders=[LADDER],
)
HISTORY = [event("comment.posted", day) for day in (0, 1, 2, 30)]


def standing(held: dict[tuple[str, str], Given], *, day: float = 60) -> Standing:
    """The user u as of a day, who holds these."""
    at_us = NOON + round(day * DAY)
    found = Standing(exact_plan(CATALOG, {key for key, _ in held}), "u", held, at_us=at_us)
    found.take(HISTORY)
    return found


def test_an_award_is_explained_as_of_its_event() -> None:
    """What is held is explained at the event that earned it, whatever happened afterwards."""
    second = HISTORY[1]
    found = standing({("talker_2", ""): Given(second.occurred_us, second.id)})
    assert found.reasons["talker_2", ""].sentence == "2 comments; 2 needed"


def test_what_the_log_earns_is_missing_where_it_is_not_held() -> None:
    """Awards of the log that the user does not hold are missing; those of badges that are not given are not."""
    found = standing({})
    assert [(award.badge_key, award.awarded_us) for award in found.missing] == [
        ("talker_2", HISTORY[1].occurred_us),
        ("b0", HISTORY[3].occurred_us),
    ]


def test_progress_is_nearest_first_and_marks_the_next_tier() -> None:
    """Fractions are exact for one figure; of a ladder only the lowest tier that is not held is the next."""
    found = standing({("b0", ""): Given(HISTORY[3].occurred_us, None), ("talker_2", ""): Given(NOON + DAY, None)})
    assert [(one.badge.key, one.fraction, one.next) for one in found.progress()] == [
        ("talker_10", Fraction(4, 10), True),
        ("talker_20", Fraction(4, 20), False),
        ("b1", Fraction(0), True),
    ]


def test_an_instant_cuts_the_log() -> None:
    """As of an instant, later events have not happened."""
    found = standing({}, day=1)
    assert (found.events, found.last_us) == (2, HISTORY[1].occurred_us)
    assert found.explained(found.plan.badges["b0"])[1].sentence == "2 of 4 comments; 2 more to go"


def test_the_closest_moment_is_the_last_of_the_nearest_occasions() -> None:
    """Of the occasions that are tried the one that came nearest is told; older ones than the newest few are not."""
    plan = exact_plan(CATALOG, only={"b1"})
    for most, expected in ((10, (HISTORY[2].id, Fraction(3, 4))), (1, (HISTORY[3].id, Fraction(1, 4)))):
        search = Search(plan, "u", {}, {"b1": 4}, most=most)
        search.take(HISTORY, at_us=NOON + 60 * DAY)
        best = search.closest["b1"]
        assert (best.event_id, fraction_of(best.explanation)) == expected


def test_what_fell_by_itself_is_not_missing() -> None:
    """A badge that is taken back as its figure falls is earned by the log no more, and nothing is missing."""
    gauge = {"flow": {"snapshot": {"owned": {"$gte": 1}}}, "key": "owner", "revocable": "auto"}
    found = catalog(gauge, metrics={"owned": {"count": "comment.posted", "less": "order.paid"}})
    events = [event("comment.posted", 0), event("order.paid", 1)]
    for taken, missing in ((events[:1], ["owner"]), (events, [])):
        one = Standing(exact_plan(found), "u", {}, at_us=NOON + 9 * DAY)
        one.take(taken)
        assert [award.badge_key for award in one.missing] == missing
