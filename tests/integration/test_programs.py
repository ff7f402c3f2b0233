"""Programs that name users' memories differently, on one database: no count begins at nothing without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rig.applying import hold
from tests.rig.faults import store, store_on
from worker import cli
from worker.app import apply_catalog, first_plan, working_plan
from worker.app.catalog import read_catalog
from worker.app.programs import OtherMemories
from worker.config import Settings, load_settings
from worker.pipeline.batch import CatalogMoved
from worker.store.migrate import migrate, shipped
from worker.store.postgres import PostgresStore
from worker.store.retention import RetentionTable

__all__ = ["store"]

CATALOG = """
version: 1
events: {lesson.finished: {}}
badges:
  - key: worker
    flow:
      event: lesson.finished
      criteria: {$timePeriod: {periodType: day, periodCount: {$gte: 2}, excludeHolidays: true, holidays: DE}}
"""
#: Nothing that has to do with a country.
PLAIN = "version: 1\nevents: {lesson.finished: {}}\nbadges: [{key: first, flow: {event: lesson.finished}}]\n"

Edition = Callable[[str], None]


@pytest.fixture
def edition(monkeypatch: pytest.MonkeyPatch) -> Edition:
    """Takes the place of an installed edition of the holiday calendars."""
    return lambda version: monkeypatch.setattr("holidays.version.__version__", version)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A worker's, with a catalog file."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    return load_settings(catalog=tmp_path / "catalog.yaml")


def lesson(day: int) -> dict[str, Any]:
    """A lesson at noon of this day of March."""
    when = f"2026-03-{day:02}T12:00:00Z"
    return {"id": f"e{day}", "type": "lesson.finished", "user_id": "u", "occurred_at": when}


async def awards(store: PostgresStore) -> list[str]:
    """The badges that were given."""
    return [row["badge_key"] for row in await store.pool.fetch("SELECT badge_key FROM user_badges")]


async def test_a_newer_edition_of_the_holidays_counts_what_was_before(
    store: PostgresStore, settings: Settings, edition: Edition
) -> None:
    """Days counted under one edition are counted under the next: the same catalog begins anew, once."""
    edition("0.108")
    before = await first_plan(store, settings)
    await (await hold(store, before)).take(lesson(2))
    edition("0.109")
    after, again = await first_plan(store, settings), await first_plan(store, settings)
    assert [(one.version, one.basis) for one in (before, after, again)] == [(1, 1), (2, 2), (2, 2)]
    await (await hold(store, after)).take(lesson(3))
    assert await awards(store) == ["worker"]
    said = await store.catalog_versions()
    assert [one.applied_by for one in said] == ["worker", "worker"]
    assert "holidays 0.109 names them otherwise than badgestream" in said[0].note


async def test_an_older_edition_stands_still(store: PostgresStore, settings: Settings, edition: Edition) -> None:
    """Side by side the older program moves nothing and applies nothing; it says why, and what lets it go on."""
    edition("0.108")
    older = await hold(store, await first_plan(store, settings))
    edition("0.109")
    await first_plan(store, settings)
    edition("0.108")
    with pytest.raises(CatalogMoved):
        await older.take(lesson(2))
    for _ in range(2):
        with pytest.raises(OtherMemories, match=r"built by badgestream .*, holidays 0\.109") as told:
            await first_plan(store, settings)
        assert "badges catalog apply FILE --rebuild" in (told.value.help or "")
    with pytest.raises(OtherMemories):
        await working_plan(store)
    assert await store.head_version() == 2


async def test_what_retention_removed_is_not_forgotten(
    store: PostgresStore, settings: Settings, edition: Edition
) -> None:
    """Where the log no longer shows the whole of a memory no program begins it anew by itself."""
    edition("0.108")
    await first_plan(store, settings)
    await RetentionTable(store.pool).move_floors({"lesson.finished": 1_700_000_000_000_000})
    edition("0.109")
    with pytest.raises(OtherMemories, match="Retention has removed events"):
        await first_plan(store, settings)
    assert await store.head_version() == 1


async def test_several_newer_ones_begin_once(store: PostgresStore, settings: Settings, edition: Edition) -> None:
    """Workers of a newer program that start together make one version of it, whichever comes first."""
    edition("0.108")
    await first_plan(store, settings)
    edition("0.109")
    found = await asyncio.gather(*(first_plan(store, settings) for _ in range(3)))
    assert {(plan.version, plan.basis) for plan in found} == {(2, 2)}
    assert len(await store.catalog_versions()) == 2


async def test_a_catalog_without_calendars_goes_on(store: PostgresStore, settings: Settings, edition: Edition) -> None:
    """Where no badge asks for a country's holidays their edition changes nothing, and nobody is built."""
    assert settings.catalog is not None
    settings.catalog.write_text(PLAIN)
    for version in ("0.108", "0.109", "0.108"):
        edition(version)
        assert (await first_plan(store, settings)).version == 1


async def test_what_another_program_applies_is_built(
    store: PostgresStore, settings: Settings, edition: Edition
) -> None:
    """Labels alone need no build, but for a program that finds no memories under the names it has."""
    assert settings.catalog is not None
    edition("0.108")
    await first_plan(store, settings)
    settings.catalog.write_text(CATALOG.replace("key: worker", "key: worker\n    label: Diligent"))
    edition("0.109")
    await apply_catalog(store, settings.catalog, applied_by="test")
    assert [one.basis for one in await store.catalog_versions()] == [2, 1]


@pytest.mark.parametrize(("floors", "rules"), [(0, 2), (1, 1)])
async def test_memories_of_before_are_built_anew(empty_dsn: str, settings: Settings, floors: int, rules: int) -> None:
    """After the upgrade that notes programs users are built once more, unless retention has removed events."""
    assert settings.catalog is not None
    (at,) = (place for place, one in enumerate(shipped()) if one.name == "0027_memories_of_programs.sql")
    await migrate(empty_dsn, migrations=shipped()[:at])
    _, document, digest = read_catalog(settings.catalog)
    async with store_on(empty_dsn, connections=3) as store:
        await store.pool.execute(
            "INSERT INTO catalog_versions (version, hash, document) VALUES (1, $1, $2)", digest, document
        )
        await store.pool.execute("INSERT INTO catalog_head (version) VALUES (1)")
        await RetentionTable(store.pool).move_floors({f"type {number}": 1 for number in range(floors)})
        await migrate(empty_dsn)
        found = await first_plan(store, settings)
        assert (found.version, found.basis) == (rules, rules)
        assert (await first_plan(store, settings)).version == rules


async def test_a_version_of_which_nothing_is_noted_is_taken_for_ones_own(
    store: PostgresStore, settings: Settings, edition: Edition
) -> None:
    """Who comes first is noted, others are held to that."""
    edition("0.108")
    await first_plan(store, settings)
    await store.pool.execute("UPDATE catalog_versions SET memories = NULL, program = NULL")
    assert (await first_plan(store, settings)).version == 1
    edition("0.109")
    assert (await first_plan(store, settings)).version == 2


def test_users_are_built_anew_where_that_is_asked(
    postgres_dsn: str,
    settings: Settings,
    edition: Edition,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`apply --rebuild` is what lets an older program go on: a version of its own, with the text that rules."""
    monkeypatch.setenv("BADGES_DATABASE_URL", postgres_dsn)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    edition("0.109")
    assert cli.main(["catalog", "apply", str(settings.catalog)]) == 0
    for version, verdict in (("0.110", "warn"), ("0.108", "FAIL")):
        edition(version)
        capsys.readouterr()
        cli.main(["doctor"])
        said = " ".join(capsys.readouterr().out.split())
        assert f"{verdict} catalog Users' memories for version 1 of the catalog were built by badgestream" in said
    assert cli.main(["catalog", "apply", str(settings.catalog), "--rebuild"]) == 0
    assert capsys.readouterr().out.startswith("Version 2 rules now: 1 badges")
    cli.main(["doctor"])
    assert "version 2, 1 badges, no fault" in " ".join(capsys.readouterr().out.split())
