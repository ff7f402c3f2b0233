"""Changes of the catalog's entries as versions like any other, and the catalog as the API shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from worker.admin.catalog_view import Change, Line, Refused, View
from worker.app.catalog import put_in_force
from worker.app.conditions import refuse_unasked, source_faults
from worker.app.plans import HeadPlans
from worker.config import Settings
from worker.errors import AuthorError, Fault, OperatorError, TransientError
from worker.events import json_text
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.edits import Edit, Nameless, Taken
from worker.rules.catalog.load import catalog_from_document
from worker.store.catalog import HeadMoved
from worker.store.population import PopulationTable
from worker.store.postgres import PostgresStore

#: So often a change is made again on top of what others applied meanwhile.
_TRIES: Final = 5
_EMPTY: Final[Mapping[str, Any]] = {"version": 1}


class CatalogDesk:
    """Shows the head and changes it, one change of this process at a time; answers `admin.catalog_view.Catalogs`."""

    def __init__(self, store: PostgresStore, plans: HeadPlans, settings: Settings) -> None:
        self._store = store
        self._plans = plans
        self._settings = settings
        self._view: View | None = None
        self._loading = asyncio.Lock()
        self._changing = asyncio.Lock()

    async def view(self) -> View:
        """The version that rules now. Raises OperatorError where this program does not read it."""
        version = await self._store.head_version()
        if self._view is None or self._view.version < version:
            async with self._loading:
                if self._view is None or self._view.version < version:
                    self._view = await self._load(version)
        return self._view

    async def holders(self, keys: Sequence[str]) -> tuple[Mapping[str, int], Mapping[str, float]]:
        """How many hold each of these badges, and which part of the active users does, both as last counted."""
        shares = await self._store.badge_shares(keys)
        parts = {key: one.part for key, one in shares.items() if one.part is not None}
        return await self._store.holder_counts(keys), parts

    async def awards_held(self, key: str) -> int | None:
        """How many awards of a badge are held; None where that could not be counted in time."""
        try:
            return (await PopulationTable(self._store.pool).awards([key])).get(key, 0)
        except TransientError:
            return None

    async def edit(
        self, change: Change, *, by: str, note: str, line: Line, expected: int | None = None
    ) -> tuple[Edit, View, View]:
        """Make a change a version of its own; see the protocol."""
        if self._settings.catalog_managed == "file":
            raise Refused(
                "The catalog is managed by a file (BADGES_CATALOG_MANAGED=file), and is not changed here.",
                help="change the file; a worker that starts with it applies it",
            )
        async with self._changing:
            for _ in range(_TRIES):
                before = await self.view()
                if expected is not None and expected != before.version:
                    raise Refused(
                        f"Version {before.version} of the catalog rules by now, not version {expected}.",
                        help="look at what was changed, then send it again for that version",
                    )
                try:
                    edit = await self._apply(change, before, by=by, note=note, line=line)
                except HeadMoved:
                    continue
                return edit, before, await self.view()
        raise Refused("Others change the catalog at this moment.", help="send it again")

    async def _apply(self, change: Change, view: View, *, by: str, note: str, line: Line) -> Edit:
        reserved: dict[str, int] = {}
        try:
            edit = change(view, None)
        except Nameless:
            number = await self._store.reserve_badge_id()
            edit = change(view, f"badge_{number}")
            reserved[edit.key] = number
        document = json_text.dumps(edit.document)
        digest = sha256(document.encode()).hexdigest()
        catalog = await asyncio.to_thread(read_edit, edit)
        await self._check_conditions(edit, catalog)
        await put_in_force(
            self._store,
            catalog,
            document,
            digest,
            applied_by=by,
            note=note,
            expected=view.version,
            reserved=reserved,
            line=lambda version: line(edit, view, version),
        )
        return edit

    async def _check_conditions(self, edit: Edit, catalog: Catalog) -> None:
        try:
            refuse_unasked(catalog, self._settings)
        except OperatorError as error:
            raise Refused(error.message, help=error.help) from None
        if self._settings.js == "on" and (faults := await source_faults(catalog.document)):
            _refuse(edit, faults)

    async def _load(self, version: int) -> View:
        """The view of at least this version."""
        store = self._store
        badges = await store.badge_rows()
        event_types, condition_types = await store.event_type_rows(), await store.condition_type_rows()
        if version == 0:
            return View(0, await asyncio.to_thread(catalog_from_document, _EMPTY, 0), [], [], [])
        plan = await self._plans.at_least(version)
        if plan is None or plan.version < version:
            raise OperatorError(f"Version {version} of the catalog cannot be read by this version of badgestream.")
        # The rows are of this version or of one before: entries that came between are read again with the next look.
        return View(version, plan.catalog, badges, event_types, condition_types)


def read_edit(edit: Edit) -> Catalog:
    """The catalog of an edit. Raises AuthorError for faults of what was sent, Taken and Refused for others."""
    try:
        return catalog_from_document(edit.document, 0)
    except AuthorError as error:
        _refuse(edit, error.faults)
        raise


def _refuse(edit: Edit, faults: list[Fault] | tuple[Fault, ...]) -> None:
    inside, outside = edit.told(faults)
    if any(fault.code == "duplicate_key" for fault in (*inside, *outside)):
        raise Taken(f"{edit.key} is the key of another badge already.", help="choose another name, or send a key")
    if inside:
        raise AuthorError(inside)
    if outside:
        first = outside[0]
        more = f", and {len(outside) - 1} more" if len(outside) > 1 else ""
        raise Refused(
            f"The rest of the catalog would not hold: {first.path}: {first.message.rstrip('.')}{more}.",
            help="change what names it first",
            faults=outside,
        )
