"""The broker of deploy/compose.yaml, started from its settings by the same version of Kafka."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.rig.kafka_broker import answers, free_port
from tests.rig.kafka_programs import VERSION, available, java
from tests.rig.required import missing
from tests.rig.waiting import until_up

KAFKA: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "compose.yaml").read_text())["services"][
    "kafka"
]


def properties(folder: Path, ports: dict[str, int]) -> str:
    """What the image makes of its environment, moved to this machine's ports and a folder of the test's."""
    lines = []
    for name, value in KAFKA["environment"].items():
        if not name.startswith("KAFKA_"):
            continue
        text = str(value).replace("/var/lib/kafka/data", str(folder / "data")).replace("kafka:", "localhost:")
        for port, here in ports.items():
            text = text.replace(f":{port}", f":{here}")
        lines.append(f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={text}\n")
    return "".join(lines)


def test_broker_of_the_stack_starts(tmp_path: Path) -> None:
    """Kafka takes the cluster id and every setting of the stack's broker, and answers inside and outside of it."""
    if not available():
        missing("kafka", "the broker of the stack needs Java and Maven")
    assert KAFKA["image"] == f"apache/kafka:{VERSION}"
    ports = {port: free_port() for port in ("19092", "9092", "9093")}
    config, log = tmp_path / "server.properties", tmp_path / "log"
    config.write_text(properties(tmp_path, ports))
    small, cluster = ("-Xmx256M",), KAFKA["environment"]["CLUSTER_ID"]
    made = subprocess.run(
        java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config), options=small),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    start = java("kafka.Kafka", str(config), options=small)
    with log.open("wb") as out, subprocess.Popen(start, stdout=out, stderr=out) as broker:
        try:
            until_up(broker, lambda: all(answers("localhost", ports[port]) for port in ("9092", "19092")), log)
        finally:
            broker.kill()
