"""Which of the event types that a badge waits for are silent, or were never seen: as `catalog coverage` says it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from worker.app.blockers import Silence
from worker.app.coverage import coverage
from worker.rules.catalog.definitions import Catalog
from worker.store.postgres import PostgresStore


async def silent_types(store: PostgresStore, catalog: Catalog, types: Collection[str]) -> Sequence[Silence]:
    """Of these types those that never came or are silent, as far as arrivals are counted; none while that begins."""
    upto = await store.arrivals_counted()
    if upto is None:
        return []
    found = coverage(catalog, await store.trigger_days(sorted(types)), upto)
    return [
        Silence(one.type, never=one.state == "never_seen", sentence=one.sentence)
        for one in found
        if one.type in types and one.state in ("silent", "never_seen")
    ]
