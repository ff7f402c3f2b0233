"""Sweep, recompute and backfill of a real community in PostgreSQL: what was lost comes back, and just that is told."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import asyncpg
import pytest

from tests.community import DEMO
from tests.rig.faults import store_on
from tests.rig.postgres import PostgresService, in_thread
from tests.rig.waiting import until
from worker import cli
from worker.app.catalog import head_plan, put_in_force, read_catalog
from worker.app.user_jobs import driver_of
from worker.config import load_settings
from worker.events import Record
from worker.exchange import UserJob
from worker.pipeline.batch import Applier
from worker.pipeline.driving import Pace
from worker.pipeline.facts import Limits
from worker.pipeline.scope import Scope, scope_of_job
from worker.store.blobs import pack_state, unpack_state

Run = Callable[..., tuple[int, str, str]]
ANSWERS = "badge_key IN ('teacher', 'nice_answer', 'good_answer', 'great_answer', 'self_learner', 'necromancer')"
BATCH = 1000


async def apply_all(dsn: str) -> None:
    """The community's events through the pipeline, in the order of the file."""
    async with store_on(dsn, connections=2) as store:
        await put_in_force(store, *read_catalog(DEMO / "catalog.yaml"), applied_by="test")
        plan = await head_plan(store)
        assert plan is not None
        applier = Applier(store, plan, Limits("badges.awards", "dead", "control", 1 << 60))
        claim = await store.claim("events", 0, generation=1, owner="test", start_offset=0)
        assert claim is not None
        with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
            records = [Record("events", 0, offset, 0, b"k", line) for offset, line in enumerate(lines)]
        for start in range(0, len(records), BATCH):
            await applier.apply(claim, records[start : start + BATCH], from_offset=start)
        await store.pool.execute("UPDATE outbox SET published_at = now()")
        await store.pool.execute("UPDATE partitions SET progressed_at = now() - interval '1 hour'")


@pytest.fixture(scope="module")
def community(postgres: PostgresService) -> Iterator[str]:
    """A database in which a worker applied the community's events; each test leaves it as it was."""
    with postgres.database() as dsn:
        in_thread(lambda: apply_all(dsn))
        yield dsn


@pytest.fixture
def run(community: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on the community's database; status, output, errors without log lines."""
    monkeypatch.setenv("BADGES_DATABASE_URL", community)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    monkeypatch.setenv("BADGES_LOG_LEVEL", "error")

    def ran(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


def asks(dsn: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows, read or changed beside the code under test."""

    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "badges"})
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    return in_thread(fetch)  # type: ignore[no-any-return]


def everything(dsn: str, but: Collection[str] = ()) -> dict[str, list[asyncpg.Record]]:
    """All that says who has what, and what was published.

    `but` are users whose row was lost: of their memory more is written than was, what is written seldom among it.
    """
    return {
        "badges": asks(dsn, "SELECT * FROM user_badges ORDER BY user_id, badge_key, context"),
        "log": asks(dsn, "SELECT * FROM badge_awards_log ORDER BY user_id, sequence"),
        "scopes": [row for row in asks(dsn, "SELECT * FROM user_scopes ORDER BY 1, 2") if row[0] not in but],
        "users": asks(dsn, "SELECT user_id, built_version FROM users ORDER BY user_id"),
        "outbox": asks(dsn, "SELECT id, messages FROM outbox ORDER BY id"),
    }


def damage(dsn: str, awards: int, rows: int, scopes: int, *, seed: int = 6) -> set[str]:
    """Lose awards and memory at random; whose row was lost, of whom no scope is lost beside it."""
    chance = random.Random(seed)
    held = [tuple(row) for row in asks(dsn, "SELECT user_id, badge_key, context FROM user_badges ORDER BY 1, 2, 3")]
    users = [row[0] for row in asks(dsn, "SELECT user_id FROM users ORDER BY 1")]
    gone = chance.sample(users, rows)
    kept = [
        tuple(row) for row in asks(dsn, "SELECT user_id, scope FROM user_scopes ORDER BY 1, 2") if row[0] not in gone
    ]
    for table, columns, lost in (
        ("user_badges", "user_id, badge_key, context", chance.sample(held, awards)),
        ("users", "user_id", [(user,) for user in gone]),
        ("user_scopes", "user_id, scope", chance.sample(kept, scopes)),
    ):
        if lost:
            arrays = ", ".join(f"${number}::text[]" for number in range(1, len(lost[0]) + 1))
            statement = f"DELETE FROM {table} WHERE ({columns}) IN (SELECT * FROM unnest({arrays}))"
            asks(dsn, statement, *(list(column) for column in zip(*lost, strict=True)))
    return set(gone)


async def sweep(dsn: str, **parameters: Any) -> UserJob:
    """A sweep from its first slice to its last."""
    async with store_on(dsn, connections=2) as store:
        plan = await head_plan(store)
        assert plan is not None
        number = await store.create_user_job("sweep", parameters)

        async def moved(head: int) -> None:
            raise AssertionError(f"the catalog moved to {head}")

        settings = load_settings()
        driver = driver_of(
            store, lambda: plan, settings, moved=moved, told=lambda *_: None, judge=None, pace=Pace(None)
        )
        await driver.finish(number)
        job = await store.user_job(number)
        assert job is not None
        return job


def found(job: UserJob) -> dict[str, int]:
    """What a job found, by kind."""
    return {name: count for name, count in job.changes.items() if name != "badges"}


def test_a_sweep_restores_what_was_lost_and_tells_exactly_that(community: str, run: Run) -> None:
    """200 awards and 50 rows of memory lost at random come back, unpublished; before and after nothing is found."""
    before = everything(community)
    assert len(before["badges"]) == 527
    assert found(in_thread(lambda: sweep(community))) == {}
    assert everything(community) == before
    gone = damage(community, 200, 25, 25)
    job = in_thread(lambda: sweep(community))
    assert found(job) == {"award_missing": 200, "fold_missing": 50}
    assert (job.awards, sum(job.changes["badges"].values()), job.users_done) == (200, 200, job.users_total)
    assert everything(community, gone) == {
        **before,
        "scopes": [row for row in before["scopes"] if row["user_id"] not in gone],
    }
    assert found(in_thread(lambda: sweep(community))) == {}


Memory = dict[tuple[str, str], dict[str, Any]]
MEMORY = "SELECT user_id, '' AS scope, state FROM users UNION ALL SELECT user_id, scope, state FROM user_scopes"


def memory_of_all(dsn: str) -> Memory:
    """What is remembered by user and scope, those without anything left out."""
    rows = {(row["user_id"], row["scope"]): unpack_state(row["state"]) for row in asks(dsn, MEMORY)}
    return {place: folds for place, folds in rows.items() if folds}


def alter(dsn: str, folds: frozenset[str], *, seed: int = 6) -> None:
    """Give some users what others remember of the same: 20 rows that have one of these folds, 20 that have not."""
    chance, rows = random.Random(seed), memory_of_all(dsn)
    others: dict[str, list[Any]] = {}
    for found in rows.values():
        for fold, value in found.items():
            others.setdefault(fold, []).append(value)
    for having in (True, False):
        places = [place for place in sorted(rows) if folds.isdisjoint(rows[place]) is not having]
        for user, scope in chance.sample(places, min(20, len(places))):
            wrong = {
                fold: next((one for one in others[fold] if one != value), value)
                for fold, value in rows[user, scope].items()
            }
            table, where = ("user_scopes", " AND scope = $3") if scope else ("users", "")
            more = (scope,) if scope else ()
            asks(dsn, f"UPDATE {table} SET state = $2 WHERE user_id = $1{where}", user, pack_state(wrong), *more)


def scope_of(dsn: str, parameters: Mapping[str, Any]) -> Scope:
    """What a recompute is about."""

    async def ask() -> Scope:
        async with store_on(dsn, connections=1) as store:
            plan = await head_plan(store)
            assert plan is not None
            return scope_of_job(plan, "recompute", parameters)

    return in_thread(ask)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("option", "value", "parameters", "condition", "concerned"),
    [
        ("--badge", "commentator_10", {"badges": ["commentator_10"]}, "badge_key = 'commentator_10'", "comment.posted"),
        ("--user", "u5", {"user": "u5"}, "user_id = 'u5'", None),
        ("--trigger", "answer.scored", {"trigger": "answer.scored"}, ANSWERS, "answer.scored"),
    ],
)
def test_recompute_restores_what_it_is_about_and_nothing_else(
    community: str, run: Run, option: str, value: str, parameters: dict[str, Any], condition: str, concerned: str | None
) -> None:
    """Of awards and memory lost and altered all over, exactly what a badge, a user or a trigger is about comes back."""
    before, memory = everything(community), memory_of_all(community)
    about = asks(community, f"SELECT * FROM user_badges WHERE {condition} ORDER BY user_id, badge_key, context")
    folds = scope_of(community, parameters).folds
    assert folds is not None
    users = {row[0] for row in asks(community, "SELECT DISTINCT user_id FROM events WHERE type = $1", concerned)}
    users = users if concerned else {value}
    gone = damage(community, 0, 25, 25) | set(parameters.get("user", "").split())
    alter(community, folds)
    asks(community, "DELETE FROM users WHERE user_id = ANY ($1)", sorted(gone))
    asks(community, "DELETE FROM user_badges")
    damaged = memory_of_all(community)

    status, out, err = run("recompute", option, value, "--format", "json")
    assert (status, err) == (0, "")
    assert everything(community)["badges"] == about
    after = memory_of_all(community)
    rebuilt = gone & users
    assert {user for user, _ in after} & gone >= rebuilt
    assert {user for user, scope in after if not scope} & gone == rebuilt
    for place in {*memory, *damaged}:
        user, _ = place
        if user not in rebuilt:
            kept = {fold: one for fold, one in damaged.get(place, {}).items() if fold not in folds or user not in users}
            true = {fold: one for fold, one in memory.get(place, {}).items() if fold in folds and user in users}
            # of a user whose row is gone, and who is not looked at, the rest stays as it is
            assert after.get(place, {}) == kept | true, place
    changes = json.loads(out)["changes"]
    repaired = {place for place in {*memory, *damaged} if after.get(place) != damaged.get(place)}
    assert changes["award_missing"] == len(about)
    assert changes["fold_missing"] + changes.get("fold_other", 0) == len(rebuilt) + len(
        {place for place in repaired if place[0] not in rebuilt}
    )
    assert ("fold_other" in changes) == (concerned is not None)

    in_thread(lambda: sweep(community))
    whole = memory_of_all(community)
    assert [(place, whole[place]) for place in after if place[0] in rebuilt] == [
        (place, after[place]) for place in after if place[0] in rebuilt
    ]
    assert {place: one for place, one in whole.items() if place[0] not in gone} == {
        place: one for place, one in memory.items() if place[0] not in gone
    }
    last = everything(community, gone)
    assert last == {**before, "scopes": [row for row in before["scopes"] if row["user_id"] not in gone]}


def test_backfill_gives_what_was_never_given(community: str, run: Run) -> None:
    """Awards of which there is no trace are granted at their true instants, quietly; a preview only says so."""
    before = everything(community)
    asks(community, "DELETE FROM user_badges WHERE badge_key = 'commentator_50'")
    forget(community, "commentator_50")
    empty = everything(community)
    status, out, _ = run("backfill", "--badge", "commentator_50", "--preview")
    assert (status, everything(community)) == (0, empty)
    given = len(before["badges"]) - len(empty["badges"])
    assert f"{given} awards would be given. Nothing was changed." in out
    status, out, _ = run("backfill", "--badge", "commentator_50")
    assert (status, f"  {given} awards were never given: granted" in out) == (0, True)
    names = ("user_id", "badge_key", "context", "awarded_at", "award_id")
    after = everything(community)["badges"]
    assert [[row[name] for name in names] for row in after] == [
        [row[name] for name in names] for row in before["badges"]
    ]
    assert {row["origin"] for row in after if row["badge_key"] == "commentator_50"} == {"backfill"}


def forget(dsn: str, badge_key: str) -> None:
    """Take a badge out of the log of awards, as no program of ours does."""

    async def work() -> None:
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "badges"})
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL badges.removal = 'on'")
                await connection.execute("DELETE FROM badge_awards_log WHERE badge_key = $1", badge_key)
        finally:
            await connection.close()

    in_thread(work)


def test_the_scheduler_sweeps_everybody_by_name(community: str, run: Run) -> None:
    """`schedule --once sweep` restores what was lost and says so in its summary; again it finds nothing."""
    before = everything(community)
    damage(community, 20, 0, 5)
    status, out, err = run("schedule", "--once", "sweep", "--format", "json")
    assert (status, err) == (0, "")
    (told,) = json.loads(out)
    assert (told["job"], told["outcome"], told["users"], told["awards"]) == ("sweep", "done", 1702, 20)
    assert told["note"] == "fold_missing 5, award_missing 20"
    assert everything(community) == before
    assert "note" not in json.loads(run("schedule", "--once", "sweep", "--format", "json")[1])[0]


async def held_up(connection: asyncpg.Connection, process: asyncio.subprocess.Process) -> bool:
    """Whether a session waits for a lock, while the process that is to wait for it lives."""
    assert process.returncode is None
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return bool(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


def kill_in_a_slice(dsn: str, user_id: str, *arguments: str) -> int:
    """Run a command in a process of its own and kill it in the transaction that waits for a user; users done."""

    async def work() -> int:
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "badges"})
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1 FROM users WHERE user_id = $1 FOR UPDATE", user_id)
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "worker", *arguments), stdout=asyncio.subprocess.DEVNULL
                )
                try:
                    await until(partial(held_up, connection, process), "waiting for a lock", seconds=60, every=0.02)
                finally:
                    if process.returncode is None:
                        process.kill()
                    status = await process.wait()
                assert status == -signal.SIGKILL
            # it is not heard of for longer than leases last
            await connection.execute(
                "UPDATE leases SET expires_at = now() - interval '1 s';"
                "UPDATE user_jobs SET leased_until = now() - interval '1 s' WHERE state = 'running'"
            )
            return int(await connection.fetchval("SELECT users_done FROM user_jobs ORDER BY id DESC LIMIT 1"))
        finally:
            await connection.close()

    return int(in_thread(work))


def test_a_process_that_was_killed_is_made_good_by_the_next(community: str, run: Run) -> None:
    """Killed in the middle of a slice by a signal that nothing can catch, a sweep is ended by another, as if it had
    lived: all comes back, is counted once, and the tick is done."""
    before = everything(community)
    last = max(row[0] for row in asks(community, "DELETE FROM user_badges RETURNING user_id"))
    done = kill_in_a_slice(community, last, "schedule", "--once", "sweep")
    assert 0 < done < 1702
    held = int(asks(community, "SELECT count(*) FROM user_badges")[0][0])
    assert 0 < held < 527
    status, out, _ = run("schedule", "--once", "sweep", "--format", "json")
    (told,) = json.loads(out)
    assert (status, told["outcome"], told["users"], told["awards"]) == (0, "done", 1702, 527)
    assert everything(community) == before
    assert {row[0] for row in asks(community, "SELECT outcome FROM job_runs WHERE job = 'sweep'")} == {"done"}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("recompute", "--user", "nobody"), 1, "No event of nobody was ever logged; nothing was changed."),
        (("recompute", "--badge", "comentator_10"), 1, "did you mean commentator_10?"),
        (("backfill", "--badge", "nothing_like_it"), 1, "The catalog has no badge nothing_like_it"),
        (("recompute", "--trigger", "coment.posted"), 1, "did you mean comment.posted?"),
        (("recompute", "--user", "u5", "--conditions"), 1, "No badge of the catalog asks a condition in JavaScript."),
        (("recompute", "--user", "u5", "--badge", "teacher"), 2, "Name one of --user, --badge and --trigger."),
        (("recompute",), 2, "Name one of --user, --badge and --trigger."),
        (("backfill",), 2, "Name badges with --badge, or take --all."),
        (("backfill", "--all", "--badge", "teacher"), 2, "--all or --badge, not both."),
        (("backfill", "--all", "--rate", "fast"), 2, "fast is neither a number of events a second nor off."),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_changed(
    community: str, run: Run, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """An unknown user, badge or type, and wrong usage, each in one sentence; no job is written down."""
    jobs = asks(community, "SELECT count(*) FROM user_jobs")
    found, out, err = run(*arguments)
    assert (found, out) == (status, "")
    assert words in err
    assert asks(community, "SELECT count(*) FROM user_jobs") == jobs


def test_a_job_left_by_the_dead_is_gone_on_with(community: str, run: Run) -> None:
    """What asks the same as an unfinished job goes on where that one was, and says so; for programs as data."""
    asks(
        community,
        """INSERT INTO user_jobs (kind, parameters, state, after, users_done, users_total, driver, leased_until)
        VALUES ('recompute', '{"badges": ["teacher"]}', 'running', 'u5', 1400, 1702, 'dead', now() - interval '1 s')
        RETURNING id""",
    )
    status, out, err = run("recompute", "--badge", "teacher", "--format", "json")
    job = json.loads(out)
    assert (status, job["state"], job["after"] > "u5") == (0, "done", True)
    assert 1400 < job["users_done"] <= 1702 + 1400
    assert "was left at 82.3 %; it goes on from there." in err


def test_a_cut_log_is_told(community: str, run: Run) -> None:
    """Where retention removed events, it is said which, and which badges are left as they are."""
    asks(community, "INSERT INTO retention_floors VALUES ('comment.posted', '2012-01-01T00:00:00Z')")
    try:
        status, _, err = run("recompute", "--badge", "commentator_10")
        _, preview, _ = run("backfill", "--badge", "commentator_10", "--preview")
    finally:
        asks(community, "DELETE FROM retention_floors")
    assert status == 0
    assert "warning: retention removed comment.posted before 2012-01-01" in err
    assert "commentator_10: nobody is given them here, and their memories stay as they are." in err
    assert "Nothing was changed." in preview
    assert "commentator_10" not in preview
