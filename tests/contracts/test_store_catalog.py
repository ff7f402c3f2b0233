"""What every store promises about the catalog: one head, moved between batches only, and ids given once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.contracts.samples import NOON, AnyStore, badge
from worker.store.catalog import HeadMoved
from worker.store.memory import MemoryStore
from worker.store.postgres import PostgresStore


async def apply(store: AnyStore, digest: str, *keys: str, event_types: tuple[str, ...] = ("question.scored",)) -> int:
    """Apply a catalog of badges with these keys."""
    return await store.apply_catalog(
        json.dumps({"badges": keys, "a": 1.0}), digest, badges=[badge(key) for key in keys], event_types=event_types
    )


async def version_in_batch(store: AnyStore) -> int:
    """The version a batch sees."""
    async with store.transaction() as transaction:
        return await transaction.catalog_version()


async def test_there_is_no_head_at_first(store: AnyStore) -> None:
    """A database without a catalog is at version 0."""
    assert await store.catalog_head() is None
    assert await version_in_batch(store) == 0
    assert not await store.catalog_knows("h1")


async def test_each_change_is_a_version(store: AnyStore) -> None:
    """Applying writes the next version and moves the head; an unchanged catalog keeps the head's number."""
    assert [await apply(store, digest, "a") for digest in ("h1", "h1", "h2", "h1")] == [1, 1, 2, 3]
    head = await store.catalog_head()
    assert head is not None
    assert (head.version, head.hash, head.document) == (3, "h1", '{"badges": ["a"], "a": 1.0}')
    assert await version_in_batch(store) == 3
    assert await store.catalog_knows("h2")


async def test_batches_share_the_catalog(store: AnyStore) -> None:
    """Batches do not wait for each other."""
    async with store.transaction() as first, store.transaction() as second:
        assert await first.catalog_version() == 0
        async with asyncio.timeout(5):
            assert await second.catalog_version() == 0


async def test_head_waits_for_running_batches(store: AnyStore) -> None:
    """The head does not move while a batch runs that read it; a batch that begins meanwhile sees the new one."""
    async with store.transaction() as running:
        assert await running.catalog_version() == 0
        applying = asyncio.create_task(apply(store, "h1", "a"))
        await asyncio.wait([applying], timeout=0.2)
        later = asyncio.create_task(version_in_batch(store))
        done, _ = await asyncio.wait([applying, later], timeout=0.2)
        assert not done
        assert await running.catalog_version() == 0
    assert await applying == 1
    assert await later == 1


async def test_of_two_that_apply_one_comes_second(store: AnyStore) -> None:
    """Catalogs applied at once become versions one after the other; equal ones become one."""
    versions = await asyncio.gather(*(apply(store, digest, "a") for digest in ("h1", "h2", "h3", "h3")))
    assert len(set(versions)) in {3, 4}
    head = await store.catalog_head()
    assert head is not None
    assert head.version == max(versions)


async def test_ids_are_given_once(store: AnyStore) -> None:
    """Badges and event types keep the id they got first, whatever later versions add, drop and bring back."""
    await apply(store, "h1", "b", "a", event_types=("x.y", "a.b"))
    before = await _ids(store)
    await apply(store, "h2", "c", event_types=("z.z",))
    await apply(store, "h3", "a", "d", "b", event_types=("x.y", "z.z"))
    after = await _ids(store)
    assert before[0].keys() == {"a", "b"}
    for old, new in zip(before, after, strict=True):
        assert {name: new[name] for name in old} == old
        assert len(set(new.values())) == len(new)
    assert after[0].keys() == {"a", "b", "c", "d"}


async def _ids(store: AnyStore) -> tuple[dict[str, int], dict[str, int]]:
    if isinstance(store, MemoryStore):
        return dict(store.tables.badge_ids), dict(store.tables.event_type_ids)
    async with store.pool.acquire() as connection:
        badges = await connection.fetch("SELECT key, id FROM badges ORDER BY id")
        types = await connection.fetch("SELECT name, id FROM event_types ORDER BY id")
    return dict(map(tuple, badges)), dict(map(tuple, types))


async def test_badges_table_says_what_the_catalog_says(database: PostgresStore) -> None:
    """The table people query has the head's badges; one that was left out is deprecated, and comes back."""
    await database.apply_catalog(
        "{}", "h1", badges=[badge("a", label="A", family="f", tier=2, sort_score=7), badge("b")], event_types=[]
    )
    await database.apply_catalog("{}", "h2", badges=[badge("a", label="Ä", status="hidden")], event_types=[])
    async with database.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT key, label, family, tier, sort_score, status, catalog_version FROM badges"
        )
    assert sorted(map(tuple, rows)) == [
        ("a", "Ä", "misc", None, 0, "hidden", 2),
        ("b", "", "misc", None, 0, "deprecated", 2),
    ]
    await database.apply_catalog("{}", "h3", badges=[badge("b")], event_types=[])
    async with database.pool.acquire() as connection:
        assert await connection.fetchval("SELECT status FROM badges WHERE key = 'b'") == "active"


async def test_a_version_takes_over_the_basis_of_the_one_it_was_compared_with(store: AnyStore) -> None:
    """A version that needs no build has the basis of the one before it, a version that needs one its own number."""

    async def applied(digest: str, **compared: Any) -> int:
        await store.apply_catalog("{}", digest, badges=[badge("a")], event_types=[], **compared)
        head = await store.catalog_head()
        assert head is not None
        return head.basis

    assert await applied("h1", base=0, builds=False) == 1
    assert await applied("h2", base=1, builds=False) == 1
    assert await applied("h3", base=2, builds=False) == 1
    assert await applied("h4", base=3) == 4
    assert await applied("h5", base=4, builds=False) == 4
    assert await applied("h6") == 6


async def test_a_version_knows_by_which_program_it_is_built(store: AnyStore) -> None:
    """What names a version's memories is noted once, by who applies it or who comes first; a text may begin anew."""
    await apply(store, "h1", "a")
    assert await store.note_memories(1, "m1", "program 1") == ("m1", "program 1")
    assert await store.note_memories(1, "m2", "program 2") == ("m1", "program 1")
    assert [await store.knows_memories("h1", name) for name in ("m1", "m2")] == [True, False]
    assert not await store.knows_memories("h2", "m1")
    given: dict[str, Any] = {"badges": [badge("a")], "event_types": [], "memories": "m2", "program": "program 2"}
    assert await store.apply_catalog("{}", "h1", base=1, **given) == 1
    assert await store.apply_catalog("{}", "h1", base=1, anew=True, **given) == 2
    head = await store.catalog_head()
    assert head is not None
    assert (head.basis, head.memories, head.program) == (2, "m2", "program 2")
    assert await store.note_memories(2, "m1", "program 1") == ("m2", "program 2")
    with pytest.raises(HeadMoved, match="Version 2"):
        await store.apply_catalog("{}", "h1", base=1, anew=True, **given)
    first = await store.catalog_stored(1)
    assert first is not None
    assert (first.memories, first.program) == ("m1", "program 1")


async def test_a_version_that_was_compared_with_another_head_is_refused(store: AnyStore) -> None:
    """What was compared with a version that rules no more is not applied, and nothing is changed."""
    for base in (1, 7):
        with pytest.raises(HeadMoved, match="Version 0"):
            await store.apply_catalog("{}", "h1", badges=[badge("a")], event_types=[], base=base)
    assert await store.catalog_head() is None
    assert await apply(store, "h1", "a") == 1
    with pytest.raises(HeadMoved, match="Version 1"):
        await store.apply_catalog("{}", "h2", badges=[badge("b")], event_types=[], base=0)
    head = await store.catalog_head()
    assert head is not None
    assert (head.version, head.hash) == (1, "h1")
    assert (await _ids(store))[0].keys() == {"a"}


async def test_versions_are_listed_and_kept(store: AnyStore) -> None:
    """Every version stays with its text; the list goes from new to old, in pages, and marks the one that rules."""
    assert await store.catalog_versions() == []
    for number in range(1, 4):
        await store.apply_catalog(
            json.dumps({"a": number}),
            f"h{number}",
            badges=[badge(f"b{one}") for one in range(number)],
            event_types=[],
            applied_by="anna",
            changes=f"change {number}",
            note=f"note {number}",
        )
    found = await store.catalog_versions(limit=2)
    assert [(one.version, one.badges, one.changes, one.note, one.applied_by, one.rules) for one in found] == [
        (3, 3, "change 3", "note 3", "anna", True),
        (2, 2, "change 2", "note 2", "anna", False),
    ]
    assert found[0].applied_us >= found[1].applied_us > NOON
    assert [one.version for one in await store.catalog_versions(before=2)] == [1]
    first = await store.catalog_stored(1)
    assert first is not None
    assert (first.version, first.hash, first.document, first.basis) == (1, "h1", '{"a": 1}', 1)
    assert [await store.catalog_stored(number) for number in (0, 4)] == [None, None]
