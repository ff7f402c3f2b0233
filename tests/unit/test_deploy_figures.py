"""What Prometheus and Grafana are told: every query is one, asks for what workers serve, and shows it once."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tests.rig.required import missing
from worker.config import Settings
from worker.jobs.table import NAMES
from worker.metrics import HttpMetrics, Metrics, SupervisorMetrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
SCRAPE: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
BOARDS: dict[str, dict[str, Any]] = {
    name: json.loads((DEPLOY / "grafana" / f"{name}.json").read_text()) for name in ("pipeline", "holders", "catalog")
}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]
#: What promtool plays, minute by minute and over days.
PLAYED = ("alerts.yaml", "days.yaml")
#: What Prometheus itself adds to a series; a label of that name in the series is renamed.
ADDED = {"job", "instance"}


def labels_of(metric: Any) -> set[str]:
    """The labels of a metric as they are asked for."""
    return {*ADDED, *(f"exported_{name}" if name in ADDED else name for name in metric._labelnames)}


def served() -> dict[str, set[str]]:
    """Every series that workers serve, with its labels, and the one that Prometheus makes for each of them."""
    found: dict[str, set[str]] = {"up": set(ADDED)}
    homes = Metrics(), SupervisorMetrics(CollectorRegistry()), HttpMetrics()
    for metric in chain.from_iterable(vars(home).values() for home in homes):
        if isinstance(metric, Counter):
            found[f"{metric._name}_total"] = labels_of(metric)
        elif isinstance(metric, Gauge):
            found[metric._name] = labels_of(metric)
        elif isinstance(metric, Histogram):
            for part, more in (("bucket", {"le"}), ("sum", set()), ("count", set())):
                found[f"{metric._name}_{part}"] = {*labels_of(metric), *more}
    for rule in RULES:
        if "record" in rule:
            found[rule["record"]] = kept_by(rule["expr"])
    return found


def kept_by(query: str) -> set[str]:
    """The labels of what a rule records: those its outermost sum keeps."""
    node = promql.parse(query)
    while isinstance(node, promql.Call):
        node = node.args[-1]
    assert isinstance(node, promql.AggregateExpr)
    return set(node.modifier.labels) - {"le"}


def queries() -> list[tuple[str, str, str]]:
    """(where, query, what stands beside it) of every rule and every panel."""
    found = [
        (rule["alert"], rule["expr"], " ".join(rule["annotations"].values()).replace("$labels.", "")) for rule in ALERTS
    ]
    found += [(rule["record"], rule["expr"], "") for rule in RULES if "record" in rule]
    for board, panel in PANELS:
        for target in panel["targets"]:
            found.append((f"{board}: {panel['title']}", target["expr"], target["legendFormat"]))
    return [(where, text.replace("$__rate_interval", "1m"), beside) for where, text, beside in found]


def selectors(query: str) -> Iterator[tuple[str, set[str], set[str]]]:
    """Each series asked for: its name, the labels matched, the labels that the sums around it keep."""

    def walk(node: Any, kept: set[str]) -> Iterator[tuple[str, set[str], set[str]]]:
        match node:
            case promql.AggregateExpr():
                by = set(node.modifier.labels) if node.modifier is not None else set()
                yield from walk(node.expr, by)
            case promql.VectorSelector():
                yield node.name, {matcher.name for matcher in node.matchers.matchers}, kept
            case promql.MatrixSelector():
                yield from walk(node.vector_selector, kept)
            case promql.BinaryExpr():
                yield from walk(node.lhs, kept)
                yield from walk(node.rhs, kept)
            case promql.Call():
                for argument in node.args:
                    yield from walk(argument, kept)
            case promql.SubqueryExpr() | promql.ParenExpr() | promql.UnaryExpr():
                yield from walk(node.expr, kept)
            case promql.NumberLiteral() | promql.StringLiteral():
                return
            case _:
                raise AssertionError(f"this test does not know {type(node)}")

    yield from walk(promql.parse(query), set())


@pytest.mark.parametrize(("where", "query", "beside"), queries())
def test_a_query_asks_for_what_is_served(where: str, query: str, beside: str) -> None:
    """A query of a rule or a panel is PromQL, and asks for series and labels that workers serve."""
    known = served()
    asked = list(selectors(query))
    assert asked
    for name, matched, kept in asked:
        assert name in known, name
        assert matched | kept <= known[name], name
    labels = set(re.findall(r"{{ ?(\w+) ?}}", beside))
    assert labels <= {label for name, _, kept in asked for label in kept or known[name]}


def test_the_parser_bites() -> None:
    """A query that is none is refused, and a name that nobody serves is seen."""
    with pytest.raises(ValueError):
        list(selectors("sum(rate("))
    assert [name for name, _, _ in selectors('sum by (a) (rate(badges_event_total{b="c"}[5m]))')] == [
        "badges_event_total"
    ]


def test_every_alert_says_what_to_do() -> None:
    """Alerts have one name each, a severity, what is wrong and what to do."""
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert all(rule["annotations"][name].endswith((".", "?")) for name in ("summary", "description"))


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    """The runbook has a heading for each alert and for nothing else, and each alert names its own."""
    text = (DEPLOY / "runbook.md").read_text()
    entries = re.findall(r"^## (Badges\w+)\n\n(.+)", text, re.MULTILINE)
    assert [name for name, _ in entries] == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{rule['alert'].lower()}"


def test_log_lines_of_alerts_exist() -> None:
    """A log line that an alert sends its reader to is written somewhere."""
    code = "".join(file.read_text() for file in (ROOT / "worker").rglob("*.py"))
    lines = {name for rule in ALERTS for name in re.findall(r"`(\w+_\w+)`", rule["annotations"]["description"])}
    assert len(lines) > 5
    assert [name for name in sorted(lines) if f'"{name}"' not in code] == []


def test_workers_are_scraped() -> None:
    """Prometheus finds workers, scheduler and API at the port they serve, and reads rules that lie beside its file."""
    ports = {"badges": "metrics_port", "badges-schedule": "metrics_port", "badges-admin": "admin_metrics_port"}
    assert [job["job_name"] for job in SCRAPE["scrape_configs"]] == list(ports)
    for job, name in zip(SCRAPE["scrape_configs"], ("worker", "schedule", "admin"), strict=True):
        (found,) = job["dns_sd_configs"]
        assert found["names"] == [name]
        assert name in SERVICES
        assert found["port"] == Settings.model_fields[ports[job["job_name"]]].default
    assert all((DEPLOY / name).is_file() for name in SCRAPE["rule_files"])


def test_mounted_files_are_there() -> None:
    """Each file that compose.yaml mounts is in deploy/, read-only, and lies where its reader looks."""
    mounted = {
        target: source
        for name in ("prometheus", "grafana")
        for source, target, mode in (volume.split(":") for volume in SERVICES[name]["volumes"] if volume[0] == ".")
        if mode == "ro"
    }
    assert all((DEPLOY / source).is_file() for source in mounted.values())
    config = next(item for item in SERVICES["prometheus"]["command"] if item.startswith("--config.file="))
    folder = Path(config.partition("=")[2]).parent
    assert config.partition("=")[2] in mounted
    assert all(str(folder / name) in mounted for name in SCRAPE["rule_files"])
    provider = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    boards = {target for target in mounted if target.startswith(provider["options"]["path"] + "/")}
    assert boards == {f"{provider['options']['path']}/{name}.json" for name in BOARDS}
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in boards


def test_watchers_are_held_short() -> None:
    """Prometheus and Grafana write nowhere but into their volume, and gain no rights."""
    for name in ("prometheus", "grafana"):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])


def test_grafana_asks_this_prometheus() -> None:
    """Every panel uses the data source that is provisioned, and that is the stack's Prometheus."""
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    for board in BOARDS.values():
        for item in [*board["panels"], *board["templating"]["list"]]:
            assert item["datasource"] == {"type": source["type"], "uid": source["uid"]}


@pytest.mark.parametrize("name", list(BOARDS))
def test_panels_have_their_place(name: str) -> None:
    """Panels have names and explanations, ids and places of their own, within the width."""
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith((".", "list"))
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + row) for column in range(place["w"]) for row in range(place["h"])}
        assert not cells & taken
        assert max(column for column, _ in cells) < 24
        taken |= cells


def test_the_dashboard_shows_the_pipeline() -> None:
    """The figures that tell how the pipeline fares are on the dashboard."""
    shown = {
        name
        for panel in BOARDS["pipeline"]["panels"]
        for target in panel["targets"]
        for name, _, _ in selectors(target["expr"].replace("$__rate_interval", "1m"))
    }
    assert shown >= {
        "badges_events_total",
        "badges_consumer_lag",
        "badges_batch_seconds_bucket",
        "badges_event_to_award_seconds_bucket",
        "badges_awards_total",
        "badges_dead_letters_total",
        "badges_outbox_pending",
        "badges_outbox_oldest_seconds",
        "badges_rebalances_total",
        "badges_fenced_batches_total",
        "badges_db_pool_in_use",
        "badges_evaluations_total",
        "badges_catalog_version",
        "badges_late_users_total",
        "badges_trigger_silent_seconds",
    }


def test_the_dashboards_are_what_their_program_writes() -> None:
    """The files are the output of build.py, each dashboard under an id of its own."""
    build = runpy.run_path(str(DEPLOY / "grafana" / "build.py"))
    assert build["texts"]() == {f"{name}.json": (DEPLOY / "grafana" / f"{name}.json").read_text() for name in BOARDS}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


def promtool(*arguments: str) -> str:
    """What promtool says when it is content; skipped where it is missing and nothing requires it."""
    program = shutil.which("promtool") or missing(
        "promtool", "it is not on PATH (Debian: prometheus); queries were parsed, rules not played"
    )
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_files() -> None:
    """Prometheus' own tool takes the configuration and all rules."""
    assert f"{len(RULES)} rules found" in promtool("check", "config", "deploy/prometheus.yaml")


@pytest.mark.parametrize("name", PLAYED)
def test_alerts_fire_for_what_they_are_about(name: str) -> None:
    """Prometheus' own tool plays the figures of a file: alerts fire where they should, and are silent where not."""
    assert "SUCCESS" in promtool("test", "rules", f"tests/unit/prometheus/{name}")


def test_every_alert_is_played_both_ways() -> None:
    """Each alert has figures on which it fires, and figures on which it stays silent."""
    fired: dict[bool, set[str]] = {True: set(), False: set()}
    for name in PLAYED:
        for test in yaml.safe_load((ROOT / "tests" / "unit" / "prometheus" / name).read_text())["tests"]:
            for case in test["alert_rule_test"]:
                fired["exp_alerts" in case].add(case["alertname"])
    assert fired[True] == fired[False] == {rule["alert"] for rule in ALERTS}


def test_every_job_that_is_late_is_told() -> None:
    """The alert on late jobs asks for each scheduled job, once."""
    (rule,) = (rule for rule in ALERTS if rule["alert"] == "BadgesJobLate")
    asked = re.findall(r'exported_job=~"([^"]+)"', rule["expr"])
    assert sorted("|".join(asked).split("|")) == sorted(NAMES)
