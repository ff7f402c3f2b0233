"""Coverage of a catalog: what listens to nothing, what nobody listens to, what used to come and does not."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from worker import cli
from worker.app.coverage import coverage, rate, usual_of
from worker.exchange import TypeDays
from worker.jobs.base import DAY, HOUR
from worker.rules.catalog.load import Source, load_catalog
from worker.store.arrivals import start_of

CATALOG = """
version: 1
events: {edit.approved: {}, compare.used: {}, review.rejected: {}, comment.posted: {}}
badges:
  - {key: editor, flow: {event: edit.approved, criteria: {$eventCount: {$gte: 10}}}}
  - {key: critic, flow: {event: review.rejected, criteria: {$eventCount: {$gte: 1}}}}
  - {key: talker, flow: {event: comment.posted, criteria: {$eventCount: {$gte: 1}}}}
  - {key: later, flow: {event: compare.used, criteria: {$eventCount: {$gte: 1}}}, status: draft}
"""
LAST = date(2026, 3, 20)


def days(name: str, *counts: int, last: int = 1) -> TypeDays:
    """Counts of the days before the last one, rising, and of that one; the last event came at its noon."""
    first = LAST - timedelta(days=len(counts))
    found = {first + timedelta(days=number): count for number, count in enumerate(counts) if count}
    return TypeDays(name, start_of(LAST) + 12 * HOUR, LAST, last, first, found)


def states(found: dict[str, TypeDays] | None, upto_us: int = 0) -> dict[str, tuple[str, str]]:
    catalog = load_catalog([Source("catalog.yaml", CATALOG)])
    return {one.type: (one.state, one.sentence) for one in coverage(catalog, found, upto_us)}


def test_worst_first_in_words() -> None:
    """Silent types come first, then those never seen, then those nobody listens to; a draft does not listen."""
    found = {
        "edit.approved": days("edit.approved", *[120] * 28),
        "comment.posted": days("comment.posted", *[2] * 28),
        "compare.used": days("compare.used", 31),
    }
    assert list(states(found, start_of(LAST) + 9 * DAY + 12 * HOUR).items()) == [
        ("edit.approved", ("silent", "no edit.approved for 9 days; before that 120 a day")),
        ("comment.posted", ("silent", "no comment.posted for 9 days; before that 2 a day")),
        ("review.rejected", ("never_seen", "review.rejected was never seen: check the spelling")),
        ("compare.used", ("empty", "no badge listens to compare.used")),
    ]


def test_a_file_alone() -> None:
    """Without a log nothing is silent or never seen; what nobody listens to is known all the same."""
    assert {name: state for name, (state, _) in states(None).items()} == {
        "compare.used": "empty",
        "comment.posted": "ok",
        "edit.approved": "ok",
        "review.rejected": "ok",
    }


@pytest.mark.parametrize(
    ("counts", "silence", "silent"),
    [
        ([120] * 28, 23 * HOUR, False),  # not a day yet
        ([120] * 28, DAY, True),
        ([0, 0, 100, 100, 100, 100, 100] * 4, 2 * DAY, False),  # weekends are so
        ([0, 0, 100, 100, 100, 100, 100] * 4, 3 * DAY, True),
        ([1] + [0] * 6 + [1] + [0] * 13 + [1] + [0] * 6, 14 * DAY, False),  # it is rare
        ([2] * 28, 2 * DAY, False),  # four would have come: that may be chance
        ([2] * 28, 3 * DAY, True),
        ([], 3 * DAY, False),  # one event in all
    ],
)
def test_when_a_type_is_silent(counts: list[int], silence: int, silent: bool) -> None:
    """A silence counts after a day, longer than any gap of the four weeks before, once five would have come in it."""
    found = days("edit.approved", *counts)
    state, _ = states({"edit.approved": found}, found.last_us + silence)["edit.approved"]
    assert (state == "silent") is silent


def test_what_is_usual() -> None:
    """The median of the days before, the mean where most had none; said by the day, the week or the month."""
    assert usual_of(days("a", *[10] * 20, 5_000)) == 10
    assert usual_of(days("a", *([0] * 6 + [7]) * 4)) == 1
    assert usual_of(days("a", last=4)) == 4
    assert (rate(1_234.5), rate(0.43), rate(0.1)) == ("1,234 a day", "3 a week", "3.0 a month")


def test_command_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command lists the types of a file, worst first, and sums them up; without a database nothing is asked."""
    monkeypatch.delenv("BADGES_DATABASE_URL", raising=False)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    assert cli.main(["catalog", "coverage", str(tmp_path / "catalog.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["compare.used", "0", "empty", "no", "badge", "listens", "to", "compare.used"]
    assert lines[-1] == "4 event types: 1 empty."
    assert cli.main(["catalog", "coverage", str(tmp_path), "--no-database", "--exit-code", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["type"], row["listening"]) for row in rows if row["badges"]] == [
        ("comment.posted", ["talker"]),
        ("edit.approved", ["editor"]),
        ("review.rejected", ["critic"]),
    ]
    assert cli.main(["catalog", "coverage", "--no-database"]) == 2
