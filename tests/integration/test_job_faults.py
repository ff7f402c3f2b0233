"""A connection lost before any statement of a scheduled job: run again, it sends the same events, each under one id."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.rig.faults import Faults, store
from worker.errors import TransientError
from worker.events import parse_instant
from worker.exchange import Message
from worker.jobs import anniversaries, schedules
from worker.jobs.anniversaries import Anniversaries
from worker.jobs.base import MINUTE, Job, Run
from worker.jobs.schedules import Schedules
from worker.rules.catalog.load import catalog_from_document
from worker.store.postgres import PostgresStore

__all__ = ["store"]

MIDNIGHT = parse_instant("2026-03-14T00:00:00Z")
CATALOG = catalog_from_document(
    {
        "version": 1,
        "events": {"user.registered": {}},
        "tenures": [{"key": "member", "since": "user.registered", "years": [1], "label": "M", "description": "D"}],
    },
    1,
)


def yearly(store: PostgresStore, send: anniversaries.Send) -> Job:
    """The job of anniversaries."""
    return Anniversaries(store, send, CATALOG)


def daily(store: PostgresStore, send: anniversaries.Send) -> Job:
    """A schedule that is due at midnight."""
    return Schedules(store, send, [{"event": "cron.daily", "cron": "0 0 * * *"}], "UTC")


@pytest.mark.parametrize("make", [yearly, daily])
async def test_cut_at_any_statement_a_job_sends_the_same(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, make: Callable[[PostgresStore, anniversaries.Send], Job]
) -> None:
    """Wherever a run is cut, the next one sends what was left, and nothing under another id or with another content."""
    for module in (anniversaries, schedules):
        monkeypatch.setattr(module, "CHUNK", 1)
    faults = Faults(monkeypatch)
    sent: list[Message] = []
    progress = ""

    async def send(messages: Sequence[Message]) -> None:
        sent.extend(messages)

    async def mark(text: str) -> None:
        nonlocal progress
        progress = text

    async def ran() -> None:
        run = Run(MIDNIGHT, MIDNIGHT - 15 * MINUTE, forced=False, progress=progress, mark=mark)
        await make(store, send).run(run)

    await ran()  # with nobody there it begins, and from then on follows the log
    async with store.work() as session:
        await session.connection.execute("INSERT INTO users (user_id) VALUES ('u1'), ('u2'), ('u3')")

    async def left(*, fault: int) -> set[tuple[bytes | None, bytes | None]]:
        """What a run sends, or with a fault two of them."""
        nonlocal progress
        progress = ""
        sent.clear()
        async with store.work() as session:
            await session.connection.execute(
                "DELETE FROM user_tenures; INSERT INTO user_tenures"
                " SELECT 'u' || n, 'user.registered', '2020-03-14', 314, 'UTC', NULL, n = 3, '2020-03-14', '', 'e' || n"
                " FROM generate_series(1, 3) AS n"
            )
        faults.left, faults.names = fault, []
        try:
            await ran()
            assert faults.left is not None
            faults.left = None
        except TransientError:
            await ran()
        return {(one.key, one.value) for one in sent}

    whole = await left(fault=1_000)
    statements = len(faults.names)
    assert (len(whole), statements >= 4) == (3, True)
    for fault in range(1, statements + 1):
        assert await left(fault=fault) == whole, faults.names[-1]
