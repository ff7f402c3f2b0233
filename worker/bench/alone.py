"""A backfill with nothing beside it, as fast as it can be: what the measured process does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from worker.app import head_plan, open_store
from worker.app.user_jobs import driver_of
from worker.bench.streams import WINDOW
from worker.config import Settings
from worker.errors import OperatorError
from worker.pipeline.driving import LIVE_SECONDS, Pace


async def backfill(settings: Settings, schema: str, told: Callable[[str, int], None]) -> None:
    """Give the window's badge its past; `told` hears when that begins and ends, and how many events were read."""
    async with open_store(settings, name="badges bench backfill", schema=schema) as store:
        plan = await head_plan(store)
        if plan is None:
            raise OperatorError("The catalog of the bench was removed.")

        async def moved(head: int) -> None:
            raise OperatorError(f"The catalog of the bench moved to version {head}.")

        driver = driver_of(
            store, lambda: plan, settings, moved=moved, told=lambda *_: None, judge=None, pace=Pace(None, 0.0)
        )
        number = await store.create_user_job("backfill", {"badges": [WINDOW.key]}, driver=driver.slices.driver)
        await asyncio.sleep(LIVE_SECONDS)  # until then live work counts as going on
        told("claimed", 0)
        await driver.finish(number)
        job = await store.user_job(number)
        if job is None or job.state != "done":
            raise OperatorError("The backfill did not come to its end.")
        told("done", job.events)
