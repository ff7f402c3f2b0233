"""A partition in the hands of one worker, without a stream: what it takes is applied as its next records."""

from __future__ import annotations

import json
from typing import Any

from worker.events import Record
from worker.exchange import Claim
from worker.pipeline.batch import Applier
from worker.pipeline.facts import BatchFacts, Limits
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore

#: Of the records, milliseconds: later than all that tests let happen.
_STAMP = 1_800_000_000_000


class Holding:
    """A claim on a partition, and the applier with the plan its worker has."""

    def __init__(self, store: PostgresStore, plan: Plan, claim: Claim) -> None:
        self.applier = Applier(store, plan, Limits("awards", "dead", "control", 1 << 60))
        self._claim = claim
        self._next = claim.next_offset

    async def take(self, *events: dict[str, Any]) -> BatchFacts:
        """Apply events in one batch; those of a batch that failed are not taken."""
        records = [
            Record("events", self._claim.partition, offset, _STAMP, b"key", json.dumps(event).encode())
            for offset, event in enumerate(events, self._next)
        ]
        facts = await self.applier.apply(self._claim, records, from_offset=self._next)
        self._next += len(records)
        return facts


async def hold(store: PostgresStore, plan: Plan, *, partition: int = 0, generation: int = 1) -> Holding:
    """Take a partition of `events` over, as a worker of a generation of the group."""
    claim = await store.claim("events", partition, generation=generation, owner="test", start_offset=0)
    assert claim is not None
    return Holding(store, plan, claim)
