"""The log of awards as the API tells it: rows, places in it, and what it asks of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from worker.admin.answers import instant
from worker.admin.catalog_view import View

#: A place in the log: logged instant in microseconds, user, number in the user's line.
Position = tuple[int, str, int]

#: Behind every award there is or will be.
NEWEST: Final[Position] = (253_402_300_799_999_999, "", 0)


class LoggedFacts(Protocol):
    """One row of the log; `metadata` is JSON text, instants are microseconds."""

    @property
    def user_id(self) -> str:
        """To whom."""

    @property
    def badge_key(self) -> str:
        """Which badge."""

    @property
    def context(self) -> str:
        """For which value of its `per` field."""

    @property
    def award_id(self) -> UUID:
        """The award's id, as in the message on the topic."""

    @property
    def kind(self) -> str:
        """awarded or revoked."""

    @property
    def awarded_us(self) -> int:
        """When it was earned."""

    @property
    def source(self) -> str:
        """auto or manual."""

    @property
    def origin(self) -> str:
        """live, late, backfill, cron or manual."""

    @property
    def sequence(self) -> int:
        """Its number in the user's line."""

    @property
    def trigger_id(self) -> str | None:
        """The event that earned it."""

    @property
    def trigger_type(self) -> str | None:
        """That event's type."""

    @property
    def metadata(self) -> str:
        """Why."""

    @property
    def reason(self) -> str | None:
        """Why it was taken back, or given by hand."""

    @property
    def logged_us(self) -> int:
        """When it was written down."""


class FeedPlace(Protocol):
    """How far somebody has read the log."""

    @property
    def snapshot(self) -> str:
        """What had been shown by then, in the database's words."""

    @property
    def at_us(self) -> int:
        """When that was."""


class News(Protocol):
    """Awards as they came; `place` is the place behind them, None while more of the same look follow."""

    @property
    def awards(self) -> Sequence[LoggedFacts]:
        """In the order of the log."""

    @property
    def place(self) -> FeedPlace | None:
        """Where to go on from."""

    @property
    def missed(self) -> bool:
        """Whether there were more, which are not told."""


class AwardLog(Protocol):
    """The log of awards: pages of it, and what comes."""

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
    ) -> Sequence[LoggedFacts]:
        """The log from a place back to an instant, newest first."""

    @property
    def listeners(self) -> int:
        """How many listen to the feed of this process."""

    def listen(self, since: tuple[str, int] | None = None) -> AsyncIterator[News]:
        """News from now on, or from a place (snapshot, instant) on."""

    async def close(self) -> None:
        """Send all listeners away."""


def award_json(view: View, one: LoggedFacts) -> dict[str, Any]:
    """A row of the log as an answer; see `api.awards.AwardOut`."""
    known = view.badges.get(one.badge_key)
    return {
        "id": str(one.award_id),
        "type": f"badge.{one.kind}",
        "user_id": one.user_id,
        "badge_key": one.badge_key,
        "badge_id": None if known is None else known.facts.id,
        "name": one.badge_key if known is None else known.label,
        "context": one.context,
        "awarded_at": instant(one.awarded_us),
        "logged_at": instant(one.logged_us),
        "source": one.source,
        "origin": one.origin,
        "sequence": one.sequence,
        "trigger": None if one.trigger_id is None else {"id": one.trigger_id, "type": one.trigger_type},
        "reason": one.reason,
        "metadata": msgspec.Raw(one.metadata.encode()),
    }
