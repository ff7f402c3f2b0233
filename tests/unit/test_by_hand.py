"""Grants, revocations and breakers, on the in-memory store: what is held, withheld, logged and said."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest

from tests.unit.test_batch import DAY, Rig, comment, plan
from tests.unit.test_schemas import AWARD
from worker.control import ControlEvent, grant_added, grant_revoked, recompute_requested
from worker.events import Record, parse_instant
from worker.pipeline.breaker import rules_of
from worker.pipeline.build import Build
from worker.pipeline.facts import BatchFacts
from worker.pipeline.messages import award_id
from worker.rules.plan import compile_plan

CATALOG = """
version: 1
events:
  comment.posted: {description: A comment.}
  item.added: {description: Got one.}
  item.removed: {description: Lost one.}
metrics:
  comments: {count: comment.posted}
  owned: {count: item.added, less: item.removed}
badges:
  - {key: busy, label: Busy, description: Two, flow: {snapshot: {comments: {$gte: 2}}}}
  - {key: follower, label: Follower, description: Busy and three,
     flow: {$and: [{badge: busy}, {snapshot: {comments: {$gte: 3}}}]}}
  - {key: fan, label: Fan, description: Busy, flow: {badge: busy}}
  - {key: thread, label: Thread, description: Two in one, per: post_id,
     flow: {event: comment.posted, criteria: {$eventCount: {$gte: 2}}}}
  - {key: starter, label: Starter, description: A thread,
     flow: {$and: [{badge: thread}, {snapshot: {comments: {$gte: 4}}}]}}
  - {key: owner, label: Owner, description: Two of them, revocable: auto, flow: {snapshot: {owned: {$gte: 2}}}}
"""
VALID = jsonschema_rs.validator_for(AWARD, validate_formats=True)


class Hands(Rig):
    """A partition of events and one of control."""

    def __init__(self, text: str = CATALOG) -> None:
        super().__init__()
        self.applier.use(plan(text))
        self.controlled = 0

    async def say(self, *events: ControlEvent) -> BatchFacts:
        """Send events on the control topic."""
        claim = self.claims.get("control") or await self.claim("control")
        stamp = parse_instant("2026-03-10T00:00:00Z") // 1000
        begin, self.controlled = self.controlled, self.controlled + len(events)
        records = [Record("control", 0, begin + n, stamp, one.key, one.value) for n, one in enumerate(events)]
        return await self.applier.apply(claim, records, from_offset=begin)

    def held(self, user_id: str = "u1") -> dict[tuple[str, str], Any]:
        """What a user holds."""
        return self.store.tables.user_badges.get(user_id, {})

    def withheld(self) -> dict[tuple[str, str, str], str]:
        """What is withheld, by its state."""
        return {place: row.state for place, (row, _) in self.store.tables.withheld.items()}

    def said(self) -> list[tuple[str, str]]:
        """Types and badges of all messages about awards, each as its schema describes it."""
        messages = self.messages()
        assert [error.message for body in messages for error in VALID.iter_errors(body)] == []
        return [(body["type"].removeprefix("badge."), body["badge_key"]) for body in messages]


@pytest.fixture
def hands() -> Hands:
    return Hands()


def us(at: str) -> int:
    """An instant of the day."""
    return parse_instant(f"{DAY}T{at}Z")


def give(badge: str = "busy", at: str = "12:00:00", number: int = 1, **changes: Any) -> ControlEvent:
    """A grant by hand."""
    given: dict[str, Any] = {"note": "Well done.", "actor": "ada", "id": f"g{number}", "at_us": us(at)}
    return grant_added("u1", badge, **(given | changes))


def take(badge: str = "busy", at: str = "13:00:00", number: int = 1, **changes: Any) -> ControlEvent:
    """A revocation by hand."""
    given: dict[str, Any] = {"note": "A mistake.", "actor": "ada", "id": f"r{number}", "at_us": us(at)}
    return grant_revoked("u1", badge, **(given | changes))


async def test_a_grant_by_hand_is_an_award(hands: Hands) -> None:
    """It is stored as manual with note and actor, said once with notify, and whoever asks for the badge gains too."""
    facts = await hands.say(give())
    assert facts.awards == Counter({("busy", "manual"): 1, ("fan", "live"): 1})
    row = hands.held()["busy", ""]
    assert (row.source, row.origin, row.awarded_us, row.trigger_id) == ("manual", "manual", us("12:00:00"), "g1")
    assert json.loads(row.metadata_json) == {"note": "Well done.", "actor": "ada"}
    assert hands.said() == [("awarded", "busy"), ("awarded", "fan")]
    assert (hands.messages()[0]["origin"], hands.messages()[0]["notify"]) == ("manual", True)


async def test_a_grant_of_what_is_held_changes_nothing(hands: Hands) -> None:
    """Neither row nor message comes of it, however often it is sent."""
    await hands.put(comment(1), comment(2))
    before = (dict(hands.held()), hands.said())
    facts = await hands.say(give(), give(), give(number=2, at="12:30:00"))
    assert (dict(hands.held()), hands.said()) == before
    assert facts.duplicates == 1


async def test_a_grant_may_count_since_earlier(hands: Hands) -> None:
    """`awarded_at` is kept; one after the grant itself, or no instant, is refused."""
    await hands.say(give(awarded_us=us("09:00:00")))
    assert hands.held()["busy", ""].awarded_us == us("09:00:00")
    facts = await hands.say(give("fan", awarded_us=us("12:00:01"), number=2))
    assert facts.dead_letters == Counter({"invalid_field": 1})


async def test_a_revocation_by_hand_is_for_good(hands: Hands) -> None:
    """The award goes with a message that names it and why; no event gives it again, live, late or folded again."""
    await hands.put(comment(1), comment(2))
    given = hands.messages()[0]
    facts = await hands.say(take())
    assert facts.revoked == Counter({("busy", "manual"): 1})
    said = hands.messages()[-1]
    assert (said["type"], said["award_id"], said["reason"]) == ("badge.revoked", given["id"], "A mistake.")
    assert said["id"] == award_id("u1", "busy", "", kind="revoked")
    assert (said["awarded_at"], said["origin"], said["sequence"]) == (given["awarded_at"], "manual", 4)
    assert hands.withheld() == {("u1", "busy", ""): "revoked"}
    await hands.put(comment(3, at="15:00"))
    await hands.put(comment(4, at="14:00"))
    hands.applier.cache.drop(hands.claims["events"].token)
    await hands.put(comment(5, at="16:00"))
    assert set(hands.held()) == {("fan", ""), ("thread", "p"), ("starter", "")}


async def test_who_asks_for_a_revoked_badge_does_not_get_theirs(hands: Hands) -> None:
    """A prerequisite that was revoked is not met, live or when the log is folded again; given again it is."""
    await hands.put(comment(1), comment(2))
    await hands.say(take())
    await hands.put(comment(3, at="15:00"))
    await hands.put(comment(4, at="14:00"))
    assert ("follower", "") not in hands.held()
    facts = await hands.say(give(at="17:00:00"))
    assert facts.awards == Counter({("busy", "manual"): 1, ("follower", "live"): 1})
    again = next(body for body in reversed(hands.messages()) if body["badge_key"] == "busy")
    assert again["id"] == award_id("u1", "busy", "", earlier_grants=1)
    assert hands.withheld() == {}


async def test_a_badge_asked_for_in_any_context_follows(hands: Hands) -> None:
    """Of a badge with contexts the last one revoked counts: then nobody who asks for it gets theirs."""
    await hands.put(comment(1), comment(2), comment(3, payload={"post_id": "q"}))
    await hands.say(give("thread", context="z"), take("thread", context="p"))
    await hands.put(comment(4, at="15:00", payload={"post_id": "y"}))
    assert ("starter", "") in hands.held()
    other = Hands()
    await other.put(comment(1), comment(2), comment(3, payload={"post_id": "q"}))
    await other.say(take("thread", context="p"))
    await other.put(comment(4, at="15:00", payload={"post_id": "y"}))
    assert ("starter", "") not in other.held()


async def test_a_revocation_of_what_is_not_held_bars_it(hands: Hands) -> None:
    """Nothing is published of it, and no event gives the badge afterwards; a person still can, and take it again."""
    await hands.say(take(at="09:00:00"))
    assert hands.messages() == []
    assert hands.withheld() == {("u1", "busy", ""): "revoked"}
    await hands.put(comment(1), comment(2))
    assert ("busy", "") not in hands.held()
    await hands.say(give(at="14:00:00"), take(at="14:00:01", number=2))
    assert [kind for kind, badge in hands.said() if badge == "busy"] == ["awarded", "revoked"]


async def test_the_latest_word_counts_whatever_comes_first(hands: Hands) -> None:
    """A revocation that comes before the events that earned the badge, and a grant that comes late, end as in order."""
    await hands.say(take())
    await hands.put(comment(1), comment(2))
    assert ("busy", "") not in hands.held()
    await hands.say(give(at="11:00:00"))
    assert ("busy", "") not in hands.held()
    await hands.say(give(at="14:00:00", number=2))
    assert ("busy", "") in hands.held()


@pytest.mark.parametrize(
    ("sent", "path", "words"),
    [
        (give("bussy"), "/payload/badge_key", "Did you mean busy?"),
        (take("nothing_like_it"), "/payload/badge_key", "The catalog has no badge nothing_like_it."),
        (give(context="35"), "/payload/context", "takes no context"),
        (give("thread"), "/payload/context", "per post_id"),
    ],
)
async def test_what_the_catalog_does_not_know_is_a_dead_letter(
    hands: Hands, sent: ControlEvent, path: str, words: str
) -> None:
    """An unknown badge, or a context where there is none, is kept with a sentence; nothing is logged."""
    facts = await hands.say(sent)
    assert facts.dead_letters == Counter({"invalid_field": 1})
    ((_, letter, _),) = hands.store.tables.dead_letters.values()
    assert (letter.path, words in letter.detail) == (path, True)
    assert not hands.store.tables.events


async def test_a_request_to_recompute_is_queued_and_done(hands: Hands) -> None:
    """The user is folded again; what was missing is given quietly, as backfill."""
    await hands.put(comment(1), comment(2))
    del hands.store.tables.user_badges["u1"]["busy", ""]
    await hands.store.apply_catalog("{}", "one", badges=[], event_types=[])
    hands.applier.use(compile_plan(replace(hands.applier.plan.catalog, version=1)))
    facts = await hands.say(recompute_requested("u1", actor="ada", id="q1", at_us=us("12:00:00")))
    assert facts.requested == 1
    build = Build(hands.applier, lambda _: None, _unmoved)
    while hands.store.tables.queue:
        await build.slice()
    assert ("busy", "") in hands.held()
    assert hands.messages()[-1]["origin"] == "backfill"
    assert hands.messages()[-1]["notify"] is False


async def _unmoved(head: int) -> None:
    raise AssertionError(f"the catalog moved to {head}")


def item(number: int, kind: str, at: str) -> dict[str, Any]:
    """One more or one less of them."""
    return {"id": f"i{number}", "type": f"item.{kind}", "user_id": "u1", "occurred_at": f"{DAY}T{at}Z"}


async def test_what_falls_is_withdrawn_and_earned_again(hands: Hands) -> None:
    """A gauge that falls takes the badge with it, with a message; when it rises the badge comes under a new id."""
    await hands.put(item(1, "added", "10:00:00"), item(2, "added", "10:01:00"))
    facts = await hands.put(item(3, "removed", "10:02:00"))
    assert facts.revoked == Counter({("owner", "live"): 1})
    assert (hands.held(), hands.withheld()) == ({}, {})
    await hands.put(item(4, "added", "10:03:00"))
    assert hands.held()["owner", ""].award_id == award_id("u1", "owner", "", earlier_grants=1)
    assert hands.said() == [("awarded", "owner"), ("revoked", "owner"), ("awarded", "owner")]
    assert hands.messages()[1]["reason"] == "What it takes no longer holds."
    assert hands.messages()[1]["trigger"] == {"id": "i3", "type": "item.removed"}


async def test_what_a_person_gave_does_not_fall(hands: Hands) -> None:
    """Automatic work never takes back a grant by hand, also one of what was held by itself."""
    await hands.put(item(1, "added", "10:00:00"), item(2, "added", "10:01:00"))
    await hands.say(give("owner"))
    await hands.put(item(3, "removed", "15:00:00"))
    hands.applier.cache.drop(hands.claims["events"].token)
    await hands.put(item(4, "removed", "16:00:00"))
    assert set(hands.held()) == {("owner", "")}
    assert hands.said() == [("awarded", "owner")]


BREAKER = CATALOG + "breaker: {factor: 10, window: 1h, limit: 2}\n"


def posts(users: range, at: str = "10:00") -> list[dict[str, Any]]:
    """Two comments each of some users."""
    return [comment(number, at, user_id=f"u{user}", id=f"{user}-{number}") for user in users for number in (1, 2)]


async def test_a_breaker_holds_back_what_is_too_much() -> None:
    """Of a mass award the first ones are given; the rest is held back, not said, and helps nobody who asks for it."""
    hands = Hands(BREAKER)
    first = await hands.put(*posts(range(1)))
    facts = await hands.put(*posts(range(1, 6)))
    assert first.awards["busy", "live"] + facts.awards["busy", "live"] == 2
    assert facts.held_back["busy"] == 4
    assert facts.awards["fan", "live"] == 1
    assert {place[:2]: state for place, state in hands.withheld().items() if place[1] == "busy"} == {
        (f"u{user}", "busy"): "held" for user in range(2, 6)
    }
    await hands.put(comment(3, "11:00", user_id="u5"))
    assert "follower" not in {key for key, _ in hands.held("u5")}
    assert hands.store.tables.tallies


async def test_a_breaker_knows_what_is_usual() -> None:
    """Where the past says what is usual, that many times it trips, not the limit; a badge may be without."""
    hands = Hands(BREAKER.replace("key: fan,", "key: fan, breaker: off,"))
    hands.store.tables.usual["busy"] = 1.0
    facts = await hands.put(*posts(range(12)))
    assert (facts.awards["busy", "live"], facts.held_back["busy"]) == (10, 2)
    assert facts.held_back["thread"] == 10
    assert facts.awards["fan", "live"] == 10
    assert "fan" not in rules_of(hands.applier.plan.catalog)


@pytest.mark.parametrize("ahead_ms", [62 * 60_000, 3 * 86_400_000, 253_402_300_799_999])
async def test_a_clock_far_ahead_opens_no_breaker(ahead_ms: int) -> None:
    """Records stamped later than they are read count as their batch's latest that are not; no counts are forgotten."""
    hands = Hands(BREAKER)
    stamp = parse_instant("2026-03-10T00:00:00Z") // 1000
    now = [stamp / 1000]
    hands.applier.wall = lambda: now[0]
    hands.applier.use(plan(BREAKER))
    claim = await hands.claim()

    async def put(users: range, begin: int, *ahead: int) -> int:
        """How many were held back; where the records of some offsets are ahead."""
        raw = [json.dumps(body).encode() for body in posts(users)]
        records = [
            Record("events", 0, begin + n, stamp + (ahead_ms if n in ahead else 0), b"k", value)
            for n, value in enumerate(raw)
        ]
        return (await hands.applier.apply(claim, records, from_offset=begin)).held_back["busy"]

    assert await put(range(6), 0, 1) == 4
    assert {minute for minute, *_ in hands.store.tables.tallies} == {stamp * 1000}
    assert await put(range(6, 9), 12, *range(6)) == 3, "also where all of them are"
    now[0] += 61 * 60
    assert await put(range(9, 14), 18, 9) == 5, "and where the batch has waited for an hour"


async def test_a_batch_longer_than_the_window_is_judged_window_by_window() -> None:
    """One record far ahead of the others hides none of them; what lies a window apart does not add up."""
    hands = Hands(BREAKER)
    now = parse_instant("2026-03-10T12:00:00Z") // 1000
    hands.applier.wall = lambda: now / 1000
    hands.applier.use(plan(BREAKER))
    claim = await hands.claim()
    begin = 0

    async def put(*parts: tuple[range, int]) -> int:
        """How many were held back of those of some users, stamped so many minutes ago."""
        nonlocal begin
        sent = [(body, minutes) for users, minutes in parts for body in posts(users)]
        records = [
            Record("events", 0, begin + n, now - minutes * 60_000, b"k", json.dumps(body).encode())
            for n, (body, minutes) in enumerate(sent)
        ]
        facts = await hands.applier.apply(claim, records, from_offset=begin)
        begin += len(records)
        return facts.held_back["busy"]

    assert await put((range(5), 300), (range(5, 6), 0)) == 3
    assert await put((range(6, 7), 241), (range(7, 8), 0)) == 1, "also by what an earlier batch counted"
    assert await put((range(8, 10), 180), (range(10, 12), 115), (range(12, 14), 50)) == 0


async def test_what_is_given_by_hand_lifts_what_was_held_back() -> None:
    """A grant of an award that is held back gives it; a revocation of one keeps it for good."""
    hands = Hands(BREAKER.replace("limit: 2", "limit: 1"))
    await hands.put(*posts(range(3), "10:00"))
    assert hands.withheld()["u1", "busy", ""] == "held"
    await hands.say(give())
    assert ("u1", "busy", "") not in hands.withheld()
    assert ("busy", "") in hands.held()
    sent = grant_revoked("u2", "busy", note="n", actor="a", id="x", at_us=us("18:00:00"))
    await hands.say(sent)
    assert hands.withheld()["u2", "busy", ""] == "revoked"
