"""All that changes users, in random order, on PostgreSQL: held, logged, said and remembered is what it must be."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.properties.test_checkpoint import plain
from tests.rig.faults import Faults, store
from worker.app.catalog import head_plan, put_in_force
from worker.app.erasure import erased_message
from worker.app.quarantine import settle_quarantine
from worker.control import ControlEvent, grant_added, grant_revoked, recompute_requested
from worker.errors import TransientError
from worker.events import Event, Record, format_instant, json_text
from worker.pipeline import users
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.build import Build
from worker.pipeline.cache import Cache
from worker.pipeline.facts import Limits
from worker.pipeline.messages import award_id
from worker.pipeline.scope import scope_of_job
from worker.pipeline.slices import Slices
from worker.pipeline.users import fold_again
from worker.rules import evaluate
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import Plan
from worker.store.people import PeopleTable
from worker.store.postgres import PostgresStore

__all__ = ["store"]

HOUR = 3_600_000_000
#: 2027-01-01T00:00:00Z: an erasure's instant is that of the newest event.
START = 1_798_761_600_000_000
#: More are tried by naming a range in the environment: `MODEL_SEEDS=0:500`.
SEEDS = range(*map(int, os.environ.get("MODEL_SEEDS", "3:9").split(":")))
LIMITS = Limits("badges.awards", "dead", "control", 1 << 60, late_events_inline=12)
USERS = ("ann", "bob", "cyd")
POSTS = ("p", "q", "r")

COMMON = """
version: 1
events:
  a.done: {schema: {type: object, properties: {post: {type: string}}}}
  b.done: {schema: {type: object, properties: {post: {type: string}}}}
metrics: {balance: {count: a.done, less: b.done}}
badges:
  - {key: three, label: Three, description: d, flow: {event: a.done, criteria: {$eventCount: {$gte: 3}}}}
  - {key: own, label: Own, description: d, revocable: auto, flow: {snapshot: {balance: {$gte: 2}}}}
  - {key: twice, label: Twice, description: d, per: post, flow: {event: a.done, criteria: {$eventCount: {$gte: 2}}}}
  - {key: rank, label: Rank, description: d, per: post, revocable: auto,
     flow: {$and: [{badge: twice}, {event: a.done, criteria: {$eventCount: {$gte: 1}}}]}}
  - {key: any_rank, label: Any, description: d, revocable: auto, flow: {badge: rank}}
  - {key: led, label: Led, description: d,
     flow: {$and: [{badge: own}, {event: b.done, criteria: {$eventCount: {$gte: 2}}}]}}
  - {key: both, label: Both, description: d,
     flow: {$and: [{badge: twice}, {event: b.done, criteria: {$eventCount: {$gte: 1}}}]}}
  - {key: crowd, label: Crowd, description: d, breaker: {limit: 1}, flow: {event: a.done}}
  - {key: after, label: After, description: d,
     flow: {$and: [{badge: crowd}, {event: b.done, criteria: {$eventCount: {$gte: 1}}}]}}
"""
CATALOGS = (
    COMMON,
    COMMON.replace("$gte: 3", "$gte: 4").replace("balance: {$gte: 2}", "balance: {$gte: 1}"),
    COMMON + "  - {key: late, label: Late, description: d, flow: {$and: [{badge: own}, {badge: three}]}}\n",
)
KEYS = ("three", "own", "twice", "rank", "any_rank", "led", "both", "crowd", "after")
PER_POST = ("twice", "rank")
#: How many users are still to be folded again.
WAITING = """
SELECT (SELECT count(*) FROM recompute_queue)
     + (SELECT count(*) FROM users WHERE built_version IS DISTINCT FROM $1)
"""


@dataclass
class Model:
    """A stream of two partitions and the control topic, the store behind it, and all that acts on it."""

    store: PostgresStore
    faults: Faults
    random: random.Random
    plan: Plan = field(init=False)
    catalog: int = 0
    records: dict[tuple[str, int], list[Record]] = field(default_factory=dict)
    appliers: dict[int, Applier] = field(default_factory=dict)
    claims: dict[tuple[str, int], Any] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0
    #: What happened, to be read where a run fails: `print(*model.told, sep="\\n")`.
    told: list[str] = field(default_factory=list)

    # ---- what happens -----------------------------------------------------------------------------------------------

    def now(self) -> int:
        """An instant; each is later than those before, but for late events."""
        self.number += 1
        return START + self.number * HOUR

    async def step(self) -> None:
        """One thing that happens."""
        kinds = {
            self.batch: 12, self.by_hand: 4, self.lost: 1, self.swap: 1, self.build: 2, self.job: 2,
            self.quarantine: 1, self.replay: 1, self.erase: 0.3,
        }  # fmt: skip
        (act,) = self.random.choices(list(kinds), list(kinds.values()))
        self.told.append(act.__name__)
        if self.random.random() < 0.25 and act not in (self.lost, self.swap):
            self.faults.left = self.random.randrange(1, 25)
        try:
            await act()
        except TransientError:
            self.told.append("  (connection lost)")
            self.claims.clear()
        finally:
            self.faults.left = None

    async def batch(self) -> None:
        """Events of users on one of two partitions: new, late, repeated."""
        place = ("events", self.random.choice([0, 0, 1]))
        line = self.records.setdefault(place, [])
        for _ in range(self.random.randint(1, 5)):
            if self.made and self.random.random() < 0.1:
                value = self.random.choice(self.made)
            else:
                at = self.now()
                if self.random.random() < 0.2:
                    at -= self.random.randint(1, 20) * HOUR + 1
                value = {
                    "id": f"e{self.number}",
                    "type": self.random.choice(["a.done", "a.done", "b.done"]),
                    "user_id": self.random.choice(USERS),
                    "occurred_at": format_instant(at),
                    "payload": {"post": self.random.choice(POSTS)},
                }
                self.made.append(value)
            self.told.append(f"  {place[1]} {json.dumps(value)}")
            line.append(Record(*place, len(line), START // 1000, b"k", json.dumps(value).encode()))
        await self.apply(place)

    async def by_hand(self) -> None:
        """What people say on the control topic."""
        place = ("control", 0)
        line = self.records.setdefault(place, [])
        for _ in range(self.random.choice([1, 1, 2])):
            made = self.said()
            self.told.append(f"  {made.value.decode()}")
            line.append(Record(*place, len(line), START // 1000, made.key, made.value))
        await self.apply(place)

    def said(self) -> ControlEvent:
        """A grant, a revocation, or a request to look again."""
        user, key, at = self.random.choice(USERS), self.random.choice(KEYS), self.now()
        if self.random.random() < 0.15:
            at -= self.random.randint(1, 15) * HOUR + 2
        context = self.random.choice(POSTS) if key in PER_POST else ""
        which = self.random.random()
        if which < 0.15:
            return recompute_requested(user, actor="a", id=f"h{self.number}", at_us=at)
        make = grant_added if which < 0.5 else grant_revoked
        return make(user, key, context=context, note="n", actor="a", id=f"h{self.number}", at_us=at)

    async def apply(self, place: tuple[str, int]) -> None:
        """Have the partition's owner apply what it was not told of yet."""
        line = self.records.get(place, [])
        while True:
            claim = self.claims.get(place)
            if claim is None:
                claim = await self.store.claim(*place, generation=1, owner="w", start_offset=0)
                assert claim is not None
                self.claims[place] = claim
            begin = await self.store.pool.fetchval(
                "SELECT next_offset FROM partitions WHERE group_id = 'badges' AND topic = $1 AND partition = $2", *place
            )
            if begin >= len(line):
                return
            part = line[begin : begin + self.random.randint(1, 6)]
            applier = self.appliers.setdefault(
                place[1], Applier(self.store, self.plan, LIMITS, cache=Cache(self.random.choice([0, 1 << 20, 1 << 20])))
            )
            try:
                await applier.apply(claim, part, from_offset=begin)
            except CatalogMoved:
                applier.use(self.plan)

    async def lost(self) -> None:
        """A process ends, or a claim."""
        if self.random.random() < 0.5:
            self.appliers.clear()
            self.claims.clear()
        elif self.claims:
            claim = self.claims.pop(self.random.choice(sorted(self.claims)))
            for applier in self.appliers.values():
                applier.forget(claim)

    async def swap(self, number: int | None = None) -> None:
        """Another version of the catalog rules."""
        self.catalog = self.random.randrange(len(CATALOGS)) if number is None else number
        text = CATALOGS[self.catalog]
        catalog = load_catalog([Source("catalog.yaml", text)])
        document = json_text.dumps(catalog.document)
        await put_in_force(self.store, catalog, document, f"{hash(document):x}", applied_by="test")
        plan = await head_plan(self.store)
        assert plan is not None
        self.plan = plan
        self.told.append(f"  catalog {self.catalog} version {plan.version} basis {plan.basis}")

    async def build(self, *, whole: bool = False) -> None:
        """Slices of the build and of the queue."""
        build = Build(Applier(self.store, self.plan, LIMITS), lambda _: None, _nothing)
        for _ in range(200 if whole else self.random.randint(1, 4)):
            if await build.slice() is None and whole and not await self.store.pool.fetchval(WAITING, self.plan.basis):
                return

    async def job(self) -> None:
        """A backfill, a recompute or a sweep, or some slices of it."""
        kind = self.random.choice(["backfill", "recompute", "sweep"])
        self.told.append(f"  {kind}")
        job_id = await self.store.create_user_job(kind, {}, driver="d")
        await self.drive(job_id, self.random.choice([1, 9]))

    async def drive(self, job_id: int, most: int) -> Counter[str]:
        """Slices of a job; what they found."""
        slices, found = Slices(self.store, lambda: self.plan, "d", LIMITS.award_topic, limit=2), Counter[str]()
        for _ in range(most):
            facts = await slices.slice(job_id)
            if facts is None:
                break
            found.update(facts.kinds)
            found["granted"] += facts.awards.total()
            if facts.done:
                break
        return found

    async def quarantine(self, verb: Any = None) -> None:
        """What was held back is released or dropped."""
        verb = verb or self.random.choice(["release", "release", "drop"])
        self.told.append(f"  {verb}")
        async for _ in settle_quarantine(
            self.store, self.plan, verb, badge_key="crowd", topic=LIMITS.award_topic, actor="a", note="n"
        ):
            pass

    async def replay(self) -> None:
        """All records again, under the rows of another group."""
        group = PostgresStore(self.store.pool, group_id=f"replay {self.number}")
        self.number += 1
        applier = Applier(group, self.plan, replace(LIMITS, past=True))
        for place, line in sorted(self.records.items()):
            # what the live owner has not read yet is not replayed
            end = await self.store.pool.fetchval(
                "SELECT next_offset FROM partitions WHERE group_id = 'badges' AND topic = $1 AND partition = $2", *place
            )
            claim = await group.claim(*place, generation=1, owner="r", start_offset=0)
            for begin in range(0, end or 0, 50):
                await applier.apply(claim, line[begin : min(end, begin + 50)], from_offset=begin)

    async def erase(self) -> None:
        """Somebody is erased."""
        user = self.random.choice(USERS)
        self.told.append(f"  {user}")

        await PeopleTable(self.store.pool).erase(
            user, by="a", note="n", topic=LIMITS.award_topic, message=lambda times: erased_message(user, times=times)
        )
        rows = await named(self.store, user)
        assert not rows, rows

    async def settle(self) -> None:
        """Everything that waits is done."""
        for place in sorted(self.records):
            await self.apply(place)
        await self.build(whole=True)

    # ---- what must be so --------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """The invariants, once nothing waits."""
        await self.settle()
        for user in USERS:
            await self.check_awards(user)
        await self.check_memory()
        for kind in ("sweep", "sweep"):
            job_id = await self.store.create_user_job(kind, {}, driver="d")
            found = +await self.drive(job_id, 50)
            assert set(found) <= {"award_not_in_log"}, (kind, found)
        await self.check_memory()

    async def log_of(self, user: str) -> list[Event]:
        """A user's log, in order."""
        async with self.store.transaction() as transaction:
            return [event async for page in transaction.logs_of([user]) for event in page]

    async def check_awards(self, user: str) -> None:
        """Log, messages and current awards of a user say the same, and it is what the events say."""
        pool = self.store.pool
        rows = await pool.fetch("SELECT * FROM badge_awards_log WHERE user_id = $1 ORDER BY sequence", user)
        assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
        standing: dict[tuple[str, str], Any] = {}
        revoked: Counter[tuple[str, str]] = Counter()
        for row in rows:
            key = (row["badge_key"], row["context"])
            if row["kind"] == "awarded":
                assert key not in standing, key
                assert str(row["award_id"]) == award_id(user, *key, earlier_grants=revoked[key]), (key, revoked[key])
                standing[key] = row
            else:
                assert standing.pop(key)["award_id"] == row["award_id"]
                revoked[key] += 1
        current = await pool.fetch("SELECT * FROM user_badges WHERE user_id = $1", user)
        held = {(row["badge_key"], row["context"]): row for row in current}
        assert len(held) == len(current)
        assert {key: row["award_id"] for key, row in held.items()} == {
            k: row["award_id"] for k, row in standing.items()
        }
        said = await self.messages(user)
        assert [(one["sequence"], one["badge_key"], one["type"]) for one in said] == [
            (row["sequence"], row["badge_key"], f"badge.{row['kind']}") for row in rows
        ]
        assert len({one["id"] for one in said}) == len(said)
        withheld = {
            (row["badge_key"], row["context"]): row["state"]
            for row in await pool.fetch("SELECT * FROM withheld_awards WHERE user_id = $1", user)
        }
        assert not set(withheld) & set(held)
        self.check_reference(user, await self.log_of(user), set(held), withheld)

    async def messages(self, user: str) -> list[dict[str, Any]]:
        """What the outbox says of a user's awards, in order."""
        found = [
            json.loads(message.value or b"{}")
            for shard in range(4)
            for row in await self.store.unpublished([shard], 10_000)
            if row.topic == LIMITS.award_topic
            for message in row.messages
        ]
        return [one for one in found if one["user_id"] == user and one["type"].startswith("badge.")]

    def check_reference(
        self, user: str, log: list[Event], held: set[tuple[str, str]], withheld: dict[tuple[str, str], str]
    ) -> None:
        """What people decided last stands; what nobody decided on is what the sorted log says."""
        last: dict[tuple[str, str], str] = {}
        for event in log:
            if event.type.startswith("grant."):
                last[event.payload["badge_key"], event.payload.get("context", "")] = event.type
        for key, kind in last.items():
            assert (key in held) is (kind == "grant.added"), (user, key, kind)
            assert (withheld.get(key) == "revoked") is (kind == "grant.revoked"), (user, key)
        a, b = ([event for event in log if event.type == kind] for kind in ("a.done", "b.done"))
        own = 1 if self.catalog == 1 else 2
        wanted = {("own", ""): len(a) - len(b) >= own}
        if len(a) >= (4 if own == 1 else 3):
            wanted["three", ""] = True
        if a:
            wanted["crowd", ""] = ("crowd", "") not in withheld
        for post in POSTS:
            count = sum(event.payload["post"] == post for event in a)
            if count >= 2:
                wanted["twice", post] = True
            twice = ("twice", post) in held
            wanted["rank", post] = twice and count >= 1
        wanted["any_rank", ""] = any(key == "rank" for key, _ in held)
        if b and any(key == "twice" for key, _ in held):
            wanted["both", ""] = True
        if b and ("crowd", "") in held:
            wanted["after", ""] = True
        if len(b) >= 2 and ("own", "") in held:
            wanted["led", ""] = True
        for key, is_held in wanted.items():
            if key not in last:
                assert (key in held) is is_held, (user, key, is_held, withheld.get(key))

    async def check_memory(self) -> None:
        """Memory is the fold of the whole log, and folding it again changes nothing."""
        for user in USERS:
            async with self.store.transaction() as transaction:
                if not await transaction.look_at([user]):
                    continue
                state = (await transaction.lock([user], version=self.plan.basis))[user]
                tail = (await transaction.tails([state])).get(user, [])
                await transaction.read({user: state}, [(user, scope) for scope in ("", *(f"post={p}" for p in POSTS))])
                for event in tail:
                    evaluate.fold(self.plan, state, event)
                rebuilt, changes, _ = await fold_again(transaction, self.plan, state)
                assert changes == [], user
                assert known(self.plan, state) == known(self.plan, rebuilt), user


def known(plan: Plan, state: Any) -> Any:
    """The memory that the plan knows of."""
    ids = scope_of_job(plan, "sweep", {}).known
    return plain({s: {k: v for k, v in folds.items() if k in ids} for s, folds in state.scopes.items()})


async def _nothing(_: int) -> None:
    """Nobody to tell."""


async def named(store: PostgresStore, user: str) -> list[str]:
    """Where a user is named, in any column of any table; bytes are not looked at."""
    found = []
    for (table,) in await store.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'badges'"):
        for (row,) in await store.pool.fetch(f"SELECT to_jsonb(x)::text FROM badges.{table} x"):
            if table not in ("outbox", "dead_letters") and f'"{user}"' in row:
                found.append(f"{table}: {row}")
    return found


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_all_of_it_adds_up(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Batches, hands, breakers, catalogs, builds, jobs, replays, erasures, lost connections: what is left is sound."""
    chance = random.Random(seed)
    monkeypatch.setattr(users, "CHECKPOINT", chance.choice([1, 3, 1000]))
    model = Model(store, Faults(monkeypatch), chance)
    await model.swap(0)
    for turn in range(chance.randint(5, 40)):
        await model.step()
        if turn % 8 == 7:
            await model.check()
    await model.check()


async def test_what_falls_with_a_badge_taken_by_hand_is_held_elsewhere_still(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One context's badge falls as a person takes what it asks for; who asks for any context still has the other."""
    model = Model(store, Faults(monkeypatch), random.Random(0))
    await model.swap(0)
    line = model.records["events", 0] = []
    for number, post in enumerate("ppqq"):
        value = {"id": f"e{number}", "type": "a.done", "user_id": "ann", "payload": {"post": post}}
        value["occurred_at"] = format_instant(START + number * HOUR)
        line.append(Record("events", 0, number, START // 1000, b"k", json.dumps(value).encode()))
    await model.apply(("events", 0))
    taken = grant_revoked("ann", "twice", context="p", note="n", actor="a", id="h", at_us=START + 9 * HOUR)
    model.records["control", 0] = [Record("control", 0, 0, START // 1000, taken.key, taken.value)]
    model.appliers.clear()
    await model.apply(("control", 0))
    rows = await store.pool.fetch("SELECT badge_key, context FROM user_badges")
    held = {tuple(row) for row in rows}
    assert ("rank", "p") not in held
    assert {("rank", "q"), ("any_rank", "")} <= held
    assert not await store.pool.fetch(
        "SELECT 1 FROM badge_awards_log WHERE badge_key = 'any_rank' AND kind = 'revoked'"
    )
