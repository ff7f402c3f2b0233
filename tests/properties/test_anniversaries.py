"""Anniversaries of users who travel: the clock's events are where a naive reading has them, and so are the tenures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from tests import oracle
from tests.oracle_values import anniversary, instant
from tests.properties.test_engine import expected_keys, keys
from tests.strategies_events import of, together
from worker.events import Event, parse_instant
from worker.events.json_text import dumps
from worker.jobs.simulated import with_jobs
from worker.rules.catalog.load import catalog_from_document
from worker.rules.evaluate import replay
from worker.rules.plan import compile_plan

#: The furthest east and west, both sides of the date line, broken hours, summer time here and there.
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("Pacific/Kiritimati", "Pacific/Pago_Pago", "Pacific/Apia"),
)
QUARTER = timedelta(minutes=15)
#: There was no 30 December in Samoa a year after the first of these.
JOINED = ("2010-12-30", "2023-12-31", "2024-02-28", "2024-02-29", "2024-03-31")

joinings = together(JOINED, range(-100, 100))
#: The year after joining, quarters of an hour before or after that day began in Greenwich, and where to: a day begins
#: within 14 hours of that somewhere.
moves = st.lists(together((0, 1, 1, 2, 2), range(-110, 110), ZONES), max_size=5)


def at(day: str, quarters: int, years: int = 0) -> int:
    """The instant so many quarters of an hour after a day, some years later, began in Greenwich."""
    later = anniversary(date.fromisoformat(day), years, "feb_28")
    return parse_instant(f"{later}T00:00:00Z") + quarters * QUARTER // timedelta(microseconds=1)


def document(zone: str, leap: str) -> dict[str, Any]:
    """Two tenures from the first `a.done`, in the zones that `b.done` names."""
    return {
        "version": 1,
        "timezone": zone,
        "feb_29": leap,
        "events": {"a.done": {}, "b.done": {}},
        "user_timezone": {"event": "b.done", "field": "zone"},
        "tenures": [{"key": "member", "since": "a.done", "years": [1, 2]}],
    }


def anniversaries(joined: Event, changes: Sequence[Event], default: str, leap: str, until: int) -> dict[str, int]:
    """For each anniversary the first quarter of an hour, or instant after a change of zone, of that local day.

    Whoever has no such day has it with the next.
    """

    def local(us: int, *, order: Any = None) -> date:
        named = [e for e in changes if (e.occurred_us < us if order is None else e.order < order)]
        zone = ZoneInfo(named[-1].payload["zone"] if named else default)
        return instant(us).astimezone(zone).date()

    found = {}
    born, zones = local(joined.occurred_us, order=joined.order), [default, *(e.payload["zone"] for e in changes)]
    changed = {e.occurred_us for e, before in zip(changes, zones, strict=False) if e.payload["zone"] != before}
    for year in (1, 2, 3):
        day = anniversary(born, year, leap)
        begin = (datetime(day.year, day.month, day.day, tzinfo=UTC) - instant(0)) // timedelta(microseconds=1)
        quarters = {begin + n * QUARTER // timedelta(microseconds=1) for n in range(-2 * 96, 3 * 96)}
        days = [us for us in sorted(quarters - changed | {us + 1 for us in changed}) if local(us) >= day]
        if days[0] <= until:
            found[f"cron.anniversary:{day}"] = days[0]
    return found


@given(joinings, moves, of(ZONES), of(("feb_28", "mar_1")))
# Gone west at the very instant at which the day began: it begins once more.
@example(("2024-02-28", 20), [(1, 0, "Pacific/Pago_Pago")], "UTC", "feb_28")
# Over the date line, from the end of the day before to the beginning of the day after.
@example(("2024-03-31", 0), [(0, 1, "Pacific/Pago_Pago"), (1, 42, "Pacific/Kiritimati")], "UTC", "feb_28")
@example(("2010-12-30", 50), [], "Pacific/Apia", "feb_28")
def test_a_day_is_told_of_where_it_first_begins(
    joining: tuple[str, int], moving: list[tuple[int, int, str]], zone: str, leap: str
) -> None:
    """Once for each anniversary, at the first instant of that day where the user is; tenures are the oracle's."""
    joined = Event("u", "a.done", at(*joining), "", "a", {}, "{}")
    changes = [
        Event("u", "b.done", at(joining[0], quarters, years), "", f"b{number}", {"zone": name}, dumps({"zone": name}))
        for number, (years, quarters, name) in enumerate(moving)
    ]
    changes.sort(key=lambda one: one.order)
    events = sorted([joined, *changes], key=lambda one: one.order)
    made = document(zone, leap)
    catalog = catalog_from_document(made, 1)
    until = at(joining[0], 0, 3)
    log = with_jobs(catalog, events, until)
    told = {e.id: e.occurred_us for e in log if e.type == "cron.anniversary"}
    assert told == anniversaries(joined, changes, zone, leap, until)
    assert keys(replay(compile_plan(catalog), "u", log, {})[1]) == expected_keys(oracle.awards(made, log))
