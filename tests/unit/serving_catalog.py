"""The API's services over a catalog in memory: the same rules as over a database, without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any
from uuid import UUID

from worker.admin.awards import Position
from worker.admin.catalog_view import Change, Line, Refused, View
from worker.admin.profiles import stamp_of
from worker.app.catalog_desk import read_edit
from worker.app.feed import News
from worker.app.rehearsal import Rehearsals
from worker.errors import OperatorError
from worker.events import json_text
from worker.exchange import AuditLine
from worker.rules.catalog.edits import Edit, Nameless
from worker.rules.catalog.load import catalog_from_document
from worker.rules.catalog.touched import touched
from worker.store.entries import BadgeRow, EntryRow
from worker.store.profiles import FeedPlace, LoggedAward, ProfileAward

NOON = 1_772_366_400_000_000
#: What most tests begin with.
DOCUMENT: Mapping[str, Any] = {
    "version": 1,
    "events": {
        "simple_event": {
            "description": "Simple test event",
            "schema": {"type": "object", "properties": {"value": {"type": "number"}, "item": {}}},
        },
        "order.paid": {"aliases": ["OrderPaid"]},
    },
    "metrics": {"events": {"count": "simple_event"}},
    "badges": [
        {"key": "first", "label": "First", "flow": {"event": "simple_event"}, "sort_score": 5},
        {"key": "secret", "label": "Secret", "flow": {"event": "simple_event"}, "status": "hidden"},
        {"key": "sketch", "label": "Sketch", "flow": {"event": "simple_event"}, "status": "draft"},
    ],
    "ladders": [{"key": "regular", "metric": "events", "levels": [1, 5], "label": "Regular"}],
}


class FakeCatalogs:
    """A head in memory; `rivals` are documents that others apply just before the next edits are."""

    def __init__(self, document: Mapping[str, Any] | None = DOCUMENT) -> None:
        self.badge_rows: dict[str, BadgeRow] = {}
        self.types: dict[str, EntryRow] = {}
        self.conditions: dict[str, EntryRow] = {}
        self.managed_by_file = False
        self.held: dict[str, int | None] = {}
        self.rivals: list[Mapping[str, Any]] = []
        self.clock = NOON
        self.changes: list[tuple[Any, ...]] = []
        self._view = View(0, catalog_from_document({"version": 1}, 0), [], [], [])
        if document is not None:
            self.apply(document)

    def apply(self, document: Mapping[str, Any], reserved: Mapping[str, int] | None = None) -> None:
        """Let a document rule."""
        before, self.clock = self._view, self.clock + 1_000_000
        catalog = catalog_from_document(json_text.loads(json_text.dumps(document)), before.version + 1)
        changed = touched(before.catalog if before.version else None, catalog)
        for badge in catalog.badges:
            was = self.badge_rows.get(badge.key)
            number = was.id if was else (reserved or {}).get(badge.key) or len(self.badge_rows) + 101
            self.badge_rows[badge.key] = BadgeRow(
                badge.key,
                number,
                badge.label,
                badge.description,
                badge.family,
                badge.tier,
                badge.sort_score,
                badge.status,
                was.created_us if was else self.clock,
                self.clock if was is None or badge.key in changed.badges else was.updated_us,
                self.clock if was is None or badge.key in changed.criteria else was.criteria_updated_us,
            )
        names = [entry["name"] for entry in document.get("condition_types") or ()]
        for rows, known, moved in (
            (self.types, catalog.dictionary.types, changed.event_types),
            (self.conditions, names, changed.condition_types),
        ):
            for name in known:
                old = rows.get(name)
                made, number = (old.created_us, old.id) if old else (self.clock, len(rows) + 1)
                rows[name] = EntryRow(name, number, made, self.clock if not old or name in moved else old.updated_us)
        self._view = View(
            before.version + 1,
            catalog,
            list(self.badge_rows.values()),
            list(self.types.values()),
            list(self.conditions.values()),
        )

    async def view(self) -> View:
        return self._view

    async def holders(self, keys: Sequence[str]) -> tuple[Mapping[str, int], Mapping[str, float]]:
        return dict.fromkeys(keys, 3), dict.fromkeys(keys, 0.25)

    async def awards_held(self, key: str) -> int | None:
        return self.held.get(key, 0)

    async def edit(
        self, change: Change, *, by: str, note: str, line: Line, expected: int | None = None
    ) -> tuple[Edit, View, View]:
        if self.managed_by_file:
            raise Refused("The catalog is managed by a file.")
        before = self._view
        if expected not in (None, before.version):
            raise Refused(f"Version {before.version} of the catalog rules by now.")
        reserved: dict[str, int] = {}
        try:
            edit = change(before, None)
        except Nameless:
            number = len(self.badge_rows) + 501
            edit = change(before, f"badge_{number}")
            reserved[edit.key] = number
        read_edit(edit)
        self.apply(edit.document, reserved)
        self.changes.append(astuple(line(edit, before, self._view.version)))
        return edit, before, self._view


def award(key: str, **changes: Any) -> ProfileAward:
    """An award a user holds."""
    values: dict[str, Any] = {
        "context": "",
        "awarded_us": NOON,
        "sort_override": None,
        "origin": "live",
        "source": "auto",
        "sequence": 1,
        "metadata": '{"last_event_id": "500"}',
        "stamp": 0,
    }
    return ProfileAward(badge_key=key, **(values | changes))


@dataclass
class FakeProfiles:
    """Awards by user."""

    held: dict[str, list[ProfileAward]] = field(default_factory=dict)
    version: int = 1
    changes: list[tuple[Any, ...]] = field(default_factory=list)

    async def awards(self, user_id: str) -> tuple[int, Sequence[ProfileAward]]:
        return self.version, [one._replace(stamp=hash(one)) for one in self.held.get(user_id, [])]

    async def stamp(self, user_id: str) -> tuple[int, int]:
        version, held = await self.awards(user_id)
        return version, stamp_of(held)

    async def set_sort_override(
        self, user_id: str, badge_key: str, context: str | None, value: int | None, *, line: Callable[[int], AuditLine]
    ) -> int:
        found = 0
        for number, one in enumerate(self.held.get(user_id, [])):
            if one.badge_key == badge_key and context in (None, one.context):
                self.held[user_id][number] = one._replace(sort_override=value)
                found += 1
        if found:
            self.changes.append(astuple(line(found)))
        return found


def logged(number: int, **changes: Any) -> LoggedAward:
    """A row of the log; later numbers are newer."""
    values: dict[str, Any] = {
        "user_id": "u1",
        "badge_key": "first",
        "context": "",
        "award_id": UUID(int=number),
        "kind": "awarded",
        "awarded_us": NOON - 60_000_000 + number,
        "source": "auto",
        "origin": "live",
        "sequence": number,
        "trigger_id": f"e{number}",
        "trigger_type": "simple_event",
        "metadata": "{}",
        "reason": None,
        "logged_us": NOON - 60_000_000 + number,
    }
    return LoggedAward(**(values | changes))


@dataclass
class FakeAwards:
    """A log of awards, oldest first; `news` is what the feed tells before it ends."""

    rows: list[LoggedAward] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    listeners: int = 0
    asked: list[tuple[str, int] | None] = field(default_factory=list)

    async def page(
        self,
        *,
        since_us: int,
        before: Position,
        limit: int,
        badge_key: str | None,
        trigger: str | None,
        origin: str | None,
        user_id: str | None,
    ) -> Sequence[LoggedAward]:
        found = [
            one
            for one in reversed(self.rows)
            if one.logged_us >= since_us
            and (one.logged_us, one.user_id, one.sequence) < before
            and badge_key in (None, one.badge_key)
            and trigger in (None, one.trigger_type)
            and origin in (None, one.origin)
            and user_id in (None, one.user_id)
        ]
        return found[:limit]

    async def listen(self, since: tuple[str, int] | None = None) -> AsyncIterator[News]:
        self.asked.append(since)
        yield News((), FeedPlace("1:1:", NOON))
        for one in self.news:
            await asyncio.sleep(0)
            yield one

    async def close(self) -> None:
        return


@dataclass
class FakePeople:
    """Knows all that is asked of one user; that there is one, of everybody but `nobody`."""

    changes: list[tuple[Any, ...]] = field(default_factory=list)

    async def progress(self, view: View, user_id: str, *, at_us: int) -> Sequence[Mapping[str, Any]]:
        return [{"badge_key": "first", "at": at_us}] if user_id == "u1" else []

    async def knows_user(self, user_id: str) -> bool:
        return user_id != "nobody"

    async def recompute(self, badges: Sequence[str], trigger: str | None, *, by: str, note: str) -> int:
        if trigger == "no.such":
            raise OperatorError("There is no event type no.such.")
        self.changes.append((by, "recompute.started", "job 41", None, None, note))
        return 41

    async def why(self, view: View, user_id: str, badge_key: str, **asked: Any) -> Mapping[str, Any] | None:
        return {"badge_key": badge_key, **asked} if user_id == "u1" and view.badge(badge_key) else None


class Unasked:
    """A store without users: no log is long."""

    pool: Any = None

    async def rows(self, name: str, *arguments: Any) -> list[dict[str, Any]]:
        assert name == "log_exceeds"
        return [{"longer": False}]


class FakeRehearsals(Rehearsals):
    """Rehearsals on users of whom nothing is logged."""

    async def _history(self, user_id: str) -> list[Any]:
        return []
