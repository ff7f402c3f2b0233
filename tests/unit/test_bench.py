"""The bench's streams, its brute force and its report: what is sent is what is promised, what comes out is right."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from worker.bench.awards import differ
from worker.bench.brute import CountRule, WindowRule, awards_of
from worker.bench.community import community
from worker.bench.floor import rows_of
from worker.bench.load import counts, partition_of
from worker.bench.profiling import _statement
from worker.bench.streams import EVENT_BYTES, PARTITIONS, Stream, even, ladder, ladder_catalog, repeated, silent_badges
from worker.cli.bench_table import lines
from worker.errors import OperatorError
from worker.events import Event, decode_line
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import replay
from worker.rules.plan import compile_plan
from worker.store.queries import QUERIES


def engine_awards(stream: Stream) -> set[tuple[str, str, str, int]]:
    """The awards that the engine gives for each user's history, repeats left out."""
    catalog = catalog_from_document(stream.catalog, 1)
    plan = compile_plan(catalog)
    histories: dict[str, dict[str, Event]] = {}
    for number, (_, value) in enumerate(stream.records):
        event = decode_line(value, catalog.dictionary, number=number)
        assert isinstance(event, Event), event
        histories.setdefault(event.user_id, {}).setdefault(event.id, event)
    found = set()
    for user, history in histories.items():
        _, awards = replay(plan, user, sorted(history.values(), key=lambda event: event.order), {})
        found |= {(user, award.badge_key, award.context, award.awarded_us) for award in awards}
    return found


STREAMS = {
    "ladder": lambda: ladder(6_000, users=600),
    "repeats": lambda: repeated(ladder(3_000, users=300), 0.07),
    "silent badges": lambda: replace(ladder(2_000, users=200), catalog=ladder_catalog(extra=silent_badges(50))),
    "even": lambda: even("even", users=40, warm_each=10, then=200),
    "community": lambda: community(1),
}


@pytest.mark.parametrize("name", STREAMS)
def test_brute_force_agrees_with_the_engine(name: str) -> None:
    """The awards that brute force finds for a stream are those of the engine, and there are some."""
    stream = STREAMS[name]()
    assert stream.expected
    assert engine_awards(stream) == stream.expected


def test_brute_force_counts_by_hand() -> None:
    """A count is earned at its n-th event, a window at the first event with enough on or after its start."""

    def record(number: int, at: str, kind: str = "a") -> tuple[bytes, bytes]:
        body = {"id": f"e{number}", "type": kind, "user_id": "u", "occurred_at": at, "payload": {}}
        return b"u", msgspec.json.encode(body)

    records = [
        record(1, "2025-01-01T00:00:00Z"),
        record(1, "2025-01-01T00:00:00Z"),
        record(2, "2025-01-03T00:00:01Z"),
        record(9, "2025-01-04T00:00:00Z", "b"),
        record(3, "2025-01-05T00:00:01Z"),
    ]
    found = awards_of(records, [CountRule("two", "a", 2), CountRule("four", "a", 4), WindowRule("close", "a", 2, 2)])
    day = 86_400_000_000
    new_year = 1_735_689_600_000_000
    assert found == {
        ("u", "two", "", new_year + 2 * day + 1_000_000),
        ("u", "close", "", new_year + 4 * day + 1_000_000),
    }


def test_ladder_is_what_the_figures_are_about() -> None:
    """Events have 244 bytes, instants rise, users are Zipf-like, and about 14 % of the events make an award."""
    stream = ladder(60_000)
    assert {len(value) for _, value in stream.records} == {EVENT_BYTES} == {244}
    times = [msgspec.json.decode(value)["occurred_at"] for _, value in stream.records]
    assert times == sorted(times)
    often = [count for _, count in Counter(key for key, _ in stream.records).most_common()]
    assert len(often) == stream.users
    assert 0.001 < often[0] / len(stream.records) < 0.01
    assert often[10] > 3 * often[1_000] > 6 * often[-1]
    assert 0.12 < len(stream.expected) / len(stream.records) < 0.16


def test_streams_are_the_same_each_time() -> None:
    """A fixed seed gives the same records, whatever was drawn before."""
    assert ladder(500).records == ladder(500).records
    assert ladder(500).records != ladder(500, seed=2).records


def test_repeats_come_after_what_they_repeat() -> None:
    """Seven in a hundred records say what one before them said, and nothing is missing."""
    plain = ladder(5_000)
    mixed = repeated(plain, 0.07)
    seen: set[bytes] = set()
    again = 0
    for _, value in mixed.records:
        again += value in seen
        seen.add(value)
    assert seen == {value for _, value in plain.records}
    assert again / len(mixed.records) == pytest.approx(0.07, abs=0.001)


def test_even_streams_spread_their_events() -> None:
    """After the warm events every user has as many, and the measured ones are spread as evenly as can be."""
    stream = even("even", users=30, warm_each=4, then=100)
    assert stream.warm == 120
    assert set(Counter(key for key, _ in stream.records[:120]).values()) == {4}
    assert set(Counter(key for key, _ in stream.records[120:]).values()) <= {3, 4}


def test_a_user_stays_on_one_partition() -> None:
    """Positions count what each partition gets, by the rule that sends it there."""
    records = ladder(1_000).records
    assert sum(counts(records, PARTITIONS)) == 1_000
    assert min(counts(records, PARTITIONS)) > 0
    assert counts(records[:1], PARTITIONS)[partition_of(records[0][0], PARTITIONS)] == 1


def test_floor_rows_are_sorted_and_whole() -> None:
    """The floor stores user, source, id, type, instant and payload, sorted by key."""
    rows = rows_of([value for _, value in ladder(50).records])
    assert rows == sorted(rows, key=lambda row: row[:3])
    body = msgspec.json.decode(ladder(50).records[0][1])
    row = next(row for row in rows if row[2] == body["id"])
    assert row[:4] == (body["user_id"], "", body["id"], "habit.completed")
    assert msgspec.json.decode(row[5]) == body["payload"]


@pytest.mark.parametrize("name", ["grant_counts", "save_users", "unpublished", "mark_published", "fence"])
def test_statements_have_their_names_in_a_profile(name: str) -> None:
    """A statement is known by its words although the server numbers its constants; another one is shown as it is."""
    numbered = re.sub(r"'[^']*'|\bepoch\b|\b[0-9]+\b", "$9", QUERIES[name])
    assert _statement(numbered) == name
    assert _statement("CREATE TABLE  x (y text)") == "CREATE TABLE x (y text)"


def test_wrong_awards_are_told() -> None:
    """One award too few, one too many or one at another instant makes the run fail, with an example."""
    stream = ladder(500)
    right = set(stream.expected)
    differ(stream, "stored", right)
    user, badge, context, at = sorted(right)[0]
    for wrong in (right - {(user, badge, context, at)}, right | {("u", "x", "", 1)}):
        with pytest.raises(OperatorError, match="The awards of ladder are wrong"):
            differ(stream, "stored", wrong)
    with pytest.raises(OperatorError, match=r"1 are not stored, and 1 are stored"):
        differ(stream, "stored", (right - {(user, badge, context, at)}) | {(user, badge, context, at + 1)})


def figures(**changes: Any) -> dict[str, Any]:
    cost = {"cpu_us_per_event": 30.25, "worker_us": 20.0, "postgresql_us": 10.25, "ratio": 1.0}
    return {
        "scenario": "ladder", "mode": "normal", "events": 300_000, "users": 60_000, "awards": 42_000,
        "floor_events_per_s": 95_000.4, "worker_events_per_s": 47_500.2, "ratio": 0.5, "naive_events_per_s": 950.0,
        "cpu_us_per_event": {"worker": 15.04, "postgresql": None}, "floor_cpu_us_per_event": {},
        "latency_ms": {"p50": 31, "p99": 70, "max": 90, "awards": 2_000, "events_per_s": 1_000},
        "rss_mb": 180.4, "repeats": {"share": 0.07, "ratio": 1.2}, "handover_s": 11.2, "session_timeout_s": 10.0,
        "processes": {"1": 20_000.0, "2": 31_000.4},
        "growth": {"catalog": [{"badges": 10, **cost, "plan_s": 0.1}], "history": None, "users": []},
        "runs": {}, "awards_checked": 300_000, "profile": None,
        "machine": {"cpus": 2, "cpu": "Some CPU", "postgresql": "15.9 (Debian)", "fsync": "on"}, "seconds": 612.0,
        **changes,
    }  # fmt: skip


def test_table_says_the_verdict_first() -> None:
    """The table begins with speed and ratio, shows figures with their units, and leaves out what was not measured."""
    shown = list(lines(figures()))
    assert shown[0] == "47,500 events/s, 0.50 of the durable floor of 95,000 events/s"
    text = "\n".join(shown)
    assert "p50 31 ms, p99 70 ms at 1,000 events/s" in text
    assert "worker 15.0 us, PostgreSQL not known (on another machine)" in text
    assert "7% repeated events: 1.20 times per event" in text
    assert "batches are 50 times as fast" in text
    assert "1: 20,000 events/s, 2: 31,000 events/s" in text
    assert "Badges that match no event" in text
    assert "Events that a user had before" not in text
    assert shown[-1].endswith("PostgreSQL 15.9; 10 min 12 s. Nothing of it was left behind.")
    bare = "\n".join(
        lines(figures(naive_events_per_s=None, latency_ms=None, repeats=None, handover_s=None, processes=None))
    )
    assert "one event" not in bare
    assert "hand-over" not in bare


def test_table_shows_a_profile() -> None:
    """A profile is shown per event: functions, waits, and PostgreSQL's statements or that they are not known."""
    profile = {
        "events": 1_000,
        "python_us": 20_000.0,
        "python": [{"function": "worker/x.py:1 f", "calls": 2_000, "own_us": 5_000.0, "total_us": 9_000.0}],
        "statements": [{"statement": "COMMIT", "calls": 10, "waited_us": 4_000.0}],
        "postgresql": None,
    }
    text = "\n".join(lines(figures(profile=profile)))
    assert "Python by function, us per event under the profiler (20.0 in all)" in text
    assert "5.00          9.00   2.00  worker/x.py:1 f" in text
    assert "not known, the database has no pg_stat_statements" in text
    row = {"statement": "grant", "calls": 3, "us_per_event": 1.5, "rows_per_event": 0.14, "blocks_per_event": 2.0}
    assert "1.50      3  0.14    2.00  grant" in "\n".join(lines(figures(profile={**profile, "postgresql": [row]})))
