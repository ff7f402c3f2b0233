"""What is known of users, for the API: how far they are, and why a badge is theirs or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from worker.admin.catalog_view import View
from worker.app.people import People, UnknownBadge, UnknownUser
from worker.app.user_jobs import ask, found_or_made
from worker.store.postgres import PostgresStore

#: Badges whose progress everybody may see.
_SHOWN: Final = frozenset({"active"})


class PeopleAnswers:
    """Answers `admin.people.PeopleDesk` for the catalog that rules; plans are kept until another one does."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._people: tuple[int, People] | None = None

    async def progress(self, view: View, user_id: str, *, at_us: int) -> Sequence[Mapping[str, Any]]:
        """The badges the user does not hold, nearest first; none for a user nobody knows."""
        try:
            overview = await self._of(view).overview(user_id, at_us=at_us)
        except UnknownUser:
            return []
        return [step.as_json() for step in overview.steps if step.progress.badge.status in _SHOWN]

    async def knows_user(self, user_id: str) -> bool:
        """Whether an event of theirs was ever read."""
        return await self._store.knows_user(user_id)

    async def recompute(self, badges: Sequence[str], trigger: str | None, *, by: str, note: str) -> int:
        """Have everybody looked at again for badges, or for those of a trigger; the job. Raises OperatorError."""
        asked = await ask(self._store, "recompute", badges=badges, trigger=trigger)
        return await found_or_made(self._store, asked, requested_by=by, note=note)

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
        try:
            found = await self._of(view).why(
                user_id, badge_key, at_us=at_us, now_us=now_us, context=context, closest=closest
            )
        except (UnknownUser, UnknownBadge):
            return None
        return found.as_json()

    def _of(self, view: View) -> People:
        if self._people is None or self._people[0] != view.version:
            self._people = (view.version, People(self._store, view.catalog))
        return self._people[1]
