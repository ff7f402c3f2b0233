"""The API while its database is gone: refusals in the one shape, nothing half written, and service when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
import pytest

from tests.integration.test_admin import CATALOG, COMMENT, serving, stored
from tests.rig.kafka import KafkaService
from tests.rig.settings import own_settings
from tests.rig.waiting import until
from worker.app import apply_catalog, open_store
from worker.config import Settings
from worker.demo.postgres import PostgresServer

BADGE = {"name": "Made", "flow_definition": {"event": "comment.posted"}}
GRANT = {"user_id": "u1", "badge_key": "first", "note": "was there"}
#: What needs the database: reads, edits, acts, and an event whose key must be looked up.
ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/health", {}),
    ("GET", "/api/v1/users/u1/badges", {}),
    ("GET", "/api/v1/users/u1/progress", {}),
    ("GET", "/api/v1/badges", {}),
    ("GET", "/api/v1/awards", {}),
    ("POST", "/api/v1/admin/badges", {"json": BADGE}),
    ("PATCH", "/api/v1/admin/badges/first", {"json": {"description": "other"}}),
    ("POST", "/api/v1/admin/grants", {"json": GRANT}),
    ("POST", "/api/v1/events", {"json": COMMENT, "headers": {"Idempotency-Key": "kept"}}),
    ("POST", "/api/v1/events", {"json": {**COMMENT, "event_type": "nobody.knows"}}),
    (
        "POST",
        "/api/v1/events",
        {"content": b"{}\n", "headers": {"Idempotency-Key": "s", "Content-Type": "application/x-ndjson"}},
    ),
]


async def counted(settings: Settings) -> list[int]:
    """Versions of the catalog, lines in the log of changes, requests that were noted."""
    async with open_store(settings, name="test") as store:
        tables = ("catalog_versions", "audit_log", "idempotent_requests")
        return [await store.pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]


async def refused(client: httpx2.AsyncClient, method: str, path: str, more: dict[str, Any]) -> None:
    """A request is refused as one that may be sent again, soon, in the one shape."""
    started = monotonic()
    answer = await client.request(method, path, **more)
    assert answer.status_code == 503, (path, answer.status_code, answer.text)
    assert int(answer.headers["retry-after"]) > 0
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message", "details"}
    assert answer.json()["error"]["code"] == "unavailable"
    assert "Traceback" not in answer.text
    assert monotonic() - started < 12, path


async def test_database_that_dies(
    kafka: KafkaService,
    postgres_server: PostgresServer,
    fresh_topic: Callable[[str], str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What needs the database is 503, what does not goes on, what waited is told it is stored; then all is well."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    made = await own_settings(kafka, postgres_server.dsn, fresh_topic, admin_token="secret")
    async with open_store(made, name="test") as store:
        await apply_catalog(store, tmp_path / "catalog.yaml", applied_by="test")
        await store.pool.execute("INSERT INTO users (user_id) VALUES ($1)", GRANT["user_id"])
    async with serving(made) as client:
        assert (await client.post("/api/v1/events", json={**COMMENT, "id": "before"})).status_code == 200
        before = await counted(made)
        patience = {"wait": "award", "timeout_ms": 3000}
        waiting = asyncio.create_task(client.post("/api/v1/events", json={**COMMENT, "id": "w"}, params=patience))

        async def waits() -> bool:
            return "w" in [event["id"] for event in await stored(made)]

        await until(waits, "storing the event that waits", seconds=20)
        postgres_server.kill()
        told = await waiting
        assert (told.status_code, told.json()["success"], told.json()["event_id"]) == (200, True, "w")
        assert (told.json()["evaluated"], told.json()["awards"]) == (False, [])
        for method, path, more in ASKED:
            await refused(client, method, path, more)
        for number, params in enumerate(({}, {"wait": "award", "timeout_ms": 300})):
            answer = await client.post("/api/v1/events", json={**COMMENT, "id": f"during{number}"}, params=params)
            assert (answer.status_code, answer.json().get("evaluated", False)) == (200, False), answer.text
        page = await client.get("/panel/")
        assert (page.status_code, int(page.headers["retry-after"]) > 0) == (503, True)
        assert "Traceback" not in page.text
        await asyncio.to_thread(postgres_server.restart)

        async def healthy() -> bool:
            return bool((await client.get("/health")).status_code == 200)

        await until(healthy, "health", every=0.05)
        assert await counted(made) == before
        for method, path, more in ASKED[:-2]:
            answer = await client.request(method, path, **more)
            assert answer.is_success, (path, answer.text)
        assert await counted(made) == [before[0] + 2, before[1] + 3, before[2] + 1]
    assert [event["id"] for event in await stored(made)] == ["before", "w", "during0", "during1", "kept"]
    ours = [record for record in caplog.records if record.name.partition(".")[0] not in ("asyncpg", "aiokafka")]
    assert [record.getMessage() for record in ours if record.exc_info] == []
