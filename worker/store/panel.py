"""Reads what the panel's pages show: pages by key, counts that are cut off; nothing is written, nobody is locked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from worker.events.instants import DAY
from worker.store.dead_letters import BuriedLetter, ReasonCount
from worker.store.holders import Share
from worker.store.session import Database

#: So many rows are looked at where a filter has no index: a page takes a bounded time, however long the table.
LOOKED_AT: Final = 20_000
#: Counts stop here.
COUNTED: Final = 10_001
#: So many letters are looked at to say how many of them wait.
WAITING_LOOKED_AT: Final = 2_000
#: Those of each one of many types here.
COUNTED_OF_TYPE: Final = 1_001
#: After every instant that an event can have (the year 9999), and every number.
LAST_US: Final = 253_402_300_799_999_999
_LAST_NUMBER: Final = 2**63 - 1
_LAST_TEXT: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class AwardEntry:
    """A line of the log of awards. `kind` is awarded or revoked; instants in microseconds."""

    user_id: str
    sequence: int
    badge_key: str
    context: str
    awarded_us: int
    kind: str
    origin: str
    trigger_type: str | None
    trigger_id: str | None
    catalog_version: int
    reason: str | None
    logged_us: int


@dataclass(frozen=True, slots=True)
class BadgeCount:
    """How many users hold a badge, and its awards of each day, oldest first, the last one today (UTC).

    `usual` is the usual day as the scheduler keeps it, `share` how many of the active users hold it; both None where
    it does not run. `spikes` are the places in `days` of those that were far from usual.
    """

    users: int
    days: tuple[int, ...]
    usual: float | None = None
    share: Share | None = None
    spikes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user in a list: the instant of the newest event that was folded, the version they are built for."""

    user_id: str
    newest_us: int | None
    built_version: int | None


@dataclass(frozen=True, slots=True)
class HeldAward:
    """An award a user has."""

    badge_key: str
    context: str
    awarded_us: int
    source: str
    origin: str
    sequence: int
    catalog_version: int
    trigger_id: str | None
    trigger_type: str | None
    award_id: UUID


@dataclass(frozen=True, slots=True)
class UserEntry:
    """A line of one user's log of awards."""

    sequence: int
    badge_key: str
    context: str
    kind: str
    awarded_us: int
    source: str
    origin: str
    trigger_type: str | None
    trigger_id: str | None
    catalog_version: int
    reason: str | None
    logged_us: int


@dataclass(frozen=True, slots=True)
class GroupStand:
    """Partitions of the group, how many are owned, by how many workers, and when one moved last."""

    partitions: int
    owned: int
    workers: int
    moved_us: int | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a group of workers stands in one partition: the next record to read, and when that moved last."""

    topic: str
    partition: int
    next_offset: int
    progressed_us: int


@dataclass(frozen=True, slots=True)
class BuildStand:
    """How far the build of a version of the catalog is."""

    version: int
    users: int
    awards: int
    started_us: int
    moved_us: int
    done_us: int | None


@dataclass(frozen=True, slots=True)
class HeldBack:
    """How many awards of a badge are held back, and since when."""

    badge_key: str
    awards: int
    since_us: int


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """An event as the log holds it; `payload` is JSON, instants in microseconds."""

    user_id: str
    source: str
    id: str
    occurred_us: int
    received_us: int
    payload: str


class PanelTables(Database):
    """The panel's reads."""

    async def panel_awards(
        self,
        *,
        since_us: int,
        before: tuple[int, str, int] | None = None,
        badges: Collection[str] | None = None,
        trigger: str | None = None,
        origin: str | None = None,
        limit: int = 50,
    ) -> list[AwardEntry]:
        """The newest awards, newest first; `before` is (logged_us, user, sequence) of the last one of the page before.

        With a filter, those among the newest 20,000 before that key.
        """
        start, user_id, sequence = before or (LAST_US, _LAST_TEXT, _LAST_NUMBER)
        keys = None if badges is None else list(badges)
        place = (since_us, start, user_id, sequence)
        if keys is None and trigger is None and origin is None:
            found = await self.rows("panel_awards", *place, limit)
        else:
            found = await self.rows("panel_awards_of", *place, keys, trigger, origin, LOOKED_AT, limit)
        return [AwardEntry(*row) for row in found]

    async def panel_awards_bound(
        self, *, since_us: int, before: tuple[int, str, int] | None = None
    ) -> tuple[int, str, int] | None:
        """The key of the last award that a filter looks at, where older ones are not looked at."""
        start, user_id, sequence = before or (LAST_US, _LAST_TEXT, _LAST_NUMBER)
        found = await self.rows("panel_awards_bound", since_us, start, user_id, sequence, LOOKED_AT)
        return (found[0]["logged_at"], found[0]["user_id"], found[0]["sequence"]) if len(found) == 2 else None

    async def panel_count_awards(self, since_us: int) -> int:
        """How many awards were logged since an instant, at most 10,001."""
        return int((await self.rows("panel_count_awards", since_us, COUNTED))[0]["awards"])

    async def panel_count_letters(self, since_us: int) -> int:
        """How many dead letters came since an instant, at most 10,001."""
        return int((await self.rows("panel_count_letters", since_us, COUNTED))[0]["letters"])

    async def panel_counts(self, now_us: int, *, days: int = 28) -> dict[str, BadgeCount]:
        """Holders and awards of the last days by badge; reads every award, so it is asked now and then."""
        users = {row["badge_key"]: row["users"] for row in await self.rows("panel_holders")}
        first = now_us // DAY - days + 1
        awards = [(row["badge_key"], row["day"], row["awards"]) for row in await self.rows("panel_days", first * DAY)]
        return counted_by_badge(users, awards, {}, first, days)

    async def panel_users(self, prefix: str, *, after: str = "", limit: int = 50) -> list[UserRow]:
        """Users whose id begins with `prefix`, by id."""
        return [UserRow(*row) for row in await self.rows("panel_users", prefix, after, limit)]

    async def panel_user_awards(
        self, user_id: str, *, before: tuple[int, str, str] | None = None, limit: int = 50
    ) -> list[HeldAward]:
        """A user's awards, newest first; `before` is (awarded_us, badge, context) of the page before's last one."""
        key = before or (LAST_US, _LAST_TEXT, _LAST_TEXT)
        return [HeldAward(*row) for row in await self.rows("panel_user_awards", user_id, *key, limit)]

    async def panel_user_log(self, user_id: str, *, before: int | None = None, limit: int = 50) -> list[UserEntry]:
        """What was given to a user and taken back, newest first, before a number in the user's line."""
        start = _LAST_NUMBER if before is None else before
        return [UserEntry(*row) for row in await self.rows("panel_user_log", user_id, start, limit)]

    async def panel_long(self, user_id: str, events: int) -> bool:
        """Whether a user's log has more than so many events; so many entries of an index are read at most."""
        return bool((await self.rows("log_exceeds", user_id, events))[0]["longer"])

    async def panel_group(self, group_id: str) -> GroupStand:
        """Where a group of workers stands."""
        return GroupStand(*(await self.rows("panel_partitions", group_id))[0])

    async def panel_positions(self, group_id: str) -> list[Position]:
        """Where a group stands in each partition that it reads."""
        return [Position(*row) for row in await self.rows("panel_positions", group_id)]

    async def panel_builds(self, limit: int = 5) -> list[BuildStand]:
        """How far the newest versions of the catalog are built, newest first."""
        return [BuildStand(*row) for row in await self.rows("panel_builds", limit)]

    async def panel_held_back(self) -> list[HeldBack]:
        """Badges with awards that are held back, the most first; counted up to 10,001 in all."""
        return [HeldBack(*row) for row in await self.rows("panel_withheld_counts", COUNTED)]

    async def panel_letters(
        self,
        *,
        reason: str | None = None,
        topic: str | None = None,
        since_us: int | None = None,
        event_type: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[BuriedLetter]:
        """Dead letters, newest first; `before` is the number of the last one of the page before.

        `event_type`: those whose record says that it is of it.
        """
        start = _LAST_NUMBER if before is None else before
        given = (start, topic, since_us, LOOKED_AT, limit)
        if event_type is not None:
            found = await self.rows("panel_letters_of_type", *given, reason, event_type)
        elif reason is None:
            found = await self.rows("panel_letters", *given)
        else:
            found = await self.rows("panel_letters_of", *given, reason)
        return [replace(BuriedLetter(*row[:-1]), said_type=row["said_type"]) for row in found]

    async def panel_waiting_letters(
        self,
        *,
        reason: str | None = None,
        topic: str | None = None,
        since_us: int | None = None,
        event_type: str | None = None,
    ) -> tuple[int, bool]:
        """How many of the newest 2,000 letters that match were not applied yet, and whether there may be more."""
        (row,) = await self.rows("panel_waiting_letters", reason, event_type, topic, since_us, WAITING_LOOKED_AT)
        return row["letters"], row["more"]

    async def panel_letter_types(self, types: Collection[str]) -> dict[str, int]:
        """How many dead letters say that they are of each of these types, at most 1,001 each; none is left out."""
        found = await self.rows("panel_letter_types", list(types), COUNTED_OF_TYPE)
        return {row["type"]: row["letters"] for row in found}

    async def panel_sample(self, event_type: str, received_us: int) -> SampleEvent | None:
        """An event of a type that arrived at an instant; None where the log no longer has one."""
        found = await self.rows("panel_sample", event_type, received_us)
        return SampleEvent(*found[0]) if found else None

    async def panel_letter_counts(self) -> list[ReasonCount]:
        """How many of the newest 20,000 dead letters there are for each reason, the most first."""
        found = await self.rows("panel_letter_counts", LOOKED_AT)
        return [ReasonCount(row["reason"], row["letters"], 0, row["last_at"]) for row in found]

    async def panel_unpublished(self) -> tuple[int, float]:
        """How many messages wait to be published, at most 10,001, and for how many seconds the oldest of them does."""
        (row,) = await self.rows("panel_unpublished", COUNTED)
        return row["waiting"], row["oldest_seconds"]

    async def panel_topics(self) -> list[str]:
        """The topics that have been read."""
        return [row["topic"] for row in await self.rows("panel_letter_topics")]


def counted_by_badge(
    users: Mapping[str, int], awards: Iterable[tuple[str, int, int]], usual: Mapping[str, float], first: int, days: int
) -> dict[str, BadgeCount]:
    """Counts of (badge, day since 1970, awards) from a day on; holders and usual days by badge."""
    found: dict[str, list[int]] = {}
    for key, day, count in awards:
        if 0 <= day - first < days:
            found.setdefault(key, [0] * days)[day - first] = count
    none = [0] * days
    return {
        key: BadgeCount(users.get(key, 0), tuple(found.get(key, none)), usual.get(key))
        for key in {*users, *found, *usual}
    }
