"""README says what is so: its commands run, its tables are the code's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from itertools import chain
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tests.readme import README, ROOT, blocks, commands, needs_services, rows
from worker.config import Settings, setting_name
from worker.files import read_sources
from worker.metrics import HttpMetrics, Metrics, SupervisorMetrics
from worker.rules.catalog.load import read_catalog

#: The word with which README parts the settings that work from those that do not yet.
LATER = "read by nothing in this version"
ALONE = [line for line in commands() if line.startswith("badges ") and not needs_services(line)]


def test_every_command_is_run() -> None:
    """Each command is run here, with services, or by .ci/run; those for a container engine are checked as files."""
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    for line in commands():
        if line in ALONE or needs_services(line) or line.startswith("export "):
            continue
        if "docker compose -f deploy/compose.yaml" in line:
            continue
        assert line in [step.strip() for step in ci], line


@pytest.mark.parametrize("line", ALONE)
def test_command_that_needs_no_service(line: str) -> None:
    """A command of README that needs no service runs as written, and says something."""
    program, *arguments = shlex.split(line)
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_example_catalog_is_clean(tmp_path: Path) -> None:
    """The catalog in README has no fault and no warning."""
    text, *_ = blocks("yaml")
    (tmp_path / "catalog.yaml").write_text(text)
    catalog, faults = read_catalog(read_sources(tmp_path))
    assert faults == []
    assert catalog is not None
    assert {badge.key for badge in catalog.badges} >= {"nice_question", "busy_week", "commentator_100"}


def test_every_example_catalog_is_clean(tmp_path: Path) -> None:
    """None of the catalogs in README has a fault or a warning."""
    for number, text in enumerate(blocks("yaml")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "catalog.yaml").write_text(text)
        assert read_catalog(read_sources(folder))[1] == []


def test_example_event_is_one() -> None:
    """The event in README is one by schemas/event.json, and by the schema of its type in the example's catalog."""
    (text,) = blocks("json")
    event = json.loads(text)
    schema = json.loads((ROOT / "schemas" / "event.json").read_text())
    jsonschema_rs.validate(schema, event)
    catalog, *_ = blocks("yaml")
    jsonschema_rs.validate(yaml.safe_load(catalog)["events"][event["type"]]["schema"], event["payload"])


def setting_row(field: str) -> str:
    info = Settings.model_fields[field]
    default = f"`{info.default}`" if info.default not in (None, "") else "–"
    return f"| `{setting_name(field)}` | {default} | {info.description} |"


def test_settings_table() -> None:
    """README has every setting with its default, and nothing else as one."""
    assert {row for row in rows(README) if "`BADGES_" in row} == {setting_row(field) for field in Settings.model_fields}


def test_settings_without_effect_are_told_apart() -> None:
    """A setting that no code reads stands below the line that says so, and only such a one does."""
    code = "".join(file.read_text() for file in (ROOT / "worker").rglob("*.py"))
    unread = {field for field in Settings.model_fields if f"settings.{field}" not in code}
    below = {row for row in rows(README.partition(LATER)[2]) if "`BADGES_" in row}
    assert below == {setting_row(field) for field in unread}


def test_metrics_table() -> None:
    """README has every metric with its labels and its sentence, and nothing else as one."""
    expected = set()
    homes = Metrics(), SupervisorMetrics(CollectorRegistry()), HttpMetrics()
    for metric in chain.from_iterable(vars(home).values() for home in homes):
        if isinstance(metric, (Counter, Gauge, Histogram)):
            name = metric._name + ("_total" if isinstance(metric, Counter) else "")
            labels = f"{{{','.join(metric._labelnames)}}}" if metric._labelnames else ""
            expected.add(f"| `{name}{labels}` | {metric._documentation} |")
    assert {row for row in rows(README) if row.startswith("| `badges_")} == expected


def test_links_lead_somewhere() -> None:
    """Every file that README links to is there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
