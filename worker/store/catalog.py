"""Versions of the catalog in PostgreSQL, and the rows that give its badges and event types their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import asyncpg

from worker.errors import BadgesError, TransientError
from worker.exchange import AuditLine
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.touched import NOTHING, Touched
from worker.store.admin import write_line
from worker.store.pool import Pool
from worker.store.session import Database, Session

_LOCK_CLASS: Final = 0x6261_6467  # "badg": the first half of the advisory lock's name

_NO_VERSION: Final = 2**31 - 1  # above all versions


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """One version of the catalog: its JSON text and the hash of what the author wrote.

    `basis` is the version whose memories and tests it still uses: its own number where users must be built for it.
    `memories` names the identities of its memories as `program` has them (None: nobody has looked yet).
    """

    version: int
    hash: str
    document: str
    basis: int
    memories: str | None = None
    program: str | None = None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version as a list shows it; `badges` is None where they were not counted, `rules` marks the head."""

    version: int
    basis: int
    badges: int | None
    changes: str
    note: str
    applied_by: str
    applied_us: int
    rules: bool


class HeadMoved(BadgesError):
    """Another version of the catalog rules by now; nothing was changed."""

    def __init__(self, head: int) -> None:
        self.head = head
        super().__init__(f"Version {head} of the catalog rules by now; nothing was changed.")


class CatalogTables(Database):
    """The catalog's versions; moving the head waits for every running batch and keeps new ones waiting."""

    def __init__(self, pool: Pool, *, schema: str) -> None:
        super().__init__(pool)
        self.catalog_lock = (_LOCK_CLASS, crc32(schema.encode()) - 2**31)

    async def catalog_head(self) -> StoredCatalog | None:
        """The version that rules; None where no catalog was ever applied."""
        found = await self.rows("catalog_head")
        return StoredCatalog(**found[0]) if found else None

    async def head_version(self) -> int:
        """The number of the version that rules; 0 where no catalog was ever applied."""
        found = await self.rows("catalog_version")
        return int(found[0]["version"]) if found else 0

    async def catalog_knows(self, digest: str) -> bool:
        """Whether a catalog with this hash was ever a version."""
        return bool((await self.rows("catalog_knows", digest))[0]["known"])

    async def catalog_stored(self, version: int) -> StoredCatalog | None:
        """One version; None where there is none of this number."""
        found = await self.rows("catalog_stored", version)
        return StoredCatalog(**found[0]) if found else None

    async def catalog_versions(self, *, before: int | None = None, limit: int = 50) -> list[VersionRow]:
        """The newest versions, newest first; `before` is the last one of the page before."""
        found = await self.rows("catalog_versions", _NO_VERSION if before is None else before, limit)
        return [VersionRow(**row) for row in found]

    async def note_memories(self, version: int, memories: str, program: str) -> tuple[str, str]:
        """Say by which identities and program a version's memories are built, where nothing is said; what stands."""
        row = (await self.rows("note_memories", version, memories, program))[0]
        return row["memories"], row["program"]

    async def knows_memories(self, digest: str, memories: str) -> bool:
        """Whether the memories of a catalog with this hash were ever built by these identities."""
        return bool((await self.rows("knows_memories", digest, memories))[0]["known"])

    async def apply_catalog(
        self,
        document_json: str,
        digest: str,
        *,
        badges: Sequence[Badge],
        event_types: Iterable[str],
        applied_by: str = "",
        base: int | None = None,
        builds: bool = True,
        changes: str = "",
        note: str = "",
        condition_types: Iterable[str] = (),
        touched: Touched = NOTHING,
        reserved: Mapping[str, int] | None = None,
        definitions: Mapping[str, str] | None = None,
        line: Callable[[int], AuditLine] | None = None,
        memories: str | None = None,
        program: str | None = None,
        anew: bool = False,
    ) -> int:
        """Write a new version and let it rule; returns its number, or the head's where that has the same hash.

        `base` is the version (0: none) it was compared with: where another rules by now, raises HeadMoved. `builds`
        says whether users must be built for it; else it takes over the basis of `base`, which must be given.
        `touched` are the entries that differ from `base`; `reserved` are ids that were drawn for badges before.
        `definitions` name what each badge takes; one is noted for the version from which on it is so.
        `line` makes of the version what the log of changes says of it, unless nothing was changed. `memories` and
        `program` are as in `StoredCatalog`. `anew`: it becomes a version of its own also where the head has its hash.
        """
        async with self._whole_catalog() as session:
            found = await session.rows("catalog_head")
            head = StoredCatalog(**found[0]) if found else None
            if head is not None and head.hash == digest and not anew:
                return head.version
            basis = basis_of(head, base=base, builds=builds)
            written = await session.rows(
                "insert_catalog",
                digest,
                document_json,
                applied_by,
                basis,
                len(badges),
                changes,
                note,
                memories,
                program,
            )
            version = int(written[0]["version"])
            await session.execute("move_head", version)
            for key, number in (reserved or {}).items():
                await session.execute("insert_reserved_badge", key, number, version)
            await _fill_badges(session, badges, version)
            await session.execute("insert_event_types", list(event_types), version)
            await session.execute("insert_condition_types", list(condition_types), version)
            await _touch(session, touched, version)
            if definitions:
                await session.execute("note_definitions", list(definitions), list(definitions.values()), version)
            await write_line(session, None if line is None else line(version))
        return version

    @asynccontextmanager
    async def _whole_catalog(self) -> AsyncIterator[Session]:
        """A transaction that has the catalog alone. Where it waits too long, TransientError says who holds it."""
        waiting = False
        try:
            async with self.work() as session:
                waiting = True
                await session.rows("lock_catalog", *self.catalog_lock)
                waiting = False
                yield session
        except TransientError:
            holders = (
                await self.rows("catalog_lock_holders", *(half % 2**32 for half in self.catalog_lock))
                if waiting
                else []
            )
            if not holders:
                raise
            listed = ", ".join(map(_held_by, holders[:3]))
            raise TransientError(
                f"The catalog is in use and was not free in time; nothing was changed. Held by {listed}.",
                help="try again; where it stays so, look at what these processes do",
            ) from None


def _held_by(row: asyncpg.Record) -> str:
    return f"{row['application_name'] or 'a client'} (process {row['pid']}, for {row['seconds']:.0f} s)"


def basis_of(head: StoredCatalog | None, *, base: int | None, builds: bool) -> int | None:
    """The basis a version after this head takes over; None for its own. Raises HeadMoved where `base` is not it."""
    version = 0 if head is None else head.version
    if base is not None and base != version:
        raise HeadMoved(version)
    return None if builds or base is None or head is None else head.basis


async def _fill_badges(session: Session, badges: Sequence[Badge], version: int) -> None:
    keys = [badge.key for badge in badges]
    await session.execute("insert_badges", keys, version)
    await session.execute(
        "update_badges",
        keys,
        [badge.kind for badge in badges],
        [badge.family for badge in badges],
        [badge.label for badge in badges],
        [badge.description for badge in badges],
        [badge.tier for badge in badges],
        [badge.sort_score for badge in badges],
        [badge.status for badge in badges],
        version,
    )
    await session.execute("deprecate_badges", keys, version)


async def _touch(session: Session, touched: Touched, version: int) -> None:
    """Say of the entries that changed that they did, now."""
    if touched.badges:
        await session.execute("touch_badges", list(touched.badges))
    if touched.criteria:
        await session.execute("touch_criteria", list(touched.criteria))
    if touched.event_types:
        await session.execute("touch_event_types", list(touched.event_types), version)
    if touched.condition_types:
        await session.execute("touch_condition_types", list(touched.condition_types), version)
