"""Tests of conditions in the pipeline: who is asked, what is stored, what is refused where none may run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from worker.app import conditions as room
from worker.errors import OperatorError, TransientError
from worker.events import Event, Record, parse_instant
from worker.pipeline.batch import Applier
from worker.pipeline.decoding import Part
from worker.pipeline.facts import BatchFacts, Limits
from worker.pipeline.protocols import Judge
from worker.rules.catalog.definitions import Condition
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import Plan, compile_plan
from worker.store.memory import MemoryStore

TEXT = """
version: 1
events: {order.paid: {}, order.sent: {}}
condition_types: [{name: big, source: "(event) => event.payload.total > 100"}]
badges:
  - {key: big, flow: {event: order.paid, criteria: {$condition: {type: big}}}}
  - {key: sender, flow: {event: order.sent}}
"""


def plan(text: str = TEXT) -> Plan:
    """The plan of a catalog, which must be clean."""
    return compile_plan(load_catalog([Source("catalog.yaml", text)]))


class Judging:
    """Says yes to totals above 100, without any JavaScript, and counts whom it was asked about."""

    def __init__(self, most: int = 1_000) -> None:
        """`most`: for so many events at once there is time."""
        self.asked: list[str] = []
        self.most = most

    async def __call__(self, asked: Mapping[str, Sequence[Condition]], events: Sequence[Event]) -> list[Event]:
        found = []
        for event in events[: self.most]:
            said = {}
            for one in asked.get(event.type, ()):
                self.asked.append(event.id)
                said[one.hash] = "yes" if event.payload["total"] > 100 else "no"
            found.append(
                Event(
                    event.user_id, event.type, event.occurred_us, event.source, event.id, event.payload,
                    event.payload_json, said,
                )
            )  # fmt: skip
        return [*found, *events[self.most :]]


class Rig:
    """A partition of one topic in memory."""

    def __init__(self, judge: Judge | None, text: str = TEXT) -> None:
        self.store = MemoryStore()
        self.applier = Applier(self.store, plan(text), Limits("awards", "dead", "control", 10**15), judge=judge)
        self.offset = 0

    async def put(self, *events: Mapping[str, Any]) -> BatchFacts:
        """Apply these events as one batch."""
        claim = await self.store.claim("events", 0, generation=1, owner="test", start_offset=0)
        assert claim is not None
        stamp = parse_instant("2026-03-10T00:00:00Z") // 1000
        records = [
            Record("events", 0, self.offset + index, stamp, b"k", json.dumps(event).encode())
            for index, event in enumerate(events)
        ]
        facts = await self.applier.apply(claim, records, from_offset=self.offset)
        self.offset += facts.records
        return facts

    def stored(self, user_id: str = "u") -> dict[str, Mapping[str, str] | None]:
        """What is stored of the verdicts of a user's events, by their id."""
        return {event.id: event.verdicts for event in self.store.tables.events[user_id].values()}


def order(id: str, total: int, *, type: str = "order.paid", at: str = "10:00:00", user: str = "u") -> dict[str, Any]:
    """An event of the user."""
    when = f"2026-03-01T{at}Z"
    return {"id": id, "type": type, "user_id": user, "occurred_at": when, "payload": {"total": total}}


async def test_the_answer_is_stored_with_the_event() -> None:
    """Events are asked about before they are stored; the badge is given at the first yes."""
    rig = Rig(judging := Judging())
    (key,) = rig.applier.plan.catalog.conditions
    facts = await rig.put(order("a", 5), order("b", 500, at="11:00:00"), order("c", 0, type="order.sent"))
    assert rig.stored() == {"a": {key: "no"}, "b": {key: "yes"}, "c": {}}
    assert sorted(judging.asked) == ["a", "b"]
    assert set(facts.awards) == {("big", "live"), ("sender", "live")}


async def test_a_rebuild_reads_what_is_stored() -> None:
    """A late event has the log folded again: nobody is asked about the events that are logged."""
    rig = Rig(judging := Judging())
    await rig.put(order("b", 50, at="11:00:00"))
    judging.asked.clear()
    facts = await rig.put(order("a", 500))
    assert judging.asked == ["a"]
    assert set(facts.awards) == {("big", "late")}


async def test_events_of_one_identity() -> None:
    """Of two events with one identity both are asked about, for only the log says which of them was first."""
    rig = Rig(judging := Judging())
    facts = await rig.put(order("a", 500), order("a", 400))
    assert judging.asked == ["a", "a"]
    assert (facts.dead_letters.total(), set(facts.awards)) == (1, {("big", "live")})


async def test_what_there_is_no_time_for_waits_for_the_next_batch() -> None:
    """The batch ends before the first record that could not be asked about, whatever its user is called."""
    rig = Rig(judging := Judging(most=2))
    records = [
        order("a", 500, user="z"), order("a", 500, user="z"), {"no": "event"}, order("b", 5, user="z"),
        order("c", 500, user="y"), {"no": "event"}, order("a", 400, user="z"), order("d", 500, user="x"),
    ]  # fmt: skip
    taken = []
    while records:
        facts = await rig.put(*records)
        taken.append(
            (facts.records, facts.next_offset, facts.duplicates, facts.dead_letters.total(), len(facts.awards))
        )
        records = records[facts.records :]
    assert taken == [(4, 4, 1, 1, 1), (3, 7, 0, 2, 1), (1, 8, 0, 0, 1)]
    assert judging.asked == ["a", "b", "c", "a", "d"]
    assert {user: sorted(one.id for one in log.values()) for user, log in rig.store.tables.events.items()} == {
        "x": ["d"], "y": ["c"], "z": ["a", "b"],
    }  # fmt: skip


async def test_partitions_of_one_batch_that_there_is_no_time_for_stay_where_they_are() -> None:
    """Of several partitions the first ones move, one in part, those behind it not at all."""
    rig = Rig(Judging(most=3))
    stamp = parse_instant("2026-03-10T00:00:00Z") // 1000
    parts = []
    for partition in (2, 0, 1):
        claim = await rig.store.claim("events", partition, generation=1, owner="test", start_offset=0)
        assert claim is not None
        bodies = [order(str(number), 500, user=f"u{partition}") for number in range(2)]
        records = [
            Record("events", partition, number, stamp, b"k", json.dumps(body).encode())
            for number, body in enumerate(bodies)
        ]
        parts.append(Part(claim, records, 0))
    facts = await rig.applier.apply_together(parts)
    assert (facts.passed, facts.records) == ([(2, 2), (0, 1)], 3)
    assert [len(facts.of(part.records)) for part in parts] == [2, 1, 0]
    assert {user: len(log) for user, log in rig.store.tables.events.items()} == {"u2": 2, "u0": 1}
    assert facts.awards.total() == 2


async def test_a_plan_without_conditions_asks_nobody() -> None:
    """Where no badge asks a condition, events are stored as they are."""

    async def refuse(asked: Mapping[str, Sequence[Condition]], events: Sequence[Event]) -> list[Event]:
        raise AssertionError("nobody was to be asked")

    rig = Rig(refuse, TEXT.replace("{key: big,", "{key: big, status: draft,"))
    await rig.put(order("a", 500))
    assert rig.stored() == {"a": None}


async def test_without_a_door_nothing_is_applied() -> None:
    """Where conditions may not run, a plan that asks them is refused in words, and the batch leaves no effect."""
    rig = Rig(None)
    with pytest.raises(OperatorError, match="BADGES_JS is off"):
        await rig.put(order("a", 500))
    assert rig.store.tables.events == {}


async def test_no_child_is_tried_again() -> None:
    """Where no process can be started the batch leaves no effect, and no verdict is made up."""

    async def away(asked: Mapping[str, Sequence[Condition]], events: Sequence[Event]) -> list[Event]:
        raise TransientError("the process for conditions cannot be started")

    rig = Rig(away)
    with pytest.raises(TransientError):
        await rig.put(order("a", 500))
    assert rig.store.tables.events == {}


def test_what_a_condition_threw_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the engine does not give may be an event's data, and stays out of the log."""
    said: list[str] = []

    class Log:
        def warning(self, _: str, *, condition: str, reason: str) -> None:
            said.append(reason)

    monkeypatch.setattr(room, "log", Log())
    for message in ("TypeError: 4111", "a@b.example: x", "it took longer than 0.25 s"):
        room.FaultLog()("c", message, 0)
    assert said == ["TypeError", "an error of its own", "it took longer than 0.25 s"]
