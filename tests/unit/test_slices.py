"""Slices of a job over users, on the in-memory store: what is found missing or other, and what is put right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from msgspec import structs

from worker.control import grant_added
from worker.events import Record, parse_instant
from worker.exchange import UserJob, Withheld
from worker.jobs.cron_events import anniversary
from worker.pipeline import ahead
from worker.pipeline import slices as module
from worker.pipeline.batch import Applier, CatalogMoved
from worker.pipeline.facts import Limits
from worker.pipeline.sealed import cut_user
from worker.pipeline.slices import Slices
from worker.pipeline.users import QUEUED
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.plan import Plan, compile_plan
from worker.store.blobs import pack_state, unpack_state
from worker.store.memory import MemoryStore

CATALOG = """
version: 1
events:
  comment.posted: {description: A comment.}
  edit.made: {description: An edit.}
  question.scored: {description: A score.}
metrics:
  comments: {count: comment.posted}
ladders:
  - {key: commentator, metric: comments, levels: [2, 4], label: Commentator, description: "{level} comments"}
badges:
  - {key: editor, flow: {event: edit.made}}
  - {key: busy, flow: {event: edit.made, criteria: {$eventCount: {$gte: 20}}}}
  - key: nice
    flow: {event: question.scored, criteria: {score: {$gte: 10}, $eventCount: {$gte: 2}}}
    per: post
"""
AFTER_ALL = parse_instant("2026-03-02T00:00:00Z")


def plan_of(version: int = 1, *, basis: int | None = None, text: str = CATALOG) -> Plan:
    """The plan of a version of the catalog."""
    return compile_plan(replace(load_catalog([Source("catalog.yaml", text)]), version=version, basis=basis))


class Rig:
    """A worker's store, filled by `put`; `damage` and look at `tables`; `run` does a whole job."""

    def __init__(self, text: str = CATALOG) -> None:
        self.store = MemoryStore()
        self.tables = self.store.tables
        self.plan = plan_of(text=text)
        self.applier = Applier(self.store, self.plan, Limits("awards", "dead", "control", 1 << 60))
        self.offset = 0
        self.claim: Any = None

    async def start(self) -> Rig:
        await self.apply_catalog()
        self.claim = await self.store.claim("events", 0, generation=1, owner="test", start_offset=0)
        return self

    async def apply_catalog(self) -> int:
        hash_ = f"hash {len(self.tables.catalogs)}"
        return await self.store.apply_catalog("{}", hash_, badges=[], event_types=[])

    async def put(self, *events: tuple[str, str, int] | tuple[str, str, int, dict[str, Any]]) -> None:
        """(user, type, second[, payload]) each, as one batch."""
        values = [
            {
                "id": f"{kind}-{second}",
                "type": kind,
                "user_id": user_id,
                "occurred_at": f"2026-03-01T10:{second // 60:02}:{second % 60:02}Z",
                "payload": rest[0] if rest else {},
            }
            for user_id, kind, second, *rest in events
        ]
        records = [
            Record("events", 0, self.offset + index, 0, b"k", json.dumps(value).encode())
            for index, value in enumerate(values)
        ]
        await self.applier.apply(self.claim, records, from_offset=self.offset)
        self.offset += len(records)

    def slices(self, driver: str = "test") -> Slices:
        return Slices(self.store, lambda: self.applier.plan, driver, "awards")

    async def run(self, kind: str = "sweep", **parameters: Any) -> UserJob:
        """A job from its first slice to its last, as it stands then."""
        number = await self.store.create_user_job(kind, parameters)
        slices = self.slices()
        while (facts := await slices.slice(number)) is not None and not facts.done:
            pass
        job = await self.store.user_job(number)
        assert job is not None
        return job

    def messages(self) -> list[dict[str, Any]]:
        return [
            json.loads(message.value or b"")
            for _, row in sorted(self.tables.outbox.items())
            for message in row.messages
        ]

    def held(self, user_id: str) -> dict[tuple[str, str], Any]:
        return self.tables.user_badges.get(user_id, {})


COMMUNITY = (
    *(("ann", "comment.posted", second) for second in range(20)),
    *(("ann", "question.scored", second, {"post": "p1", "score": 12}) for second in (30, 31)),
    ("bob", "comment.posted", 1),
    ("bob", "comment.posted", 2),
    ("bob", "edit.made", 3),
    ("cid", "comment.posted", 1),
)


@pytest.fixture
async def rig() -> Rig:
    made = await Rig().start()
    await made.put(*COMMUNITY)
    return made


def snapshot(rig: Rig) -> tuple[Any, ...]:
    """All that says who has what."""
    users = {user_id: replace(row, revision=0, home=None) for user_id, row in rig.tables.users.items()}
    badges = {user_id: dict(held) for user_id, held in rig.tables.user_badges.items() if held}
    return users, dict(rig.tables.scopes), badges, list(rig.tables.awards_log)


async def test_a_sweep_of_what_is_right_changes_nothing(rig: Rig) -> None:
    """Everybody is looked at, nothing is found, nobody is written: whoever has a user in memory keeps the user."""
    homes = {user_id: (row.home, row.revision) for user_id, row in rig.tables.users.items()}
    before = snapshot(rig)
    job = await rig.run()
    assert (job.state, job.users_done, job.users_total, job.awards, job.changes) == ("done", 3, 3, 0, {})
    assert job.events == len(COMMUNITY)
    assert snapshot(rig) == before
    assert {user_id: (row.home, row.revision) for user_id, row in rig.tables.users.items()} == homes


def lose_award(rig: Rig) -> None:
    del rig.held("ann")["commentator_4", ""]


def lose_row(rig: Rig) -> None:
    del rig.tables.users["ann"]


def lose_scope(rig: Rig) -> None:
    del rig.tables.scopes["ann", "post=p1"]


def spoil_row(rig: Rig) -> None:
    rig.tables.users["ann"] = replace(rig.tables.users["ann"], state=pack_state({"other": 1}))


def miscount(rig: Rig) -> None:
    row = rig.tables.users["ann"]
    wrong = {key: 7 if isinstance(one, int) else [7, *one[1:]] for key, one in unpack_state(row.state).items()}
    rig.tables.users["ann"] = replace(row, state=pack_state(wrong))


@pytest.mark.parametrize(
    ("damage", "kind", "awards"),
    [
        (lose_award, "award_missing", 1),
        (lose_row, "fold_missing", 0),
        (lose_scope, "fold_missing", 0),
        (spoil_row, "fold_missing", 0),
        (miscount, "fold_other", 0),
    ],
)
async def test_a_sweep_puts_right_what_was_damaged(
    rig: Rig, damage: Callable[[Rig], None], kind: str, awards: int
) -> None:
    """What is gone or false is found, named by its kind, put back as it was, not published again; then all is right."""
    before, said = snapshot(rig), len(rig.messages())
    damage(rig)
    job = await rig.run()
    found = {name: count for name, count in job.changes.items() if name != "badges"}
    assert (found, job.awards) == ({kind: 1}, awards)
    users, *rest = snapshot(rig)
    assert rest == list(before[1:])
    if damage is not lose_row:
        assert {key: replace(row, award_sequence=0) for key, row in users.items() if key != "ann"} == {
            key: replace(row, award_sequence=0) for key, row in before[0].items() if key != "ann"
        }
    assert len(rig.messages()) == said
    assert rig.tables.users["ann"].home is None
    assert (await rig.run()).changes == {}
    await rig.put(("ann", "edit.made", 50))
    assert ("editor", "") in rig.held("ann")
    assert (await rig.run()).changes == {}


def forget(rig: Rig, user_id: str, key: str, context: str = "") -> None:
    """As if an award had never been given."""
    del rig.held(user_id)[key, context]
    rig.tables.awards_log[:] = [
        one for one in rig.tables.awards_log if (one.user_id, one.badge_key, one.context) != (user_id, key, context)
    ]


@pytest.mark.parametrize("still", [True, False], ids=["still", "moving"])
@pytest.mark.parametrize("parameters", [{}, {"badges": ["nice", "editor"]}, {"badges": ["nice"], "notify": True}])
async def test_a_backfill_gives_what_was_never_given(
    rig: Rig, parameters: dict[str, Any], still: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the badges asked for: granted at its instant, told only where asked; what was lost comes back unpublished.

    The same whether a second look at the user is needed or not.
    """
    if not still:
        monkeypatch.setattr(module, "as_earned", lambda *_: False)
    instants = {key: grant.awarded_us for key, grant in rig.held("ann").items()}
    said = len(rig.messages())
    forget(rig, "ann", "nice", "p1")
    del rig.held("bob")["editor", ""]
    miscount(rig)
    job = await rig.run("backfill", **parameters)
    editor = {"editor": 1} if parameters.get("badges") != ["nice"] else {}
    missing = {"award_missing": 1} if editor else {}
    assert job.changes == {"award_never_given": 1, "badges": {"nice": 1, **editor}, **missing}
    assert {key: grant.awarded_us for key, grant in rig.held("ann").items()} == instants
    (message,) = rig.messages()[said:]
    assert (message["badge_key"], message["origin"], message["notify"]) == (
        "nice",
        "backfill",
        parameters.get("notify", False),
    )
    assert (("editor", "") in rig.held("bob")) == bool(editor)
    again = await rig.run("backfill", **parameters)
    assert (again.changes, again.users_done) == ({}, 3)


async def test_what_comes_between_the_looks_is_seen(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came after the first look at a user, or is withheld from the user, is known to what is then given."""
    looked = ahead.glance

    async def interrupted(*arguments: Any, **given: Any) -> Any:
        seen = await looked(*arguments, **given)
        assert sorted(seen.earned) == ["ann", "bob"]
        await rig.put(("ann", "question.scored", 50, {"post": "p2", "score": 12}))
        return seen

    forget(rig, "ann", "nice", "p1")
    forget(rig, "ann", "commentator_4")
    forget(rig, "bob", "commentator_2")
    rig.tables.withheld["bob", "commentator_2", ""] = (stone("bob", "commentator_2"), 0.0)
    monkeypatch.setattr(ahead, "glance", interrupted)
    job = await rig.run("backfill", badges=["nice", "commentator_2", "commentator_4"])
    assert job.changes == {"award_never_given": 2, "badges": {"nice": 1, "commentator_4": 1}}
    assert ("commentator_2", "") not in rig.held("bob")


def stone(user_id: str, key: str) -> Withheld:
    """What stays of an award that an operator dropped."""
    return Withheld(user_id, key, "", "dropped", AFTER_ALL, "auto", "live", 1, "e", "comment.posted", "{}", "")


FALLING = (
    CATALOG
    + """
  - {key: owner, revocable: auto, flow: {snapshot: {owned: {$gte: 2}}}}
  - {key: guest, revocable: auto, flow: {snapshot: {owned: {$lt: 2}}}}
  - {key: heir, flow: {badge: owner}}
"""
)
FALLING = FALLING.replace(
    "metrics:",
    "  item.added: {description: Got one.}\n  item.removed: {description: Lost one.}\n"
    "metrics:\n  owned: {count: item.added, less: item.removed}",
)


async def owners() -> Rig:
    """Ann owns two, bob no more than one after he had two; cid was given by hand what he never earned."""
    made = await Rig(FALLING).start()
    await made.put(*(("ann", "item.added", second) for second in (1, 2)))
    await made.put(*(("bob", "item.added", second) for second in (1, 2)), ("bob", "item.removed", 3))
    await made.put(("cid", "item.added", 1))
    given = grant_added("cid", "owner", note="n", actor="a", id="hand", at_us=AFTER_ALL)
    claim = await made.store.claim("control", 0, generation=1, owner="test", start_offset=0)
    assert claim is not None
    await made.applier.apply(claim, [Record("control", 0, 0, 0, given.key, given.value)], from_offset=0)
    return made


async def test_a_sweep_of_what_fell_and_rose_changes_nothing() -> None:
    """What is held as long as it holds, what fell, and what a person gave is left as the live path left it."""
    rig = await owners()
    assert {user_id: {key for key, _ in rig.held(user_id)} for user_id in ("ann", "bob", "cid")} == {
        "ann": {"owner", "heir"},
        "bob": {"guest", "heir"},
        "cid": {"guest", "owner", "heir"},
    }
    before = snapshot(rig)
    assert (await rig.run()).changes == {}
    assert snapshot(rig) == before


async def test_a_backfill_sees_what_has_fallen() -> None:
    """Who had two and gave one back is given what asks that they do not own."""
    free = "  - {key: free, flow: {$and: [{event: edit.made}, {$not: {badge: owner}}]}}\n"
    rig = await Rig(FALLING + free).start()
    await rig.put(*(("bob", "item.added", second) for second in (1, 2)), ("bob", "item.removed", 3))
    await rig.put(("bob", "edit.made", 4))
    assert ("free", "") in rig.held("bob")
    forget(rig, "bob", "free")
    assert (await rig.run("backfill", badges=["free"])).changes == {"award_never_given": 1, "badges": {"free": 1}}


async def test_a_sweep_gives_and_takes_what_falls_as_live_batches_do() -> None:
    """What should have fallen is taken back and said so, what should be held is given; then all is right."""
    rig = await owners()
    held = {user_id: set(rig.held(user_id)) for user_id in ("ann", "bob", "cid")}
    said = len(rig.messages())
    forget(rig, "ann", "owner")
    forget(rig, "cid", "owner")
    stale = structs.replace(rig.held("ann")["heir", ""], user_id="bob", badge_key="owner", sequence=9)
    rig.held("bob")["owner", ""] = stale
    rig.tables.awards_log.append(stale)
    job = await rig.run()
    assert job.changes == {"award_never_given": 2, "award_not_taken_back": 1, "badges": {"owner": 2}}
    assert {user_id: set(rig.held(user_id)) for user_id in ("ann", "bob", "cid")} == held
    assert rig.held("cid")["owner", ""].source == "manual"
    assert sorted((one["type"], one["user_id"], one["badge_key"]) for one in rig.messages()[said:]) == [
        ("badge.awarded", "ann", "owner"),
        ("badge.awarded", "cid", "owner"),
        ("badge.revoked", "bob", "owner"),
    ]
    assert (await rig.run()).changes == {}


async def test_slices_end_where_they_are_full(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few users, few events, few who need something: wherever a slice ends, nobody is passed over or counted twice."""
    for user_id in ("ann", "bob"):
        forget(rig, user_id, "commentator_2")
    for name, value in (("SLICE_EVENTS", 1), ("SLICE_LOCKS", 1)):
        monkeypatch.setattr(module, name, value)
    job = await rig.run("backfill")
    assert (job.users_done, job.changes["award_never_given"]) == (3, 2)
    for user_id in ("ann", "bob"):
        forget(rig, user_id, "commentator_2")
    job = await rig.run("sweep")
    assert (job.users_done, job.changes["award_never_given"]) == (3, 2)


async def test_a_share_of_users_is_swept_and_the_next_goes_on(rig: Rig) -> None:
    """After so many sweeps of a share everybody was looked at, in order; then it begins again."""
    seen = []
    for _ in range(3):
        number = await rig.store.create_user_job("sweep", {"share": 2}, after=await rig.store.last_sweep())
        slices = rig.slices()
        slices.limit = 1
        while (facts := await slices.slice(number)) is not None and not facts.done:
            pass
        job = await rig.store.user_job(number)
        assert job is not None
        seen.append((job.state, job.users_done, job.after))
    assert seen == [("done", 2, "bob"), ("done", 1, ""), ("done", 2, "bob")]


async def test_users_behind_the_catalog_are_built_whole(rig: Rig) -> None:
    """Who the build has not come to yet is built here, with all that was earned; that is no difference."""
    text = CATALOG.replace("levels: [2, 4]", "levels: [2, 3, 4]")
    rig.applier.use(plan_of(await rig.apply_catalog(), text=text))
    job = await rig.run("backfill", badges=["editor"])
    assert job.changes == {"badges": {"commentator_3": 1}}
    assert ("commentator_3", "") in rig.held("ann")
    assert {row.built_version for row in rig.tables.users.values()} == {2}


async def test_what_a_person_gave_is_told_whoever_carries_it_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant that waited because its user was behind the catalog is no backfill: the user is told of it."""
    monkeypatch.setattr("worker.pipeline.users.REBUILD_EVENTS", 0)
    rig.applier.use(plan_of(await rig.apply_catalog(), text=CATALOG.replace("[2, 4]", "[1, 2, 4]")))
    said = len(rig.messages())
    given = grant_added("cid", "nice", context="p9", note="n", actor="a", id="hand", at_us=AFTER_ALL)
    claim = await rig.store.claim("control", 0, generation=1, owner="test", start_offset=0)
    assert claim is not None
    await rig.applier.apply(claim, [Record("control", 0, 0, 0, given.key, given.value)], from_offset=0)
    assert rig.messages()[said:] == []
    await rig.run()
    mine = [one for one in rig.messages()[said:] if one["user_id"] == "cid"]
    told = {(one["badge_key"], one["origin"], one["notify"]) for one in mine}
    assert told == {("nice", "manual", True), ("commentator_1", "backfill", False)}


YEARS = """
version: 1
events: {user.registered: {}}
tenures: [{key: member, since: user.registered, years: [1, 2], label: M, description: D}]
"""


@pytest.mark.parametrize("notify", [False, True])
async def test_what_the_clock_sent_long_ago_is_as_quiet_as_the_rest(notify: bool) -> None:
    """A tenure of the past that a backfill gives says that the clock brought it, and is told only where asked."""
    rig = await Rig(YEARS).start()
    await rig.put(("ann", "user.registered", 1))
    claim = await rig.store.claim("control", 0, generation=1, owner="test", start_offset=0)
    assert claim is not None
    days = [anniversary("ann", date(year, 3, 1), parse_instant(f"{year}-03-01T00:00:00Z")) for year in (2027, 2028)]
    records = [Record("control", 0, at, 10**13, one.key, one.value) for at, one in enumerate(days)]
    await rig.applier.apply(claim, records, from_offset=0)
    forget(rig, "ann", "member_1y")
    said = len(rig.messages())
    await rig.run("backfill", notify=notify)
    (message,) = rig.messages()[said:]
    assert (message["badge_key"], message["origin"], message["notify"]) == ("member_1y", "cron", notify)


async def test_a_moved_head_is_told(rig: Rig) -> None:
    """A driver whose plan is not the head's does nothing and learns the head."""
    await rig.apply_catalog()
    number = await rig.store.create_user_job("sweep", {})
    with pytest.raises(CatalogMoved) as moved:
        await rig.slices().slice(number)
    assert moved.value.head == 2


async def test_what_retention_cut_is_left_as_it_is(rig: Rig) -> None:
    """Where old events of a type were removed, memory that reads it stays, and nobody is given a badge by the rest."""
    rig.tables.retention_floors["comment.posted"] = 1
    for event in list(rig.tables.events["ann"].values())[:15]:
        if event.type == "comment.posted":
            del rig.tables.events["ann"][event.source, event.id]
    forget(rig, "ann", "commentator_4")
    del rig.held("bob")["editor", ""]
    state = rig.tables.users["ann"].state
    job = await rig.run()
    assert job.changes == {"award_missing": 1, "badges": {"editor": 1}}
    assert rig.tables.users["ann"].state == state


async def test_who_was_cut_is_folded_again_from_the_seal(rig: Rig) -> None:
    """A whole memory is not made of a log that was cut: such a user is left to the queue, which knows what was kept."""
    floor = max(event.occurred_us for event in rig.tables.events["ann"].values()) + 1
    async with rig.store.transaction() as transaction:
        assert await cut_user(transaction, rig.plan, "ann", {"comment.posted": floor})
    rig.tables.users["ann"] = replace(rig.tables.users["ann"], built_version=0)
    job = await rig.run()
    assert job.changes["waiting"] == 1
    assert "ann" in rig.tables.queue
    assert rig.tables.users["ann"].built_version == QUEUED
