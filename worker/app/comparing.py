"""Holds a catalog file against the one that rules: what it changes, what must be built, what users would gain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.app.catalog import must_build, read_catalog, stored_catalog, unreadable
from worker.errors import AuthorError, TimedOut
from worker.rules.catalog.definitions import Catalog
from worker.rules.compare import Comparison, compare, may_gain
from worker.rules.preview import Preview
from worker.store.catalog import StoredCatalog
from worker.store.population import PopulationTable
from worker.store.postgres import PostgresStore

#: Told on the way: how many users of all, and how many events were read.
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A catalog against the version that rules (None: there is none yet, all of it is new).

    `old` is None as well where this program does not read that version; it is then compared with nothing.

    `builds` says whether users must be built for it; `given` how many awards are held of badges whose test changes, as
    far as that could be counted in time.
    """

    head: StoredCatalog | None
    old: Catalog | None
    new: Catalog
    document: str
    digest: str
    changed: Comparison
    builds: bool
    given: Mapping[str, int]

    @property
    def same(self) -> bool:
        """Whether it is the catalog that rules, to the letter."""
        return self.head is not None and self.head.hash == self.digest


async def difference(store: PostgresStore, path: Path, *, replacing: bool = False) -> Difference:
    """A catalog file against the head. Raises AuthorError with all its faults, and as `against_head` does."""
    return await against_head(store, *await asyncio.to_thread(read_catalog, path), replacing=replacing)


async def against_head(
    store: PostgresStore, new: Catalog, document: str, digest: str, *, replacing: bool = False
) -> Difference:
    """A catalog at hand against the head.

    Raises OperatorError where this program does not read the head, unless that is to be replaced.
    """
    return await _against(store, await store.catalog_head(), new, document, digest, replacing=replacing)


async def against_former(store: PostgresStore, found: Difference, version: int) -> Difference:
    """A catalog that became this version, against the one before, where it was compared with an older one."""
    compared_with = 0 if found.head is None else found.head.version
    if compared_with == version - 1:
        return found
    former = await store.catalog_stored(version - 1)
    return await _against(store, former, found.new, found.document, found.digest, replacing=True)


async def _against(
    store: PostgresStore, head: StoredCatalog | None, new: Catalog, document: str, digest: str, *, replacing: bool
) -> Difference:
    def compared() -> tuple[Catalog | None, Comparison, bool]:
        old = None if head is None else _replaced(head) if replacing else readable(head)
        same = head is not None and head.hash == digest
        return old, compare(old, new), not same and must_build(head, new)

    old, changed, builds = await asyncio.to_thread(compared)
    touched = [one.key for one in changed.badges if one.test or one.kind == "deprecated"]
    try:
        given = await PopulationTable(store.pool).awards(touched) if touched else {}
    except TimedOut:
        given = {}
    return Difference(head, old, new, document, digest, changed, builds, given)


def _replaced(stored: StoredCatalog) -> Catalog | None:
    try:
        return stored_catalog(stored)
    except AuthorError:
        return None


def readable(stored: StoredCatalog) -> Catalog:
    """The catalog of a version. Raises OperatorError where this program does not read what an older one wrote."""
    try:
        return stored_catalog(stored)
    except AuthorError as error:
        raise unreadable(stored.version, error) from None


async def preview(
    store: PostgresStore, found: Difference, *, samples: int | None = 10, progress: Progress | None = None
) -> tuple[Preview, int]:
    """What users would gain, from all logs in the database, and how many users there are. Nothing is written.

    What is in memory is bounded by a page of the log, one user, and the samples.
    """
    return await play(store, found.new, may_gain(found.changed, found.new), samples=samples, progress=progress)


async def play(
    store: PostgresStore,
    catalog: Catalog,
    keys: Collection[str],
    *,
    samples: int | None = 10,
    progress: Progress | None = None,
    user: str | None = None,
) -> tuple[Preview, int]:
    """What users, or one user, would gain of some badges of a catalog, and how many users there are.

    Nothing is written. What is in memory is bounded as in `preview`.
    """
    table = PopulationTable(store.pool)
    playing = await asyncio.to_thread(Preview, catalog, keys, samples=samples)
    total = 1 if user is not None else await table.count()
    if not keys:
        return playing, total
    types, done = playing.types, 0
    pages = table.users(playing.keys) if user is None else table.one_user(user, playing.keys)
    async for users, held in pages:
        current = None
        async for page in table.events(users[0], users[-1], types):
            for event in page:
                if event.user_id != current:
                    current = event.user_id
                    playing.begin(current, held.get(current, {}))
                playing.take(event)
            if progress is not None:
                progress(done, total, playing.events)
        done += len(users)
    playing.close()
    return playing, max(total, done)
