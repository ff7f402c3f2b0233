"""A person's data: shown whole, removed whole, also while a batch runs, whatever is cut off, and not brought back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.test_replay import again
from tests.integration.test_worker import CATALOG, Rig, event, line, rig
from tests.people import settle_users
from tests.rig.faults import Faults, store_on
from tests.rig.kafka import KafkaService
from worker import cli
from worker.app import apply_catalog, head_plan, open_store
from worker.app.erasure import erase_user, erased_message, export_user
from worker.app.people import UnknownUser
from worker.config import Settings
from worker.errors import TransientError
from worker.events import Event, Record, Rejected, format_instant
from worker.exchange import AuditLine, Claim
from worker.pipeline.batch import Applier
from worker.pipeline.decoding import dead_letter
from worker.pipeline.facts import Limits
from worker.rules.plan import Plan
from worker.store.people import HOLDINGS, WITHOUT
from worker.store.postgres import PostgresStore
from worker.store.transaction import PostgresTransaction

__all__ = ["rig"]

SETTINGS = Settings()
NOW_MS = 1_772_366_400_000
LIMITS = Limits("badges.awards", "badges.dead-letters", "badges.control", 24 * 3600 * 10**6)


@pytest.fixture
async def store(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[PostgresStore]:
    """A store whose users `gone` and `stays` have done the same."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    await settle_users(postgres_dsn, tmp_path / "catalog.yaml", [*history("gone"), *history("stays")])
    async with store_on(postgres_dsn, connections=4) as store:
        yield store


def history(user_id: str) -> list[Event]:
    """Two comments."""
    payload = '{"post_id": "p"}'
    return [
        Event(user_id, "comment.posted", NOW_MS * 1000 + n, "", f"{user_id}-{n}", json.loads(payload), payload)
        for n in range(2)
    ]


def record(offset: int, user_id: str = "gone", **changes: Any) -> Record:
    """A comment as it comes."""
    body = event(offset, user_id=user_id, occurred_at="2026-03-01T12:00:05Z") | changes
    return Record("events", 0, offset, NOW_MS + 10_000, user_id.encode(), line(body))


async def held(store: PostgresStore) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    found = {}
    async with store.pool.acquire() as connection:
        for table in (*HOLDINGS, *WITHOUT):
            rows = await connection.fetch(f"SELECT to_jsonb(t)::text, t::text FROM badges.{table} t")
            found[table] = sorted(f"{row[0]} {row[1]}" for row in rows)
    return found


async def bury(store: PostgresStore) -> None:
    """Dead letters of both users: by key, by body, and one that only mentions the one."""
    wrong = Rejected("not_json", "it is not")
    values = [
        (b"gone", b"\xff"),
        (None, b'{"user_id": "gone", "x": '),
        (b"stays", b'{"user_id": "stays", "payload": {"of": "gone"}}'),
    ]
    letters = [
        dead_letter(Record("events", 1, n, NOW_MS, key, value), wrong, incarnation=1)
        for n, (key, value) in enumerate(values)
    ]
    async with store.transaction() as transaction:
        await transaction.bury(letters)


async def test_every_table_says_whom_it_is_about(store: PostgresStore) -> None:
    """Each table is in the list of what is held about people, or in that of those without any; none is in both."""
    async with store.pool.acquire() as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'badges'")
        columns = await connection.fetch(
            "SELECT table_name FROM information_schema.columns "
            "WHERE table_schema = 'badges' AND column_name = 'user_id'"
        )
    assert {row[0] for row in tables} == set(HOLDINGS) | WITHOUT, "worker/store/people.py lists every table"
    assert not set(HOLDINGS) & WITHOUT
    assert {row[0] for row in columns} <= set(HOLDINGS)


async def test_nothing_is_left_and_nobody_else_is_touched(store: PostgresStore) -> None:
    """Everything about the user goes, the awards topic is told; what others have stays to the letter."""
    await bury(store)
    await store.audit(AuditLine("anna", "grant.added", "user gone", after={"badge": "x"}, note="for gone"))
    await store.create_user_job("recompute", {"user": "gone"}, note="gone asked")
    before = await held(store)
    found = await erase_user(store, SETTINGS, "gone", actor="anna", note="request 4711")
    after = await held(store)
    assert {table: count for table, count in found.rows.items() if count} == {
        "events": 2,
        "user_badges": 2,
        "badge_awards_log": 2,
        "user_jobs": 1,
        "dead_letters": 2,
        "outbox": 1,
        "audit_log": 1,
        "users": 1,
    }
    # of other people's records one mentions the user; and the erasure itself is to be published
    mentions = [(table, row) for table, rows in after.items() for row in rows if "gone" in row or b"gone".hex() in row]
    assert [table for table, _ in mentions] == ["dead_letters", "outbox"]
    for table in ("events", "user_badges", "badge_awards_log", "users"):
        assert after[table] == [row for row in before[table] if "gone" not in row]
    assert len(after["dead_letters"]) == 1
    (told,) = [
        message
        for shard in range(4)
        for row in await store.unpublished([shard], 100)
        for message in row.messages
        if b"user.erased" in (message.value or b"")
    ]
    assert told == erased_message("gone", times=0)
    (change, *_) = await store.changes(action="user.erased")
    assert (change.actor, change.note) == ("anna", "request 4711")
    with pytest.raises(UnknownUser):
        await erase_user(store, SETTINGS, "gone", actor="anna")


async def test_who_was_the_last_one_done_is_named_no_more(store: PostgresStore) -> None:
    """Jobs, builds, readers and runs that had come to the user go on after the one before; changes name nobody."""
    for user in ("ann", "gone"):
        await store.create_user_job("sweep", {}, after=user)
    pool = store.pool
    await pool.execute("INSERT INTO users (user_id) VALUES ('ann')")
    await pool.execute("INSERT INTO catalog_builds (version, after) VALUES (1, 'gone')")
    await pool.execute("INSERT INTO log_readers (name, rule, upto, after) VALUES ('r', 'r', now(), 'gone')")
    await pool.execute(
        "INSERT INTO job_runs (job, tick, token, progress) VALUES ('j', now(), gen_random_uuid(), 'gone')"
    )
    some = {"users": ["gone", "stays"]}
    await store.audit(AuditLine("anna", "quarantine.released", "badge b", after=some, note="gone asked"))
    await store.audit(AuditLine("anna", "recompute.started", "job 1", after={"user": "gone"}))
    await erase_user(store, SETTINGS, "gone", actor="anna")
    for table, column in {
        "user_jobs": "after", "catalog_builds": "after", "log_readers": "after", "job_runs": "progress",
    }.items():  # fmt: skip
        rows = await pool.fetch(f"SELECT {column} FROM {table}")
        assert {row[0] for row in rows} == {"ann"}, table
    rows = await pool.fetch(
        "SELECT after::text, note FROM audit_log WHERE actor = 'anna' AND subject NOT LIKE 'user %' ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [('{"users": ["stays"]}', ""), ('{"user": ""}', "")]


async def test_export_shows_what_an_erasure_removes(store: PostgresStore) -> None:
    """The export is one JSON object with all that is held, memory in the clear; afterwards there is nothing to show."""
    await bury(store)
    text = "".join([piece async for piece in export_user(store, "gone", actor="anna")])
    found = json.loads(text)
    assert found["user_id"] == "gone"
    assert [one["id"] for one in found["events"]] == ["gone-0", "gone-1"]
    assert [one["badge_key"] for one in found["user_badges"]] == ["commentator_1", "commentator_2"]
    assert [one["value"] for one in found["dead_letters"]] == ["\\xff", '{"user_id": "gone", "x": ']
    assert set(found) == {"user_id", *(table for table, holding in HOLDINGS.items() if holding.export)}
    assert "stays" not in text
    await erase_user(store, SETTINGS, "gone", actor="anna")
    with pytest.raises(UnknownUser):
        _ = [piece async for piece in export_user(store, "gone", actor="anna")]


async def test_who_comes_back_is_a_new_person(store: PostgresStore) -> None:
    """Events up to the erasure are refused without keeping them, later ones begin anew; and may be erased again."""
    applier, claim = await applying(store)
    found = await erase_user(store, SETTINGS, "gone", actor="anna")
    facts = await applier.apply(claim, [record(0)], from_offset=0)
    assert facts.dead_letters == {"erased": 1}
    (letter,) = await store.dead_letters(reason="erased")
    whole = await store.dead_letter("events", 0, 0)
    assert whole is not None
    assert (letter.user_id, whole.raw, whole.key) == (None, b"", None)
    later = found.at_us // 1_000_000 + 1
    fresh = replace_stamp(record(1, occurred_at=f"@{later}"), later)
    facts = await applier.apply(claim, [fresh], from_offset=1)
    assert facts.awards.total() == 1
    again_ = await erase_user(store, SETTINGS, "gone", actor="anna")
    assert again_.at_us >= later * 1_000_000
    said = [m.value for s in range(4) for row in await store.unpublished([s], 100) for m in row.messages]
    assert said.count(erased_message("gone", times=1).value) == 1


def replace_stamp(one: Record, seconds: int) -> Record:
    """The record at another time."""
    at = format_instant(seconds * 1_000_000)
    return msgspec.structs.replace(
        one, timestamp_ms=seconds * 1000, value=(one.value or b"").replace(f"@{seconds}".encode(), at.encode())
    )


async def applying(store: PostgresStore) -> tuple[Applier, Claim]:
    """An applier with the head's plan, and the claim of a partition."""
    plan = await head_plan(store)
    assert isinstance(plan, Plan)
    claim = await store.claim("events", 0, generation=1, owner="test", start_offset=0)
    assert claim is not None
    return Applier(store, plan, LIMITS), claim


@pytest.mark.parametrize("user_id", ["gone", "fresh"])
async def test_an_erasure_while_a_batch_runs(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, user_id: str
) -> None:
    """A batch that has logged a user's event when the user is erased is made again, and then leaves it out."""
    applier, claim = await applying(store)
    if user_id == "fresh":
        async with store.transaction() as transaction:
            letter = dead_letter(
                Record("events", 2, 0, NOW_MS, b"fresh", b"x"), Rejected("not_json", "x"), incarnation=1
            )
            await transaction.bury([letter])
    lock = PostgresTransaction.lock
    begun, erased = asyncio.Event(), asyncio.Event()

    async def late(self: PostgresTransaction, *arguments: Any, **more: Any) -> Any:
        begun.set()
        await erased.wait()
        return await lock(self, *arguments, **more)

    monkeypatch.setattr(PostgresTransaction, "lock", late)
    batch = asyncio.create_task(applier.apply(claim, [record(0, user_id), record(1, "stays")], from_offset=0))
    await begun.wait()
    await erase_user(store, SETTINGS, user_id, actor="anna")
    erased.set()
    with pytest.raises(TransientError, match="erased while the batch ran"):
        await batch
    monkeypatch.setattr(PostgresTransaction, "lock", lock)
    facts = await applier.apply(claim, [record(0, user_id), record(1, "stays")], from_offset=0)
    assert facts.dead_letters == {"erased": 1}
    async with store.pool.acquire() as connection:
        for table in ("events", "users", "user_badges"):
            assert not await connection.fetch(f"SELECT 1 FROM badges.{table} WHERE user_id = $1", user_id)


async def test_an_erasure_waits_for_the_batch_that_has_the_user(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that has locked the user first is committed, and then erased with the rest."""
    applier, claim = await applying(store)
    lock = PostgresTransaction.lock
    locked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self: PostgresTransaction, *arguments: Any, **more: Any) -> Any:
        states = await lock(self, *arguments, **more)
        locked.set()
        await go_on.wait()
        return states

    monkeypatch.setattr(PostgresTransaction, "lock", slow)
    batch = asyncio.create_task(applier.apply(claim, [record(0)], from_offset=0))
    await locked.wait()
    erasure = asyncio.create_task(erase_user(store, SETTINGS, "gone", actor="anna"))
    done, _ = await asyncio.wait({erasure}, timeout=0.2)
    assert not done
    go_on.set()
    await batch
    assert (await erasure).rows["events"] == 3


async def test_lost_connections_leave_nothing_half_erased(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever statement the connection is lost before, all is there still; the next try removes all."""
    await bury(store)
    before = await held(store)
    faults = Faults(monkeypatch)
    fault = 0
    while True:
        fault += 1
        faults.left = fault
        try:
            await erase_user(store, SETTINGS, "gone", actor="anna")
        except TransientError:
            faults.left = None
            assert await held(store) == before, f"lost before statement {fault}"
        else:
            faults.left = None
            break
    assert {"lock_person", "erase_events", "erase_letters", "note_erasure", "publish", "commit"} <= set(faults.names)
    after = await held(store)
    assert not any("gone" in row for table in ("events", "users", "user_badges") for row in after[table])


async def test_a_replay_brings_nobody_back(rig: Rig, real_kafka: KafkaService, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the topic still holds of an erased user stays out, and leaves no dead letter either."""
    async with open_store(rig.settings, name="test") as store:
        assert rig.settings.catalog is not None
        await apply_catalog(store, rig.settings.catalog, applied_by="test")
        await rig.produce(line(event(1)), line(event(2, user_id="u2")))
        await again(rig.settings)
        await erase_user(store, rig.settings, "u1", actor="anna")
        outcome = await again(rig.settings)
    assert (outcome.facts.read, outcome.facts.known, outcome.facts.added) == (2, 1, 0)
    assert outcome.facts.removed == {"erased": 1}
    assert [row["user_id"] for row in await rig.rows("SELECT user_id FROM events")] == ["u2"]
    assert [row["user_id"] for row in await rig.rows("SELECT user_id FROM users")] == ["u2"]
    assert not await rig.rows("SELECT 1 FROM dead_letters")


async def test_the_commands(
    store: PostgresStore, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Export writes JSON; erase wants a yes, or the id once more; an unknown user is one sentence."""
    monkeypatch.setenv("BADGES_DATABASE_URL", postgres_dsn)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")

    async def run(*arguments: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(cli.main, ["users", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    status, out, _ = await run("export", "gone")
    assert (status, len(json.loads(out)["events"])) == (0, 2)
    (change,) = await store.changes(action="user.exported")
    assert (change.actor.endswith("command)"), change.subject) == (True, "user gone")
    status, _, err = await run("erase", "gone")
    assert status == 2
    assert "--confirm gone" in err
    assert (await run("erase", "gone", "--confirm", "stays"))[0] == 2
    status, out, _ = await run("erase", "gone", "--confirm", "gone", "--note", "request 4711")
    assert status == 0
    assert "2 events, " in out
    assert ": 2 events" in out
    assert "_" not in out
    assert not {"user badges", "outbox", "user activity"} & set(out.split(", "))
    for command in (("erase", "gone", "--yes"), ("export", "gone")):
        status, out, err = await run(*command)
        assert (status, out) == (1, "")
        assert "error: No event and no award for gone." in err
    assert len(await store.changes(action="user.exported")) == 1
