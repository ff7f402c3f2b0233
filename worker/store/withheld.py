"""What a transaction gives and takes besides what criteria earn: takes back, withholds, lifts, counts for breakers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import asyncpg
from msgspec.structs import astuple

from worker.exchange import AuditLine, Grant, Revocation, Span, Withheld
from worker.rules.state import AwardKey, Holdings, award_key
from worker.store.admin import write_line
from worker.store.session import Session

AWARD_COLUMNS: Final = (
    "user_id",
    "sequence",
    "badge_key",
    "context",
    "awarded_at",
    "source",
    "origin",
    "award_id",
    "catalog_version",
    "trigger_id",
    "trigger_type",
    "metadata",
)
_LOG_COLUMNS: Final = (*AWARD_COLUMNS, "kind", "reason")

Place = tuple[str, str, str]


class WithheldAwards:
    """The part of a transaction that knows of awards taken back and withheld; see `pipeline.protocols.Transaction`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._locked: set[str] = set()
        self._partition = ("", 0)

    async def holdings_of(self, user_id: str) -> Holdings:
        """All that is stored of a user's awards."""
        self._must_hold(user_id)
        return read_holdings(await self._session.rows("holdings_of", user_id))

    async def hold(self, grants: Sequence[Grant]) -> None:
        """Store awards, by COPY; the key refuses a second one."""
        if grants:
            await self._session.copy("user_badges", AWARD_COLUMNS, [astuple(grant)[:-1] for grant in grants])

    async def confirm(self, awards: Sequence[Place]) -> set[Place]:
        """Of these awards those that are held, as given by a person from now on."""
        if not awards:
            return set()
        rows = await self._session.rows("confirm", *zip(*awards, strict=True))
        return {(user_id, badge_key, context) for user_id, badge_key, context in rows}

    async def note(self, entries: Sequence[Grant | Revocation], *, reason: str | None = None) -> None:
        """Write entries to the log of awards alone, by COPY."""
        rows = [
            (*astuple(entry)[:-2], "revoked", entry.reason)
            if isinstance(entry, Revocation)
            else (*astuple(entry)[:-1], "awarded", reason)
            for entry in entries
        ]
        if rows:
            await self._session.copy("badge_awards_log", _LOG_COLUMNS, rows)

    async def take_back(self, awards: Sequence[Place]) -> dict[Place, Grant]:
        """Remove awards from what is held."""
        if not awards:
            return {}
        for user_id, _, _ in awards:
            self._must_hold(user_id)
        rows = await self._session.rows("take_back", *zip(*awards, strict=True))
        found = [Grant(**dict(row), message=b"") for row in rows]
        return {(grant.user_id, grant.badge_key, grant.context): grant for grant in found}

    async def withhold(self, awards: Sequence[Withheld]) -> None:
        """Withhold awards, each once."""
        if awards:
            for award in awards:
                self._must_hold(award.user_id)
            await self._session.execute("withhold", *zip(*map(astuple, awards), strict=True))

    async def lift(self, awards: Sequence[Place], state: str | None = None) -> list[Withheld]:
        """Withhold awards no longer."""
        if not awards:
            return []
        for user_id, _, _ in awards:
            self._must_hold(user_id)
        return [Withheld(*row) for row in await self._session.rows("lift", *zip(*awards, strict=True), state)]

    async def audit(self, line: AuditLine) -> None:
        """Write what is done here into the log of changes."""
        await write_line(self._session, line)

    async def tallied(self, spans: Collection[Span]) -> dict[Span, dict[str, int]]:
        """How many awards of each badge were counted in each span."""
        found: dict[Span, dict[str, int]] = {span: {} for span in spans}
        for after, until, badge_key, awards in await self._session.rows("tallied", *zip(*found, strict=True)):
            found[after, until][badge_key] = awards
        return found

    async def tally(self, counted: Sequence[tuple[str, int, int]]) -> None:
        """Count awards for the partition that was fenced."""
        if counted:
            await self._session.execute("tally", *zip(*counted, strict=True), *self._partition)

    async def forget_tallies(self, before_us: int) -> None:
        """Remove what the partition that was fenced counted before a minute."""
        await self._session.execute("prune_tallies", before_us, *self._partition)

    async def usual(self) -> dict[str, float]:
        """How many awards a day are usual for each badge."""
        return {row["badge_key"]: row["usual"] for row in await self._session.rows("usual_awards")}

    def _must_hold(self, user_id: str) -> None:
        if user_id not in self._locked:
            raise RuntimeError("a user's state was touched without `lock`")


def read_holdings(rows: Iterable[asyncpg.Record]) -> Holdings:
    """The rows of `holdings_of`, put in order."""
    held: dict[AwardKey, tuple[int, str | None]] = {}
    first: dict[AwardKey, tuple[int, str | None]] = {}
    withheld: dict[AwardKey, str] = {}
    by_hand: set[AwardKey] = set()
    barred: set[AwardKey] = set()
    for badge_key, context, at, event_id, kind in rows:
        key = award_key(badge_key, context)
        if kind == "first":
            first[key] = (at, event_id)
        elif kind in ("", "by_hand"):
            held[key] = (at, event_id)
            if kind:
                by_hand.add(key)
        else:
            withheld[key] = "revoked" if kind == "barred" else kind
            if kind == "barred":
                barred.add(key)
    return Holdings(held, frozenset(by_hand), withheld, first, frozenset(barred))
