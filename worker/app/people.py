"""What is known of one user, in words: what they hold and why, how far they are, and why a badge is not theirs.

Everything is worked out from the log, with the engine that gives the awards; nobody is locked, nothing is written.
What comes back is data with `as_json`, the same for command, API and panel (`person.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Final, TypeVar

from worker.app.blockers import Circumstances, first_blocker, letters_that_matter
from worker.app.coverage import Trigger, silent_types
from worker.app.person import Held, Overview, Step, Why
from worker.errors import OperatorError
from worker.pipeline.sealed import Sight
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.catalog.nearest import nearest
from worker.rules.evaluate import Explanation
from worker.rules.plan import EVALUATED, Plan, compile_plan
from worker.rules.standing import (
    Closest,
    Given,
    Progress,
    Search,
    Standing,
    exact_plan,
    fades,
)
from worker.rules.state import AwardKey
from worker.store.diagnosis import AwardRow, DiagnosisTable, Record, RevocationRow, WithheldRow
from worker.store.histories import HistoryTable
from worker.store.postgres import PostgresStore

#: Which of some event types are silent or never came; see `coverage`.
Silences = Callable[[Collection[str]], Awaitable[Sequence[Trigger]]]

#: So many plans are kept for badges asked about one by one.
_MOST_PLANS: Final = 32


class UnknownUser(OperatorError):
    """Nothing at all is known of a user."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"No event and no award for {user_id}.", help="ids are exact; did the app send another? badges dlq list"
        )


class UnknownBadge(OperatorError):
    """Neither the catalog nor the user has a badge of this key."""


class People:
    """Answers about users for one catalog; a new catalog needs a new one. Plans are kept, users are not."""

    def __init__(self, store: PostgresStore, catalog: Catalog, *, silences: Silences | None = None) -> None:
        self.catalog = catalog
        self._badges = {badge.key: badge for badge in catalog.badges}
        self._table = DiagnosisTable(store.pool)
        self._log = HistoryTable(store.pool)
        self._silences: Silences = silences or partial(silent_types, store, catalog)
        self._plans: dict[frozenset[str] | None, Plan] = {}
        self._worked: Plan | None = None

    async def overview(self, user_id: str, *, at_us: int, closest: int = 0) -> Overview:
        """What a user holds and how far they are at an instant, from events up to it.

        Of the badges that time may take a user away from, the closest moment is looked for, for the `closest` nearest.
        Raises UnknownUser.
        """
        record = await self._record(user_id)
        given = _given(record)
        standing = await self._played(await self._whole(given), user_id, record, at_us)
        progress = await asyncio.to_thread(standing.progress)
        faded = [one.badge.key for one in progress if not one.holds and fades(one.badge)][:closest]
        search = await self._search(standing, given, faded) if faded else {}
        calendar = standing.plan.calendar_of(standing.state)
        return Overview(
            user_id=user_id,
            at_us=at_us,
            zone=calendar.zone,
            own_zone=calendar is not standing.plan.calendar,
            events=standing.events,
            first_us=standing.first_us,
            last_us=standing.last_us,
            building=await self._building(record),
            queued=record.queued,
            held=tuple(self._held(row, standing) for row in record.awards if row.awarded_us <= at_us),
            withheld=record.withheld,
            missing=await self._missing(standing),
            steps=tuple(Step(one, search.get(one.badge.key)) for one in progress if not _kept_back(one, record)),
        )

    async def why(
        self,
        user_id: str,
        badge_key: str,
        *,
        at_us: int | None,
        now_us: int,
        context: str | None = None,
        closest: bool = False,
    ) -> Why:
        """Why a user holds a badge or not, as of an instant (None: of the award, else of `now_us`).

        Without a `context`, a badge that is given per payload value is answered for the newest award, else for the
        value that is nearest. Raises UnknownUser, UnknownBadge.
        """
        record = await self._record(user_id)
        badge = self._badges.get(badge_key)
        award = _award_of(record, badge_key, context, now_us if at_us is None else at_us)
        if badge is None:
            if award is None and not any(one.badge_key == badge_key for one in record.withheld):
                raise self._no_badge(badge_key)
            return self._left_out(user_id, badge_key, context, award, at_us=now_us if at_us is None else at_us)
        as_of = at_us if at_us is not None else now_us if award is None else award.awarded_us
        given = _given(record)
        plan = await self._plan(frozenset({badge_key}))
        standing = await self._played(plan, user_id, record, as_of, context)
        wanted = context if context is not None or award is None else award.context
        chosen, explanation = await asyncio.to_thread(standing.explained, badge, wanted)
        if award is not None:
            explanation = standing.reasons.get((badge_key, chosen), explanation) if at_us is None else explanation
            held = Held(award, badge, explanation.sentence)
            return Why(user_id, badge_key, badge, chosen, as_of, held, None, explanation, None)
        found = await self._circumstances(record, standing, badge, explanation, context)
        near = (await self._search(standing, given, [badge_key], context)).get(badge_key) if closest else None
        return Why(user_id, badge_key, badge, chosen, as_of, None, first_blocker(found), explanation, near)

    # ---- what answers are made of ------------------------------------------------------------------------------------

    async def _record(self, user_id: str) -> Record:
        record = await self._table.record(user_id)
        if not record.known:
            raise UnknownUser(user_id)
        return record

    async def _played(
        self, plan: Plan, user_id: str, record: Record, at_us: int, context: str | None = None
    ) -> Standing:
        sight = None
        if record.seal is not None and record.seal.newest[0] <= at_us:
            # what was kept is of memories as workers have them
            plan = await self._worked_plan(plan)
            sight = Sight(plan, record.seal)
        standing = Standing(
            plan, user_id, _given(record), at_us=at_us, context=context, known=record.holdings, guide=sight
        )
        async for page in self._log.pages(user_id):
            await asyncio.to_thread(standing.take, page)
        standing.close()
        return standing

    async def _circumstances(
        self, record: Record, standing: Standing, badge: Badge, explanation: Explanation, context: str | None
    ) -> Circumstances:
        """All that may be in the way of a badge that the user does not hold."""
        missing = await self._missing(standing)
        return Circumstances(
            user_id=standing.user_id,
            badge_key=badge.key,
            badge=badge,
            explanation=explanation,
            missing=any(key == badge.key and context in (None, one) for key, one in missing),
            building=await self._building(record),
            queued=record.queued,
            withheld=_first(record.withheld, badge.key, context),
            revocation=_first(record.revocations, badge.key, context),
            letters=letters_that_matter(record.letters, badge.triggers, self.catalog.dictionary),
            silences=await self._silences(badge.triggers),
        )

    async def _search(
        self, standing: Standing, given: Mapping[AwardKey, Given], keys: Collection[str], context: str | None = None
    ) -> Mapping[str, Closest]:
        occasions = standing.occasions()
        plan = await self._plan(frozenset(keys))
        search = Search(plan, standing.user_id, given, {key: occasions[key] for key in keys}, context=context)
        async for page in self._log.pages(standing.user_id):
            await asyncio.to_thread(search.take, page, at_us=standing.at_us)
        return search.closest

    async def _whole(self, given: Collection[AwardKey]) -> Plan:
        """The plan of all that is given; one of the user's own where they hold what is given no more."""
        ended = {key for key, _ in given if key in self._badges and self._badges[key].status not in EVALUATED}
        if ended:
            return await asyncio.to_thread(exact_plan, self.catalog, ended)
        return await self._plan(None)

    async def _worked_plan(self, asked: Plan) -> Plan:
        """The plan by which workers remember; the one asked for, where it has badges that they do not test."""
        if self._worked is None:
            self._worked = await asyncio.to_thread(compile_plan, self.catalog)
        return self._worked if asked.numbers.keys() <= self._worked.numbers.keys() else asked

    async def _plan(self, keys: frozenset[str] | None) -> Plan:
        if keys not in self._plans:
            while len(self._plans) >= _MOST_PLANS:
                del self._plans[next(key for key in self._plans if key is not None)]
            self._plans[keys] = await asyncio.to_thread(exact_plan, self.catalog, only=keys)
        return self._plans[keys]

    async def _missing(self, standing: Standing) -> tuple[AwardKey, ...]:
        """What the log earns and was not given: asked again, for it may have been given since the first look."""
        found = dict.fromkeys((award.badge_key, award.context) for award in standing.missing)
        if not found:
            return ()
        given = await self._table.given(standing.user_id)
        return tuple(key for key in found if key not in given)

    async def _building(self, record: Record) -> Fraction | None:
        """The share of users who are built for the catalog; None where this user is."""
        basis = self.catalog.version if self.catalog.basis is None else self.catalog.basis
        if record.queued or record.built_version == basis:
            return None
        return await self._table.build_share(basis) or Fraction(0)

    def _held(self, row: AwardRow, standing: Standing) -> Held:
        found = standing.reasons.get((row.badge_key, row.context))
        return Held(row, self._badges.get(row.badge_key), None if found is None else found.sentence)

    def _no_badge(self, key: str) -> UnknownBadge:
        near = nearest(key, self._badges)
        return UnknownBadge(
            f"The catalog has no badge {key}, and the user never had it.",
            help=f"did you mean {near}?" if near else "badges catalog show lists them",
        )

    def _left_out(self, user_id: str, key: str, context: str | None, award: AwardRow | None, *, at_us: int) -> Why:
        """A badge that the catalog left out: its awards stay."""
        held = None if award is None else Held(award, None, None)
        found = Circumstances(
            user_id,
            key,
            None,
            None,
            missing=False,
            building=None,
            queued=False,
            withheld=None,
            revocation=None,
            letters=(),
            silences=(),
        )
        shown = (award.context if award is not None else context) or ""
        return Why(user_id, key, None, shown, at_us, held, None if held else first_blocker(found), None, None)


def _kept_back(found: Progress, record: Record) -> bool:
    """Whether a badge is held back, dropped or taken by hand, and its criterion met: no event is what it waits for."""
    if not found.holds:
        return False
    return any((one.badge_key, one.context) == (found.badge.key, found.context) for one in record.withheld)


def _given(record: Record) -> dict[AwardKey, Given]:
    return {(row.badge_key, row.context): Given(row.awarded_us, row.trigger_id) for row in record.awards}


def _award_of(record: Record, key: str, context: str | None, at_us: int) -> AwardRow | None:
    """The newest award of a badge that was held at an instant."""
    wanted = (row for row in record.awards if row.badge_key == key and row.awarded_us <= at_us)
    return next((row for row in wanted if context in (None, row.context)), None)


_Row = TypeVar("_Row", WithheldRow, RevocationRow)


def _first(rows: Sequence[_Row], key: str, context: str | None) -> _Row | None:
    return next((row for row in rows if row.badge_key == key and context in (None, row.context)), None)
