"""Why a badge is not held: the first thing in the way, in the order in which one would look."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pytest

from tests.unit.playing import NOON, catalog, event, plan, why
from worker.app.blockers import Blocker, Circumstances, first_blocker, letters_that_matter
from worker.app.coverage import Trigger, coverage
from worker.exchange import TypeDays
from worker.jobs.base import DAY
from worker.rules.catalog.definitions import Badge
from worker.store.arrivals import start_of
from worker.store.diagnosis import LetterRow, RevocationRow, WithheldRow

FLOW = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 2}}}
LETTER = LetterRow("badges.events", 3, 7, "payload_invalid", "", "", NOON, "new", b'{"type": "comment.posted"}')


def covered(*days: TypeDays, upto_us: int = 0) -> Trigger:
    """What `catalog coverage` says of comments."""
    found = coverage(catalog(FLOW), {one.type: one for one in days}, upto_us)
    return next(one for one in found if one.type == "comment.posted")


NEVER = covered()


def badge(**changes: Any) -> Badge:
    """A badge of two comments."""
    return catalog({"key": "b0", "flow": FLOW, "label": "Talker", **changes}).badges[0]


def circumstances(*, events: int = 1, **changes: Any) -> Circumstances:
    """A user with so many comments and nothing else in the way."""
    bare = Circumstances(
        user_id="u1",
        badge_key="b0",
        badge=badge(),
        explanation=why(plan(FLOW), [event("comment.posted", day) for day in range(events)], "b0"),
        missing=False,
        building=None,
        queued=False,
        withheld=None,
        revocation=None,
        letters=(),
        silences=(),
    )
    return replace(bare, **changes)


def withheld(state: str) -> WithheldRow:
    """An award that was withheld."""
    return WithheldRow("b0", "", state, NOON, "live", "checked twice", NOON)


#: In the order in which they are looked for.
IN_THE_WAY: list[tuple[str, dict[str, Any], str]] = [
    ("not_active", {"badge": badge(status="locked")}, "Talker is locked: it is shown, and gives no new awards."),
    ("never_seen", {"silences": (NEVER,)}, "comment.posted was never seen: check the spelling."),
    (
        "building",
        {"building": Fraction(62, 100)},
        "The history behind this version of the catalog is still being built (62 % of users are done).",
    ),
    ("held", {"withheld": withheld("held")}, "Earned, and held since 2024-03-01 12:00:00Z: checked twice."),
    (
        "revoked",
        {"revocation": RevocationRow("b0", "", "manual", "manual", 4, "a bot", NOON, "anna")},
        "Revoked by anna on 2024-03-01 12:00:00Z: a bot.",
    ),
    (
        "dead_letters",
        {"letters": (LETTER,)},
        "1 event of u1 could not be read and is a dead letter (payload_invalid), the last on 2024-03-01 12:00:00Z.",
    ),
    ("criterion", {}, "1 of 2 comments; 1 more to go."),
]


@pytest.mark.parametrize(("code", "changes", "sentence"), IN_THE_WAY, ids=[row[0] for row in IN_THE_WAY])
def test_each_is_said_in_a_sentence(code: str, changes: dict[str, Any], sentence: str) -> None:
    """Alone in the way, each is told with its code and its sentence."""
    found = first_blocker(circumstances(**changes))
    assert (found.code, found.sentence) == (code, sentence)


def test_the_first_one_that_holds_is_told() -> None:
    """With all of them in the way, taking away the first brings the next, to the end of the list."""
    for place, (code, *_) in enumerate(IN_THE_WAY):
        rest = {name: value for _, changes, _ in IN_THE_WAY[place:] for name, value in changes.items()}
        if place > IN_THE_WAY.index(next(row for row in IN_THE_WAY if row[0] == "held")):
            rest.pop("withheld", None)
        assert first_blocker(circumstances(**rest)).code == code


def test_what_the_log_earns_and_nobody_gave_is_drift() -> None:
    """Neither silence nor dead letters explain why an award is missing that the log earns."""
    found = first_blocker(circumstances(events=2, missing=True, silences=(NEVER,), letters=(LETTER,)))
    assert found.code == "drift"
    assert found.help == "badges recompute --user u1 gives it"


def test_a_criterion_met_between_two_occasions_waits_for_the_next() -> None:
    """A criterion that holds by now, but held at no trigger, says what it waits for."""
    found = first_blocker(circumstances(events=2))
    assert (found.code, found.sentence) == ("no_occasion", "2 comments; 2 needed; given at the next comment.posted.")


def test_a_trigger_that_went_silent() -> None:
    """Silence is told with its length and what was usual."""
    last = date(2024, 2, 20)
    counts = {last - timedelta(days=number): 120 for number in range(1, 29)}
    days = TypeDays("comment.posted", start_of(last), last, 1, min(counts), counts)
    found = first_blocker(circumstances(silences=(covered(days, upto_us=days.last_us + 9 * DAY),)))
    assert (found.code, found.sentence) == ("silent", "No comment.posted for 9 days; before that 120 a day.")


def test_what_was_withdrawn_by_itself_is_not_in_the_way() -> None:
    """A revocation by rule says nothing: the criterion does."""
    row = RevocationRow("b0", "", "auto", "live", 4, "comments fell below 2", NOON)
    assert first_blocker(circumstances(revocation=row)).code == "criterion"


def test_a_badge_the_catalog_left_out() -> None:
    """A badge that is no more in the catalog is not active."""
    found = first_blocker(circumstances(badge=None))
    assert found == Blocker("not_active", "The catalog has no badge b0 any more.", "add it to the catalog again")


def test_only_letters_that_may_matter_count() -> None:
    """A dead letter of another type, or one that was dealt with, is not in the way; one of no known type may be."""
    letters = [
        LETTER,
        replace(LETTER, offset=8, raw=b'{"type": "order.paid"}'),
        replace(LETTER, offset=9, raw=b"{cut"),
        replace(LETTER, offset=10, state="replayed"),
    ]
    found = letters_that_matter(letters, {"comment.posted"}, catalog(FLOW).dictionary)
    assert [letter.offset for letter in found] == [7, 9]
