"""What only a database can show: zombies, lost connections, waits that end, two ways of writing, triggers."""

# ruff: noqa: PT012 (a transaction that is left by an exception is several statements)

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import time
from collections.abc import Sequence
from typing import TypeAlias

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.samples import (
    AnyStore,
    claim,
    event,
    grant,
    identity,
    letter,
    load,
    log_of,
    remember,
    state_of,
    step,
)
from tests.rig.waiting import alive, until
from worker.demo.postgres import PostgresServer
from worker.errors import BadgesError, OperatorError, PoisonBatch, TransientError
from worker.events import Event
from worker.store import remember as remember_room
from worker.store.memory import MemoryStore
from worker.store.pool import check_server, close_pool, create_pool, judge_server
from worker.store.postgres import PostgresStore
from worker.store.queries import QUERIES
from worker.store.remember import WritePath

#: User, id, type and payload of an event to be made.
Drawn: TypeAlias = tuple[str, str, str, object]


class Careful(WritePath):
    """Always the staged way."""

    @property
    def staged(self) -> bool:
        """Yes."""
        return True


async def scalar(store: PostgresStore, statement: str, *arguments: object) -> object:
    """One value, read beside the store."""
    async with store.pool.acquire() as connection:
        return await connection.fetchval(statement, *arguments)


# ---------------------------------------------------------------- zombies and lost connections


async def test_zombie_is_cut_off_by_the_idle_timeout(database: PostgresStore) -> None:
    """A process frozen inside a transaction loses it, the next claim goes through, and the zombie commits nothing."""
    owner = await claim(database)
    with pytest.raises(TransientError):
        async with database.transaction() as zombie:
            await zombie.fence(owner, step(0, 5))
            await zombie.remember([event()])
            async with asyncio.timeout(5):
                taken = await claim(database, owner="next")
            assert taken.next_offset == 0
            await load(zombie, {"u1": ()})
    assert await log_of(database, "u1") == []
    assert (await claim(database)).next_offset == 0


async def test_killed_backend_is_a_transient_error(database: PostgresStore) -> None:
    """A connection that dies inside a transaction leaves nothing behind, and the store goes on with another one."""
    with pytest.raises(TransientError):
        async with database.transaction() as transaction:
            await transaction.remember([event()])
            await kill_others(database)
            await transaction.remember([event("u2")])
    assert await log_of(database, "u1") == []


async def test_connection_lost_at_commit_leaves_the_outcome_unknown(database: PostgresStore) -> None:
    """A COMMIT that gets no answer is a TransientError that says the outcome is unknown."""
    with pytest.raises(TransientError, match="unknown"):
        async with database.transaction() as transaction:
            await transaction.remember([event()])
            await kill_others(database)
    assert list((await remember(database, event())).new) == [0]


async def kill_others(store: PostgresStore) -> None:
    """End every other session of the database, and wait until they are gone."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with store.pool.acquire() as connection:
        await connection.fetch(f"SELECT pg_terminate_backend(pid) {others}")

        async def gone() -> bool:
            return bool(await connection.fetchval(f"SELECT NOT EXISTS (SELECT 1 {others})"))

        await until(gone, "the end of the connection")


async def test_cancelled_work_ends_its_session(database: PostgresStore) -> None:
    """Cancelling a batch in the middle of a statement throws its connection away, and its locks are free."""
    await state_of(database, "u1")
    async with database.transaction() as holder:
        await load(holder, {"u1": ()})
        blocked = asyncio.create_task(state_of(database, "u1"))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        await until(lambda: scalar(database, waiting), "waiting for the lock")
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
    async with asyncio.timeout(5):
        await state_of(database, "u1")


async def test_statement_cut_by_a_deadline_ends_its_session(database: PostgresStore) -> None:
    """A statement that a deadline inside the batch cut off may still run: its connection is not used again."""
    await state_of(database, "u1")
    async with database.transaction() as holder:
        await load(holder, {"u1": ()})
        with pytest.raises(TimeoutError):
            async with database.transaction() as transaction:
                pid = transaction._session.connection.get_server_pid()
                async with asyncio.timeout(0.1):
                    await load(transaction, {"u1": ()})
    gone = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)"
    await until(lambda: scalar(database, gone, pid), "the end of the connection")


async def test_cancelled_between_statements_rolls_back(database: PostgresStore) -> None:
    """Cancelling a batch that is computing leaves no effect and no lock."""
    inside = asyncio.Event()

    async def batch() -> None:
        async with database.transaction() as transaction:
            await transaction.remember([event()])
            await load(transaction, {"u1": ()})
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(batch())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        assert await log_of(database, "u1") == []


async def test_demoted_primary_empties_the_pool(database: PostgresStore) -> None:
    """A read-only answer is transient, and every pooled connection is replaced, since the old server still answers."""
    before = await scalar(database, "SELECT pg_backend_pid()")
    await scalar(database, "SET default_transaction_read_only = on")
    with pytest.raises(TransientError, match="25006"):
        await claim(database)
    assert await scalar(database, "SELECT pg_backend_pid()") != before
    await claim(database)


async def test_server_killed_and_back(postgres_server: PostgresServer) -> None:
    """A server that is killed in a batch costs that batch only: what was committed is there once it is back."""
    pool = await create_pool(postgres_server.dsn)
    store = PostgresStore(pool)
    try:
        assert await check_server(pool) == []
        await remember(store, event("u1", "e1"))
        with pytest.raises(TransientError):
            async with store.transaction() as transaction:
                await transaction.remember([event("u1", "e2")])
                postgres_server.kill()
        with pytest.raises(TransientError):
            await claim(store)
        await asyncio.to_thread(postgres_server.restart)
        assert [logged.id for logged in await log_of(store, "u1")] == ["e1"]
    finally:
        await close_pool(pool)


async def test_kill_returns_once_nothing_serves(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the processes behind the connections are gone then, however late they notice it: nobody commits any more."""
    pool = await create_pool(postgres_server.dsn)
    late = int(str(await scalar(PostgresStore(pool), "SELECT pg_backend_pid()")))
    waited = time.sleep

    def wake(seconds: float) -> None:
        if alive(late):
            os.kill(late, signal.SIGCONT)
        waited(seconds)

    monkeypatch.setattr("worker.demo.postgres.time.sleep", wake)
    os.kill(late, signal.SIGSTOP)
    try:
        postgres_server.kill()
        assert not alive(late)
    finally:
        wake(0)
        await close_pool(pool)


# ---------------------------------------------------------------- the claim's escape


async def test_old_claim_gives_way_to_any_generation(database: PostgresStore) -> None:
    """Sixty seconds after a claim an older generation counts again: the group may have begun anew."""
    await claim(database, generation=9)
    await scalar(database, "UPDATE partitions SET claimed_at = clock_timestamp() - interval '59 seconds'")
    assert await database.claim("events", 0, generation=1, owner="b", start_offset=0) is None
    await scalar(database, "UPDATE partitions SET claimed_at = clock_timestamp() - interval '61 seconds'")
    assert await database.claim("events", 0, generation=1, owner="b", start_offset=0) is not None


async def test_old_claim_gives_way_in_memory_too() -> None:
    """The store in memory follows the same rule by its own clock."""
    now = 1000.0
    store = MemoryStore(clock=lambda: now)
    await claim(store, generation=9)
    now += 59
    assert await store.claim("events", 0, generation=1, owner="b", start_offset=0) is None
    now += 2
    assert await store.claim("events", 0, generation=1, owner="b", start_offset=0) is not None


# ---------------------------------------------------------------- both ways of writing


_numbers = itertools.count()
_batches = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["u1", "u2"]),
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["question.scored", "cron.daily"]),
            st.sampled_from([{"n": 1}, {"n": 1.0}, {"n": 2}]),
        ),
        max_size=6,
        unique_by=lambda one: one[:2],
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=_batches)
async def test_both_ways_answer_alike(
    database: PostgresStore, batches: list[list[tuple[str, str, str, object]]]
) -> None:
    """COPY first, staged from the start and the store in memory give the same answers and the same logs."""
    memory = MemoryStore()
    turn = next(_numbers)
    for batch in batches:
        answers = [
            await append(store, batch, prefix=f"{turn}-{name}-", path=path)
            for name, store, path in (
                ("m", memory, None),
                ("c", database, WritePath()),
                ("s", database, Careful()),
            )
        ]
        assert answers[0] == answers[1] == answers[2]
    for user_id in ("u1", "u2"):
        logs = [
            [(one.id, one.type, one.payload) for one in await log_of(store, f"{turn}-{name}-{user_id}")]
            for name, store in (("m", memory), ("c", database), ("s", database))
        ]
        assert logs[0] == logs[1] == logs[2]


async def append(
    store: AnyStore, batch: Sequence[Drawn], *, prefix: str, path: WritePath | None
) -> tuple[list[int], list[int]]:
    """Log a batch on one way."""
    events = sorted(
        (event(prefix + user, key, type=kind, payload=payload) for user, key, kind, payload in batch), key=identity
    )
    async with store.transaction() as transaction:
        if path is not None:
            transaction._path = path  # type: ignore[union-attr]
        found = await transaction.remember(events)
    return list(found.new), list(found.conflicts)


async def test_careful_way_takes_what_no_statement_could(
    database: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch larger than a statement may be goes in pieces, with the answers of the whole."""
    monkeypatch.setattr(remember_room, "STATEMENT_BYTES", 1000)
    events: list[Event] = [event("u1", f"e{number:03}") for number in range(100)]
    await remember(database, *events[::3], event("u1", "e050", payload={"score": 0}))
    found = await remember(database, *events)
    assert list(found.conflicts) == [50]
    assert list(found.new) == [number for number in range(100) if number % 3 and number != 50]


def test_repeats_in_a_row_make_the_store_careful() -> None:
    """One batch with repeats changes nothing; a second soon after does, until sixteen batches had none."""
    path = WritePath()
    path.learn(repeats=True)
    assert not path.staged
    path.learn(repeats=False)
    path.learn(repeats=True)
    assert path.staged
    for _ in range(15):
        path.learn(repeats=False)
        assert path.staged
    path.learn(repeats=False)
    assert not path.staged


async def test_partition_with_repeats_does_not_slow_the_others(database: PostgresStore) -> None:
    """What one partition meets is remembered for that partition only."""
    for partition, events in ((0, [event("u1")]), (0, [event("u1")]), (0, [event("u1")]), (1, [event("u2")])):
        owner = await claim(database, partition)
        async with database.transaction() as transaction:
            await transaction.fence(owner, step(owner.next_offset, owner.next_offset + 1))
            await transaction.remember(events)
    assert database._path_of("events", 0).staged
    assert not database._path_of("events", 1).staged


# ---------------------------------------------------------------- what the database itself refuses


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE badge_awards_log SET origin = 'live'",
        "DELETE FROM badge_awards_log",
        "TRUNCATE badge_awards_log",
        "UPDATE events SET type = 'x.y'",
        "DELETE FROM events",
        "TRUNCATE events",
    ],
)
async def test_logs_are_append_only(database: PostgresStore, statement: str) -> None:
    """Neither log can be changed or emptied, but by who says that it removes."""
    await remember(database, event())
    async with database.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.grant([grant()], topic="awards")
    async with database.pool.acquire() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await connection.execute(statement)
        async with connection.transaction():
            await connection.execute("SET LOCAL badges.removal = 'on'")
            await connection.execute(statement)


async def test_every_award_is_logged_whole(database: PostgresStore) -> None:
    """The awards log holds what a row of user_badges is restored from."""
    async with database.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.grant([grant("u1", "a", context="5", sequence=3, origin="late")], topic="awards")
    columns = "user_id, badge_key, context, award_id, awarded_at, source, origin, sequence, catalog_version, metadata"
    async with database.pool.acquire() as connection:
        current = await connection.fetch(f"SELECT {columns}, trigger_id, trigger_type FROM user_badges")
        logged = await connection.fetch(f"SELECT {columns}, trigger_id, trigger_type FROM badge_awards_log")
    assert current == logged
    assert len(current) == 1


async def test_saving_bumps_the_revision(database: PostgresStore) -> None:
    """Every transaction that saves a user changes the number a cache is held against."""
    for _ in range(2):
        async with database.transaction() as transaction:
            states = await load(transaction, {"u1": ()})
            await transaction.save(states.values())
    await state_of(database, "u1")
    assert await scalar(database, "SELECT revision FROM users") == 2


async def test_error_texts_hold_no_values(database: PostgresStore) -> None:
    """What the database refuses is named by state and constraint, never by what stood in the row."""
    secret = "secret-value"
    async with database.transaction() as transaction:
        await load(transaction, {secret: ()})
        await transaction.grant([grant(secret)], topic="awards")
    errors: list[BadgesError] = []
    for bad in (grant(secret), grant(secret, "b", source=secret), grant(secret, "c", metadata_json=f"{{{secret}")):
        with pytest.raises(PoisonBatch) as refused:
            async with database.transaction() as transaction:
                await load(transaction, {secret: ()})
                await transaction.grant([bad], topic="awards")
        errors.append(refused.value)
    with pytest.raises(PoisonBatch) as refused:
        await remember(database, event(secret, payload_json='{"a": "\\u0000"}'))
    errors.append(refused.value)
    assert [secret in str(error) for error in errors] == [False] * 4
    assert all(error.__suppress_context__ for error in errors)


async def test_letters_of_many_bytes_go_in_pieces(database: PostgresStore) -> None:
    """A batch of large poison is buried whole."""
    async with database.transaction() as transaction:
        await transaction.bury([letter(offset, raw=b"x" * 65_536) for offset in range(600)])
    assert await scalar(database, "SELECT count(*) FROM dead_letters") == 600


# ---------------------------------------------------------------- opening


async def test_waits_of_a_connection_are_bounded(database: PostgresStore) -> None:
    """Every connection has its time-outs, its schema and its name set at the server."""
    async with database.pool.acquire() as connection:
        for name, value in {
            "idle_in_transaction_session_timeout": "1s",
            "lock_timeout": "10s",
            "statement_timeout": "30s",
            "search_path": '"badges"',
            "TimeZone": "UTC",
            "client_connection_check_interval": "2s",
            "enable_seqscan": "off",
        }.items():
            assert await connection.fetchval("SELECT current_setting($1)", name) == value
        if connection.get_server_version().major >= 17:
            assert await connection.fetchval("SHOW transaction_timeout") == "20s"


HOT = [
    "fence",
    "conflicting",
    "remember_staged",
    "log_page",
    "lock_users",
    "make_users",
    "load_scopes",
    "load_held",
    "log_tails",
    "last_sequences",
    "holdings_of",
    "confirm",
    "take_back",
    "withhold",
    "lift",
    "tally",
    "tallied",
    "save_users",
    "save_scopes",
    "grant_counts",
    "grant_few",
    "unpublished",
    "mark_published",
]


@pytest.mark.parametrize("name", HOT)
async def test_batches_never_read_a_table_whole(database: PostgresStore, name: str) -> None:
    """Even a plan made while all tables are empty goes by keys, so that it stays right when they have grown."""
    nothing = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", QUERIES[name]))))
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE hot AS {QUERIES[name]}")
        plan = await connection.fetch(f"EXPLAIN EXECUTE hot({nothing})")
        await connection.execute("DEALLOCATE hot")
    assert not [line for (line,) in plan if "Seq Scan" in line]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fsync": "off"}, "fsync"),
        ({"full_page_writes": "off"}, "full_page_writes"),
        ({"synchronous_commit": "off"}, "synchronous_commit"),
        ({"transaction_read_only": "on"}, "read-only"),
        ({"default_transaction_isolation": "serializable"}, "serializable"),
        ({"server_encoding": "SQL_ASCII"}, "SQL_ASCII"),
        ({"server_version_num": 130_010}, "PostgreSQL 13"),
    ],
)
def test_servers_that_would_lose_awards_are_refused(change: dict[str, object], words: str) -> None:
    """Each setting that breaks a promise is refused by name, with the remedy."""
    safe = {
        "server_version_num": 150_018,
        "server_encoding": "UTF8",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "transaction_read_only": "off",
        "default_transaction_isolation": "read committed",
    }
    assert judge_server(safe) == []
    with pytest.raises(OperatorError, match=words) as refused:
        judge_server(safe | change)
    assert refused.value.help


async def test_fsync_off_must_be_allowed(database: PostgresStore) -> None:
    """A server without fsync, as the rig starts them: refused, unless allowed by name, and then said; else no word."""
    if await scalar(database, "SHOW fsync") == "on":
        assert not any("fsync" in sentence for sentence in await check_server(database.pool))
        return
    with pytest.raises(OperatorError, match="fsync"):
        await check_server(database.pool)
    (sentence,) = await check_server(database.pool, allow_insecure={"fsync"})
    assert "fsync" in sentence


@pytest.mark.parametrize(
    ("dsn", "kind", "words"),
    [
        ("postgresql://u:hidden@127.0.0.1:1/badges", TransientError, "127.0.0.1"),
        ("postgresql://u:hidden@127.0.0.1:port/badges", OperatorError, "BADGES_DATABASE_URL"),
        ("mysql://u:hidden@127.0.0.1/badges", OperatorError, "BADGES_DATABASE_URL"),
    ],
)
async def test_wrong_addresses_are_named_without_their_secret(dsn: str, kind: type[BadgesError], words: str) -> None:
    """An address nobody answers at is transient, one that is none is the operator's; the password is in neither."""
    with pytest.raises(kind, match=words) as refused:
        await create_pool(dsn)
    assert "hidden" not in f"{refused.value} {refused.value.help}"


async def test_wrong_password_and_missing_database_are_the_operators(postgres_server: PostgresServer) -> None:
    """What the server refuses for good is said with its reason and the remedy."""
    with pytest.raises(OperatorError, match="28P01") as refused:
        await create_pool(postgres_server.dsn.replace("badges:", "badges:x", 1))
    assert "password" in (refused.value.help or "")
    with pytest.raises(OperatorError, match='"nowhere" does not exist'):
        await create_pool(postgres_server.address("nowhere"))


async def test_missing_tables_are_the_operators(empty_dsn: str) -> None:
    """A store on a database that was never migrated says how to migrate it."""
    pool = await create_pool(empty_dsn)
    try:
        with pytest.raises(OperatorError) as refused:
            await claim(PostgresStore(pool))
        assert "badges db migrate" in (refused.value.help or "")
    finally:
        await close_pool(pool)
