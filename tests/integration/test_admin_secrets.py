"""What `badges admin` writes at level debug while all goes wrong: no secret, nothing that people or producers wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.integration.test_admin import CATALOG
from tests.rig.kafka import KafkaService
from tests.rig.required import DEEP
from tests.rig.settings import own_settings
from tests.rig.waiting import until
from worker.app import apply_catalog, open_store
from worker.demo.postgres import PostgresServer

SECRETS = {"ADMIN_TOKEN": "canary-token", "SESSION_SECRET": "canary of sessions, long enough", "LOG_LEVEL": "debug"}
EVENT = {"event_type": "comment.posted", "user_id": "canary-user", "payload": {"mail": "canary@example.com"}}
GRANT = {"user_id": "canary-user", "badge_key": "first", "note": "a canary sang"}


def started(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """`badges admin` in a process of its own, which writes into a file."""
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", "worker", "admin"], env=environment, stdout=out, stderr=out)


def arguments_of(pid: int) -> str:
    """What a process was started with, as everybody on the machine may read it."""
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.skipif(not DEEP, reason="a process of its own, in CI")
async def test_no_secret_is_written(
    kafka: KafkaService, postgres_server: PostgresServer, fresh_topic: Callable[[str], str], tmp_path: Path
) -> None:
    """Tokens, passwords, payloads, notes and users stand in no line of the log, no metric and no argument."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    made = await own_settings(kafka, postgres_server.dsn, fresh_topic)
    async with open_store(made, name="test") as store:
        await apply_catalog(store, tmp_path / "catalog.yaml", applied_by="test")
        await store.pool.execute("INSERT INTO users (user_id) VALUES ($1)", GRANT["user_id"])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BADGES_")}
    own = {
        "DATABASE_URL": postgres_server.dsn,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "EVENT_TOPICS": made.event_topics.names[0],
        "CONTROL_TOPIC": made.control_topic,
        "ADMIN_PORT": "0",
        "ADMIN_METRICS_PORT": "0",
        **SECRETS,
    }
    environment = {**clean, **{f"BADGES_{name}": value for name, value in own.items()}}
    log = tmp_path / "log"

    def port_of(event: str) -> int:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return next((line["port"] for line in lines if line["event"] == event), 0)

    admin = started(environment, log)
    try:
        await until(lambda: port_of("admin_served"), "serving", seconds=60)
        token = {"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"}
        address = f"http://127.0.0.1:{port_of('admin_served')}"
        async with httpx2.AsyncClient(base_url=address, headers=token, timeout=30) as http:
            assert (await http.post("/api/v1/events", json=EVENT)).status_code == 200
            assert (await http.post("/api/v1/events", content=b'{"canary')).status_code == 400
            assert (await http.post("/api/v1/admin/grants", json=GRANT)).status_code == 202
            wrong = {"Authorization": "Bearer canary-guess"}
            assert (await http.get("/api/v1/badges", headers=wrong)).status_code == 401
            assert (await http.get("/api/v1/users/canary-user/badges")).status_code == 200
            postgres_server.kill()
            assert (await http.get("/api/v1/users/canary-user/badges")).status_code == 503
            assert (await http.post("/api/v1/admin/grants", json=GRANT)).status_code == 503
            figures = await http.get(f"http://127.0.0.1:{port_of('health_served')}/metrics")
        arguments = arguments_of(admin.pid)
    finally:
        admin.terminate()
        admin.wait(timeout=30)
    written = log.read_text() + figures.text + arguments
    assert len(log.read_text().splitlines()) > 5
    assert "badges_http_requests_total" in figures.text
    for word in ("canary", "Bearer", urlsplit(postgres_server.dsn).password or "canary"):
        assert word not in written, next(line for line in written.splitlines() if word in line)
