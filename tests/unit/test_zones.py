"""Users' own time zones: when a change takes effect, what it moves, what it leaves, and who has to know of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.events import Event, Record, parse_instant
from worker.events.json_text import dumps
from worker.exchange import Claim
from worker.pipeline.batch import Applier
from worker.pipeline.facts import Limits
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import catalog_from_document, read_catalog
from worker.rules.changes import BY_HAND
from worker.rules.compare import compare, may_gain
from worker.rules.evaluate import explain, replay
from worker.rules.ir import Bound, Fold, Match, Moment
from worker.rules.operators import memory
from worker.rules.operators.calendar import Calendar, calendar_of, is_zone
from worker.rules.plan import Plan, compile_plan, needs_build
from worker.rules.plan.zones import PLAIN, ZoneRule, memory_id, reads_calendar
from worker.rules.preview import Preview
from worker.rules.rehearse import DryRun
from worker.store.memory import MemoryStore

EVENTS: dict[str, Any] = {"user.zone_changed": {"aliases": ["Moved"]}, "a.done": {}, "cron.anniversary": {}}
SOURCE = {"event": "Moved", "field": "where.zone"}
DAYS = {"event": "a.done", "criteria": {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}}}}


def document(*flows: Any, **sections: Any) -> dict[str, Any]:
    badges = [
        {"key": f"b{number}", **(flow if "flow" in flow else {"flow": flow})} for number, flow in enumerate(flows)
    ]
    events = {name: kind for name, kind in EVENTS.items() if not name.startswith("cron.")}
    return {"version": 1, "events": events, "user_timezone": SOURCE, "badges": badges, **sections}


def plan(*flows: Any, **sections: Any) -> Plan:
    return compile_plan(catalog_from_document(document(*flows, **sections), 1))


def at(instant: str, kind: str = "a.done", id: str | None = None, **payload: Any) -> Event:
    us = parse_instant(instant)
    return Event("u", kind, us, "", id or f"{instant} {kind}", payload, dumps(payload))


def moved(instant: str, zone: Any, id: str | None = None) -> Event:
    return at(instant, "user.zone_changed", id, where={"zone": zone})


def earned(compiled: Plan, *events: Event) -> list[tuple[str, str]]:
    """(badge, instant) of the awards of a history."""
    _, awards = replay(compiled, "u", sorted(events, key=lambda one: one.order), {})
    return [(award.badge_key, award.trigger_id.partition(" ")[0]) for award in awards]


# -- when a change takes effect


@pytest.mark.parametrize(
    ("zone", "first", "second", "days"),
    [
        ("Europe/Berlin", "2024-03-30T23:00:00Z", "2024-03-31T21:59:59Z", 1),
        ("Europe/Berlin", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z", 2),
        ("Europe/Berlin", "2024-10-26T22:00:00Z", "2024-10-27T22:59:59Z", 1),
        ("Europe/Berlin", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z", 2),
        ("Australia/Lord_Howe", "2024-04-06T13:00:00Z", "2024-04-07T13:29:59Z", 1),
        ("Australia/Lord_Howe", "2024-04-06T13:00:00Z", "2024-04-07T13:30:00Z", 2),
        ("Asia/Kathmandu", "2024-01-01T18:14:59Z", "2024-01-01T18:15:00Z", 2),
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z", 2),
    ],
)
def test_days_are_those_of_the_users_zone(zone: str, first: str, second: str, days: int) -> None:
    """Days of 23, 24½ and 25 hours, of zones a quarter of an hour off, and the day after a day that was left out."""
    found = earned(plan(DAYS), moved("2010-01-01T00:00:00Z", zone), at(first), at(second))
    assert found == ([("b0", second)] if days == 2 else [])


def test_what_was_before_a_change_keeps_its_day() -> None:
    """Two events of one day in New York stay so after a move to Kiritimati; what follows is dated there."""
    events = [at("2024-05-01T13:00:00Z"), at("2024-05-01T23:00:00Z")]
    compiled = plan(DAYS, timezone="America/New_York")
    assert earned(compiled, *events, moved("2024-05-02T00:00:00Z", "Pacific/Kiritimati")) == []
    assert earned(compiled, moved("2024-05-01T00:00:00Z", "Pacific/Kiritimati"), *events) == []
    between = moved("2024-05-01T14:00:00Z", "Pacific/Kiritimati")
    assert earned(compiled, *events, between) == [("b0", "2024-05-01T23:00:00Z")]


@pytest.mark.parametrize(("name", "badges"), [("0", ["b0"]), ("z", [])])
def test_at_one_instant_order_decides(name: str, badges: list[str]) -> None:
    """A change is in force for the events that follow it in order, those of its own instant among them."""
    events = [at("2024-05-01T01:00:00Z", id="1"), at("2024-05-01T13:00:00Z", id="5")]
    found = earned(plan(DAYS), *events, moved("2024-05-01T13:00:00Z", "Pacific/Kiritimati", name))
    assert [badge for badge, _ in found] == badges


def test_an_event_that_says_the_zone_is_in_it() -> None:
    """The field may be that of any event: that event is dated in the zone it names."""
    compiled = plan(DAYS, user_timezone={"event": "a.done", "field": "zone"})
    events = [at("2024-05-01T09:00:00Z"), at("2024-05-01T13:00:00Z", zone="Pacific/Kiritimati")]
    assert earned(compiled, *events) == [("b0", "2024-05-01T13:00:00Z")]


@pytest.mark.parametrize(
    "name",
    [
        "Nowhere/Atall",
        "utc",
        "localtime",
        "right/UTC",
        "",
        "a\0b",
        "../UTC",
        "x" * 70_000,
        3,
        None,
        True,
        {},
        [],
    ],
)
def test_a_value_that_is_no_zone_changes_nothing(name: Any) -> None:
    """Whatever an event says instead of a zone, the one before it stays; an event without the field says nothing."""
    compiled = plan(DAYS)
    first = moved("2024-01-01T00:00:00Z", "Pacific/Kiritimati")
    broken = at("2024-02-01T00:00:00Z", "user.zone_changed", where={"zone": name})
    silent = at("2024-02-02T00:00:00Z", "user.zone_changed")
    before, _ = replay(compiled, "u", [first], {})
    after, _ = replay(compiled, "u", [first, broken, silent], {})
    assert after.scopes == before.scopes
    assert compiled.calendar_of(after).zone == "Pacific/Kiritimati"
    assert compiled.calendar_of(replay(compiled, "u", [broken, silent], {})[0]).zone == "UTC"


def test_the_same_zone_again_is_no_change() -> None:
    """What is remembered is the zone and since when, however often it is said."""
    compiled = plan(DAYS)
    first = moved("2024-01-01T00:00:00Z", "Asia/Tokyo")
    once, _ = replay(compiled, "u", [first], {})
    twice, _ = replay(compiled, "u", [first, moved("2024-01-02T00:00:00Z", "Asia/Tokyo")], {})
    assert compiled.zones is not None
    assert once.scopes == twice.scopes == {"": {compiled.zones.id: ["Asia/Tokyo", first.occurred_us]}}


# -- where a zone matters


def test_days_that_are_left_out_are_the_users() -> None:
    """Friday in UTC is Saturday in Kiritimati: at the gate of a fold, per user and per context."""
    counted = {"event": "a.done", "criteria": {"$eventCount": {"$gte": 1}}}
    workdays = {"$timeWindow": {"businessDaysOnly": True, "flow": counted}}
    compiled = plan(workdays, {"flow": workdays, "per": "k"})
    friday = at("2024-05-03T12:00:00Z", k="x")
    assert earned(compiled, friday) == [("b0", "2024-05-03T12:00:00Z"), ("b1", "2024-05-03T12:00:00Z")]
    assert earned(compiled, moved("2024-01-01T00:00:00Z", "Pacific/Kiritimati"), friday) == []
    monday = at("2024-05-05T12:00:00Z", k="x")
    assert earned(compiled, monday) == []
    assert len(earned(compiled, moved("2024-01-01T00:00:00Z", "Pacific/Kiritimati"), monday)) == 2
    assert set(compiled.scopes(friday)) == set(compiled.scopes(monday)) == {"", "k=x"}


def test_months_back_from_now_are_of_the_zone_now() -> None:
    """A month back from the first hours of 1 March is 1 February where it is March, 28 January where it is February."""
    month = {"$timeWindow": {"last": "1m", "flow": {"event": "a.done", "criteria": {"$eventCount": {"$gte": 2}}}}}
    old, new = at("2023-01-30T12:00:00Z"), at("2023-02-28T12:00:00Z")
    compiled = plan(month)
    assert earned(compiled, old, new) == [("b0", "2023-02-28T12:00:00Z")]
    assert earned(compiled, moved("2023-02-01T00:00:00Z", "Pacific/Kiritimati"), old, new) == []
    back = moved("2023-02-28T11:00:00Z", "Pacific/Pago_Pago")
    assert earned(compiled, moved("2023-02-01T00:00:00Z", "Pacific/Kiritimati"), back, old, new) != []


def test_a_window_keeps_what_another_zone_may_ask_for() -> None:
    """On 1 March in Kiritimati a month is from 1 February; in Pago Pago, where it is 27 February then, from January."""
    window, params = memory(Fold("count", Match(bounds=(Bound("$gte", Moment(((-1, "M"),))),)))), {}
    state = window.step(None, at("2023-01-28T12:00:00Z"), params, calendar_of("Pacific/Kiritimati"))
    state = window.step(state, at("2023-02-28T10:30:00Z"), params, calendar_of("Pacific/Kiritimati"))
    now_us = parse_instant("2023-02-28T10:31:00Z")
    assert window.facts(state, now_us, params, calendar_of("Pacific/Kiritimati"))["event_count"] == 1
    assert window.facts(state, now_us, params, calendar_of("Pacific/Pago_Pago"))["event_count"] == 2


def test_a_tenure_begins_on_the_day_it_was_where_the_user_was() -> None:
    """Joined on 30 June in New York: the year is complete on 30 June of Tokyo, for one who moved there."""
    tenures = [{"key": "member", "since": "a.done", "years": [1]}]
    compiled = plan(tenures=tenures, timezone="America/New_York")
    history = [at("2023-07-01T02:00:00Z"), moved("2023-08-01T00:00:00Z", "Asia/Tokyo")]
    early, due = (at(f"2024-06-{time}Z", "cron.anniversary") for time in ("29T14:59:59", "29T15:00:00"))
    assert earned(compiled, *history, early) == []
    assert earned(compiled, *history, due) == [("member_1y", "2024-06-29T15:00:00Z")]
    state, _ = replay(compiled, "u", [*history, early], {})
    found = explain(compiled, "member_1y", state, now_us=early.occurred_us)
    assert (found.tree["actual"], found.sentence) == ("2023-06-30", "Member on 2024-06-30")


def test_an_explanation_counts_where_the_user_is() -> None:
    """A dry run at an instant knows the zone of then, and says dates of it."""
    month = {"$timeWindow": {"last": "1m", "flow": {"event": "a.done", "criteria": {"$eventCount": {"$gte": 2}}}}}
    run = DryRun(catalog_from_document(document(month), 1))
    events = [at("2024-05-01T22:00:00Z"), moved("2024-05-10T00:00:00Z", "Asia/Tokyo")]

    def leaves(instant: str) -> str:
        (answer,) = run.answers("u", events, {"b0"}, at_us=parse_instant(instant))
        return answer.explanation.sentence.rpartition(" ")[2]

    assert leaves("2024-05-09T00:00:00Z") == "2024-06-01"
    assert leaves("2024-05-11T00:00:00Z") == "2024-06-02"


# -- who has to know of it


async def test_a_late_change_of_zone_folds_the_user_again() -> None:
    """What a change moves is found when it comes late, though no badge reads its type: the awards it makes are late."""
    claim: list[Claim] = []
    store, compiled = MemoryStore(), compile_plan(catalog_from_document(document(DAYS), 0))
    applier = Applier(store, compiled, Limits("awards", "dead", "control", 1 << 60))
    found = await store.claim("events", 0, generation=1, owner="test", start_offset=0)
    assert found is not None
    claim.append(found)

    async def put(offset: int, event: Event) -> Any:
        stamp = parse_instant("2026-01-01T00:00:00Z") // 1000
        body = {"id": event.id, "type": event.type, "user_id": "u", "payload": event.payload}
        value = json.dumps({**body, "occurred_at": event.id.partition(" ")[0]}).encode()
        return await applier.apply(claim[0], [Record("events", 0, offset, stamp, b"u", value)], from_offset=offset)

    for offset, event in enumerate((at("2024-05-01T09:00:00Z"), at("2024-05-01T13:00:00Z"))):
        assert not (await put(offset, event)).awards
    facts = await put(2, moved("2024-05-01T10:00:00Z", "Pacific/Kiritimati"))
    assert facts.late_users == 1
    assert dict(facts.awards) == {("b0", "late"): 1}


def test_memories_of_local_days_have_the_rule_in_their_identity() -> None:
    """Another zone or source gives another identity where days, weeks or months are remembered, and only there."""
    berlin, own = ZoneRule("Europe/Berlin"), ZoneRule("UTC", "a.done", "zone")
    local = [
        Fold("periods", Match(), (("period", "day"),)),
        Fold("since", Match()),
        Fold(
            "count",
            plan({"$timeWindow": {"businessDaysOnly": True, "flow": DAYS}})
            .goals[0]
            .badge.formula.child.children[0]
            .fold.match,
        ),
        Fold("count", Match(bounds=(Bound("$gte", Moment(((-1, "M"),))),))),
    ]
    plain = [
        Fold("count", Match()),
        Fold("logins", Match()),
        Fold("count", Match(bounds=(Bound("$gte", Moment(((-1, "d"),))),))),
    ]
    for fold in local:
        assert reads_calendar(fold)
        assert len({memory_id(fold, rule) for rule in (PLAIN, berlin, own, ZoneRule("UTC", "a.done", "z"))}) == 4
        assert memory_id(fold, PLAIN) == fold.id
    for fold in plain:
        assert {memory_id(fold, rule) for rule in (PLAIN, berlin, own)} == {fold.id}


def test_another_source_of_zones_is_built_and_may_gain() -> None:
    """A catalog that says otherwise where zones come from needs the logs again, and a preview of every badge."""
    old, new = (catalog_from_document(document(DAYS, user_timezone=source), 1) for source in (None, SOURCE))
    assert needs_build(compile_plan(old), compile_plan(new))
    assert not needs_build(compile_plan(new), compile_plan(new))
    assert may_gain(compare(old, new), new) == {"b0"}
    assert may_gain(compare(new, new), new) == frozenset()


def test_a_preview_reads_the_events_that_name_zones() -> None:
    """They matter to every badge, though none reads them."""
    assert Preview(catalog_from_document(document(DAYS), 1), {"b0"}).types == {"a.done", "user.zone_changed"} | BY_HAND
    plainly = document(DAYS, user_timezone=None)
    assert Preview(catalog_from_document(plainly, 1), {"b0"}).types == {"a.done"} | BY_HAND


def test_calendars_are_few_and_shared() -> None:
    """One object for a zone; as many zones as there are, each with the offsets of few hours."""
    assert calendar_of("Asia/Tokyo") is calendar_of("Asia/Tokyo")
    limit = calendar_of.cache_info().maxsize
    assert limit is not None
    assert limit <= 512
    calendar = calendar_of("Asia/Tokyo")
    for hour in range(2_000):
        calendar.ordinal(hour * 3_600_000_000)
    assert len(calendar._hours) <= 512
    assert all(is_zone(name) for name in ("UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"))


# -- the catalog


@pytest.mark.parametrize(
    ("source", "code", "path"),
    [
        ("{event: user.zone_changd, field: zone}", "unknown_event", "/user_timezone/event"),
        ("{event: user.zone_changed, field: zoen}", "unknown_field", "/user_timezone/field"),
        ("{event: user.zone_changed, field: hour}", "no_effect", "/user_timezone/field"),
        ("{event: user.zone_changed, field: place.height}", "no_effect", "/user_timezone/field"),
        ("{event: user.zone_changed}", "missing_key", "/user_timezone"),
        ("{event: 3, field: zone}", "bad_operand", "/user_timezone/event"),
        ("{event: user.zone_changed, field: zone, fallback: UTC}", "unknown_key", "/user_timezone/fallback"),
        ("UTC", "bad_operand", "/user_timezone"),
    ],
)
def test_a_faulty_source_of_zones_is_told(source: str, code: str, path: str) -> None:
    """A name that nothing defines, a field that can hold no name of a zone, keys that are missing or unknown."""
    place = "{type: object, properties: {name: {type: [string, 'null']}, height: {type: number}}}"
    fields = f"{{zone: {{type: string}}, hour: {{type: integer}}, place: {place}}}"
    events = f"{{user.zone_changed: {{schema: {{type: object, properties: {fields}}}}}}}"
    text = f"version: 1\nevents: {events}\nuser_timezone: {source}\n"
    _, faults = read_catalog([Source("catalog.yaml", text)])
    assert [(fault.code, fault.path) for fault in faults] == [(code, path)]
    fine = text.replace(source, "{event: user.zone_changed, field: place.name}")
    assert read_catalog([Source("catalog.yaml", fine)])[1] == []


def test_zones_without_a_source_are_the_catalogs() -> None:
    """Nothing is remembered of users, and there is one calendar, where the catalog names no source."""
    compiled = plan(DAYS, user_timezone=None, timezone="Asia/Tokyo")
    assert compiled.zones is None
    state, _ = replay(compiled, "u", [moved("2024-01-01T00:00:00Z", "UTC")], {})
    assert compiled.calendar_of(state) is compiled.calendar
    assert Calendar("Asia/Tokyo").zone == compiled.calendar.zone
