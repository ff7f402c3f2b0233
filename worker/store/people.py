"""Everything that is held about one person, in one list: what an export shows and an erasure removes.

`HOLDINGS` and `WITHOUT` together name every table: a test holds them against the schema, so that a new table cannot
forget the people in it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from worker.events.json_text import dumps
from worker.exchange import AuditLine, Message
from worker.store.admin import write_line
from worker.store.blobs import outbox_rows, pack_messages, unpack_messages, unpack_state
from worker.store.histories import BEFORE_ALL
from worker.store.naming import names_person, needles
from worker.store.removal import user_hash
from worker.store.session import Database, Session

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Holding:
    """A table with rows about people: the statement that removes a person's, the one that shows them (None: none)."""

    erase: str
    export: str | None = None


#: In the order in which they are removed; dead letters and the outbox name people in their bytes and go by those.
HOLDINGS: Final[Mapping[str, Holding]] = {
    "events": Holding("erase_events", "export_events"),
    "user_badges": Holding("erase_awards", "export_awards"),
    "badge_awards_log": Holding("erase_awards_log", "export_awards_log"),
    "withheld_awards": Holding("erase_withheld", "export_withheld"),
    "user_scopes": Holding("erase_scopes", "export_memory"),
    "sealed_states": Holding("erase_sealed", "export_sealed"),
    "recompute_queue": Holding("erase_queued", "export_queued"),
    "user_activity": Holding("erase_activity", "export_activity"),
    "user_tenures": Holding("erase_tenures", "export_tenures"),
    "user_jobs": Holding("erase_user_jobs", "export_user_jobs"),
    "dead_letters": Holding("erase_letters", "export_letter"),
    "outbox": Holding("erase_messages"),
    "audit_log": Holding("erase_audit", "export_audit"),
    "users": Holding("erase_person", "export_person"),
}
#: Tables that say nothing of anybody, or, as `erased_users`, only that somebody was here.
WITHOUT: Final = frozenset(
    {
        *(
            "api_tokens",
            "award_tallies",
            "badge_definitions",
            "badges",
            "catalog_builds",
            "catalog_head",
            "catalog_versions",
            "condition_types",
        ),
        *("ended_sessions", "erased_users", "event_types", "idempotent_requests", "job_runs", "leases", "partitions"),
        "retention_floors",
        *(
            "activity_days",
            "badge_baselines",
            "badge_holders",
            "badge_shares",
            "event_days",
            "log_readers",
            "schema_migrations",
            "stream_gaps",
        ),
    }
)
#: Removed by one statement that takes the user's id and nothing else.
_BY_ID: Final = (
    *(
        "events",
        "user_badges",
        "badge_awards_log",
        "withheld_awards",
        "user_scopes",
        "sealed_states",
        "recompute_queue",
    ),
    *("user_activity", "user_tenures"),
)


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed, by table, and the instant (microseconds) up to which nothing of the user comes back."""

    at_us: int
    rows: Mapping[str, int]


class PeopleTable(Database):
    """What is held about people."""

    async def erase(
        self, user_id: str, *, by: str, note: str, topic: str, message: Callable[[int], Message]
    ) -> Erased | None:
        """Remove everything about a user, in one transaction; None, and nothing changed, where there is nothing.

        1 lock the user, whose row is made where there is none: a running batch has them first, or meets the erasure
        2 remove what is held; what waits for the relay, too
        3 note the erasure by hash, so that no event up to its instant comes back by any path
        4 put `message` (of how often the user was erased before) into the outbox, on `topic`
        """
        digest = user_hash(user_id)
        async with self.work() as session:
            await session.rows("allow_removal")
            made = await session.execute("hold_person", user_id)
            (locked,) = await session.rows("lock_person", user_id)
            (newest,) = await session.rows("newest_of_person", user_id)
            await session.execute("lose_holdings", user_id)
            rows = {table: await session.execute(HOLDINGS[table].erase, user_id) for table in _BY_ID}
            rows["user_jobs"] = await session.execute("erase_user_jobs", user_id)
            rows["dead_letters"] = await _erase_letters(session, user_id)
            rows["outbox"] = await _erase_messages(session, user_id)
            rows["audit_log"] = await session.execute("erase_audit", user_id, f"user {digest.hex()}")
            rows["audit_log"] += await session.execute("erase_from_audit", user_id)
            await session.execute("erase_places", user_id)
            rows["users"] = await session.execute("erase_person", user_id) - made
            total = sum(rows.values())
            if total:
                before = await session.rows("erased_before", digest)
                # An event may lie ahead of the clock: it must not come back either.
                at_us = max(locked["now"], newest["newest"] or 0)
                await session.execute("note_erasure", digest, at_us, by, note, total)
                after = {table: count for table, count in rows.items() if count}
                subject = f"user {digest.hex()}"
                await write_line(session, AuditLine(by, "user.erased", subject, after=after, note=note))
                told = message(before[0]["times"] if before else 0)
                for shard, blob in outbox_rows([(user_id, told)]):
                    await session.execute("publish", [shard], topic, [blob])
        return Erased(at_us, rows) if total else None

    async def export(self, user_id: str) -> AsyncIterator[str]:
        """Everything held about a user as the text of one JSON object, in pieces; each page as it was when it was read.

        Empty sections say that nothing is held there.
        """
        yield f'{{"user_id": {dumps(user_id)}'
        for table, holding in HOLDINGS.items():
            if holding.export is None:
                continue
            yield f',\n"{table}": ['
            opening = "\n"
            async for row in self._rows_of(table, holding.export, user_id):
                yield f"{opening}{row}"
                opening = ",\n"
            yield "]"
        yield "}\n"

    async def knows(self, user_id: str) -> bool:
        """Whether anything at all is held about a user."""
        for table, holding in HOLDINGS.items():
            if holding.export is not None:
                async for _ in self._rows_of(table, holding.export, user_id):
                    return True
        return False

    async def _rows_of(self, table: str, query: str, user_id: str) -> AsyncIterator[str]:
        match table:
            case "events":
                async for text in self._events(user_id):
                    yield text
            case "user_scopes" | "sealed_states":
                for kept in await self.rows(query, user_id):
                    yield dumps({"scope": kept["scope"], "memory": unpack_state(kept["state"])})
            case "dead_letters":
                async for letter in self._letters(user_id):
                    value = dumps((letter["raw"] or b"").decode("utf-8", "backslashreplace"))
                    for found in await self.rows(query, letter["number"]):
                        yield f'{found["row"][:-1]}, "value": {value}}}'
            case _:
                for found in await self.rows(query, user_id):
                    yield found["row"]

    async def _events(self, user_id: str) -> AsyncIterator[str]:
        after: tuple[Any, ...] = BEFORE_ALL
        while True:
            page = await self.rows("export_events", user_id, *after, _PAGE)
            for row in page:
                yield row["row"]
            if len(page) < _PAGE:
                return
            after = (page[-1]["occurred_at"], page[-1]["source"], page[-1]["id"])

    async def _letters(self, user_id: str) -> AsyncIterator[asyncpg.Record]:
        after = 0
        while True:
            page = await self.rows("letters_that_may_name", after, user_id, *needles(user_id), _PAGE)
            for row in page:
                if _is_about(user_id, row):
                    yield row
            if len(page) < _PAGE:
                return
            after = page[-1]["number"]


def _is_about(user_id: str, letter: asyncpg.Record) -> bool:
    return letter["user_id"] == user_id or names_person(user_id, letter["key"], letter["raw"])


def _is_erasure(message: Message) -> bool:
    """Whether a message tells of an erasure: those who read the awards must still learn of it."""
    try:
        return bool(json.loads(message.value or b"{}")["type"] == "user.erased")
    except (ValueError, KeyError, TypeError):
        return False


async def _erase_letters(session: Session, user_id: str) -> int:
    """Remove the dead letters about a user; how many."""
    after, removed = 0, 0
    while True:
        page = await session.rows("letters_that_may_name", after, user_id, *needles(user_id), _PAGE)
        numbers = [row["number"] for row in page if _is_about(user_id, row)]
        if numbers:
            removed += await session.execute("erase_letters", numbers)
        if len(page) < _PAGE:
            return removed
        after = page[-1]["number"]


async def _erase_messages(session: Session, user_id: str) -> int:
    """Take a user's messages out of the outbox, published or not; in how many rows there were some."""
    after, touched = 0, 0
    while True:
        page = await session.rows("messages_that_may_name", after, *needles(user_id), _PAGE)
        gone: list[int] = []
        for row in page:
            messages = unpack_messages(row["messages"])
            kept = [one for one in messages if _is_erasure(one) or not names_person(user_id, one.key, one.value)]
            if kept and len(kept) < len(messages):
                touched += await session.execute("rewrite_message", row["id"], pack_messages(kept))
            elif not kept:
                gone.append(row["id"])
        if gone:
            touched += await session.execute("erase_messages", gone)
        if len(page) < _PAGE:
            return touched
        after = page[-1]["id"]
