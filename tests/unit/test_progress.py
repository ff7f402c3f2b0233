"""Progress of long work is said where a person looks, and rarely where nobody does."""

from __future__ import annotations

import sys

import pytest

from worker.cli.progress import Progress


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What stands on standard error after two minutes of work that tells where it is ten times a second."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    now = 0.0
    progress = Progress(clock=lambda: now)
    for tenth in range(1200):
        now = tenth / 10
        progress.say(f"{tenth} of 1200")
    assert progress.seconds == pytest.approx(119.9)
    progress.close()
    found = capsys.readouterr()
    assert found.out == ""
    return found.err


def test_a_terminal_has_one_line_that_renews_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From half a second on the line is written over, some times a second; at the end it is gone."""
    found = said(capsys, monkeypatch, terminal=True)
    assert found.startswith("\r\x1b[K5 of 1200\r\x1b[K7 of 1200")
    assert found.endswith("\r\x1b[K")
    assert "\n" not in found
    assert 500 < found.count("\r") < 700


def test_elsewhere_a_line_each_half_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log there is a line each 30 s, and nothing for work that is done before."""
    assert said(capsys, monkeypatch, terminal=False) == "300 of 1200\n600 of 1200\n900 of 1200\n"
