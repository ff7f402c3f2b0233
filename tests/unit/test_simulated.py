"""The scheduler in simulated time: tenures and schedules come by themselves, as they would with workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_anniversaries import ZONES
from worker import cli
from worker.errors import OperatorError
from worker.events import Event, format_instant, parse_instant
from worker.events.json_text import dumps
from worker.jobs.base import DAY
from worker.jobs.simulated import with_jobs
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import Source, load_catalog
from worker.rules.plan import compile_plan
from worker.rules.rehearse import outcomes

CATALOG = """
version: 1
user_timezone: {event: user.zone_changed, field: zone}
events: {user.registered: {}, user.zone_changed: {}}
schedules: [{event: cron.monthly, cron: "0 9 1 * *"}]
metrics: {months: {count: cron.monthly}}
tenures: [{key: member, since: user.registered, years: [1, 2, 5], label: Member, description: D}]
badges: [{key: half_year, flow: {snapshot: {months: {$gte: 6}}}}]
"""


def catalog() -> Catalog:
    return load_catalog([Source("catalog.yaml", CATALOG)])


def event(number: int, user_id: str, kind: str, at: str | int, **payload: Any) -> Event:
    us = parse_instant(at) if isinstance(at, str) else at
    return Event(user_id, kind, us, "", f"e{number}", payload, dumps(payload))


def awards(events: list[Event], until: str) -> list[tuple[str, str, str]]:
    played = outcomes(compile_plan(catalog()), with_jobs(catalog(), events, parse_instant(until)))
    return sorted(
        (award.user_id, award.badge_key, format_instant(award.awarded_us)) for award in (one.award for one in played)
    )


def test_tenures_come_by_themselves() -> None:
    """A user who does nothing but join has a tenure at the first instant of each due local day, and the schedules."""
    joined = event(1, "u1", "user.registered", "2020-02-29T12:00:00Z")
    assert awards([joined], "2025-02-28T00:00:00Z") == [
        ("u1", "half_year", "2020-08-01T09:00:00.000000Z"),
        ("u1", "member_1y", "2021-02-28T00:00:00.000000Z"),
        ("u1", "member_2y", "2022-02-28T00:00:00.000000Z"),
        ("u1", "member_5y", "2025-02-28T00:00:00.000000Z"),
    ]
    assert [one[1] for one in awards([joined], "2025-02-27T23:59:59Z")] == ["half_year", "member_1y", "member_2y"]


def test_days_are_those_of_the_users_zones() -> None:
    """The day of joining is that of the zone of then, an anniversary begins in the zone of then."""
    found = awards(
        [
            event(1, "u1", "user.zone_changed", "2020-02-28T12:00:00Z", zone="Asia/Tokyo"),
            event(2, "u1", "user.registered", "2020-02-28T16:00:00Z"),
            event(3, "u1", "user.zone_changed", "2021-02-28T05:00:00Z", zone="America/New_York"),
        ],
        "2022-12-31T00:00:00Z",
    )
    # it is the 28th in Tokyo before the user leaves, and again for some hours in New York
    assert [one[2] for one in found if one[1] == "member_1y"] == ["2021-02-27T15:00:00.000000Z"]
    assert [one[2] for one in found if one[1] == "member_2y"] == ["2022-02-28T05:00:00.000000Z"]


@given(st.lists(st.tuples(st.integers(0, 900), st.sampled_from(ZONES)), max_size=5), st.integers(0, 365))
def test_whoever_travels_has_each_tenure_on_its_day(moves: list[tuple[int, str]], joined: int) -> None:
    """However a user moves between zones, each tenure is given once, not before the day and at most a day late."""
    start = parse_instant("2024-01-01T07:00:00Z")
    events = [event(0, "u", "user.registered", start + joined * DAY)]
    events += [
        event(n, "u", "user.zone_changed", start + at * DAY + n, zone=zone) for n, (at, zone) in enumerate(moves, 1)
    ]
    events.sort(key=lambda one: one.order)
    played = outcomes(compile_plan(catalog()), with_jobs(catalog(), events, start + 1500 * DAY))
    found = [one.award for one in played if one.award.badge_key.startswith("member")]
    assert [award.badge_key for award in found] == ["member_1y", "member_2y"]
    for years, award in enumerate(found, start=1):
        off = award.awarded_us - (start + joined * DAY) - years * 365 * DAY
        assert -3 * DAY <= off <= 4 * DAY


def test_bounds() -> None:
    """What would be more than memory, or lies centuries ahead, is refused in a sentence."""
    joined = event(1, "u1", "user.registered", "2020-02-29T12:00:00Z")
    with pytest.raises(OperatorError, match="200 years"):
        with_jobs(catalog(), [joined], parse_instant("2500-01-01T00:00:00Z"))
    each_minute = load_catalog([Source("catalog.yaml", CATALOG.replace("0 9 1 * *", "* * * * *"))])
    people = [event(number, f"u{number:04}", "user.registered", "2020-02-29T12:00:00Z") for number in range(5_000)]
    with pytest.raises(OperatorError, match="more than"):
        with_jobs(each_minute, people, parse_instant("2021-01-01T00:00:00Z"))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`simulate --jobs --until` gives the tenures that are due by then, and none without --jobs."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    line = {"type": "user.registered", "user_id": "u1", "occurred_at": "2020-03-01T12:00:00Z"}
    (tmp_path / "events.jsonl").write_text(json.dumps(line))
    asked = ["simulate", "--catalog", str(tmp_path / "catalog.yaml"), "--events", str(tmp_path / "events.jsonl")]
    until = ["--until", "2022-06-01T00:00:00Z"]
    assert cli.main([*asked, *until, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert cli.main([*asked, *until, "--format", "json", "--jobs"]) == 0
    given = json.loads(capsys.readouterr().out)
    assert [row["badge_key"] for row in given] == ["half_year", "member_1y", "member_2y"]
