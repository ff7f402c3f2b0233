"""Container files, checked by what can check them without an engine."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from worker.cli import COMMANDS
from worker.config import Settings, setting_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service.get("image") == "badgestream:local"]


#: What stays up: it starts once tables and topics are made.
RUNNING = ("worker", "schedule", "admin")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, lines joined."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def test_compose_file_is_one() -> None:
    """compose.yaml is valid by the Compose Specification's own schema."""
    schema = json.loads((Path(__file__).parent / "compose_schema" / "compose-spec.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    assert [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []


def test_the_schema_bites() -> None:
    """A misspelt key of a service is refused by that schema."""
    schema = json.loads((Path(__file__).parent / "compose_schema" / "compose-spec.json").read_text())
    assert not jsonschema_rs.validator_for(schema).is_valid({"services": {"a": {"imaeg": "x"}}})


@pytest.mark.parametrize(
    "command", [["yamllint", "--strict", "deploy"], ["hadolint", "--failure-threshold", "style", "deploy/Dockerfile"]]
)
def test_linters_are_content(command: list[str]) -> None:
    """yamllint and hadolint have nothing to say."""
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_image_is_small_and_unprivileged() -> None:
    """Two stages; the last one runs as a user that is not root, holds no build tool, and says whether it is ready."""
    steps = instructions()
    bases = [argument for word, argument in steps if word == "FROM"]
    assert len(bases) == 2
    assert all(re.match(r"python:3\.\d+-slim-bookworm\b", base) for base in bases)
    last = steps[max(index for index, (word, _) in enumerate(steps) if word == "FROM") :]
    words = dict(last)
    assert words["USER"] == "10001:10001"
    assert "/readyz" in words["HEALTHCHECK"]
    assert words["ENTRYPOINT"] == '["badges"]'
    assert "pip" not in " ".join(argument for word, argument in last if word == "RUN")
    assert "ADD" not in {word for word, _ in steps}


def test_image_installs_what_is_locked() -> None:
    """Everything pip fetches into the image is named with its hash; the project itself is built without the net."""
    for word, argument in instructions():
        if word != "RUN":
            continue
        for command in argument.split("&&"):
            if "pip install" in command:
                assert "--require-hashes" in command or "--no-index" in command, command
            if "pip wheel" in command:
                assert "--no-build-isolation" in command, command


def test_what_the_image_copies_reaches_the_engine() -> None:
    """Each file the Dockerfile copies is there and let through by .dockerignore, which lets nothing else through."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        name
        for word, argument in instructions()
        if word == "COPY" and not argument.startswith("--from")
        for name in shlex.split(argument)[:-1]
    }
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def test_healthcheck_is_python() -> None:
    """The health check's program compiles, and asks the port that the worker serves."""
    check = next(argument for word, argument in instructions() if word == "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    compile(command[2], "healthcheck", "exec")
    assert str(Settings.model_fields["metrics_port"].default) in command[2]


def test_services() -> None:
    """Kafka 4, PostgreSQL, tables, topics, what reads, schedules and serves, and what shows figures are there."""
    ours = {"migrate", "topics", "worker", "schedule", "admin"}
    assert set(SERVICES) == {"kafka", "postgres", *ours, "prometheus", "grafana"}
    assert set(OURS) == ours
    assert SERVICES["kafka"]["image"].startswith("apache/kafka:4.")
    assert int(re.findall(r"postgres:(\d+)", SERVICES["postgres"]["image"])[0]) >= 15
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert "KAFKA_ZOOKEEPER_CONNECT" not in SERVICES["kafka"]["environment"]


def test_images_are_pinned() -> None:
    """No image is whatever is newest."""
    for service in SERVICES.values():
        tag = service["image"].partition(":")[2]
        assert tag
        assert tag != "latest"


def test_order_of_the_start() -> None:
    """The workers start once tables and topics are made, and those once their service is healthy."""
    conditions = {
        (name, other): needed["condition"]
        for name, service in SERVICES.items()
        for other, needed in service.get("depends_on", {}).items()
    }
    assert conditions == {
        ("migrate", "postgres"): "service_healthy",
        ("topics", "kafka"): "service_healthy",
        **{(name, service): "service_healthy" for name in RUNNING for service in ("kafka", "postgres")},
        **{(name, step): "service_completed_successfully" for name in RUNNING for step in ("migrate", "topics")},
        ("grafana", "prometheus"): "service_started",
    }
    assert {name for name, service in SERVICES.items() if "test" in service.get("healthcheck", {})} == {
        "kafka",
        "postgres",
        "admin",
    }


def test_settings_and_commands_exist() -> None:
    """Every setting and every command that the stack uses exists."""
    known = {setting_name(field) for field in Settings.model_fields}
    for name in OURS:
        service = SERVICES[name]
        assert set(service["environment"]) <= known
        assert service["command"][0] in COMMANDS
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_ports_stay_on_this_machine() -> None:
    """No port is open to the network."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_workers_can_stop_in_peace() -> None:
    """The engine waits longer for a process than that takes to stop with a service down (25 s)."""
    assert {SERVICES[name]["stop_grace_period"] for name in RUNNING} == {"30s"}


def test_the_panel_is_asked_for_its_health() -> None:
    """The check of the admin service is a program that asks the port it serves."""
    service = SERVICES["admin"]
    port = Settings.model_fields["admin_port"].default
    command = service["healthcheck"]["test"]
    compile(command[3], "healthcheck", "exec")
    assert f":{port}/health" in command[3]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
