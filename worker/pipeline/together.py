"""One batch for several partitions: an owner whose turn it is takes others along that wait with few records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from worker.errors import Fenced, PoisonBatch, TransientError
from worker.pipeline.batch import CatalogMoved, Entangled

if TYPE_CHECKING:
    from worker.pipeline.partition import PartitionOwner

#: A batch of several partitions has so many records at most: of more, each partition fills a batch of its own.
TOGETHER: Final = 500


def company_of(owner: PartitionOwner, waiting: Iterable[PartitionOwner]) -> list[PartitionOwner]:
    """Who may come along with an owner: partitions of its topic, as long as all together have few records."""
    records = owner.due
    company: list[PartitionOwner] = []
    if owner.alone or not owner.applier.mingles:
        return company
    for other in waiting:
        if other.may_come_along(owner.partition[0]):
            records += other.due
            if records > TOGETHER:
                break
            company.append(other)
    return company


async def apply_together(owner: PartitionOwner, company: Sequence[PartitionOwner]) -> None:
    """Apply the records of all in one transaction: all of the partitions move (but what conditions cut off), or none.

    Where it ends without effect for a reason that may be one partition's, each tries again alone. Raises what leaves
    the outcome in doubt; the others then learn it as a TransientError, and claim again as this one does.
    """
    group = [owner, *company]
    parts = [one.begin() for one in group]
    rides = [other.take_along() for other in company]
    try:
        facts = await owner.applier.apply_together(parts)
    except (Fenced, PoisonBatch, Entangled):
        for one in group:
            one.alone = True
    except CatalogMoved as moved:
        await owner.hooks.catalog_moved(moved.head)
    except BaseException as error:
        _settle(rides, TransientError(f"a batch of several partitions ended: {str(error) or type(error).__name__}"))
        raise
    else:
        for one, part in zip(group, parts, strict=True):
            one.done(part, facts)
        owner.hooks.applied(facts)
    finally:
        _settle(rides, None)


def _settle(rides: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for ride in rides:
        if ride.done():
            continue
        if error is None:
            ride.set_result(None)
        else:
            ride.set_exception(error)
