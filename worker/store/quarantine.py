"""Reads which awards breakers hold back, by badge and one by one, and where one award stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.exchange import Withheld
from worker.store.session import Database

#: More are not counted for a figure that is read every few seconds.
_COUNTED = 1_000_000


@dataclass(frozen=True, slots=True)
class HeldBack:
    """How many awards of a badge are held back, and when the first and the last came (microseconds)."""

    badge_key: str
    awards: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An award that is held back, and since when (microseconds)."""

    award: Withheld
    withheld_us: int


class QuarantineTable(Database):
    """The awards that are held back."""

    async def quarantine_counts(self) -> list[HeldBack]:
        """Badges with the number of their awards held back, the most first."""
        return [HeldBack(*row) for row in await self.rows("quarantine_counts")]

    async def quarantined(
        self,
        *,
        badge_key: str | None = None,
        users: Sequence[str] | None = None,
        context: str | None = None,
        places: Sequence[tuple[str, str]] | None = None,
        after: tuple[str, str, str] = ("", "", ""),
        limit: int = 50,
    ) -> list[Quarantined]:
        """A page in order of (badge, user, context), after the last one of the page before.

        `places` are the (user, context) of the only ones that are meant.
        """
        chosen = None if users is None else list(users)
        pairs = (None, None) if places is None else ([user for user, _ in places], [of for _, of in places])
        rows = await self.rows("quarantined", badge_key, chosen, context, *after, limit, *pairs)
        return [Quarantined(Withheld(*row[:-1]), row[-1]) for row in rows]

    async def quarantine_size(self) -> int:
        """How many awards are held back, at most a million."""
        return int((await self.rows("quarantine_size", _COUNTED))[0]["awards"])

    async def standing(self, user_id: str, badge_key: str, context: str) -> tuple[str, bool] | None:
        """Where one award stands: `given` or why it is withheld, and whether a person gave it; None where neither."""
        found = await self.rows("standing", user_id, badge_key, context)
        return (found[0]["state"], found[0]["by_hand"]) if found else None
