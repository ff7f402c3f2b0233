"""Users as a worker leaves them: events logged, memories built for the catalog that rules, awards given."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from tests.rig.faults import store_on
from worker.app import apply_catalog, head_plan
from worker.events import Event
from worker.pipeline.users import grant
from worker.rules.evaluate import replay
from worker.rules.state import Award


async def settle_users(dsn: str, catalog: Path, events: Iterable[Event], *, lost: Collection[str] = ()) -> list[Award]:
    """Put a catalog in force and these events behind it; awards of the badges in `lost` are not written."""
    async with store_on(dsn, connections=2) as store:
        await apply_catalog(store, catalog, applied_by="test")
        plan = await head_plan(store)
        assert plan is not None
        logged = sorted(events, key=lambda one: (one.user_id, one.source, one.id))
        users = sorted({event.user_id for event in logged})
        given: list[Award] = []
        async with store.transaction() as transaction:
            await transaction.remember(logged)
            await transaction.lock(users, version=plan.basis)
            states = {}
            for user_id in users:
                own = sorted((one for one in logged if one.user_id == user_id), key=lambda one: one.order)
                states[user_id], awards = replay(plan, user_id, own, {})
                states[user_id].built_version = plan.basis
                given += [award for award in awards if award.badge_key not in lost]
            await grant(transaction, plan, states, [(award, "live") for award in given], topic="badges.awards")
            await transaction.save(list(states.values()))
        return given
