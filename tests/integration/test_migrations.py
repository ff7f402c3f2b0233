"""Migrations and the commands on the database: started several times at once, edited, newer, and what people read."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.contracts.samples import letter
from tests.rig.postgres import execute, in_thread
from worker import cli
from worker.errors import OperatorError, TransientError
from worker.resources import resource
from worker.store import migrate as room
from worker.store.migrate import Migration, grant_read_role, migrate, shipped, statements, status
from worker.store.pool import close_pool, create_pool
from worker.store.postgres import PostgresStore

Capture = pytest.CaptureFixture[str]
#: Status, output and errors of the command on a database.
Run = Callable[..., tuple[int, str, str]]

PUBLIC = {
    "user_badges": {"user_id", "badge_key", "context", "awarded_at", "source", "origin", "sort_override"},
    "badge_awards_log": set(),
    "events": {"user_id", "id", "type", "occurred_at", "payload"},
    "dead_letters": {"topic", "partition", "offset", "reason"},
    "badges": {"key", "users_with_badge"},
}


def extra(number: int, text: str, name: str = "more") -> Migration:
    """One more migration than there are."""
    return Migration(number, f"{number:04}_{name}.sql", text)


async def fetch(dsn: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows, read beside the code under test."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()


# ---------------------------------------------------------------- the runner


async def test_migrating_twice_does_nothing_the_second_time(empty_dsn: str) -> None:
    """The first run applies all files in order, the second none, and the status says so."""
    names = [migration.name for migration in shipped()]
    before = await status(empty_dsn)
    assert [migration.name for migration in before.pending] == names
    assert await migrate(empty_dsn) == names
    assert await migrate(empty_dsn) == []
    after = await status(empty_dsn)
    assert ([row.name for row in after.applied], after.pending) == (names, ())


async def test_letters_from_before_say_their_type(empty_dsn: str) -> None:
    """What lies there already is looked into once: the first 64 KiB, as far as they are text."""
    (at,) = (place for place, one in enumerate(shipped()) if one.name == "0025_letters_by_type.sql")
    await migrate(empty_dsn, migrations=shipped()[:at])
    text = "x" * 30_000
    values = {
        f'{{"payload": {{"type": "card", "text": "{text}"}}, "type": "order.paid"}}'.encode(): "order.paid",
        f'{{"text": "{text}", "event_type": "grüße", '.encode(): "grüße",
        b'{"type": "gr\\u00fc\\u00dfe", ': "grüße",
        b'{"type": "gr\xff": ': None,
        b'{"type": "gr\\ud800"}': None,
        b'{"type": 7}': None,
        b"\x00\xff": None,
        b"[" * 60_000: None,
    }
    for offset, value in enumerate(values):
        await fetch(
            empty_dsn,
            """INSERT INTO badges.dead_letters (topic, partition, "offset", reason, detail, raw, sha256, length)
               VALUES ('t', 0, $1, 'not_json', '', $2, '', 0)""",
            offset,
            value,
        )
    await migrate(empty_dsn)
    rows = await fetch(empty_dsn, "SELECT said_type FROM badges.dead_letters ORDER BY number")
    assert [row["said_type"] for row in rows] == list(values.values())


async def test_public_tables_have_their_columns(postgres_dsn: str) -> None:
    """The tables people query are there under the names that are public."""
    rows = await fetch(
        postgres_dsn, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'badges'"
    )
    found = {tuple(row) for row in rows}
    for table, columns in PUBLIC.items():
        assert {table} == {name for name, _ in found if name == table}
        assert columns <= {column for name, column in found if name == table}


async def test_every_text_key_compares_by_code_point(postgres_dsn: str) -> None:
    """No key or index sorts text by a language's rules, which differ between machines."""
    rows = await fetch(
        postgres_dsn,
        """SELECT c.relname, a.attname FROM pg_index i
           JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
           JOIN pg_collation l ON l.oid = a.attcollation
           WHERE n.nspname = 'badges' AND l.collname <> 'C'""",
    )
    assert rows == []


async def test_five_starts_at_once_apply_everything_once(empty_dsn: str) -> None:
    """Of five processes that migrate at the same moment one works and four wait, even for a concurrent index."""
    plan = [
        *shipped(),
        extra(len(shipped()) + 1, "CREATE TABLE extra (id bigint PRIMARY KEY, at timestamptz);"),
        extra(
            len(shipped()) + 2,
            "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS extra_at ON extra (at);\n"
            "-- And one more.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS extra_id ON extra (id, at);\n",
            "indexes",
        ),
    ]
    async with asyncio.timeout(60):
        done = await asyncio.gather(*(migrate(empty_dsn, migrations=plan) for _ in range(5)))
    assert sorted(map(len, done)) == [0, 0, 0, 0, len(plan)]
    indexes = await fetch(empty_dsn, "SELECT indexname FROM pg_indexes WHERE tablename = 'extra'")
    assert {row["indexname"] for row in indexes} == {"extra_pkey", "extra_at", "extra_id"}


def test_five_processes_at_once(empty_dsn: str) -> None:
    """The same with five processes of the command: all end well, each migration is applied by one of them."""
    command = [sys.executable, "-c", "import sys; from worker.cli import main; sys.exit(main(['db', 'migrate']))"]
    surroundings = {"BADGES_DATABASE_URL": empty_dsn, "PATH": "/usr/bin:/bin"}
    running = [
        subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    ends = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert [(error, code) for _, error, code in ends] == [("", 0)] * 5
    assert sum(out.count("applied 0001_initial.sql") for out, _, _ in ends) == 1


async def test_edited_migration_is_refused(postgres_dsn: str) -> None:
    """A file that was changed after it was applied is refused by name, and nothing is done."""
    edited = [dataclasses.replace(migration, text=migration.text + "\n-- more\n") for migration in shipped()]
    with pytest.raises(OperatorError, match=r"0001_initial\.sql is not the file") as refused:
        await migrate(postgres_dsn, migrations=[*edited, extra(len(edited) + 1, "CREATE TABLE extra (id bigint);")])
    assert "new migration" in (refused.value.help or "")
    assert await fetch(postgres_dsn, "SELECT 1 FROM pg_tables WHERE tablename = 'extra'") == []


async def test_newer_schema_is_refused(postgres_dsn: str) -> None:
    """A database that a newer version migrated is left alone by runner, status and worker, with the remedy."""
    known = len(shipped())
    await migrate(postgres_dsn, migrations=[*shipped(), extra(known + 1, "CREATE TABLE extra (id bigint);")])
    words = f"the database has schema {known + 1}, this version knows {known}: upgrade badgestream"
    pool = await create_pool(postgres_dsn)
    try:
        for attempt in (migrate(postgres_dsn), status(postgres_dsn), room.schema_version(pool)):
            with pytest.raises(OperatorError, match=words):
                await attempt
    finally:
        await close_pool(pool)


async def test_schema_version_of_each_database(postgres_dsn: str, empty_dsn: str) -> None:
    """A worker that waits for its schema reads 0 before the first migration and the last number after it."""
    for dsn, version in ((empty_dsn, 0), (postgres_dsn, room.newest_known_version())):
        pool = await create_pool(dsn)
        try:
            assert await room.schema_version(pool) == version
        finally:
            await close_pool(pool)


async def test_lost_row_of_the_past_is_refused(empty_dsn: str) -> None:
    """A database whose record of migrations has a hole is not guessed at."""
    await migrate(empty_dsn, migrations=[*shipped(), extra(len(shipped()) + 1, "CREATE TABLE extra (id bigint);")])
    await execute(empty_dsn, "DELETE FROM badges.schema_migrations WHERE number = 1")
    with pytest.raises(OperatorError, match="lacks one"):
        await migrate(empty_dsn, migrations=[*shipped(), extra(len(shipped()) + 1, "CREATE TABLE extra (id bigint);")])


async def test_failing_migration_leaves_nothing(empty_dsn: str) -> None:
    """A migration that fails is rolled back whole, is named with the reason, and those before it stay."""
    bad = extra(len(shipped()) + 1, "CREATE TABLE extra (id bigint); SELECT 1 / 0;")
    with pytest.raises(OperatorError, match=rf"{bad.number:04}_more\.sql failed: division by zero"):
        await migrate(empty_dsn, migrations=[*shipped(), bad])
    assert await fetch(empty_dsn, "SELECT 1 FROM pg_tables WHERE tablename = 'extra'") == []
    assert len((await status(empty_dsn)).applied) == len(shipped())


async def test_lock_that_is_never_free_ends_the_wait(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that hangs elsewhere does not keep others waiting for ever."""
    connection = await asyncpg.connect(empty_dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1, $2)", *room.lock_of("badges"))
        with pytest.raises(TransientError, match="another migration"):
            await migrate(empty_dsn, wait_seconds=0.1)
    finally:
        await connection.close()


def test_statements_of_a_file_without_transaction() -> None:
    """Statements end a line with a semicolon; comments and empty lines are none."""
    text = "-- no-transaction\n-- Why; it is so.\nCREATE INDEX a\n    ON b (c);\n\nSELECT ';' ;\nSELECT 2"
    assert statements(text) == ["CREATE INDEX a\n    ON b (c)", "SELECT ';'", "SELECT 2"]


def test_squawk_finds_no_fault() -> None:
    """The linter for migrations agrees with every file; the runner sets the time-outs it asks for."""
    squawk = shutil.which("squawk", path=str(Path(sys.executable).parent))
    assert squawk is not None
    files = [str(resource("sql").joinpath(migration.name)) for migration in shipped()]
    # Set by the runner, or meant: partitions, versions and shards are small numbers by nature.
    rules = (
        "require-lock-timeout,require-statement-timeout,require-timeout-settings,prefer-robust-stmts,"
        "prefer-bigint-over-int,prefer-bigint-over-smallint"
    )
    done = subprocess.run(
        [squawk, "--pg-version=15.0", f"--exclude={rules}", "--assume-in-transaction", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} {done.stdout} {done.stderr}"


# ---------------------------------------------------------------- the role that reads


async def test_read_role_reads_and_does_not_write(postgres_dsn: str) -> None:
    """The role reads every table, later ones too, and is refused whatever would change something."""
    role = "read \"er'; DROP"
    assert await grant_read_role(postgres_dsn, role) is True
    assert await grant_read_role(postgres_dsn, role) is False
    await execute(postgres_dsn, "CREATE TABLE badges.later (id bigint)")
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute('SET ROLE "read ""er\'; DROP"')
        for table in (*PUBLIC, "later"):
            assert await connection.fetch(f"SELECT * FROM badges.{table}") == []
        for statement in (
            "INSERT INTO badges.later VALUES (1)",
            "UPDATE badges.users SET revision = 1",
            "DELETE FROM badges.user_badges",
            "CREATE TABLE badges.mine (id bigint)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
        await execute(postgres_dsn, 'DROP OWNED BY "read ""er\'; DROP"')
        await execute(postgres_dsn, 'DROP ROLE "read ""er\'; DROP"')


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "public", "pg_reader"])
async def test_names_that_are_no_role_are_refused(postgres_dsn: str, name: str) -> None:
    """A name PostgreSQL would cut, cannot take or keeps for itself is refused in words."""
    with pytest.raises(OperatorError):
        await grant_read_role(postgres_dsn, name)


async def test_role_that_writes_is_no_read_role(postgres_dsn: str) -> None:
    """The worker's own role is not turned into a read-only one by mistake."""
    (row,) = await fetch(postgres_dsn, "SELECT current_user AS name")
    with pytest.raises(OperatorError, match="can write"):
        await grant_read_role(postgres_dsn, row["name"])


# ---------------------------------------------------------------- the commands


@pytest.fixture
def badges(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> Run:
    """Runs the command against a database and gives status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(dsn: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("BADGES_DATABASE_URL", dsn)
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_db_migrate_and_status(badges: Run, empty_dsn: str) -> None:
    """`db status` before, `db migrate`, `db status` after, and again: each says where the schema stands."""
    known = len(shipped())
    code, out, err = badges(empty_dsn, "db", "status")
    assert (code, err) == (0, "")
    assert out.endswith(f"Schema 0 of {known}. Next: badges db migrate\n")
    assert badges(empty_dsn, "db", "status", "--exit-code")[0] == 1
    code, out, err = badges(empty_dsn, "db", "migrate")
    assert (code, err) == (0, "")
    assert out == "".join(f"applied {one.name}\n" for one in shipped()) + f"Schema {known}: {known} applied.\n"
    assert badges(empty_dsn, "db", "migrate") == (0, f"Schema {known}: nothing to do.\n", "")
    code, out, _ = badges(empty_dsn, "db", "status", "--format", "json")
    assert [(row["name"], row["state"]) for row in json.loads(out)] == [(one.name, "applied") for one in shipped()]
    assert badges(empty_dsn, "db", "status", "--exit-code")[0] == 0


def test_db_commands_name_what_is_wrong(badges: Run, tmp_path: Path) -> None:
    """No address, a wrong one, nobody there: one sentence, exit 1, no trace."""
    for dsn, words in (
        ("postgresql://u:hidden@127.0.0.1:1/badges", "127.0.0.1"),
        ("postgresql://u:hidden@127.0.0.1:x/badges", "BADGES_DATABASE_URL"),
    ):
        for command in (("db", "migrate"), ("db", "status"), ("dlq", "list")):
            code, out, err = badges(dsn, *command)
            assert (code, out) == (1, "")
            assert words in err
            assert "hidden" not in err
            assert "Traceback" not in err


def test_db_migrate_makes_the_read_role(badges: Run, postgres_dsn: str) -> None:
    """`--read-role` says what it did and what is left to do."""
    try:
        code, out, err = badges(postgres_dsn, "db", "migrate", "--read-role", "badges_reader")
        assert code == 0
        assert out.endswith("Role badges_reader created; it may read all tables.\n")
        assert "PASSWORD" in err
        code, out, err = badges(postgres_dsn, "db", "migrate", "--read-role", "badges_reader")
        assert (code, err) == (0, "")
        assert out.endswith("Role badges_reader may read all tables.\n")
    finally:
        in_thread(lambda: execute(postgres_dsn, "DROP OWNED BY badges_reader"))
        in_thread(lambda: execute(postgres_dsn, "DROP ROLE badges_reader"))


def bury(dsn: str) -> None:
    """Three dead letters, one of them with a body a terminal should not see."""

    async def work() -> None:
        pool = await create_pool(dsn)
        async with PostgresStore(pool).transaction() as transaction:
            await transaction.bury(
                [
                    letter(1, reason="not_json", raw=b"\x1b[31m{\xff"),
                    letter(2, reason="too_large", raw=b"x" * 10, length=300_000),
                    letter(3, reason="not_json", user_id="u1"),
                ]
            )
        await close_pool(pool)

    in_thread(work)


def test_dlq_list(badges: Run, postgres_dsn: str) -> None:
    """Letters are listed newest first, by reason, by page, and counted."""
    assert badges(postgres_dsn, "dlq", "list") == (0, "No dead letters.\n", "")
    bury(postgres_dsn)
    code, out, err = badges(postgres_dsn, "dlq", "list")
    assert (code, err) == (0, "")
    assert out.endswith("3 dead letters.\n")
    code, out, err = badges(postgres_dsn, "dlq", "list", "--format", "jsonl", "--limit", "2")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["record"] for row in rows] == ["events:0:3", "events:0:2"]
    assert f"--before {rows[-1]['number']}" in err
    code, out, err = badges(postgres_dsn, "dlq", "list", "--before", str(rows[-1]["number"]), "--format", "json")
    assert ([row["record"] for row in json.loads(out)], err) == (["events:0:1"], "")
    code, out, _ = badges(postgres_dsn, "dlq", "list", "--reason", "not_json", "--format", "json")
    assert [row["offset"] for row in json.loads(out)] == [3, 1]
    code, out, _ = badges(postgres_dsn, "dlq", "list", "--reasons", "--format", "json")
    assert [(row["reason"], row["letters"]) for row in json.loads(out)] == [("not_json", 2), ("too_large", 1)]
    _, out, _ = badges(postgres_dsn, "dlq", "list", "--reason", "nope")
    assert "No dead letters with reason nope; there are not_json, too_large." in out


def test_dlq_show(badges: Run, postgres_dsn: str) -> None:
    """One letter is shown with its body made safe to print; its bytes come with --raw."""
    bury(postgres_dsn)
    code, out, err = badges(postgres_dsn, "dlq", "show", "events:0:1")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "not_json" in out
    code, out, err = badges(postgres_dsn, "dlq", "show", "events:0:2")
    assert err == "These are the first 10 of 300,000 bytes.\n"
    code, out, err = badges(postgres_dsn, "dlq", "show", "events:0:3", "--format", "json")
    assert json.loads(out)["user_id"] == "u1"
    code, out, err = badges(postgres_dsn, "dlq", "show", "events:0:3", "--raw")
    assert out == "{not json"
    code, out, err = badges(postgres_dsn, "dlq", "show", "0:1")
    assert (code, out) == (1, "")
    assert "no dead letter for badges.events:0:1" in err
    for wrong in ("events", "events:0:x", "events:-1:0", "events:0:9223372036854775808", ":::"):
        assert badges(postgres_dsn, "dlq", "show", "--", wrong)[0] == 2
