"""Reads from PostgreSQL what is known of one user: awards, what was withheld or taken back, dead letters, the build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import asyncpg
import msgspec

from worker.exchange import Seal
from worker.rules.state import Holdings
from worker.store.retention import seal_of
from worker.store.session import Database
from worker.store.withheld import read_holdings

#: So many awards of a user are read at most, and so many of what was withheld or taken back.
MOST_AWARDS: Final = 100_000
_MOST_WITHHELD: Final = 10_000
#: So many dead letters of a user, the newest: each may have 64 KiB.
MOST_LETTERS: Final = 20

#: One state of the database for all that is read together.
_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_read_metadata = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class AwardRow:
    """An award that is held, as `user_badges` has it; `reason` is what the log noted with it. Times in microseconds.

    `definition` names what the badge took when it was given; None for versions of the catalog that noted none.
    """

    badge_key: str
    context: str
    awarded_us: int
    source: str
    origin: str
    sequence: int
    award_id: str
    catalog_version: int
    trigger_id: str | None
    trigger_type: str | None
    sort_override: int | None
    metadata: Mapping[str, Any]
    reason: str | None
    definition: str | None


@dataclass(frozen=True, slots=True)
class WithheldRow:
    """An award that is not given: `state` is held, dropped or revoked; `actor` who revoked it."""

    badge_key: str
    context: str
    state: str
    awarded_us: int
    origin: str
    reason: str | None
    withheld_us: int
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """An award that was taken back; `actor` is who did it by hand."""

    badge_key: str
    context: str
    source: str
    origin: str
    sequence: int
    reason: str | None
    logged_us: int
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A dead letter of the user; `raw` are its first bytes."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    path: str
    buried_us: int
    state: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """All that the database says of a user beside the log of events, as of one moment.

    `built_version` is the version of the catalog the user's memory is for; None where there is none yet. `queued`:
    the user's log waits to be read again. `seal` is the memory in which events live on that retention removed.
    """

    known: bool
    built_version: int | None
    queued: bool
    awards: tuple[AwardRow, ...]
    withheld: tuple[WithheldRow, ...]
    revocations: tuple[RevocationRow, ...]
    letters: tuple[LetterRow, ...]
    holdings: Holdings
    seal: Seal | None = None


class DiagnosisTable(Database):
    """What support asks about one user."""

    async def record(self, user_id: str) -> Record:
        """What is known of a user; one of whom nothing is known is not `known`."""
        async with self.work(_READING) as session:
            known, built_version, queued = (await session.rows("person", user_id))[0]
            awards = await session.rows("awards_of", user_id, MOST_AWARDS)
            withheld = await session.rows("withheld_of", user_id, _MOST_WITHHELD)
            revocations = await session.rows("revocations_of", user_id, _MOST_WITHHELD)
            holdings = read_holdings(await session.rows("holdings_of", user_id))
            letters = await session.rows("letters_of", user_id, user_id.encode(), MOST_LETTERS)
            seal = seal_of(await session.rows("sealed_state", user_id))
        return Record(
            known=known or bool(letters),
            built_version=built_version,
            queued=queued,
            awards=tuple(_award(row) for row in awards),
            withheld=tuple(WithheldRow(*row) for row in withheld),
            revocations=tuple(RevocationRow(*row) for row in revocations),
            letters=tuple(LetterRow(*row) for row in letters),
            holdings=holdings,
            seal=seal,
        )

    async def given(self, user_id: str) -> set[tuple[str, str]]:
        """(badge, context) of what the user holds or of what is withheld, as of now."""
        async with self.work(_READING) as session:
            awards = await session.rows("awards_of", user_id, MOST_AWARDS)
            withheld = await session.rows("withheld_of", user_id, _MOST_WITHHELD)
        return {(row["badge_key"], row["context"]) for row in (*awards, *withheld)}

    async def build_share(self, version: int) -> Fraction | None:
        """How much of the users the build of a version has passed, from 0 to 1; None where it has not begun."""
        found = await self.rows("build_share", version)
        if not found:
            return None
        done, passed, users = found[0]
        return Fraction(1) if done or not users else Fraction(passed, users)


def _award(row: asyncpg.Record) -> AwardRow:
    key, context, at, source, origin, sequence, award_id, *rest = row
    version, trigger_id, trigger_type, sort_override, metadata, reason, definition = rest
    shown = _read_metadata(metadata)
    return AwardRow(
        key, context, at, source, origin, sequence, str(award_id), version, trigger_id, trigger_type, sort_override,
        shown, reason, definition,
    )  # fmt: skip
