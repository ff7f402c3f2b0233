"""Settings of a test that runs processes of its own on real services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.rig.kafka import KafkaService
from worker.config import Settings, load_settings


async def own_settings(
    kafka: KafkaService, dsn: str, fresh_topic: Callable[[str], str], *, partitions: int = 1, **more: Any
) -> Settings:
    """Four empty topics, which it makes, a group of their own and free ports; `more` goes before all of that.

    `fsync` may be off, as it is where services are there for a test alone.
    """
    names = {name: fresh_topic(name) for name in ("events", "awards", "dead", "control")}
    for name in names.values():
        await kafka.create_topic(name, partitions)
    own = {
        "database_url": dsn,
        "kafka_bootstrap_servers": kafka.bootstrap_servers,
        "event_topics": names["events"],
        "award_topic": names["awards"],
        "dead_letter_topic": names["dead"],
        "control_topic": names["control"],
        "group_id": names["events"],
        "session_timeout_ms": 6_000,
        "metrics_port": 0,
        "admin_port": 0,
        "admin_metrics_port": 0,
        "allow_insecure": "fsync",
    }
    return load_settings(**(own | more))
