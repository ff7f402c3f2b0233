"""Conditions asked again about logged events, ahead of the slices of a job that asks for that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from worker.errors import OperatorError
from worker.events import Event
from worker.pipeline.protocols import Judge
from worker.pipeline.repair_protocols import RepairStore
from worker.rules.catalog.definitions import Condition
from worker.rules.plan import Plan

#: So many events are asked about, and what is said of them is written, at a time.
_EVENTS: Final = 8_000


@dataclass(slots=True)
class Asking:
    """Asks about users' events and writes what is said now, in transactions of its own: a script may take its time.

    Whom it has asked about it remembers, for a job and a plan: a slice that ends before the last of its users begins
    the next one with users who were asked about already.
    """

    store: RepairStore
    _asked: tuple[Plan, int, str] | None = None

    async def ask(self, plan: Plan, job_id: int, users: Sequence[str], judge: Judge | None) -> None:
        """Ask about the events of users, sorted. Raises OperatorError where conditions may not run here."""
        if plan.conditions is None:
            return
        if self._asked is not None and self._asked[:2] == (plan, job_id):
            upto = self._asked[2]
            users = [user_id for user_id in users if user_id > upto]
        while users:
            last, events = await self._events(plan.conditions, users)
            await self._ask(plan.conditions, events, judge, basis=plan.basis)
            self._asked = (plan, job_id, last)
            users = [user_id for user_id in users if user_id > last]

    async def _events(self, asked: Collection[str], users: Sequence[str]) -> tuple[str, list[Event]]:
        """The events to be asked about, whole users until there are enough; the last of these users."""
        events: list[Event] = []
        async with self.store.transaction() as transaction, aclosing(transaction.logs_of(users)) as logs:
            async for page in logs:
                for event in page:
                    if len(events) >= _EVENTS and event.user_id != events[-1].user_id:
                        return events[-1].user_id, events
                    if event.type in asked:
                        events.append(event)
        return users[-1], events

    async def _ask(
        self, asked: Mapping[str, Sequence[Condition]], events: Sequence[Event], judge: Judge | None, *, basis: int
    ) -> None:
        if judge is None:
            raise OperatorError("Conditions in JavaScript cannot be asked here: BADGES_JS is off.", help="BADGES_JS=on")
        for start in range(0, len(events), _EVENTS):
            part = events[start : start + _EVENTS]
            said = await judge(asked, [replace(event, verdicts=None) for event in part])
            other = [new for old, new in zip(part, said, strict=True) if _says_other(old, new)]
            if other:
                async with self.store.transaction() as transaction:
                    await transaction.lock(sorted({event.user_id for event in other}), version=basis)
                    await transaction.store_verdicts(other)


def _says_other(old: Event, new: Event) -> bool:
    before = old.verdicts or {}
    return any(before.get(key) != said for key, said in (new.verdicts or {}).items())
