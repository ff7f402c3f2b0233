"""Manifests for Kubernetes, checked by what can check them without a cluster."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.cli import COMMANDS
from worker.config import Settings, setting_name

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text())
]
NAME = "app.kubernetes.io/name"
#: Kind to the version of its interface.
KINDS = {
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
}


def workloads() -> list[dict[str, Any]]:
    """What runs pods."""
    return [one for one in OBJECTS if one["kind"] in ("Deployment", "Job")]


def containers(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All containers of a pod, those that come first among them."""
    pod = one["spec"]["template"]["spec"]
    yield from (*pod.get("initContainers", ()), *pod["containers"])


def test_every_file_is_used() -> None:
    """The kustomization names each file of the folder once, and no two objects of a kind share a name."""
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    assert sorted(KUSTOMIZATION["resources"]) == sorted(files)
    named = [(one["kind"], one["metadata"]["name"]) for one in OBJECTS]
    assert len(set(named)) == len(named)
    assert {one["kind"]: one["apiVersion"] for one in OBJECTS} == KINDS


def test_the_image_is_of_this_version() -> None:
    """The image that runs is that of the version that is here."""
    version = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    assert [image["newTag"] for image in KUSTOMIZATION["images"]] == [version]


@pytest.mark.parametrize("one", workloads(), ids=lambda one: str(one["metadata"]["name"]))
def test_pods_may_do_little(one: dict[str, Any]) -> None:
    """Pods run as nobody, write nowhere but to /tmp, have no token of the cluster, and are bounded in memory."""
    pod = one["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(one):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert container["image"] in {image["name"] for image in KUSTOMIZATION["images"]}


def test_commands_and_settings_exist() -> None:
    """Each container runs a command of badges, with settings that are known."""
    for one in workloads():
        for container in containers(one):
            assert container["args"][0] in COMMANDS
            assert [next(iter(source)) for source in container["envFrom"]] == ["configMapRef", "secretRef"]
    (made,) = KUSTOMIZATION["configMapGenerator"]
    known = {setting_name(field) for field in Settings.model_fields}
    assert {literal.partition("=")[0] for literal in made["literals"]} <= known
    assert {source[kind]["name"] for source in container["envFrom"] for kind in source} == {made["name"]}


def test_what_is_asked_for_its_health_serves_it() -> None:
    """Probes ask the port that the process serves, under a path that it answers."""
    ports = {
        "metrics": Settings.model_fields["metrics_port"].default,
        "http": Settings.model_fields["admin_port"].default,
    }
    served = {"metrics": {"/livez", "/readyz"}, "http": {"/health"}}
    for one in workloads():
        if one["kind"] == "Job":
            continue
        (container,) = containers(one)
        port, *more = container["ports"]
        assert port["containerPort"] == ports[port["name"]]
        assert [one["containerPort"] for one in more] == (
            [Settings.model_fields["admin_metrics_port"].default] if port["name"] == "http" else []
        )
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == port["name"]
            assert asked["path"] in served[port["name"]]


def test_what_points_at_pods_finds_them() -> None:
    """Selectors of deployments, budgets, services and policies name pods that there are."""
    there = {one["spec"]["template"]["metadata"]["labels"][NAME] for one in workloads()}
    for one in OBJECTS:
        spec = one["spec"]
        match one["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                assert spec["selector"]["matchLabels"][NAME] in there
            case "Service":
                assert spec["selector"][NAME] in there
            case "NetworkPolicy":
                chosen = spec["podSelector"]
                names = [
                    chosen.get("matchLabels", {}).get(NAME),
                    *chosen.get("matchExpressions", [{}])[0].get("values", []),
                ]
                assert {name for name in names if name} <= there
    assert "badges-worker" in there


def test_processes_can_stop_in_peace() -> None:
    """The cluster waits longer than a process takes to stop with a service down (25 s)."""
    for one in workloads():
        if one["kind"] == "Deployment":
            assert one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 25
