"""A process killed before any statement of a job, the runner's own among them: the next one ends it, nothing twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.people import settle_users
from tests.rig.faults import Faults, store_on
from worker.app import head_plan
from worker.app.quarantine import Verb, settle_quarantine
from worker.app.user_jobs import Sweeps, driver_of
from worker.config import load_settings
from worker.errors import TransientError
from worker.events import Event, parse_instant
from worker.exchange import Ran
from worker.jobs.arrivals import Arrivals
from worker.jobs.base import DAY, Job
from worker.jobs.runner import Runner, Told
from worker.jobs.sweep import Sweep
from worker.metrics import Metrics
from worker.pipeline.driving import Pace
from worker.rules.catalog.definitions import Condition
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore
from worker.store.session import Session

CATALOG = """
version: 1
events: {comment.posted: {}, order.paid: {}, question.scored: {}}
condition_types: [{name: big, source: "(event) => event.payload.total > 100"}]
metrics: {comments: {count: comment.posted}}
ladders: [{key: commentator, metric: comments, levels: [1, 2], label: C, description: "{level} comments"}]
badges:
  - {key: nice, flow: {event: question.scored, criteria: {$eventCount: {$gte: 2}}}, per: post}
  - {key: big, flow: {event: order.paid, criteria: {$condition: {type: big}}}}
  - {key: kind, flow: {badge: nice}}
"""
NOON = parse_instant("2026-03-14T12:00:00Z")
#: What a job may change, and what of it must be the same however often the job was begun.
TABLES = {
    "events": "user_id, id, verdicts",
    "users": "user_id, award_sequence, built_version, newest_id, state",
    "user_scopes": "user_id, scope, state",
    "user_badges": "user_id, badge_key, context, awarded_at, origin, sequence, award_id, trigger_id",
    "badge_awards_log": "user_id, badge_key, context, kind, awarded_at, origin, sequence, award_id, trigger_id",
    "withheld_awards": "user_id, badge_key, context, state, awarded_at, origin, reason",
    "recompute_queue": "user_id, version",
    "outbox": "messages",
    "user_jobs": "kind, state, users_done, events, awards, changes",
    "job_runs": "job, tick, outcome, progress",
    "event_days": "type, events",
    "user_activity": "user_id, newest_at",
}


class Killed(BaseException):
    """The process is no more: nothing of it may catch this and go on."""


class Kills(Faults):
    """Ends a process before the statement whose turn it is: from then on, nothing it does reaches the database."""

    dead = False

    def counting(self, method: str, original: Any) -> Any:
        async def counted(session: Session, *arguments: Any) -> Any:
            if self.left is not None and not self.dead:
                self.names.append(str(arguments[0]) if arguments and method != "begin" else method)
                self.left -= 1
                self.dead = self.left == 0
            if self.dead:
                raise Killed  # what is open is rolled back, as the server does when it finds the process gone
            return await original(session, *arguments)

        return counted


def history(user_id: str) -> list[Event]:
    """Two comments, two scores of a post, an order."""
    told: list[tuple[str, str, dict[str, Any]]] = [
        ("c1", "comment.posted", {}), ("c2", "comment.posted", {}), ("o1", "order.paid", {"total": 500}),
        ("q1", "question.scored", {"post": "p"}), ("q2", "question.scored", {"post": "p"}),
    ]  # fmt: skip
    return [
        Event(user_id, kind, NOON - DAY + number, "", name, payload, json.dumps(payload))
        for number, (name, kind, payload) in enumerate(told)
    ]


class Scene:
    """A database as a worker left it, which can be had again; what was lost of it; what there is now."""

    def __init__(self, store: PostgresStore, plan: Plan) -> None:
        self.store, self.plan = store, plan

    async def say(self, *statements: str) -> None:
        """Change the database beside the code under test."""
        async with self.store.pool.acquire() as connection:
            await connection.execute("BEGIN; SET LOCAL badges.removal = 'on';" + ";".join(statements) + "; COMMIT")

    async def keep(self) -> None:
        """Keep what there is."""
        await self.say("CREATE SCHEMA kept", *(f"CREATE TABLE kept.{name} AS TABLE {name}" for name in TABLES))

    async def again(self, damage: str) -> None:
        """What there was, but for some damage; nobody has read or driven anything."""
        back = [f"DELETE FROM {name}" for name in (*TABLES, "log_readers")]
        back += [f"INSERT INTO {name} OVERRIDING SYSTEM VALUE TABLE kept.{name}" for name in TABLES]
        await self.say(*back, damage)

    async def end_leases(self) -> None:
        """Time goes by: whoever was killed is not heard of any more."""
        await self.say(
            "UPDATE leases SET expires_at = now() - interval '1 day'",
            "UPDATE user_jobs SET leased_until = now() - interval '1 day' WHERE driver IS NOT NULL",
        )

    async def seen(self) -> dict[str, list[str]]:
        """What there is."""
        parts = [
            f"SELECT '{name}', (x.*)::text FROM (SELECT {columns} FROM {name}) x" for name, columns in TABLES.items()
        ]
        async with self.store.pool.acquire() as connection:
            rows = await connection.fetch(" UNION ALL ".join(parts))
        return {name: sorted(row for table, row in rows if table == name) for name in TABLES}


@pytest.fixture
async def scene(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    await settle_users(postgres_dsn, tmp_path / "catalog.yaml", [one for user in "ab" for one in history(user)])
    async with store_on(postgres_dsn, connections=4) as store:
        plan = await head_plan(store)
        assert plan is not None
        made = Scene(store, plan)
        await made.keep()
        yield made


async def yes(asked: Mapping[str, Sequence[Condition]], events: Sequence[Event]) -> list[Event]:
    """Conditions as they are after a script was mended: all say yes."""
    return [replace(event, verdicts={one.hash: "yes" for one in asked.get(event.type, ())}) for event in events]


def scheduled(make: Callable[[Scene], Job]) -> Callable[[Scene, str], Awaitable[None]]:
    """Does a scheduled job as a replica does: what is due of it, until nothing is."""

    async def work(scene: Scene, owner: str) -> None:
        told: list[Told] = []
        job = make(scene)
        assert await Runner(scene.store, owner, told.append).take(job, NOON) is not None
        ran = (await scene.store.last_runs([job.name])).get(job.name, Ran())
        assert (ran.unfinished, [one.outcome for one in told]) in [((), ["done"]), ((), [])]

    return work


def sweep(scene: Scene) -> Job:
    """The sweep of a share that is everybody."""
    settings = load_settings(sweep_days=1)
    sweeps = Sweeps(scene.store, settings, scene.plan, Metrics())
    sweeps._driver.slices.limit = 1
    return Sweep(sweeps)


def arrivals(scene: Scene) -> Job:
    """The count of what arrived."""
    return Arrivals(scene.store, scene.plan.catalog)


def asked_for(kind: str, *, at_once: int = 1, **parameters: Any) -> Callable[[Scene, str], Awaitable[None]]:
    """Does a job as a person asks for it: one that is there and left is gone on with."""

    async def work(scene: Scene, owner: str) -> None:
        store = scene.store

        async def moved(head: int) -> None:
            raise AssertionError(f"the catalog moved to {head}")

        driver = driver_of(
            *(store, lambda: scene.plan, load_settings()),
            moved=moved, told=lambda *_: None, judge=yes, pace=Pace(None, 0.0),
        )  # fmt: skip
        driver.slices.limit = at_once
        found = await store.unfinished_user_job(kind, parameters)
        number = await store.create_user_job(kind, parameters, driver=owner) if found is None else found[0]
        driver.slices.driver = owner
        await driver.finish(number)

    return work


def settled(verb: Verb) -> Callable[[Scene, str], Awaitable[None]]:
    """Releases or drops what is held back, as a person does: who was cut off asks again."""

    async def work(scene: Scene, _owner: str) -> None:
        parts = settle_quarantine(
            scene.store, scene.plan, verb, badge_key="nice", topic="badges.awards", actor="ada", note="It was real"
        )
        async for _ in parts:
            pass

    return work


#: What both have been given of `nice` was held back instead, and so nobody was given what asks for it.
HELD = (
    "INSERT INTO withheld_awards (user_id, badge_key, context, state, awarded_at, source, origin, catalog_version,"
    " trigger_id, trigger_type, metadata) SELECT user_id, badge_key, context, 'held', awarded_at, source, origin,"
    " catalog_version, trigger_id, trigger_type, metadata FROM user_badges WHERE badge_key = 'nice';"
    " DELETE FROM user_badges WHERE badge_key IN ('nice', 'kind');"
    " DELETE FROM badge_awards_log WHERE badge_key IN ('nice', 'kind'); DELETE FROM outbox"
)
ALTERED = (
    "DELETE FROM user_badges; UPDATE users SET state = NULL WHERE user_id = 'a';"
    " DELETE FROM user_scopes WHERE user_id = 'b'"
)
LOST = (
    "DELETE FROM user_badges WHERE user_id = 'a'; DELETE FROM user_scopes WHERE user_id = 'a';"
    " DELETE FROM users WHERE user_id = 'b'"
)
NEVER = (
    "DELETE FROM user_badges WHERE badge_key = 'nice'; DELETE FROM badge_awards_log WHERE badge_key = 'nice';"
    " DELETE FROM outbox"
)


@pytest.mark.parametrize(
    ("work", "damage", "among", "counts"),
    [
        (scheduled(arrivals), "SELECT 1", {"begin_run", "end_run", "last_runs", "acquire_lease", "commit"}, {}),
        (scheduled(sweep), LOST, {"mark_run", "create_user_job", "restore_awards", "save_users", "move_user_job"}, {}),
        (asked_for("backfill", badges=["nice"], notify=True), NEVER, {"grant_counts", "move_user_job", "commit"}, {}),
        (asked_for("recompute", badges=["big"], conditions=True), "SELECT 1", {"store_verdicts", "save_users"}, {}),
        (
            settled("release"),
            HELD,
            {"lift", "user_badges", "badge_awards_log", "publish", "queue_users", "commit"},
            {"user_badges": 6, "withheld_awards": 0, "outbox": 2, "recompute_queue": 2},
        ),
        (settled("drop"), HELD, {"lift", "withhold", "commit"}, {"user_badges": 4, "withheld_awards": 2, "outbox": 0}),
    ],
    ids=["arrivals", "sweep", "backfill", "conditions", "release", "drop"],
)
async def test_killed_at_any_statement_a_job_is_ended_by_the_next(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Scene, str], Awaitable[None]],
    damage: str,
    among: set[str],
    counts: dict[str, int],
) -> None:
    """Wherever a process is killed, another one does the rest: awards, memory, messages, counts as if it had lived."""
    monkeypatch.setattr("worker.pipeline.slices.SLICE_USERS", 1)
    monkeypatch.setattr("worker.pipeline.slices.WIDE", 1)
    monkeypatch.setattr("worker.pipeline.slices.LIVE_SLICE_USERS", 1)
    monkeypatch.setattr("worker.app.quarantine._PAGE", 1)
    kills = Kills(monkeypatch)

    async def left(kill: int) -> dict[str, list[str]]:
        kills.names, kills.left = [], kill
        await scene.again(damage)
        try:
            await work(scene, "first")
        except Killed:
            kills.dead, kills.left = False, None
            await scene.end_leases()
            await work(scene, "second")
        kills.left = None
        return await scene.seen()

    whole = await left(10_000)
    statements = len(kills.names)
    assert among <= set(kills.names)
    assert {name: len(whole[name]) for name in counts} == counts
    for kill in range(1, statements + 1):
        assert await left(kill) == whole, f"killed before statement {kill}, {kills.names[-1]}"


async def test_a_connection_lost_at_any_statement_ends_no_recompute(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who drives it tries again by itself, and where the database was away as it was asked for, it is asked again."""
    monkeypatch.setattr("worker.pipeline.driving.RETRY_SECONDS", 0.0)
    faults, work = Faults(monkeypatch), asked_for("recompute", at_once=2, badges=["nice"])

    async def left(fault: int) -> dict[str, list[str]]:
        await scene.again(ALTERED)
        faults.names, faults.left = [], fault
        try:
            await work(scene, "first")
        except TransientError:
            await work(scene, "first")
        faults.left = None
        return await scene.seen()

    whole = await left(10_000)
    assert {"restore_awards", "save_scopes", "move_user_job"} <= set(faults.names)
    assert len(whole["user_badges"]) == 2
    for fault in range(1, len(faults.names) + 1):
        assert await left(fault) == whole, f"lost before statement {fault}, {faults.names[-1]}"
