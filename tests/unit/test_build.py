"""Building users for a new version of the catalog, on the in-memory store: who, in which order, at which instants."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from worker.errors import PoisonBatch, TransientError
from worker.events import Record
from worker.exchange import BuildPage
from worker.pipeline import build as module
from worker.pipeline import users
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.build import Build
from worker.pipeline.facts import BuildFacts, Limits
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import Plan, compile_plan
from worker.store.memory import MemoryStore

CATALOG = """
version: 1
events:
  comment.posted: {description: A comment.}
metrics:
  comments: {count: comment.posted}
ladders:
  - {key: commentator, metric: comments, levels: LEVELS, label: Commentator, description: "{level} comments"}
"""


def plan(version: int, levels: list[int], *, basis: int | None = None) -> Plan:
    """A plan of a version with these levels."""
    catalog = load_catalog([Source("catalog.yaml", CATALOG.replace("LEVELS", str(levels)))])
    return compile_plan(replace(catalog, version=version, basis=basis))


class Rig:
    """A worker whose catalog is at version 1 with levels 2 and 4; `put` applies comments, `build` builds."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.offset = 0
        self.claim: Any = None
        self.facts: list[BuildFacts] = []

    async def start(self, **limits: int) -> None:
        await self.apply_catalog()
        self.applier = Applier(self.store, plan(1, [2, 4]), Limits("awards", "dead", "control", 1 << 60, **limits))
        self.claim = await self.store.claim("events", 0, generation=1, owner="test", start_offset=0)

    async def apply_catalog(self) -> int:
        hash_ = f"hash {self.offset} {len(self.store.tables.catalogs)}"
        return await self.store.apply_catalog("{}", hash_, badges=[], event_types=[])

    async def put(self, *comments: tuple[str, int]) -> None:
        values = [
            {
                "id": f"{user_id}-{number}",
                "type": "comment.posted",
                "user_id": user_id,
                "occurred_at": f"2026-03-01T10:00:{number:02}Z",
            }
            for user_id, number in comments
        ]
        records = [
            Record("events", 0, self.offset + index, 0, b"k", json.dumps(value).encode())
            for index, value in enumerate(values)
        ]
        await self.applier.apply(self.claim, records, from_offset=self.offset)
        self.offset += len(records)

    async def move(self, levels: list[int], *, basis: int | None = None) -> None:
        self.applier.use(plan(await self.apply_catalog(), levels, basis=basis))

    async def build(self) -> list[BuildFacts]:
        """All slices until nothing is left to do."""
        build = Build(self.applier, self.facts.append, self.moved)
        found = []
        assert await build.slice() is None, "the first look makes the row of the build"
        while (facts := await build.slice()) is not None:
            found.append(facts)
        return found

    async def moved(self, head: int) -> None:
        raise AssertionError(f"the catalog moved to {head}")

    def messages(self) -> list[dict[str, Any]]:
        return [
            json.loads(message.value or b"")
            for _, row in sorted(self.store.tables.outbox.items())
            for message in row.messages
        ]


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.start()
    return made


async def test_users_who_do_not_come_again_get_what_they_earned(rig: Rig) -> None:
    """Who has enough gets the new level quietly at the true instant; who lacks one gets it with their next event."""
    await rig.put(*(("many", number) for number in range(5)), ("few", 1), ("few", 2))
    said = len(rig.messages())
    await rig.move([2, 3, 4])
    found = await rig.build()
    assert (sum(facts.users for facts in found), found[-1].done) == (2, True)
    assert sum((facts.awards for facts in found), Counter()) == {("commentator_3", "backfill"): 1}
    (message,) = rig.messages()[said:]
    assert (message["user_id"], message["badge_key"]) == ("many", "commentator_3")
    assert (message["origin"], message["notify"], message["awarded_at"]) == (
        "backfill",
        False,
        "2026-03-01T10:00:02Z",
    )
    assert message["sequence"] == 3
    await rig.put(("few", 3))
    assert [(one["badge_key"], one["origin"]) for one in rig.messages()[said + 1 :]] == [("commentator_3", "live")]


async def test_built_users_are_built_once(rig: Rig) -> None:
    """What a live batch has built is left alone, a second build finds nothing, and memory goes on from there."""
    await rig.put(("a", 1), ("b", 1))
    await rig.move([1, 2])
    await rig.put(("a", 2))
    assert [facts.users for facts in await rig.build()] == [1, 0]
    again = Build(rig.applier, rig.facts.append, rig.moved)
    assert await again.slice() is None
    assert {row.built_version for row in rig.store.tables.users.values()} == {2}
    await rig.put(("a", 3), ("b", 2))
    assert {key for key, _ in rig.store.tables.user_badges["b"]} == {"commentator_1", "commentator_2"}


async def test_version_that_asks_for_nothing_new_builds_nobody(rig: Rig) -> None:
    """Where the version still uses its predecessor's memories, users stay as they are."""
    await rig.put(("a", 1))
    assert [facts.users for facts in await rig.build()] == [0, 0]
    await rig.move([2, 4], basis=1)
    assert await Build(rig.applier, rig.facts.append, rig.moved).slice() is None
    assert rig.store.tables.users["a"].built_version == 1


async def test_slices_are_short(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice ends once it has read its share of the log; the next one goes on behind its last user."""
    monkeypatch.setattr(module, "SLICE_EVENTS", 3)
    monkeypatch.setattr(module, "SLICE_USERS", 3)
    await rig.put(*((user_id, number) for user_id in "abcde" for number in (1, 2)))
    await rig.move([1])
    found = await rig.build()
    assert [facts.users for facts in found] == [2, 2, 1, 0]
    assert [facts.done for facts in found] == [False, False, False, True]
    assert len(rig.store.tables.user_badges["e"]) == 2


async def test_only_one_builds_at_a_time(rig: Rig) -> None:
    """While a slice runs, another worker finds nothing to do."""
    await rig.put(("a", 1))
    await rig.move([1])
    await Build(rig.applier, rig.facts.append, rig.moved).slice()
    async with rig.store.transaction() as transaction:
        assert await transaction.behind(2, limit=10) == BuildPage(("a",), "a")
        assert await Build(rig.applier, rig.facts.append, rig.moved).slice() is None


async def test_a_moved_head_is_told(rig: Rig) -> None:
    """A worker whose plan is not the head's builds nothing and learns the head."""
    await rig.apply_catalog()
    with pytest.raises(CatalogMoved) as moved:
        await Build(rig.applier, rig.facts.append, rig.moved).slice()
    assert moved.value.head == 2


async def until_again(rig: Rig) -> None:
    """Let a build run until it has looked at everybody and some are behind still."""
    again = asyncio.Event()

    def built(facts: BuildFacts) -> None:
        assert not facts.done
        if facts.again:
            again.set()

    task = asyncio.create_task(Build(rig.applier, built, rig.moved).run())
    try:
        await asyncio.wait_for(again.wait(), 10)
    finally:
        task.cancel()


@pytest.mark.parametrize("where", ["log_of", "grant"])
async def test_a_user_who_cannot_be_built_is_left_out(rig: Rig, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A user whose log cannot be read in time, or whose award is refused, is tried a few times; the others are built.

    The build is not done then: it begins again, and what is mended meanwhile is built.
    """
    await rig.put(("a", 1), ("b", 1), ("c", 1))
    await rig.move([1])
    original = rig.store.transaction

    @asynccontextmanager
    async def failing() -> AsyncIterator[Any]:
        async with original() as transaction:
            log_of, grant = transaction.log_of, transaction.grant

            def cut(user_id: str) -> Any:
                if user_id == "b":
                    raise TransientError("the log is too long")
                return log_of(user_id)

            async def refused(grants: Any, **more: Any) -> None:
                if any(one.user_id == "b" for one in grants):
                    raise PoisonBatch("the database refused a value")
                await grant(grants, **more)

            monkeypatch.setattr(transaction, where, cut if where == "log_of" else refused)
            yield transaction

    monkeypatch.setattr(rig.store, "transaction", failing)
    for name in ("RETRY_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(module, name, 0.0)
    await until_again(rig)
    versions = {user_id: row.built_version for user_id, row in rig.store.tables.users.items()}
    assert versions == {"a": 2, "b": 1, "c": 2}
    monkeypatch.setattr(rig.store, "transaction", original)
    found = await Build(rig.applier, rig.facts.append, rig.moved).slice()
    assert found is not None
    assert (found.users, rig.store.tables.users["b"].built_version) == (1, 2)


async def test_trouble_with_a_service_ends_no_build(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away, even while the new catalog is read, blames nobody; the build waits and goes on."""
    await rig.put(("a", 1))
    await rig.move([1])
    for name in ("RETRY_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(module, name, 0.0)
    plans, tried, done = [rig.applier.plan], asyncio.Event(), asyncio.Event()
    rig.applier.use(plan(1, [2, 4]))

    async def moved(head: int) -> None:
        assert head == 2
        if not tried.is_set():
            tried.set()
            raise TransientError("the database is away")
        rig.applier.use(plans[0])

    def built(facts: BuildFacts) -> None:
        if facts.done:
            done.set()

    task = asyncio.create_task(Build(rig.applier, built, moved).run())
    try:
        await asyncio.wait_for(done.wait(), 10)
    finally:
        task.cancel()
    assert rig.store.tables.users["a"].built_version == 2


async def test_what_came_after_the_version_is_live(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that came since the version rules makes a live award, also where the build is what gives it."""
    monkeypatch.setattr(users, "REBUILD_EVENTS", 0)
    await rig.put(("a", 1), ("b", 1))
    said = len(rig.messages())
    await rig.move([1, 2])
    await rig.put(("a", 2))
    assert rig.messages()[said:] == []
    await rig.build()
    given = {(one["user_id"], one["badge_key"]): (one["origin"], one["notify"]) for one in rig.messages()[said:]}
    assert given == {
        ("a", "commentator_1"): ("backfill", False),
        ("a", "commentator_2"): ("live", True),
        ("b", "commentator_1"): ("backfill", False),
    }


async def test_who_is_left_to_the_build_is_not_kept_in_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was in memory of a user lacks the events of a batch that applied nothing to the user."""
    monkeypatch.setattr(users, "REBUILD_EVENTS", 0)
    await rig.put(("a", 1))
    await rig.move([1, 2])
    await rig.put(("a", 2), ("b", 1))
    assert rig.applier.cache.find(["a", "b"], rig.claim.token).keys() == {"b"}


MONTHLY = """
schedules: [{event: cron.monthly, cron: "0 9 1 * *"}]
"""
LOYAL = """
badges:
  - {key: loyal, label: Loyal, description: A month, flow: {event: cron.monthly}}
  - {key: busy, label: Busy, description: Months, flow: {event: cron.monthly, criteria: {$eventCount: {$gte: 2}}}}
"""


def monthly(version: int, more: str = "") -> Plan:
    """A plan of a version whose clock sends an event each month."""
    text = CATALOG.replace("LEVELS", "[2]") + MONTHLY + more
    return compile_plan(replace(load_catalog([Source("catalog.yaml", text)]), version=version))


async def test_the_past_is_quiet_also_where_the_clock_had_sent_it(rig: Rig) -> None:
    """A live batch that brings a user to a version tells of what it earned itself, not of cron events of old."""
    claim = await rig.store.claim("control", 0, generation=1, owner="test", start_offset=0)

    async def month(number: int) -> None:
        event = {"id": f"m{number}", "type": "cron.monthly", "user_id": "a"}
        event["occurred_at"] = f"2026-0{number}-01T09:00:00Z"
        record = Record("control", 0, number - 1, 0, b"k", json.dumps(event).encode())
        await rig.applier.apply(claim, [record], from_offset=number - 1)

    rig.applier.use(monthly(1))
    await month(1)
    said = len(rig.messages())
    rig.applier.use(monthly(await rig.apply_catalog(), LOYAL))
    await month(2)
    found = {one["badge_key"]: (one["origin"], one["notify"]) for one in rig.messages()[said:]}
    assert found == {"loyal": ("cron", False), "busy": ("cron", True)}


@pytest.fixture
async def short() -> Rig:
    """A worker that reads no log of more than three events again while a partition waits."""
    made = Rig()
    await made.start(late_events_inline=3)
    await made.build()
    return made


async def queue_turn(rig: Rig) -> list[BuildFacts]:
    """What the queue's users are brought to, one slice each."""
    build, found = Build(rig.applier, rig.facts.append, rig.moved), []
    await build.slice()
    while (facts := await build.slice()) is not None:
        found.append(facts)
        assert len(found) < 9
    return found


async def test_late_event_of_a_long_log_waits_for_the_queue(short: Rig) -> None:
    """The partition goes on, the user's events are logged, and the queue gives what a pass at once would have given."""
    await short.put(("u", 5))
    await short.put(("u", 3), ("v", 9))
    assert {key for key, _ in short.store.tables.user_badges["u"]} == {"commentator_2"}
    await short.put(("u", 6))
    said = len(short.messages())
    await short.put(("u", 1))
    assert short.store.tables.queue == {"u": 1}
    await short.put(("u", 7), ("v", 10))
    assert len(short.store.tables.events["u"]) == 5
    assert {one["user_id"] for one in short.messages()[said:]} == {"v"}
    (facts,) = await queue_turn(short)
    assert (facts.users, facts.events, facts.awards) == (1, 5, Counter({("commentator_4", "late"): 1}))
    assert short.store.tables.queue == {}
    assert short.messages()[-1]["awarded_at"] == "2026-03-01T10:00:06Z"
    await short.put(("u", 8))
    assert short.store.tables.users["u"].built_version == 1


async def test_queued_user_gets_what_new_events_earn_as_live(short: Rig) -> None:
    """An award by an event newer than all there were before the late one is live, as it would have been."""
    await short.put(("u", 5))
    await short.put(("u", 2))
    short.applier.limits = replace(short.applier.limits, late_events_inline=2)
    await short.put(("u", 1))
    await short.put(("u", 9))
    (facts,) = await queue_turn(short)
    assert facts.awards == Counter({("commentator_4", "live"): 1})


async def test_user_who_was_built_meanwhile_leaves_the_queue_as_they_are(short: Rig) -> None:
    """A build for a new version reads the log of a queued user as of everyone; the queue then changes nothing."""
    await short.put(*(("u", number) for number in (5, 6, 7)))
    await short.put(("u", 1))
    assert short.store.tables.queue == {"u": 1}
    await short.move([1, 2, 4])
    build = Build(short.applier, short.facts.append, short.moved)
    assert await build.slice() is None
    slices = [facts async for facts in _slices(build)]
    assert [facts.awards.total() for facts in slices][2:] == [0]
    assert short.store.tables.queue == {}
    assert len(short.messages()) == 3


async def _slices(build: Build) -> AsyncIterator[BuildFacts]:
    while (facts := await build.slice()) is not None:
        yield facts


async def test_queue_goes_on_without_who_keeps_failing(short: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose log cannot be read stays in the queue and is tried again later; the others leave it."""
    for user_id in ("bad", "good"):
        await short.put(*((user_id, number) for number in (5, 6, 7)))
        await short.put((user_id, 1))
    fold_again = module.fold_again

    async def failing(transaction: Any, plan: Plan, state: Any) -> Any:
        if state.user_id == "bad":
            raise TransientError("the log cannot be read")
        return await fold_again(transaction, plan, state)

    monkeypatch.setattr(module, "fold_again", failing)
    build, again, failures = Build(short.applier, short.facts.append, short.moved), False, 0
    await build.slice()
    for _ in range(9):
        try:
            facts = await build.slice()
        except TransientError as error:
            build._note(error)
            failures += 1
        else:
            again = facts is not None and facts.again
    assert failures == 3
    assert again
    assert short.store.tables.queue == {"bad": 1}
