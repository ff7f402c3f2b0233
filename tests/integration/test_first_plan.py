"""The catalog a worker starts with: its file, the head in the database, and whoever applies another meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rig.faults import store_on
from worker.app import apply_catalog, first_plan
from worker.app import catalog as catalog_room
from worker.config import Settings, load_settings
from worker.rules.catalog.definitions import Catalog
from worker.store.postgres import PostgresStore


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """An empty database."""
    async with store_on(postgres_dsn, connections=4) as store:
        yield store


def written(folder: Path, badge: str) -> Path:
    """A catalog of one badge, as a file."""
    path = folder / f"{badge}.yaml"
    path.write_text(f"version: 1\nevents: {{x.y: {{}}}}\nbadges: [{{key: {badge}, label: B, flow: {{event: x.y}}}}]\n")
    return path


def settings_of(path: Path, managed: str) -> Settings:
    """What a worker is told."""
    return load_settings(catalog=path, catalog_managed=managed)


async def badges_of(store: PostgresStore, settings: Settings) -> tuple[int, set[str]]:
    """The version a worker starts with, and its badges that are given."""
    plan = await first_plan(store, settings)
    return plan.version, {key for key, badge in plan.badges.items() if badge.status == "active"}


@pytest.mark.parametrize(("managed", "after"), [("database", (1, {"first"})), ("file", (2, {"second"}))])
async def test_a_head_gives_way_to_files_only(
    store: PostgresStore, tmp_path: Path, managed: str, after: tuple[int, set[str]]
) -> None:
    """Without a head the file is applied; with one only where the file rules, and a text that ruled once only once."""
    first, second = written(tmp_path, "first"), written(tmp_path, "second")
    assert await badges_of(store, settings_of(first, managed)) == (1, {"first"})
    assert await badges_of(store, settings_of(second, managed)) == after
    assert await badges_of(store, settings_of(first, managed)) == after


@pytest.mark.parametrize(("managed", "after"), [("database", (1, {"theirs"})), ("file", (2, {"ours"}))])
async def test_what_was_applied_meanwhile_is_seen(
    store: PostgresStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    managed: str,
    after: tuple[int, set[str]],
) -> None:
    """Another catalog is applied while the worker judges its file: it looks again, and applies what it judged."""
    ours, theirs = written(tmp_path, "ours"), written(tmp_path, "theirs")
    judge = catalog_room.refuse_unsound

    async def slowly(catalog: Catalog, settings: Settings) -> None:
        await judge(catalog, settings)
        if await store.catalog_head() is None:
            await apply_catalog(store, theirs, applied_by="operator")
            ours.write_text("what nobody judged")

    monkeypatch.setattr(catalog_room, "refuse_unsound", slowly)
    assert await badges_of(store, settings_of(ours, managed)) == after
