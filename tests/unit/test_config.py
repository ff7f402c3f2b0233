"""Settings: read from the environment, `.env` and files; wrong ones are refused by name."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.config import (
    DeadLetterLimit,
    Settings,
    Topics,
    load_settings,
    parse_duration,
    parse_size,
    transport_refusals,
    unknown_names,
)
from worker.config.transport import shown_address
from worker.errors import OperatorError


@pytest.fixture(autouse=True)
def bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `BADGES_*` or `PG*` name and no `.env` of the developer's reaches a test."""
    for name in list(os.environ):
        if name.startswith(("BADGES_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults() -> None:
    """Without any setting the defaults are those of the interface."""
    settings = load_settings()
    assert settings.database_url is None
    assert settings.kafka_bootstrap_servers == "localhost:9092"
    assert settings.event_topics == Topics(names=("badges.events",))
    assert settings.dead_letter_limit == DeadLetterLimit(share=0.5, seconds=60.0, least=1000)
    assert (settings.batch_max_events, settings.batch_max_ms, settings.cache_bytes) == (5000, 50, 64 << 20)
    assert settings.max_future == timedelta(hours=24)
    assert settings.max_future_us == 24 * 3600 * 1_000_000
    assert (settings.metrics_host, settings.metrics_port, settings.start) == ("127.0.0.1", 9464, "beginning")


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every notation is taken from the environment; blanks and letter case of words do not matter."""
    monkeypatch.setenv("BADGES_EVENT_TOPICS", "shop.events, forum.events")
    monkeypatch.setenv("BADGES_DEAD_LETTER_LIMIT", "5%/10min")
    monkeypatch.setenv("BADGES_CACHE_BYTES", "1 GiB")
    monkeypatch.setenv("BADGES_MAX_FUTURE", "90 min")
    monkeypatch.setenv("BADGES_START", "END")
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "plaintext, fsync")
    monkeypatch.setenv("BADGES_KAFKA_BOOTSTRAP_SERVERS", "a:1, [::1]:2")
    settings = load_settings()
    assert settings.event_topics == Topics(names=("shop.events", "forum.events"))
    assert settings.dead_letter_limit == DeadLetterLimit(share=0.05, seconds=600.0)
    assert settings.cache_bytes == 1 << 30
    assert settings.max_future == timedelta(minutes=90)
    assert settings.start == "end"
    assert settings.allow_insecure == {"plaintext", "fsync"}
    assert settings.kafka_bootstrap_servers == "a:1,[::1]:2"


def test_pattern_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics may be one pattern, and the dead-letter brake may be off."""
    monkeypatch.setenv("BADGES_EVENT_TOPICS", r"^shop\..*")
    monkeypatch.setenv("BADGES_DEAD_LETTER_LIMIT", "off")
    settings = load_settings()
    assert settings.event_topics == Topics(pattern=r"^shop\..*")
    assert settings.dead_letter_limit is None


def test_order_of_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An option wins over the environment, that over `.env`; empty counts as not set, and so does None."""
    (tmp_path / ".env").write_text("BADGES_GROUP_ID=file\nBADGES_BATCH_MAX_MS=1\nBADGES_LOG_LEVEL=debug\n")
    monkeypatch.setenv("BADGES_GROUP_ID", "environment")
    monkeypatch.setenv("BADGES_BATCH_MAX_MS", "2")
    monkeypatch.setenv("BADGES_LOG_LEVEL", " ")
    settings = load_settings(group_id="option", batch_max_ms=None)
    assert (settings.group_id, settings.batch_max_ms, settings.log_level) == ("option", 2, "info")


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("BATCH_MAX_EVENTS", "abc", "whole number from 1 to 100000"),
        ("BATCH_MAX_EVENTS", "0", "whole number from 1 to 100000"),
        ("METRICS_PORT", "65536", "whole number from 0 to 65535"),
        ("MAX_FUTURE", "24m", "unit of ms, s, min, h"),
        ("MAX_FUTURE", "99999999999w", "at most 100 years"),
        ("CACHE_BYTES", "64MB", "KiB, MiB, GiB"),
        ("DEAD_LETTER_LIMIT", "50/60s", "50%/60s, or off"),
        ("DEAD_LETTER_LIMIT", "0%/60s", "50%/60s, or off"),
        ("DEAD_LETTER_LIMIT", "101%/60s", "50%/60s, or off"),
        ("EVENT_TOPICS", "^(", "no regular expression"),
        ("EVENT_TOPICS", "a,,b", "1 to 249"),
        ("AWARD_TOPIC", "..", "1 to 249"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:0", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:65536", "host:port"),
        ("KAFKA_SECURITY_PROTOCOL", "tls", "SASL_SSL"),
        ("KAFKA_SSL_CAFILE", "/does/not/exist.pem", "no such file"),
        ("START", "latest", "beginning or end"),
        ("ALLOW_INSECURE", "plain", "fsync, plaintext"),
        ("LOG_LEVEL", "trace", "error"),
        ("GROUP_ID", "x" * 250, "1 to 249 characters"),
        ("RATE_LIMIT", "10", "100/s, or off"),
        ("JS", "yes", "off or on"),
    ],
)
def test_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str) -> None:
    """A wrong value is refused in one sentence that holds the setting's name, the value and what to write."""
    monkeypatch.setenv(f"BADGES_{name}", value)
    with pytest.raises(OperatorError) as caught:
        load_settings()
    assert f"BADGES_{name}" in caught.value.message
    assert value[:200].lower() in caught.value.message.lower()
    assert remedy in caught.value.message
    assert caught.value.help


def test_all_faults_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wrong settings are both named."""
    monkeypatch.setenv("BADGES_START", "x")
    monkeypatch.setenv("BADGES_JS", "x")
    with pytest.raises(OperatorError, match=r"BADGES_START.*BADGES_JS"):
        load_settings()


@pytest.mark.parametrize(
    "wrong", ["mysql://u:canary@h/d", "postgresql://u:canary@[h/d", "u:canary@h", "postgresql://h/d?canary"]
)
def test_secret_is_never_repeated(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Neither a refusal nor the settings' text holds a secret's value."""
    monkeypatch.setenv("BADGES_DATABASE_URL", wrong)
    with pytest.raises(OperatorError) as caught:
        load_settings()
    assert "BADGES_DATABASE_URL" in caught.value.message
    assert "canary" not in f"{caught.value.message}{caught.value.help}{caught.value.__cause__}"


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """`repr` and `str` of the settings hold no password and no token, but the address can be had where it is needed."""
    monkeypatch.setenv("BADGES_DATABASE_URL", "postgresql://u:canary@db/badges")
    monkeypatch.setenv("BADGES_KAFKA_SASL_PASSWORD", "canary")
    monkeypatch.setenv("BADGES_ADMIN_TOKEN", "canary")
    monkeypatch.setenv("BADGES_OIDC_CLIENT_SECRET", "canary")
    settings = load_settings()
    assert "canary" not in repr(settings) + str(settings)
    assert settings.dsn == "postgresql://u:canary@db/badges"


def test_missing_database_names_the_setting() -> None:
    """Asking for a database that was not set names the setting."""
    with pytest.raises(OperatorError, match="BADGES_DATABASE_URL is not set"):
        _ = load_settings().dsn


def test_secret_from_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret is read from the file its `…_FILE` names, without the line's end."""
    (tmp_path / "dsn").write_text("postgresql://u:p@db/badges\n")
    monkeypatch.setenv("BADGES_DATABASE_URL_FILE", str(tmp_path / "dsn"))
    assert load_settings().dsn == "postgresql://u:p@db/badges"


def test_secret_file_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret's file that is missing, too large or no text is refused by the setting's name; so are two sources."""
    monkeypatch.setenv("BADGES_ADMIN_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(OperatorError, match=r"BADGES_ADMIN_TOKEN_FILE.*No such file"):
        load_settings()
    (tmp_path / "none").write_bytes(b"x" * 70_000)
    with pytest.raises(OperatorError, match=r"BADGES_ADMIN_TOKEN_FILE.*larger than 64 KiB"):
        load_settings()
    (tmp_path / "none").write_bytes(b"\xff")
    with pytest.raises(OperatorError, match=r"BADGES_ADMIN_TOKEN_FILE.*not UTF-8"):
        load_settings()
    monkeypatch.setenv("BADGES_ADMIN_TOKEN", "t")
    with pytest.raises(OperatorError, match="both set"):
        load_settings()


def test_unreadable_env_file(tmp_path: Path) -> None:
    """A `.env` that is no text is refused by its name."""
    (tmp_path / ".env").write_bytes(b"BADGES_START=\xff\xfe")
    with pytest.raises(OperatorError, match=r"^\.env cannot be read"):
        load_settings()


@pytest.mark.parametrize(
    ("given_settings", "named"),
    [
        ({"award_topic": "badges.events"}, "one topic twice"),
        ({"dead_letter_topic": "badges.control"}, "one topic twice"),
        ({"kafka_security_protocol": "SASL_SSL"}, "BADGES_KAFKA_SASL_MECHANISM is not set"),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "plain", "kafka_sasl_username": "u"},
            "BADGES_KAFKA_SASL_PASSWORD is not set",
        ),
    ],
)
def test_settings_that_do_not_fit_together(given_settings: dict[str, str], named: str) -> None:
    """Settings that contradict each other are refused."""
    with pytest.raises(OperatorError, match=named):
        load_settings(**given_settings)


def test_key_without_certificate(tmp_path: Path) -> None:
    """A client key without its certificate is refused."""
    (tmp_path / "key.pem").write_text("")
    with pytest.raises(OperatorError, match="BADGES_KAFKA_SSL_CERTFILE is not set"):
        load_settings(kafka_ssl_keyfile=tmp_path / "key.pem")


def test_a_misspelt_override_is_named() -> None:
    """An option that is no setting is refused by its name."""
    with pytest.raises(OperatorError, match="BADGES_GROUPID is no setting"):
        load_settings(groupid="x")


def test_frozen() -> None:
    """Settings do not change after they were read."""
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.group_id = "other"  # type: ignore[misc]


def test_unknown_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unknown names are told with the nearest known one; the rig's and the orchestrator's are left alone."""
    (tmp_path / ".env").write_text("BADGES_LOGLEVEL=debug\n")
    for name, value in {
        "BADGES_DATABASE_URI": "x",
        "BADGES_XYZZY": "x",
        "BADGES_ADMIN_TOKEN_FILE": "x",
        "BADGES_GROUP_ID": "x",
        "BADGES_TEST_KAFKA": "x",
        "BADGES_WORKER_SERVICE_HOST": "10.0.0.1",
        "BADGES_WORKER_SERVICE_PORT_HTTP": "80",
        "BADGES_WORKER_PORT": "tcp://10.0.0.1:80",
        "BADGES_WORKER_PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert unknown_names() == [
        ("BADGES_DATABASE_URI", "BADGES_DATABASE_URL"),
        ("BADGES_LOGLEVEL", "BADGES_LOG_LEVEL"),
        ("BADGES_XYZZY", None),
    ]


def test_injected_port_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called badges-metrics does not set the port of the metrics."""
    monkeypatch.setenv("BADGES_METRICS_PORT", "tcp://10.0.0.1:9464")
    assert load_settings().metrics_port == 9464


REMOTE = "postgresql://u@db.internal/badges"


@pytest.mark.parametrize(
    ("given_settings", "refused"),
    [
        ({}, []),
        ({"kafka_bootstrap_servers": "127.8.9.1:9092,[::1]:9092,kafka.localhost:1"}, []),
        ({"kafka_bootstrap_servers": "localhost:9092,10.0.0.7:9092"}, ["Kafka at 10.0.0.7:9092"]),
        ({"kafka_bootstrap_servers": "[2001:db8::1]:9092"}, ["Kafka at [2001:db8::1]:9092"]),
        ({"database_url": "postgresql://u@[2001:db8::1]:5432/d"}, ["PostgreSQL at 2001:db8::1"]),
        ({"database_url": "postgresql:///d?host=::1"}, []),
        ({"database_url": "postgresql:///d?host=2001:db8::1"}, ["PostgreSQL at 2001:db8::1"]),
        ({"kafka_bootstrap_servers": "k:1", "kafka_security_protocol": "SSL"}, []),
        (
            {
                "kafka_bootstrap_servers": "k:1",
                "kafka_security_protocol": "SASL_PLAINTEXT",
                "kafka_sasl_mechanism": "PLAIN",
                "kafka_sasl_username": "u",
                "kafka_sasl_password": "p",
            },
            ["Kafka at k:1"],
        ),
        ({"database_url": REMOTE}, ["PostgreSQL at db.internal"]),
        ({"database_url": REMOTE + "?sslmode=require"}, ["PostgreSQL at db.internal"]),
        ({"database_url": REMOTE + "?sslmode=verify-full"}, []),
        ({"database_url": "postgresql://u:p%40x@[::1]:5432/badges"}, []),
        ({"database_url": "postgresql://u@localhost,db:5433/badges"}, ["PostgreSQL at db"]),
        ({"database_url": "postgresql:///badges?host=/run/postgresql"}, []),
        ({"database_url": "postgresql:///badges?host=db"}, ["PostgreSQL at db"]),
        ({"database_url": "postgresql://u@%2Frun%2Fpostgresql/badges"}, []),
        ({"database_url": "postgresql:///badges"}, []),
        ({"database_url": "postgresql:///?service=main"}, ["PostgreSQL at the service"]),
        ({"database_url": "postgresql://u@localhost.example.com/d"}, ["PostgreSQL at localhost.example.com"]),
        ({"database_url": REMOTE, "kafka_bootstrap_servers": "k:1"}, ["Kafka at k:1", "PostgreSQL at db.internal"]),
        ({"database_url": REMOTE, "kafka_bootstrap_servers": "k:1", "allow_insecure": "plaintext"}, []),
        ({"database_url": REMOTE, "allow_insecure": "fsync"}, ["PostgreSQL at db.internal"]),
    ],
)
def test_transport_refusals(given_settings: dict[str, str], refused: list[str]) -> None:
    """Connections in the clear are refused off this machine, unless allowed; loopback and sockets never are."""
    refusals = transport_refusals(load_settings(**given_settings))
    assert len(refusals) == len(refused)
    for sentence, start in zip(refusals, refused, strict=True):
        assert sentence.startswith(start)
        assert "BADGES_ALLOW_INSECURE=plaintext" in sentence


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:canary@db:5432/badges?sslmode=verify-full&password=canary", "db:5432/badges"),
        ("postgresql:///badges?host=/run/pg", "/run/pg/badges"),
        ("postgresql:///badges", "localhost/badges"),
    ],
)
def test_shown_address(dsn: str, shown: str) -> None:
    """An address is shown without user, password and options."""
    assert shown_address(dsn) == shown


def test_the_drivers_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGHOST and PGSSLMODE, which the driver reads too, decide where the address says nothing."""
    monkeypatch.setenv("PGHOST", "db")
    assert len(transport_refusals(load_settings(database_url="postgresql:///badges"))) == 1
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert transport_refusals(load_settings(database_url="postgresql:///badges")) == []


def test_values_already_parsed_are_taken() -> None:
    """A program may hand in what a notation stands for."""
    limit = DeadLetterLimit(share=0.1, seconds=1.0)
    settings = load_settings(
        max_future=timedelta(hours=1), event_topics=Topics(names=("a",)), dead_letter_limit=limit, cache_bytes=5
    )
    assert settings.max_future == timedelta(hours=1)
    assert settings.event_topics.names == ("a",)
    assert settings.dead_letter_limit == limit
    assert settings.cache_bytes == 5


@pytest.mark.parametrize(
    ("text", "size"),
    [("7", 7), ("7B", 7), ("3KiB", 3 * 1024), ("3 MiB", 3 * 1024**2), ("3GiB", 3 * 1024**3), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number of bytes, or of powers of 1,024 of them."""
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "days"), [("1d", 1), ("2w", 14), ("36525d", 36525)])
def test_long_durations(text: str, days: int) -> None:
    """Days and weeks are fixed lengths; 100 years are allowed, a day more is not."""
    assert parse_duration(text) == timedelta(days=days)
    with pytest.raises(ValueError, match="at most 100 years"):
        parse_duration("36526d")


@given(st.integers(min_value=0, max_value=876_600), st.sampled_from(["ms", "s", "min", "h"]))
def test_durations_are_read_back(count: int, unit: str) -> None:
    """A duration reads as its number times its unit."""
    units = {
        "ms": timedelta(milliseconds=1),
        "s": timedelta(seconds=1),
        "min": timedelta(minutes=1),
        "h": timedelta(hours=1),
    }
    assert parse_duration(f"{count}{unit}") == count * units[unit]


@given(st.text(max_size=20))
def test_notations_raise_only_value_errors(text: str) -> None:
    """Whatever is written, a notation is read or refused with a sentence."""
    for parse in (parse_duration, parse_size):
        try:
            parse(text)
        except ValueError as error:
            sentence = str(error)
        else:
            continue
        assert sentence.startswith("write ")


def test_every_setting_is_described() -> None:
    """Every setting has a description for the table of settings."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
