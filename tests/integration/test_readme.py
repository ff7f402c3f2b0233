"""README's commands for services of one's own, run one after the other against the rig."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.readme import ROOT, commands, needs_services
from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import free_port
from tests.rig.waiting import serve_until_ready

TOPICS = ("EVENT", "AWARD", "DEAD_LETTER", "CONTROL")


def program(line: str) -> list[str]:
    """A command of README as a list, from the environment that runs the tests."""
    name, *arguments = shlex.split(line)
    return [str(Path(sys.executable).with_name(name)), *arguments]


@pytest.mark.timeout(240)
def test_commands_for_services(real_kafka: KafkaService, empty_dsn: str, fresh_topic: Callable[[str], str]) -> None:
    """From an empty database and no topics, README's commands lead to a worker that is ready and stops when asked."""
    port, admin_port = free_port(), free_port()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BADGES_")},
        "BADGES_DATABASE_URL": empty_dsn,
        "BADGES_KAFKA_BOOTSTRAP_SERVERS": real_kafka.bootstrap_servers,
        "BADGES_ALLOW_INSECURE": "fsync",
        "BADGES_METRICS_PORT": str(port),
        "BADGES_ADMIN_PORT": str(admin_port),
        "BADGES_GROUP_ID": fresh_topic("readme"),
        **{f"BADGES_{name}_TOPIC{'S' if name == 'EVENT' else ''}": fresh_topic(name.lower()) for name in TOPICS},
    }
    # The bench takes its minute and a half in tests.acceptance.bench.
    lines = [line for line in commands() if needs_services(line) and not line.startswith("badges bench")]
    assert any(line.startswith("badges worker") for line in lines)
    for line in lines:
        if line.startswith("badges worker"):
            serve_until_ready(program(line), ROOT, environ, f"http://127.0.0.1:{port}/readyz")
            continue
        if line == "badges admin":
            serve_until_ready(program(line), ROOT, environ, f"http://127.0.0.1:{admin_port}/health")
            continue
        done = subprocess.run(
            program(line), cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
