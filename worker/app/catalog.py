"""Puts catalogs in force: from a file to the head in the database, from the head to a compiled plan."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic

import structlog

from worker.app.conditions import refuse_unasked, refuse_unsound
from worker.app.programs import OtherMemories, hold_to, this_program
from worker.config import Settings
from worker.errors import AuthorError, OperatorError
from worker.events import json_text
from worker.exchange import AuditLine
from worker.files import read_sources
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source, read_document
from worker.rules.catalog.load import catalog_from_document, load_catalog
from worker.rules.catalog.touched import NOTHING, Touched, touched
from worker.rules.compare import compare
from worker.rules.plan import Plan, compile_plan, definition_hash, memories_hash, needs_build
from worker.store.catalog import HeadMoved, StoredCatalog
from worker.store.postgres import PostgresStore

log = structlog.get_logger(__name__)


def read_catalog(path: Path) -> tuple[Catalog, str, str]:
    """A catalog file or folder, its whole document as JSON text, and the hash that names it. Raises AuthorError."""
    catalog = load_catalog(read_sources(path))
    document = json_text.dumps(catalog.document)
    return catalog, document, sha256(document.encode()).hexdigest()


async def apply_catalog(
    store: PostgresStore, path: Path, *, applied_by: str, note: str = "", expected: int | None = None
) -> tuple[int, Catalog]:
    """Make a catalog file the head in the database; an unchanged one gives the version that is there.

    `expected` is the version it was written against: raises HeadMoved where another one rules.
    """
    catalog, document, digest = await asyncio.to_thread(read_catalog, path)
    return await put_in_force(
        store, catalog, document, digest, applied_by=applied_by, note=note, expected=expected
    ), catalog


async def put_in_force(
    store: PostgresStore,
    catalog: Catalog,
    document: str,
    digest: str,
    *,
    applied_by: str,
    note: str = "",
    expected: int | None = None,
    reserved: Mapping[str, int] | None = None,
    line: Callable[[int], AuditLine] | None = None,
    anew: bool = False,
) -> int:
    """Make a catalog at hand the head; its version. Somebody else's version that comes between is gone on from.

    `anew`: users are built for it whatever it changes, also where its text rules already. `reserved` are ids that were
    drawn for badges before they had one. `line` makes of the version what the log of changes says; without it that it
    was applied, and what it changes.
    """
    while True:
        head = await store.catalog_head()
        base = 0 if head is None else head.version
        if expected is not None and expected != base:
            raise HeadMoved(base)
        if head is not None and head.hash == digest and not anew:
            return head.version
        try:
            return await _succeed(
                store,
                head,
                catalog,
                document,
                digest,
                applied_by=applied_by,
                note=note,
                reserved=reserved,
                line=line,
                anew=anew,
            )
        except HeadMoved:
            continue


async def _succeed(
    store: PostgresStore,
    head: StoredCatalog | None,
    catalog: Catalog,
    document: str,
    digest: str,
    *,
    applied_by: str,
    note: str,
    reserved: Mapping[str, int] | None = None,
    line: Callable[[int], AuditLine] | None = None,
    anew: bool = False,
) -> int:
    """Judge a catalog by the head, and make it the next version. Raises HeadMoved where another one rules by now."""
    judged = await asyncio.to_thread(_judged, head, catalog)
    return await store.apply_catalog(
        document,
        digest,
        badges=catalog.badges,
        event_types=list(catalog.dictionary.types),
        applied_by=applied_by,
        base=0 if head is None else head.version,
        builds=anew or judged.builds,
        changes=judged.changes,
        note=note,
        condition_types=[entry["name"] for entry in catalog.document.get("condition_types") or ()],
        touched=judged.touched,
        reserved=reserved,
        definitions=await asyncio.to_thread(_definitions, catalog),
        line=line or partial(_applied, applied_by, judged.changes, note),
        memories=judged.memories,
        program=this_program(),
        anew=anew,
    )


def _applied(actor: str, changes: str, note: str, version: int) -> AuditLine:
    return AuditLine(actor, "catalog.applied", f"version {version}", after=changes, note=note)


def _definitions(catalog: Catalog) -> dict[str, str]:
    """What each badge takes, by the name of its definition."""
    return {badge.key: definition_hash(badge) for badge in catalog.badges}


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a catalog means for users that stand at the head."""

    memories: str
    changes: str
    builds: bool = True
    touched: Touched = NOTHING


def _judged(head: StoredCatalog | None, catalog: Catalog) -> _Judged:
    plan = compile_plan(catalog)
    memories = memories_hash(plan)
    try:
        old = None if head is None else stored_catalog(head)
    except AuthorError:
        return _Judged(memories, "a version that this program no longer reads was replaced")
    return _Judged(memories, compare(old, catalog).summary, _must_build(head, plan), touched(old, catalog))


def must_build(head: StoredCatalog | None, catalog: Catalog) -> bool:
    """Whether users that stand at the head must be built for this catalog; seconds of work where both are huge."""
    return _must_build(head, compile_plan(catalog))


def _must_build(head: StoredCatalog | None, plan: Plan) -> bool:
    if head is None:
        return True
    try:
        old = compile_plan(stored_catalog(head))
    except AuthorError:
        return True  # a version this program no longer reads
    # what another program built under other names is not found here, whether or not the catalog changes
    return head.memories not in (None, memories_hash(old)) or needs_build(old, plan)


def stored_catalog(stored: StoredCatalog) -> Catalog:
    """The catalog of a version in the database. Raises AuthorError where this program does not read it."""
    document, faults = read_document([Source(f"catalog version {stored.version}", stored.document)])
    if document is None:
        raise AuthorError(faults)
    return replace(catalog_from_document(document.data, version=stored.version), basis=stored.basis)


def unreadable(version: int, error: AuthorError) -> OperatorError:
    """What to say of a version that this program does not read: another program wrote it."""
    return OperatorError(
        f"Version {version} of the catalog cannot be read by this version of badgestream: {error.message}",
        help="use the badgestream that wrote it, or apply a catalog anew",
    )


async def head_plan(store: PostgresStore) -> Plan | None:
    """The compiled plan of the catalog's head; None where no catalog was applied yet. Compiled off the loop."""
    head = await store.catalog_head()
    return None if head is None else (await asyncio.to_thread(_compiled, head))[0]


async def working_plan(store: PostgresStore, *, note: bool = True) -> Plan | None:
    """`head_plan` for who changes users. Raises OtherMemories where another program has built their memories.

    With `note` it is written down that this one builds them, where nothing is known of that.
    """
    head = await store.catalog_head()
    if head is None:
        return None
    plan, memories = await asyncio.to_thread(_compiled, head)
    await hold_to(store, head, plan, memories, note=note)
    return plan


async def ruling_plan(store: PostgresStore) -> Plan | None:
    """`working_plan` for a worker: a newer program lets the same catalog begin anew, and users are built for that.

    It does so once, whichever worker comes first. Raises OtherMemories where the memories are a newer program's, or
    cannot be built anew from what retention left.
    """
    while True:
        try:
            return await working_plan(store)
        except OtherMemories as other:
            if not other.begins:
                raise
            head = other.head
            try:
                version = await _succeed(
                    store,
                    head,
                    other.plan.catalog,
                    head.document,
                    head.hash,
                    applied_by="worker",
                    note=f"memories are built anew: {this_program()} names them otherwise than {head.program}",
                    anew=True,
                )
            except HeadMoved:
                continue
            log.warning("memories_begun_anew", version=version, program=this_program(), before=head.program)


def _compiled(head: StoredCatalog) -> tuple[Plan, str]:
    """The plan of a version, and the name of its memories."""
    plan = compile_plan(stored_catalog(head))
    memories = memories_hash(plan)
    # a large plan is millions of objects that all stay: the collector need not look at them again and again
    gc.collect()
    gc.freeze()
    return plan, memories


async def _bring(store: PostgresStore, path: Path, settings: Settings) -> None:
    """Make a catalog file the head where there is none, or where the file rules and this text is a new one.

    What was read and judged is what is applied, and only on the head it was judged by: where another comes between, it
    is judged by that one.
    """
    catalog, document, digest = await asyncio.to_thread(read_catalog, path)
    while True:
        head = await store.catalog_head()
        managed_here = settings.catalog_managed == "file" and not await store.catalog_knows(digest)
        if head is not None and not managed_here:
            return
        refuse_unasked(catalog, settings)
        await refuse_unsound(catalog, settings)
        base = 0 if head is None else head.version
        try:
            version = await put_in_force(store, catalog, document, digest, applied_by="worker", expected=base)
        except HeadMoved:
            continue
        log.info("catalog_applied", version=version, path=str(path))
        return


async def first_plan(store: PostgresStore, settings: Settings, *, seconds: float = 0.0) -> Plan:
    """The plan to start with; a catalog file is applied only where the head and `CATALOG_MANAGED` let it.

    Where there is neither file nor head, the first catalog, which may come over HTTP, is awaited for `seconds`.
    """
    if settings.catalog is not None:
        await _bring(store, settings.catalog, settings)
    deadline = monotonic() + seconds
    while (plan := await ruling_plan(store)) is None:
        if monotonic() >= deadline:
            raise OperatorError(
                "The database holds no catalog.",
                help="run `badges catalog apply FILE`, or set BADGES_CATALOG to a catalog file for the first start",
            )
        log.info("catalog_awaited")
        await asyncio.sleep(1.0)
    refuse_unasked(plan.catalog, settings)
    return plan
