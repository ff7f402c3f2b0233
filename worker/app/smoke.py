"""Tries a new catalog on a sample of real users: what they would be given, and would no more earn, by their logs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from worker.app.comparing import Difference
from worker.events import Event
from worker.rules.catalog.definitions import Catalog
from worker.rules.changes import play
from worker.rules.evaluate import begin_again
from worker.rules.plan import Plan, compile_plan
from worker.rules.state import NEVER, AwardKey, UserState
from worker.store.diagnosis import DiagnosisTable
from worker.store.histories import HistoryTable
from worker.store.population import PopulationTable
from worker.store.postgres import PostgresStore

#: Told on the way: how many users of how many.
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Turned:
    """What the new catalog makes of one badge for the users of a sample: (badge, context) given and no more earned."""

    given: int = 0
    lost: int = 0
    gainers: list[str] = field(default_factory=list)
    losers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Smoke:
    """The sample and what changed in it, badge by badge; `users` of all `population`."""

    users: int
    population: int
    events: int
    badges: dict[str, Turned]

    @property
    def gaining(self) -> Fraction:
        """The share of the sample that would be given something."""
        return self._share(len({user for turned in self.badges.values() for user in turned.gainers}))

    @property
    def losing(self) -> Fraction:
        """The share of the sample that would no more earn something."""
        return self._share(len({user for turned in self.badges.values() for user in turned.losers}))

    def _share(self, users: int) -> Fraction:
        return Fraction(users, self.users) if self.users else Fraction()


class _Trial:
    """One user under one plan, from an empty memory: what the log alone earns."""

    def __init__(self, plan: Plan, user_id: str) -> None:
        self._plan = plan
        self._state, _ = begin_again(plan, user_id, {})

    def take(self, events: Iterable[Event]) -> None:
        state: UserState = self._state
        for event in events:
            play(self._plan, state, event)

    @property
    def earned(self) -> set[AwardKey]:
        given = self._state.fixed
        return {key for key, at_us in self._state.held.items() if at_us != NEVER and key not in given}


async def smoke(
    store: PostgresStore, found: Difference, *, sample: int, seed: int, progress: Progress | None = None
) -> Smoke:
    """Play the logs of so many users by the catalog that rules and by the new one. Nothing is written.

    The same seed takes the same users. Both catalogs see the log alone, so that awards given by hand or by earlier
    rules count neither way; what a user holds already is not given again. In memory is one user and a page of the log.
    """
    table, log, people = PopulationTable(store.pool), HistoryTable(store.pool), DiagnosisTable(store.pool)
    empty = Catalog(found.new.dictionary, {}, ())
    old, new = [await asyncio.to_thread(compile_plan, one) for one in (found.old or empty, found.new)]
    users = await table.sample(str(seed), sample)
    events, badges = 0, dict[str, Turned]()
    for done, user_id in enumerate(users):
        before, after = _Trial(old, user_id), _Trial(new, user_id)
        async for page in log.pages(user_id):
            events += len(page)
            await asyncio.to_thread(before.take, page)
            await asyncio.to_thread(after.take, page)
        gained = after.earned - before.earned
        if gained:
            gained -= await people.given(user_id)
        _count(badges, user_id, gained, before.earned - after.earned)
        if progress is not None:
            progress(done + 1, len(users))
    return Smoke(len(users), max(await table.count(), len(users)), events, badges)


def _count(badges: dict[str, Turned], user_id: str, gained: set[AwardKey], lost: set[AwardKey]) -> None:
    for key, number in Counter(key for key, _ in gained).items():
        turned = badges.setdefault(key, Turned())
        turned.given += number
        turned.gainers.append(user_id)
    for key, number in Counter(key for key, _ in lost).items():
        turned = badges.setdefault(key, Turned())
        turned.lost += number
        turned.losers.append(user_id)
