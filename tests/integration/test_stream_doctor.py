"""`badges topics create` and `badges doctor` on services that are there, half there, or away."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import KafkaBroker, free_port
from worker.app.doctor import Finding, judge_settings, judge_topics, summary
from worker.cli.doctor import doctor as doctor_command
from worker.cli.doctor import lines
from worker.cli.topics import topics as topics_command
from worker.config import load_settings, shown_address
from worker.errors import OperatorError
from worker.stream.topics import Cluster, TopicFacts


def run(command: object, *arguments: str, **environment: str) -> Result:
    """Run a command with these settings and no others."""
    given = {f"BADGES_{name}": value for name, value in environment.items()}
    return CliRunner().invoke(command, list(arguments), env=given)  # type: ignore[arg-type]


@pytest.fixture
def topic_names(fresh_topic: object) -> dict[str, str]:
    """Settings that give this test its own topics."""
    return {
        name: fresh_topic(name.lower())
        for name in ("EVENT_TOPICS", "AWARD_TOPIC", "DEAD_LETTER_TOPIC", "CONTROL_TOPIC")
    }  # type: ignore[operator]


def test_everything_well(kafka: KafkaService, postgres_dsn: str, topic_names: dict[str, str]) -> None:
    """With services up, tables migrated and topics made, only the missing catalog is mentioned, and it exits 0."""
    given = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "DATABASE_URL": postgres_dsn, **topic_names}
    given["ALLOW_INSECURE"] = "fsync"
    created = run(topics_command, "create", "--partitions", "4", **given)
    assert created.exit_code == 0, created.output
    assert created.output.count("created") == 5 if kafka.real else True
    result = run(doctor_command, "--format", "json", **given)
    assert result.exit_code == 0, result.output
    found = {
        row["check"]: row for row in json.loads(result.output) if row["verdict"] != "warn" or row["check"] == "catalog"
    }
    assert found["database"]["verdict"] == "ok"
    assert "PostgreSQL" in found["database"]["message"]
    assert found["kafka"]["verdict"] == "ok"
    assert "1 broker, PLAINTEXT" in found["kafka"]["message"]
    assert found["topics"]["verdict"] == "ok"
    assert f"{topic_names['EVENT_TOPICS']} 4" in found["topics"]["message"]
    assert found["catalog"]["message"] == "the database holds none yet"
    assert "catalog apply" in found["catalog"]["help"]


def test_creating_topics_again_changes_nothing(real_kafka: KafkaService, topic_names: dict[str, str]) -> None:
    """A second `topics create` says that all are there, whatever number of partitions it asks for."""
    given = {"KAFKA_BOOTSTRAP_SERVERS": real_kafka.bootstrap_servers, **topic_names}
    assert "4 created, 0 there already" in run(topics_command, "create", **given).output
    again = run(topics_command, "create", "--partitions", "3", "--format", "json", **given)
    assert {(row["state"], row["partitions"]) for row in json.loads(again.output)} == {("there", 12)}


def test_services_away() -> None:
    """Each connection that is refused is a failure with its remedy, what hangs on it is skipped, and it exits 1."""
    kafka, database = free_port(), free_port()
    result = run(
        doctor_command,
        KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{kafka}",
        DATABASE_URL=f"postgresql://badges:hunter2@127.0.0.1:{database}/badges",
    )
    assert result.exit_code == 1
    text = result.output
    assert f"FAIL  kafka     Kafka at 127.0.0.1:{kafka} refused the connection" in text
    assert "skip  topics    needs kafka" in text
    assert "FAIL  database" in text
    assert "skip  catalog   needs the database" in text
    assert text.count("help:") >= 2
    assert "hunter2" not in text
    assert text.endswith("1 ok, 0 warnings, 2 failed, 2 not checked\n")


def test_missing_topics_and_tables(own_broker: KafkaBroker, empty_dsn: str) -> None:
    """Missing topics and tables are named with the commands that make them."""
    given = {"KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers, "DATABASE_URL": empty_dsn}
    result = run(doctor_command, ALLOW_INSECURE="fsync", **given)
    assert result.exit_code == 1
    assert "missing: badges.events, badges.awards, badges.dead-letters, badges.control" in result.output
    assert "help: badges topics create" in result.output
    assert "schema 0 of" in result.output
    assert "help: badges db migrate" in result.output


def test_a_wrong_setting_skips_the_rest() -> None:
    """A setting that cannot be read is named, and nothing is connected to."""
    result = run(doctor_command, METRICS_PORT="many")
    assert result.exit_code == 1
    assert 'FAIL  settings  BADGES_METRICS_PORT is "many"' in result.output
    assert result.output.count("skip") == 4


def test_topics_without_a_broker_say_so() -> None:
    """`topics create` against nothing is one error that names the address."""
    port = free_port()
    result = run(topics_command, "create", KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}")
    assert isinstance(result.exception, OperatorError)
    assert result.exception.message == f"Kafka at 127.0.0.1:{port} refused the connection."


def test_settings_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plaintext off this machine fails, a lifted refusal is grave, an unknown name gets the nearest one."""
    monkeypatch.setenv("BADGES_GRUOP_ID", "x")
    exposed = list(judge_settings(load_settings(kafka_bootstrap_servers="kafka.example.com:9092")))
    assert [(finding.verdict, finding.help) for finding in exposed] == [
        ("FAIL", None),
        ("warn", "write BADGES_GROUP_ID"),
    ]
    assert "kafka.example.com" in exposed[0].message
    lifted = list(judge_settings(load_settings(allow_insecure="fsync,plaintext")))
    assert [(finding.verdict, finding.grave) for finding in lifted[:2]] == [("warn", True), ("warn", True)]
    monkeypatch.delenv("BADGES_GRUOP_ID")
    assert [finding.verdict for finding in judge_settings(load_settings())] == ["ok"]


def test_topics_are_judged() -> None:
    """Compaction and missing leaders fail, too few replicas warn, a pattern that matches nothing warns."""
    settings = load_settings(event_topics="^shop")

    def facts(name: str, *, led: bool = True, replicas: int = 3) -> TopicFacts:
        return TopicFacts(name, 12, replicas, replicas, led)

    own = {name: facts(name) for name in ("badges.awards", "badges.dead-letters", "badges.control")}
    told = [(f.verdict, f.message) for f in judge_topics(settings, Cluster(3, own, {}))]
    assert told[0] == ("warn", "^shop matches 0 topics")
    assert told[1][0] == "ok"
    broken = own | {
        "badges.awards": facts("badges.awards", led=False),
        "badges.control": facts("badges.control", replicas=1),
    }
    config = {"badges.dead-letters": {"cleanup.policy": "compact"}}
    told = [(f.verdict, f.message.partition(":")[0]) for f in judge_topics(settings, Cluster(3, broken, config))]
    assert told[:3] == [("FAIL", "without a leader"), ("FAIL", "compacted"), ("warn", "too few replicas")]


def test_how_findings_look() -> None:
    """A finding is a word, the check and a sentence; its help stands below; the sum counts each kind."""
    finding = Finding("warn", "topics", "line\nbreak", "do\x1b this")
    printed = list(lines(finding))
    assert len(printed) == 2
    assert all("\n" not in line and "do\x1b" not in line for line in printed)
    assert summary([finding, Finding("ok", "kafka", "")]) == "1 ok, 1 warning, 0 failed, 0 not checked"
    assert shown_address("postgresql://u:p@db:5432/badges?sslmode=verify-full") == "db:5432/badges"
    assert shown_address("postgresql://u@/badges?host=/run/pg") == "/run/pg/badges"
