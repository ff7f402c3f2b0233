"""What the API asks about one user: how far, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from worker.admin.catalog_view import View


class PeopleDesk(Protocol):
    """Knows users by their logs."""

    async def progress(self, view: View, user_id: str, *, at_us: int) -> Sequence[Mapping[str, Any]]:
        """The badges the user does not hold, nearest first; none for a user nobody knows."""

    async def knows_user(self, user_id: str) -> bool:
        """Whether an event of theirs was ever read."""

    async def recompute(self, badges: Sequence[str], trigger: str | None, *, by: str, note: str) -> int:
        """Have everybody looked at again for badges, or for those of a trigger; the job. Raises OperatorError.

        A job that is made leaves a line in the log of changes.
        """

    async def why(
        self,
        view: View,
        user_id: str,
        badge_key: str,
        *,
        at_us: int | None,
        now_us: int,
        context: str | None,
        closest: bool,
    ) -> Mapping[str, Any] | None:
        """Why a user holds a badge or not; None where nobody knows the user or the badge."""
