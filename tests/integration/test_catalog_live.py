"""`badges catalog diff`, `apply`, `versions`, `rollback`, `show` on a database that holds a real community."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.community import CATALOG, settle
from tests.rig.postgres import PostgresService, execute, in_thread
from worker import app, cli
from worker.app import put_in_force
from worker.app.catalog import read_catalog
from worker.errors import TransientError
from worker.store import pool as pool_room
from worker.store import population
from worker.store.catalog import HeadMoved
from worker.store.pool import close_pool, create_pool, open_connection
from worker.store.population import PopulationTable
from worker.store.postgres import PostgresStore
from worker.store.session import Session

Run = Callable[..., tuple[int, str, str]]


def at_eight(text: str) -> str:
    """The catalog with Nice answer at a score of 8."""
    start = text.index("key: nice_answer")
    return text[:start] + text[start:].replace("$gte: 10", "$gte: 8", 1)


LEVEL = CATALOG.replace("levels: [10, 50, 100]", "levels: [10, 25, 50, 100]")
CHANGED = at_eight(LEVEL)
PICTURE = """\
Against version 1, live since TIME. Nothing is changed.
+ commentator_25  Commentator II                   ladder levels 10, 50, 100 -> 10, 25, 50, 100
~ commentator_50  Commentator II -> III            display only; also commentator_100, III -> IV
~ nice_answer     score at least 10 -> at least 8  test
    warning changed_in_place: the 39 awards given at 10 stay and will look like those given at 8
    help: to keep them apart, deprecate nice_answer and add nice_answer_8
Population: 1,702 users, 3,563 events read in SPAN
                would gain  users  new holders  close (80 %)  earned between
commentator_25          12     12           12  3             2011-08-18 and 2021-04-11
nice_answer             24     17           10  22 posts      2011-08-24 and 2020-08-08
  commentator_25: u40 u5 u102 u82 u8 u79 u1514 u217 u176 u358, 2 more (--samples all)
  nice_answer: u28 u79 u2388 u5 u40 u19 u86 u38 u176 u21, 7 more (--samples all)
Plan: 1 to add, 1 test changed, 2 relabelled, 0 to deprecate; 36 awards, quietly; nobody loses one.
Next: badges catalog apply catalog.yaml
"""


@pytest.fixture(scope="module")
def settled(postgres: PostgresService) -> Iterator[str]:
    """A database with the community's log and awards; the tests here leave log and awards alone."""
    with postgres.database() as dsn:
        in_thread(lambda: settle(dsn))
        yield dsn


@pytest.fixture
def community(settled: str) -> str:
    """The same, with no catalog applied."""
    tables = ("catalog_head", "catalog_versions", "badges", "event_types")
    in_thread(lambda: execute(settled, "; ".join(f"DELETE FROM badges.{table}" for table in tables)))
    return settled


@pytest.fixture
def run(community: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`badges catalog …` in a folder with `catalog.yaml`; status, output, errors without log lines."""
    monkeypatch.setenv("BADGES_DATABASE_URL", community)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    monkeypatch.setenv("BADGES_LOG_LEVEL", "error")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.yaml").write_text(CATALOG)

    def ran(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["catalog", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


def write(text: str) -> None:
    """Edit the catalog file."""
    Path("catalog.yaml").write_text(text)


def test_diff_says_what_changes_and_who_would_gain(run: Run) -> None:
    """A level inserted and a threshold lowered: the changes, the warning, the figures of the real log, the sum."""
    assert run("apply", "catalog.yaml")[0] == 0
    write(CHANGED)
    status, out, err = run("diff", "catalog.yaml")
    out = re.sub(r"since \S+ \S+Z", "since TIME", out)
    assert re.sub(r"read in .* s$", "read in SPAN", out, flags=re.M) == PICTURE
    assert (status, err) == (0, "")
    assert len(json.loads(run("versions", "--format", "json")[1])) == 1


def test_diff_for_programs(run: Run) -> None:
    """As JSON: changes and figures raw; the status is 1 for what differs only where that is asked for."""
    assert run("apply", "catalog.yaml")[0] == 0
    assert run("diff", "catalog.yaml", "--exit-code")[:2] == (
        0,
        "No difference: catalog.yaml is version 1, which rules.\n",
    )
    write(LEVEL)
    status, out, _ = run("diff", "catalog.yaml", "--format", "json", "--exit-code", "--samples", "2")
    found = json.loads(out)
    assert status == 1
    assert (found["against"], found["differs"], found["builds"]) == (1, True, True)
    assert found["ladders"] == [
        {"name": "commentator", "change": "changed", "old": "10, 50, 100", "new": "10, 25, 50, 100"}
    ]
    (gain,) = found["population"]["badges"]
    assert (gain["key"], gain["would_gain"], gain["samples"]) == ("commentator_25", 12, ["u40", "u5"])
    status, out, _ = run("diff", "catalog.yaml", "--no-preview", "--format", "json")
    assert (status, json.loads(out)["population"]) == (0, None)


def test_a_preview_is_read_in_pages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a page of users or of a user's events ends, the figures are the same, and no page is larger."""
    run("apply", "catalog.yaml")
    write(CHANGED)
    whole = run("diff", "catalog.yaml", "--format", "json")[1]
    monkeypatch.setattr(population, "_USERS", 7)
    monkeypatch.setattr(population, "_EVENTS", 11)
    pages: list[int] = []
    take = PopulationTable.events

    async def counted(self: PopulationTable, *arguments: Any) -> AsyncIterator[list[Any]]:
        async for page in take(self, *arguments):
            pages.append(len(page))
            yield page

    monkeypatch.setattr(PopulationTable, "events", counted)
    assert run("diff", "catalog.yaml", "--format", "json")[1] == whole
    assert (max(pages), sum(pages)) == (11, 3_563)


async def test_a_preview_writes_nothing(community: str) -> None:
    """What a preview asks of the database is asked in transactions that may not write."""
    store = await store_of(community)
    try:
        with pytest.raises(TransientError, match="25006"):
            await PopulationTable(store.pool)._read("move_head", 1)
    finally:
        await close_pool(store.pool)


def test_diff_names_all_who_gain(run: Run) -> None:
    """With `--samples all` nobody is left out, with 0 nobody is named; anything else is wrong usage."""
    run("apply", "catalog.yaml")
    write(LEVEL)
    named = re.search(r"^  commentator_25: (.*)$", run("diff", "catalog.yaml", "--samples", "all")[1], re.M)
    assert named is not None
    assert len(named[1].split()) == 12
    assert "  commentator_25:" not in run("diff", "catalog.yaml", "--samples", "0")[1]
    assert run("diff", "catalog.yaml", "--samples", "some")[0] == 2


def test_diff_says_why_nobody_gains(run: Run) -> None:
    """A type that never came, one that came without matching, and a badge that all who earned it hold."""
    status, out, _ = run("diff", "catalog.yaml")
    assert status == 0
    assert out.startswith("Against an empty catalog: none was applied yet. Nothing is changed.\n")
    assert "  commentator_100: 0 users: whoever earned it holds it already, 1 user\n" in out
    document = yaml.safe_load(CATALOG)
    document["events"]["thanks.said"] = {"description": "Thanks were said."}
    famous = {"event": "answer.scored", "criteria": {"score": {"$gte": 5000}}}
    document["badges"] += [{"key": "thanked", "flow": {"event": "thanks.said"}}, {"key": "famous", "flow": famous}]
    write(yaml.safe_dump(document, sort_keys=False))
    out = run("diff", "catalog.yaml")[1]
    assert "  thanked: 0 users: thanks.said was never seen\n" in out
    assert "  famous: 0 users: answer.scored was seen, none matched\n" in out


def test_apply_says_what_it_causes(run: Run) -> None:
    """The version, what it changed, whom it builds, what it ends; a change of labels alone builds nobody."""
    status, out, _ = run("apply", "catalog.yaml")
    assert (status, out) == (
        0,
        "Version 1 rules now: 16 badges from catalog.yaml.\nChanged: 16 added, 1 metric, 8 event types.\n",
    )
    assert run("apply", "catalog.yaml")[1] == "Unchanged: catalog.yaml is version 1, which rules already.\n"
    write(LEVEL)
    out = run("apply", "catalog.yaml", "--note", "asked for")[1]
    assert out.splitlines()[1:] == [
        "Changed: 1 added, 2 relabelled.",
        "1,702 users will be built in the background; awards come quietly.",
    ]
    write(CATALOG.replace("label: Editor", "label: Reviser"))
    status, out, err = run("apply", "catalog.yaml")
    assert "will be built" not in out
    assert err == "warning: commentator_25 is not in catalog.yaml: deprecated, its 0 awards stay\n"
    found = json.loads(run("versions", "--format", "json")[1])
    assert [(one["version"], one["basis"], one["rules"], one["note"]) for one in found] == [
        (3, 2, True, ""),
        (2, 2, False, "asked for"),
        (1, 1, False, ""),
    ]


def test_apply_tells_what_it_did_to_the_version_that_came_between(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another version comes between look and change, what is told is what happened, not what was meant."""
    assert run("apply", "catalog.yaml")[0] == 0
    write(LEVEL)
    theirs = Path("theirs.yaml")
    theirs.write_text(at_eight(LEVEL) + "  - {key: theirs, flow: {event: comment.posted}}\n")
    put = app.put_in_force

    async def after_theirs(store: PostgresStore, *arguments: Any, **options: Any) -> int:
        await app.apply_catalog(store, theirs, applied_by="other")
        return await put(store, *arguments, **options)

    monkeypatch.setattr(app, "put_in_force", after_theirs)
    status, out, err = run("apply", "catalog.yaml")
    assert (status, out.splitlines()) == (
        0,
        [
            "Version 3 rules now: 17 badges from catalog.yaml.",
            "Version 2 was applied meanwhile; this one went on top of it.",
            "Changed: 1 test changed, 1 deprecated.",
            "1,702 users will be built in the background; awards come quietly.",
        ],
    )
    assert err.startswith("warning: theirs is not in catalog.yaml: deprecated, its 0 awards stay\n")
    assert "changed_in_place nice_answer" in err


async def test_a_version_that_cannot_be_read_is_replaced(community: str, run: Run) -> None:
    """Only who compares needs to read the version that rules: who replaces it is told that it was not read."""
    store = await store_of(community)
    try:
        await store.apply_catalog('{"version": 1, "badges": [], "of_tomorrow": {}}', "1", badges=[], event_types=[])
    finally:
        await close_pool(store.pool)
    status, _, err = await asyncio.to_thread(run, "diff", "catalog.yaml")
    assert (status, "Version 1 of the catalog cannot be read" in err) == (1, True)
    status, out, _ = await asyncio.to_thread(run, "apply", "catalog.yaml")
    assert (status, out.splitlines()[1]) == (
        0,
        "Changed: all of version 1, which this version of badgestream does not read.",
    )


def test_a_stale_base_is_refused(run: Run) -> None:
    """What was written against another version than the one that rules is not applied; nothing is changed."""
    status, _, err = run("apply", "catalog.yaml", "--expect-version", "1")
    assert (status, err.splitlines()[0]) == (1, "error: Version 0 rules, not version 1; nothing was changed.")
    assert run("apply", "catalog.yaml", "--expect-version", "0")[0] == 0
    write(CHANGED)
    assert run("apply", "catalog.yaml", "--expect-version", "7")[0] == 1
    assert run("apply", "catalog.yaml", "--expect-version", "1")[0] == 0


def test_a_faulty_catalog_changes_nothing(run: Run) -> None:
    """All faults are told, by `diff` too, and the version that rules stays."""
    run("apply", "catalog.yaml")
    write(CHANGED.replace("levels: [10, 25,", "levels: [25, 10,").replace("{score: {$gte: 8}}", "{scroe: {$gte: 8}}"))
    for command in ("apply", "diff"):
        status, out, err = run(command, "catalog.yaml")
        assert (status, out) == (1, "")
        assert "bad_levels" in err
        assert "unknown_field" in err
    assert len(json.loads(run("versions", "--format", "json")[1])) == 1


def test_rolling_back_is_a_new_version(run: Run) -> None:
    """An earlier text rules again as a new version, after a look and a yes; unknown and ruling ones are refused."""
    assert "There is no version 1; none was applied yet" in run("rollback", "1", "--yes")[2]
    run("apply", "catalog.yaml")
    write(CHANGED)
    run("apply", "catalog.yaml")
    for version, words in (
        ("2", "needs no roll-back: it rules"),
        ("9", "There is no version 9; there are versions 1 to 2"),
    ):
        status, _, err = run("rollback", version, "--yes")
        assert status == 1
        assert words in err
    status, _, err = run("rollback", "1")
    assert status == 2
    assert "--yes" in err
    status, out, err = run("rollback", "1", "--yes")
    assert (status, out.splitlines()[0]) == (0, "Version 3 rules now: 16 badges from version 1.")
    assert "~ nice_answer     score at least 8 -> at least 10  test\n" in err
    assert "needs no roll-back: version 3, with the same text, rules" in run("rollback", "1", "--yes")[2]
    found = json.loads(run("versions", "--format", "json")[1])
    assert (found[0]["version"], found[0]["note"]) == (3, "roll-back to version 1")
    assert run("diff", "catalog.yaml", "--exit-code", "--no-preview")[0] == 1


def test_versions_and_what_they_held(run: Run) -> None:
    """The list goes from new to old, in pages; any version can be shown, and the one that rules without a name."""
    assert run("versions")[1] == "No version yet. Next: badges catalog apply FILE\n"
    assert run("show")[0] == 1
    run("apply", "catalog.yaml")
    write(LEVEL)
    run("apply", "catalog.yaml")
    out = run("versions", "--limit", "1")[1]
    assert re.search(r"^ +2  rules  .* 17  1 added, 2 relabelled$", out, re.M)
    assert out.endswith("Older ones: badges catalog versions --before 2\n")
    assert "16 added" in run("versions", "--before", "2")[1]
    assert "commentator_25" in run("show")[1]
    assert "commentator_25" not in run("show", "--version", "1")[1]
    assert run("show", "--version", "3")[0] == 1
    assert run("show", "catalog.yaml", "--version", "1")[0] == 2


# ---------------------------------------------------------------- several at once, and killed


async def store_of(dsn: str) -> PostgresStore:
    """A store on a pool of its own."""
    return PostgresStore(await create_pool(dsn, max_size=3))


async def versions(dsn: str) -> tuple[int | None, list[int], int]:
    """The head, all versions, and how many badges say they are of the head."""
    connection = await open_connection(dsn, {"search_path": "badges"}, command_seconds=10)
    try:
        head = await connection.fetchval("SELECT version FROM catalog_head")
        found = [row["version"] for row in await connection.fetch("SELECT version FROM catalog_versions ORDER BY 1")]
        return head, found, await connection.fetchval("SELECT count(*) FROM badges WHERE catalog_version = $1", head)
    finally:
        await connection.close()


async def test_of_two_that_apply_at_once_one_goes_on_top(community: str, tmp_path: Path) -> None:
    """Two catalogs applied at once become two versions; with an expected version the second is refused."""
    store = await store_of(community)
    try:
        texts = [CATALOG, LEVEL, at_eight(CATALOG), CHANGED]
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.yaml").write_text(text)
        one, other, third, fourth = [read_catalog(tmp_path / f"{number}.yaml") for number in range(4)]
        found = await asyncio.gather(
            put_in_force(store, *one, applied_by="a"), put_in_force(store, *other, applied_by="b")
        )
        assert sorted(found) == [1, 2]
        both = await asyncio.gather(
            put_in_force(store, *third, applied_by="a", expected=2),
            put_in_force(store, *fourth, applied_by="b", expected=2),
            return_exceptions=True,
        )
        assert sorted(map(str, both)) == ["3", "Version 3 of the catalog rules by now; nothing was changed."]
        assert any(isinstance(one, HeadMoved) for one in both)
        assert (await versions(community))[:2] == (3, [1, 2, 3])
    finally:
        await close_pool(store.pool)


async def test_a_batch_that_runs_too_long_is_named(
    community: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever applies waits for running batches; where one is not done in time it is named, and nothing is changed."""
    settings = pool_room.server_settings

    def impatient(name: str, schema: str, **options: Any) -> dict[str, str]:
        return settings(name, schema, **options) | {"lock_timeout": "200ms"}

    monkeypatch.setattr(pool_room, "server_settings", impatient)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    batch = PostgresStore(await create_pool(community, application_name="badges worker-7", max_size=1))
    store = await store_of(community)
    try:
        async with batch.transaction() as transaction:
            await transaction.catalog_version()
            with pytest.raises(TransientError, match=r"nothing was changed\. Held by badges worker-7 \(process \d+"):
                await put_in_force(store, *read_catalog(tmp_path / "catalog.yaml"), applied_by="a")
        assert (await versions(community))[:2] == (None, [])
        assert await put_in_force(store, *read_catalog(tmp_path / "catalog.yaml"), applied_by="a") == 1
    finally:
        await close_pool(batch.pool)
        await close_pool(store.pool)


async def test_killed_at_every_statement_nothing_is_half_done(
    community: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever statement the connection dies before, head, versions and badges agree, and applying again works."""
    for number, text in enumerate((CATALOG, CHANGED)):
        (tmp_path / f"{number}.yaml").write_text(text)
    old, new = (read_catalog(tmp_path / f"{number}.yaml") for number in range(2))
    statements: list[str] = []
    deadly = -1
    killer = await open_connection(community, {}, command_seconds=10)

    async def before(session: Session, name: str) -> None:
        statements.append(name)
        if len(statements) - 1 == deadly:
            await killer.execute("SELECT pg_terminate_backend($1, 5000)", session.connection.get_server_pid())

    for name in ("rows", "execute", "begin", "commit"):
        original = getattr(Session, name)

        def dying(original: Any, name: str) -> Any:
            async def method(self: Session, *arguments: Any) -> Any:
                await before(self, str(arguments[0]) if arguments else name)
                return await original(self, *arguments)

            return method

        monkeypatch.setattr(Session, name, dying(original, name))
    store = await store_of(community)
    try:
        assert await put_in_force(store, *old, applied_by="a") == 1
        wanted = (await versions(community))[2]
        assert wanted == 16
        deaths = 0
        while True:
            statements.clear()
            deadly = deaths
            try:
                assert await put_in_force(store, *new, applied_by="a") == 2
                break
            except TransientError:
                assert await versions(community) == (1, [1], wanted)
                deaths += 1
        assert deaths == len(statements)
        assert {"lock_catalog", "insert_catalog", "move_head", "update_badges", "commit"} <= set(statements)
        head, found, of_head = await versions(community)
        assert (head, found, of_head) == (2, [1, 2], 3)
    finally:
        await close_pool(store.pool)
        await killer.close()
