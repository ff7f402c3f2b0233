"""Logs: one line per fact, safe to read, silent about values, and not flooded by libraries."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from worker import logs


@dataclass
class LogSettings:
    log_level: str = "info"
    log_format: str | None = None


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Each test leaves logging as it found it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("aiokafka", "asyncpg", "aiokafka.conn"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_lines() -> None:
    """Off a terminal a line is one JSON object that begins with time, level and event."""
    out = io.StringIO()
    logs.configure(LogSettings(), stream=out)
    structlog.get_logger("worker.app").info("batch_processed", records=3, seconds=0.25, late=False, user=None)
    logging.getLogger("anything").warning("said %s", "this")
    first, second = lines(out)
    assert list(first)[:3] == ["timestamp", "level", "event"]
    assert first | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "batch_processed",
        "logger": "worker.app",
        "records": 3,
        "seconds": 0.25,
        "late": False,
        "user": None,
    }
    assert (second["level"], second["event"]) == ("warning", "said this")


def test_level() -> None:
    """Lines below the level are not written."""
    out = io.StringIO()
    logs.configure(LogSettings(log_level="warning"), stream=out)
    structlog.get_logger("worker.app").info("batch_processed")
    logging.getLogger("anything").info("said")
    assert out.getvalue() == ""


def test_console_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the lines are for people; a setting decides otherwise."""
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    logs.configure(LogSettings(), stream=out)
    structlog.get_logger("worker.app").info("worker_started", partitions=3)
    assert "worker_started" in out.getvalue()
    assert not out.getvalue().startswith("{")
    out.truncate(0)
    logs.configure(LogSettings(log_format="json"), stream=out)
    structlog.get_logger("worker.app").info("worker_started", partitions=3)
    assert '"event": "worker_started"' in out.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
@given(text=st.text(max_size=40))
def test_no_line_is_forged(log_format: str, text: str) -> None:
    """Whatever stands in a value, a line stays one line and holds no character that a terminal acts on."""
    out = io.StringIO()
    logs.configure(LogSettings(log_format=log_format), stream=out)
    structlog.get_logger("worker.app").info(f"said {text}", value=text, nested={text: [text]})
    assert out.getvalue().endswith("\n")
    assert out.getvalue()[:-1].isprintable()


def test_nested_values() -> None:
    """Mappings and lists are written as such, their texts made safe, and times are UTC."""
    out = io.StringIO()
    logs.configure(LogSettings(), stream=out)
    structlog.get_logger("worker.app").info("said", badges_per_trigger={"a\n": 1}, offsets=[1, ("\x1b",)], raw=b"\0")
    (line,) = lines(out)
    assert (line["badges_per_trigger"], line["offsets"], line["raw"]) == ({"a\\n": 1}, [1, ["\\x1b"]], "b'\\x00'")
    assert line["timestamp"].endswith("Z")


def test_long_values_are_cut() -> None:
    """A value of a megabyte is cut, and says how long it was."""
    out = io.StringIO()
    logs.configure(LogSettings(), stream=out)
    structlog.get_logger("worker.app").info("said", value="x" * 1_000_000)
    assert len(out.getvalue()) < 3_000
    assert lines(out)[0]["value"].endswith("(1,000,000 characters)")


def test_exceptions_show_causes_and_no_locals() -> None:
    """An exception is written with its frames and causes, without the values of variables."""
    out = io.StringIO()
    logs.configure(LogSettings(), stream=out)
    secret = "canary"
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError(f"outer {len(secret)}") from error
    except ValueError:
        structlog.get_logger("worker.app").exception("batch_failed")
    said = lines(out)[0]["exception"]
    assert "ValueError: outer 6" in said
    assert "caused by:" in said
    assert "KeyError: 'inner'" in said
    assert "canary" not in said


def test_what_postgresql_says_about_values_is_left_out() -> None:
    """A driver's error is named by SQLSTATE and constraint; its message, which may hold a row's values, is not."""
    error = asyncpg.UniqueViolationError("duplicate key canary")
    error.constraint_name = "events_pkey"
    assert logs.describe(error) == "asyncpg.exceptions.UniqueViolationError 23505 events_pkey"


def test_libraries_never_go_below_info() -> None:
    """At level debug aiokafka still stays at INFO, even where its own logger was set lower: it logs passwords there."""
    out = io.StringIO()
    logs.configure(LogSettings(log_level="debug"), stream=out)
    logging.getLogger("aiokafka.conn").debug("canary")
    logging.getLogger("aiokafka.conn").setLevel(logging.DEBUG)
    logging.getLogger("aiokafka.conn").debug("canary")
    logging.getLogger("aiokafka.conn").info("said")
    assert [line["event"] for line in lines(out)] == ["said"]


def test_libraries_are_rate_limited() -> None:
    """A library's message passes five times in ten seconds; the next one that passes says how many did not."""
    now = 1000.0
    limit = logs.LibraryLimit(clock=lambda: now)

    def said(name: str, line: int = 1) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "conn.py", line, "no broker %d", (7,), None)
        return record.getMessage() if limit.filter(record) else None

    passed = [said("aiokafka.conn") for _ in range(100)]
    assert passed == ["no broker 7"] * 5 + [None] * 95
    assert said("aiokafka.conn", line=2) == "no broker 7"
    assert said("worker.app") == "no broker 7"
    now = 1009.9
    assert said("aiokafka.conn") is None
    now = 1010.0
    assert said("aiokafka.conn") == "no broker 7 (96 more like this were left out)"
    assert [said("aiokafka.conn") for _ in range(5)] == ["no broker 7"] * 4 + [None]


def test_configured_twice_writes_once() -> None:
    """Setting logs up again replaces what was set up before."""
    out = io.StringIO()
    logs.configure(LogSettings(), stream=out)
    logs.configure(LogSettings(), stream=out)
    structlog.get_logger("worker.app").info("said")
    assert len(lines(out)) == 1
