"""One batch, on the in-memory store: what is applied, granted, buried and published, and with which words."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig.faults import killed_at
from worker.errors import Fenced, TransientError
from worker.events import Record, Rejected, parse_instant
from worker.exchange import Claim
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.decoding import dead_letter
from worker.pipeline.facts import BatchFacts, Limits
from worker.pipeline.messages import NAMESPACE, award_id, dead_letter_message
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import Plan, compile_plan
from worker.store.memory import MemoryStore
from worker.store.removal import user_hash
from worker.stream.producer import MAX_REQUEST_SIZE

CATALOG = """
version: 1
events:
  comment.posted: {description: A comment., schema: {type: object, properties: {post_id: {type: string}}}}
  user.registered: {description: The beginning., schema: {type: object}}
metrics:
  comments: {count: comment.posted}
badges:
  - {key: busy, label: Busy, description: Three in an hour,
     flow: {$timeWindow: {last: 1d, flow: {event: comment.posted, criteria: {$eventCount: {$gte: 3}}}}}}
  - {key: exactly_two, label: Two, description: Two, per: post_id,
     flow: {event: comment.posted, criteria: {$eventCount: {$eq: 2}}}}
ladders:
  - {key: commentator, metric: comments, levels: [1, 4], label: Commentator, description: "{level} comments"}
tenures:
  - {key: member, since: user.registered, years: [1], label: Member, description: "Since {since}"}
"""
DAY = "2026-03-01"


def plan(text: str = CATALOG) -> Plan:
    return compile_plan(load_catalog([Source("catalog.yaml", text)]))


class Rig:
    """A partition with its claim; `put` applies values as the next batch."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.applier = Applier(
            self.store,
            plan(),
            Limits("awards", "dead", "control", 24 * 3600 * 10**6),
        )
        self.claims: dict[str, Claim] = {}
        self.offset = 0

    async def claim(self, topic: str = "events") -> Claim:
        found = await self.store.claim(topic, 0, generation=1, owner="test", start_offset=0)
        assert found is not None
        self.claims[topic] = found
        return found

    async def put(self, *values: Any, topic: str = "events") -> BatchFacts:
        claim = self.claims.get(topic) or await self.claim(topic)
        begin = self.offset if topic == "events" else 0
        stamp = parse_instant("2026-03-10T00:00:00Z") // 1000
        raw = [value if isinstance(value, bytes) or value is None else json.dumps(value).encode() for value in values]
        records = [Record(topic, 0, begin + index, stamp, b"k", value) for index, value in enumerate(raw)]
        facts = await self.applier.apply(claim, records, from_offset=begin)
        if topic == "events":
            self.offset += len(records)
        return facts

    def messages(self, topic: str = "awards") -> list[dict[str, Any]]:
        rows = sorted(self.store.tables.outbox.items())
        sent = [message for _, row in rows if row.topic == topic for message in row.messages]
        return [json.loads(message.value or b"{}") for message in sent]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def comment(number: int, at: str = "10:00", **changes: Any) -> dict[str, Any]:
    when = f"{DAY}T{at}:{number:02}Z"
    return {
        "id": f"c{number}",
        "type": "comment.posted",
        "user_id": "u1",
        "occurred_at": when,
        "payload": {"post_id": "p"},
    } | changes


async def test_awards_are_stored_and_said(rig: Rig) -> None:
    """An award is a row, a log entry and a message with the award's own id, at the instant of its event."""
    facts = await rig.put(comment(1), comment(2), comment(3))
    assert facts.awards == Counter({("commentator_1", "live"): 1, ("exactly_two", "live"): 1, ("busy", "live"): 1})
    said = {body["badge_key"]: body for body in rig.messages()}
    first = said["commentator_1"]
    assert first["awarded_at"] == f"{DAY}T10:00:01Z"
    assert first["trigger"] == {"id": "c1", "type": "comment.posted"}
    assert (first["origin"], first["notify"], first["sequence"]) == ("live", True, 1)
    assert first["badge"]["label"] == "Commentator I"
    assert first["id"] == award_id("u1", "commentator_1", "")
    assert said["exactly_two"]["context"] == "p"
    assert [body["sequence"] for body in rig.messages()] == [1, 2, 3]


def test_an_award_id_is_the_same_everywhere() -> None:
    """The id of an award follows from user, badge, context and earlier grants alone (decisions 14)."""
    assert award_id("u42", "nice_question", "35") == "1d6883e8-8cc7-5b54-aff1-093e66b69613"
    assert award_id("ü", "b", "") == award_id("ü", "b", "", earlier_grants=0, kind="awarded")
    assert len({award_id("u", "b", ""), award_id("u", "b", "", earlier_grants=1), award_id("u", "b", "c")}) == 3


@given(user=st.text(max_size=8), context=st.text(max_size=8), earlier=st.integers(0, 300))
def test_an_award_id_is_a_uuid_of_version_5_over_its_parts_as_json(user: str, context: str, earlier: int) -> None:
    """The id is what any library makes of the name space and the parts in canonical JSON (decisions 14)."""
    name = json.dumps([user, "b", context, earlier, "awarded"], ensure_ascii=False, separators=(",", ":"))
    assert award_id(user, "b", context, earlier_grants=earlier) == str(uuid5(NAMESPACE, name))


async def test_a_repeat_changes_nothing(rig: Rig) -> None:
    """The same event again, in the same batch or a later one, leaves counters and awards as they are."""
    await rig.put(comment(1), comment(1), comment(2))
    facts = await rig.put(comment(2), comment(1))
    assert facts.duplicates == 2
    assert not facts.awards
    await rig.put(comment(3))
    facts = await rig.put(comment(4))
    assert facts.awards == Counter({("commentator_4", "live"): 1})


async def test_other_content_under_a_known_id_is_a_conflict(rig: Rig) -> None:
    """An id that comes again with other content is a dead letter, in the same batch or a later one; the first stays."""
    other = comment(1, payload={"post_id": "q"})
    facts = await rig.put(comment(1), other, comment(2))
    assert facts.dead_letters == Counter({"id_conflict": 1})
    facts = await rig.put(other)
    assert facts.dead_letters == Counter({"id_conflict": 1})
    assert [letter.offset for _, letter, _ in rig.store.tables.dead_letters.values()] == [1, 3]


def test_a_dead_letter_fits_its_topic_whatever_the_record_was() -> None:
    """A giant key is cut in the message: refused by the broker, it would keep other dead letters from their topic."""
    record = Record("events", 0, 0, 0, b"k" * 1_000_000, b"x" * 1_000_000)
    rejected = Rejected("invalid_field", "s" * 1000, path="/p" * 500)
    message = dead_letter_message(dead_letter(record, rejected, incarnation=1))
    size = len(message.key or b"") + len(message.value or b"") + sum(len(value) for _, value in message.headers)
    assert message.key == b"k" * 64 * 1024
    assert size < MAX_REQUEST_SIZE / 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"type": "review.lost", "user_id": 1}', "review.lost"),
        ('{"event_type": "grüße.gesandt"}', "grüße.gesandt"),
        ('{"type": "gr\\u00fc\\u00dfe\\/gesandt"}', "grüße/gesandt"),
        ('{"payload": {"type": "card"}, "type": "order.paid"}', "order.paid"),
        ('{"payload": {"text": "%s"}, "type": "order.paid"}' % ("x" * 200_000), "order.paid"),
        ('{"text": "%s", "type": "grüße", broken' % ("x" * 200_000), "grüße"),
        ('{"type": "gr\\u00fc\\u00dfe\\"", broken', 'grüße"'),
        ('{"payload": {"type": "card"}}', None),
        ('{"type": 7}', None),
        ('{"type": "%s"}' % ("x" * 201), None),
        ("[1, 2", None),
    ],
)
def test_a_dead_letter_says_which_type_its_record_says(value: str, said: str | None) -> None:
    """However long the record is and wherever it says it, in whatever spelling JSON has for it."""
    record = Record("events", 0, 7, 0, b"u1", value.encode())
    assert dead_letter(record, Rejected("invalid_field", "."), incarnation=1).said_type == said


def test_a_dead_letter_of_a_binary_cloud_event_says_its_type() -> None:
    """The type stands in a header there."""
    record = Record("events", 0, 7, 0, b"u1", b"{}", (("ce_specversion", b"1.0"), ("ce_type", "grüße".encode())))
    assert dead_letter(record, Rejected("invalid_field", "."), incarnation=1).said_type == "grüße"


async def test_poison_does_not_keep_its_neighbours(rig: Rig) -> None:
    """What is no event becomes a dead letter with its reason, and the records around it are applied."""
    facts = await rig.put(comment(1), b"{", None, comment(2, type="comment.postde"), comment(3))
    assert facts.dead_letters == Counter({"not_json": 1, "unknown_event_type": 1})
    assert facts.tombstones == 1
    assert facts.types == Counter({("comment.posted", "applied"): 2})
    letters = {letter.reason: letter for _, letter, _ in rig.store.tables.dead_letters.values()}
    assert letters["not_json"].raw == b"{"
    assert letters["not_json"].offset == 1
    published = [row for row in rig.store.tables.outbox.values() if row.topic == "dead"]
    headers = [dict(message.headers) for row in published for message in row.messages]
    assert [header["badges_reason"] for header in headers] == [b"not_json", b"unknown_event_type"]
    assert headers[1]["badges_offset"] == b"3"


async def test_a_late_event_is_counted_where_it_belongs(rig: Rig) -> None:
    """An event older than the newest one is put in its place: awards it makes possible come at their own instants."""
    await rig.put(comment(1, at="08:00"), comment(3, at="12:00"))
    facts = await rig.put(comment(2, at="10:00"))
    assert facts.late_users == 1
    assert facts.awards == Counter({("busy", "late"): 1})
    busy = next(body for body in rig.messages() if body["badge_key"] == "busy")
    assert busy["awarded_at"] == f"{DAY}T12:00:03Z"
    assert busy["sequence"] == 3
    facts = await rig.put(comment(4, at="13:00"))
    assert ("commentator_4", "live") in facts.awards


async def test_a_fenced_batch_leaves_nothing(rig: Rig) -> None:
    """A batch under an old claim, or from another offset, has no effect at all."""
    old = await rig.claim()
    await rig.claim()
    with pytest.raises(Fenced):
        await rig.applier.apply(old, [Record("events", 0, 0, 0, b"k", b"{")], from_offset=0)
    assert not rig.store.tables.events
    assert not rig.store.tables.dead_letters


async def test_of_a_batch_that_failed_nothing_stays_in_memory(rig: Rig) -> None:
    """The same batch again begins where the last one that was committed ended."""
    await rig.put(comment(1))
    with killed_at(rig.store, "publish", {1}), pytest.raises(TransientError):
        await rig.put(comment(2))
    assert len(rig.applier.cache) == 0
    facts = await rig.put(comment(2))
    assert (facts.awards, facts.late_users) == (Counter({("exactly_two", "live"): 1}), 0)
    assert len(rig.applier.cache) == 1


async def test_a_newer_catalog_stops_the_batch(rig: Rig) -> None:
    """A batch evaluated with a plan that is not the head's has no effect; the head's version is told."""
    await rig.store.apply_catalog("{}", "hash", badges=[], event_types=[])
    with pytest.raises(CatalogMoved) as caught:
        await rig.put(comment(1))
    assert caught.value.head == 1
    assert not rig.store.tables.events


async def test_cron_events_come_by_the_control_topic(rig: Rig) -> None:
    """A scheduled event on the control topic grants with origin cron; on an app's topic it is refused."""
    joined = {"id": "r", "type": "user.registered", "user_id": "u1", "occurred_at": "2025-02-28T12:00:00Z"}
    tick = {"id": "t", "type": "cron.anniversary", "user_id": "u1", "occurred_at": "2026-03-01T00:00:00Z"}
    await rig.put(joined)
    facts = await rig.put(tick)
    assert facts.dead_letters == Counter({"invalid_field": 1})
    facts = await rig.put(tick, topic="control")
    assert facts.awards == Counter({("member_1y", "cron"): 1})


async def test_what_nothing_acts_on_is_kept(rig: Rig) -> None:
    """An event of an app, or of another kind of message, on the control topic becomes a dead letter."""
    facts = await rig.put(comment(1), comment(2, type="badge.awarded", payload={"badge_key": "busy"}), topic="control")
    assert facts.dead_letters == Counter({"unknown_event_type": 2})
    assert not rig.store.tables.events


async def test_erased_and_too_old_events_are_dead_letters(rig: Rig) -> None:
    """What an erasure or retention removed does not come back; what is newer is applied."""
    rig.store.tables.erased_users[user_hash("u1")] = parse_instant(f"{DAY}T10:00:01Z")
    rig.store.tables.retention_floors["comment.posted"] = parse_instant(f"{DAY}T09:00:00Z")
    facts = await rig.put(comment(1), comment(2), comment(9, user_id="u2", occurred_at="2020-01-01T00:00:00Z"))
    assert facts.dead_letters == Counter({"erased": 1, "too_old": 1})
    assert facts.types == Counter({("comment.posted", "applied"): 1})


async def test_a_field_of_contexts_may_have_any_name(rig: Rig) -> None:
    """What is held in a context is found again also where the name of the context's field holds a =."""
    badge = '{key: often, label: O, description: O, per: "a=b", flow: {event: x.y, criteria: {$eventCount: {$lte: 9}}}}'
    rig.applier.use(plan(f"version: 1\nevents: {{x.y: {{description: X}}}}\nbadges: [{badge}]"))
    for number in (1, 2):
        facts = await rig.put(comment(number, type="x.y", payload={"a=b": "c=d"}))
        assert not facts.dead_letters
    assert [body["context"] for body in rig.messages()] == ["c=d"]


ASKING = """
version: 1
events:
  pull.merged: {description: A pull request., schema: {type: object, properties: {repo: {type: string}}}}
  talk.given: {description: A talk.}
  note.made: {description: A note.}
badges:
  - {key: author, label: A, description: A, per: repo, status: STATUS, flow: {event: pull.merged}}
  - {key: merged, label: M, description: M, flow: {event: pull.merged}}
"""
SPEAKING = "  - {key: speaker, label: S, description: S, flow: {$and: [{badge: BADGE}, {event: talk.given}]}}\n"


def asking(badge: str, *, status: str = "active") -> Plan:
    return plan(ASKING.replace("STATUS", status) + SPEAKING.replace("BADGE", badge))


@pytest.mark.parametrize("badge", ["merged", "author"])
async def test_a_late_event_meets_a_badge_held_since(rig: Rig, badge: str) -> None:
    """What a late event lacked but for a badge given after its instant is earned at that badge's own instant."""
    rig.applier.use(asking(badge))
    await rig.put(comment(2, type="pull.merged", payload={"repo": "r"}))
    facts = await rig.put(comment(1, type="talk.given"))
    assert facts.awards == Counter({("speaker", "late"): 1})
    assert rig.messages()[-1]["awarded_at"] == f"{DAY}T10:00:02Z"


async def test_other_events_at_the_instant_of_an_award_earn_nothing_by_it(rig: Rig) -> None:
    """Of several events at one instant only the one that earned the badge asked for earns what asks for it."""
    rig.applier.use(asking("merged"))
    await rig.put(comment(2, type="pull.merged"), comment(2, id="c1", type="note.made"))
    facts = await rig.put(comment(1, id="c0", type="talk.given"))
    assert facts.awards == Counter({("speaker", "late"): 1})
    assert rig.messages()[-1]["trigger"]["id"] == "c2"


@pytest.mark.parametrize("status", ["active", "locked"])
async def test_a_badge_added_later_counts_what_is_held(rig: Rig, status: str) -> None:
    """A badge of a new version that asks for one held in some context is built from the log, locked or not."""
    rig.applier.use(plan(ASKING.replace("STATUS", "active")))
    await rig.put(comment(1, type="talk.given"), comment(2, type="pull.merged", payload={"repo": "r"}))
    version = await rig.store.apply_catalog("{}", "hash", badges=[], event_types=[])
    newer = asking("author", status=status)
    rig.applier.use(replace(newer, catalog=replace(newer.catalog, version=version)))
    facts = await rig.put(comment(3, type="talk.given"))
    assert facts.awards == Counter({("speaker", "backfill"): 1})
    assert rig.messages()[-1]["awarded_at"] == f"{DAY}T10:00:02Z"
