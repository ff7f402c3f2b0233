"""The laws of memory: a counter is the same for every order and every cut, a trail for every history kept longer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate, product
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.strategies_events import of, together
from tests.unit.reading import read
from worker.events import Event
from worker.events.json_text import dumps
from worker.rules import ir
from worker.rules.ir import Bound, Fold, Match, Moment
from worker.rules.operators import KINDS, TRAILS, WINDOWS, memory, params_of
from worker.rules.operators.calendar import FIXED, Calendar
from worker.rules.operators.kind import Kind, Trail
from worker.rules.operators.moving import Moving, held, may_cap, rises_with_now
from worker.rules.operators.number import Numbers
from worker.rules.operators.settled import Settled
from worker.rules.operators.sliding import Behind, Sliding, is_behind

PARAMS: dict[str, tuple[tuple[str, Any], ...]] = {
    "count": (),
    "gauge": (("less", ("b",)),),
    "number": (("field", "n"),),
    "distinct": (("field", "n"),),
    "periods": (("period", "week"),),
    "tally": (("period", "day"),),
    "first": (),
    "last": (),
    "condition": (("condition", "h"),),
    "since": (),
}


def read_test(window: str, conditions: Any) -> Fold:
    """The fold of a `$withinTimeWindow`."""
    node = read({"$withinTimeWindow": {"window": window, "conditions": conditions}})
    return next(ir.tests(node)).fold


#: The parameters of each trail over events of types a and b.
TRAIL_PARAMS: dict[str, st.SearchStrategy[tuple[tuple[str, Any], ...]]] = {
    "logins": st.just(()),
    "pauses": st.just(()),
    "steps": together(
        [("sequence", kinds) for kinds in (("a",), ("a", "b"), ("b", "a", "b"), ("a", "a", "b", "b"))],
        [("gap_us", hours * FIXED["h"]) for hours in (6, 48, 10_000)],
        [("strict", True), ("strict", False)],
    ),
    "pairs": together(
        [("start", ("a", ())), ("start", ("a", (("n", "$gte", 0),)))],
        [("end", ("b", ())), ("end", ("a", ()))],
        [("property", None), ("property", "n")],
        [("checks", ()), ("checks", (("$gte", 1),)), ("checks", (("$lte", Decimal("1.5")),))],
        [("unit", "days")],
    ),
    "within": of(
        [
            read_test(window, conditions).params
            for window, conditions in (
                ("24h", {"event": "a", "criteria": {"$eventCount": {"$gte": 2}}}),
                ("2d", {"$and": [{"event": "a", "criteria": {"n": {"$gt": 0}}}, {"$not": {"event": "b"}}]}),
                ("1w", {"$timePeriod": {"periodType": "day", "periodCount": {"$eq": 2}}}),
                ("3d", {"$timeWindow": {"last": "1d", "flow": {"$gap": {"minGapHours": 12}}}}),
                (
                    "36h",
                    {"event": "b", "criteria": {"timestamp": {"$lt": "$NOW(-12h)"}, "$distinctCount": {"field": "n"}}},
                ),
                ("4d", {"$withinTimeWindow": {"window": "1d", "conditions": {"$not": {"event": "a"}}}}),
            )
        ]
    ),
}
CALENDARS = (Calendar("UTC"), Calendar("Europe/Berlin"), Calendar("America/New_York"))
HOUR = FIXED["h"]
#: A coarse grid around a change of clocks, so that equal instants and edges of days are common.
START = 1_711_756_800_000_000

#: As many of each kind, about: whole numbers, broken ones, extreme ones, and what is none.
NUMBERS = (
    *([*range(-3, 4)] * 6),
    *(Decimal(tenths) / 10 for tenths in range(-20, 21)),
    *([Decimal("1E+308"), Decimal("1E-308"), 10**37, Decimal("0.1"), 2**53, -(2**53) - 1] * 7),
)
PAYLOADS: list[dict[str, Any]] = [*[{}] * 25, *({"n": n} for n in (*NUMBERS, *["x", "", None, True, ["x"]] * 5))]
#: What a condition said of an event.
VERDICTS: list[dict[str, str] | None] = [None, {}, {"h": "yes"}, {"h": "no"}, {"h": "error"}, {"h": "parked"}]
rows = together(range(61), "ab", PAYLOADS, VERDICTS)


@st.composite
def histories(draw: st.DrawFn, least: int = 0) -> list[Event]:
    """Events of one user with different identities, in no particular order."""
    drawn = draw(st.lists(rows, min_size=least, max_size=12))
    apart = draw(of([6, 30, 240]))
    return [
        Event("u", kind, START + steps * apart * HOUR, "", f"{index:03}", payload, dumps(payload), said)
        for index, (steps, kind, payload, said) in enumerate(drawn)
    ]


def grown(kind: Kind, events: Sequence[Event], params: dict[str, Any], calendar: Calendar) -> Any:
    """The memory after stepping the events in the order given."""
    state = None
    for event in events:
        state = kind.step(state, event, params, calendar)
    return state


def stored(state: Any) -> Any:
    """The memory after it was written and read again."""
    return json.loads(json.dumps(state))


kinds = pytest.mark.parametrize("name", sorted(KINDS))
caps = of([None, 1, 2, 5])
calendars = of(CALENDARS)


@kinds
@given(events=histories(), dice=st.integers(0, 999), calendar=calendars, cap=caps)
def test_a_counter_is_the_same_in_every_order(
    name: str, events: list[Event], dice: int, calendar: Calendar, cap: int | None
) -> None:
    """Stepping a history in any order leaves the same memory."""
    kind, params = KINDS[name], params_of(Fold(name, Match(), PARAMS[name], cap=cap))
    shuffled = events.copy()
    Random(dice).shuffle(shuffled)
    assert grown(kind, events, params, calendar) == grown(kind, shuffled, params, calendar)


@kinds
@given(events=histories(), dice=st.integers(0, 999), calendar=calendars, cap=caps)
def test_a_counter_is_the_same_for_every_cut(
    name: str, events: list[Event], dice: int, calendar: Calendar, cap: int | None
) -> None:
    """Memories of parts merge to the memory of the whole, however they are grouped, also when read back from JSON."""
    kind, params = KINDS[name], params_of(Fold(name, Match(), PARAMS[name], cap=cap))
    marks = Random(dice).choices(range(3), k=len(events))
    a, b, c = (
        stored(
            grown(kind, [event for event, mark in zip(events, marks, strict=True) if mark == part], params, calendar)
        )
        for part in range(3)
    )
    whole = grown(kind, events, params, calendar)
    assert kind.merge(kind.merge(a, b, cap), c, cap) == stored(whole)
    assert kind.merge(a, kind.merge(b, c, cap), cap) == stored(whole)
    assert kind.merge(b, a, cap) == kind.merge(a, b, cap)
    assert kind.merge(None, a, cap) == a == kind.merge(a, None, cap)


@kinds
@given(events=histories(least=1), calendar=calendars, cap=caps)
def test_a_step_is_a_merge_and_changes_nothing_it_was_given(
    name: str, events: list[Event], calendar: Calendar, cap: int | None
) -> None:
    """`step` is `merge` with `lift`; the memory handed in stays as it was; the unit fact rises by at most one."""
    kind, params = KINDS[name], params_of(Fold(name, Match(), PARAMS[name], cap=cap))
    *earlier, last = events
    before = grown(kind, earlier, params, calendar)
    copy = stored(before)
    after = kind.step(before, last, params, calendar)
    assert stored(before) == copy
    lifted = kind.lift(last, params, calendar)
    assert after == (before if lifted is None else kind.merge(before, lifted, cap))
    assert kind.step(copy, last, params, calendar) == stored(after)
    if kind.unit_fact is not None:
        assert kind.level(after) == kind.facts(after, params)[kind.unit_fact]
        assert kind.level(after) <= kind.level(before) + 1


@kinds
@given(events=histories(), calendar=calendars, cap=st.integers(1, 5))
def test_a_cap_changes_no_answer_up_to_itself(name: str, events: list[Event], calendar: Calendar, cap: int) -> None:
    """With a cap K the unit fact is the true one up to K."""
    kind = KINDS[name]
    if kind.unit_fact is None:
        return
    whole, bounded = Fold(name, Match(), PARAMS[name]), Fold(name, Match(), PARAMS[name], cap=cap)
    full = kind.level(grown(kind, events, params_of(whole), calendar))
    less = kind.level(grown(kind, events, params_of(bounded), calendar))
    assert min(full, cap) == min(less, cap)


@kinds
def test_the_empty_memory_states_the_same_facts(name: str) -> None:
    """A fact that exists after an event exists before the first one."""
    kind, params = KINDS[name], dict(PARAMS[name])
    event = Event("u", "a", START, "", "1", {"n": 1}, '{"n":1}')
    state = kind.step(None, event, params, CALENDARS[0])
    assert kind.facts(None, params).keys() == kind.facts(state, params).keys()


MOMENTS = [
    Moment(((-amount, unit), *more))
    for amount, unit, more in product(range(4), ("h", "d", "w", "M", "q", "y"), ((), ((-1, "M"),), ((6, "h"),)))
]


def limits_by(words: Sequence[str]) -> st.SearchStrategy[tuple[Bound, ...]]:
    """One or two bounds with these operators."""
    listed = [Bound(word, moment) for word, moment in product(words, MOMENTS)]
    return together((1, 2), listed, listed).map(lambda parts: parts[1 : 1 + parts[0]])


bounds = limits_by(["$gte", "$gt", "$lte", "$lt", "$eq", "$ne"])


def holds(bound: Bound, us: int, now_us: int, calendar: Calendar) -> bool:
    """Whether an instant is within one bound, spelled out."""
    at = calendar.shift(now_us, bound.moment)
    return {
        "$gte": us >= at,
        "$gt": us > at,
        "$lte": us <= at,
        "$lt": us < at,
        "$eq": us == at,
        "$ne": us != at,
    }[bound.operator]


@kinds
@given(events=histories(), limits=bounds, calendar=calendars, wait=st.integers(0, 40))
def test_a_moving_window_states_what_its_events_do(
    name: str, events: list[Event], limits: tuple[Bound, ...], calendar: Calendar, wait: int
) -> None:
    """At every later now a moving memory states the facts of exactly the events within its bounds."""
    ordered = sorted(events, key=lambda event: event.order)
    fold = Fold(name, Match(bounds=limits), PARAMS[name])
    window, kind, params = memory(fold), KINDS[name], params_of(fold)
    state = None
    for event in ordered:
        before = stored(state)
        after = window.step(state, event, params, calendar)
        assert stored(state) == before
        state = after
    now_us = (ordered[-1].occurred_us if ordered else START) + wait * 6 * HOUR
    within = [event for event in ordered if all(holds(bound, event.occurred_us, now_us, calendar) for bound in limits)]
    expected = kind.facts(grown(kind, within, params, calendar), params)
    assert window.facts(stored(state), now_us, params, calendar) == expected


far_sides = limits_by(["$gte", "$gt"])
#: Windows of a few places of a dense history, and others.
near_sides = st.one_of(
    of((Bound(word, Moment(((-6 * places, "h"),))),) for word, places in product(["$gte", "$gt"], range(1, 7))),
    far_sides,
)


@pytest.mark.parametrize("name", ["count", "distinct", "periods"])
@given(events=histories(), limits=near_sides, cap=st.integers(1, 4), wait=st.integers(0, 40), calendar=calendars)
def test_a_capped_window_counts_right_up_to_its_cap(
    name: str, events: list[Event], limits: tuple[Bound, ...], cap: int, wait: int, calendar: Calendar
) -> None:
    """Where now bounds the far side only, the newest K entries answer `at least K`, also later; no more are kept."""
    whole = Fold(name, Match(bounds=limits), PARAMS[name])
    assert may_cap(whole)
    fact = KINDS[name].unit_fact or ""
    windows = [(memory(fold), params_of(fold)) for fold in (whole, replace(whole, cap=cap))]
    states: list[Any] = [None, None]
    reached = False
    for event in sorted(events, key=lambda event: event.order):
        states = [
            window.step(state, event, params, calendar) for (window, params), state in zip(windows, states, strict=True)
        ]
        for now_us in (event.occurred_us, event.occurred_us + wait * 6 * HOUR):
            full, less = (
                window.facts(state, now_us, params, calendar)[fact]
                for (window, params), state in zip(windows, states, strict=True)
            )
            assert min(full, cap) == min(less, cap)
            # At the first event that finds so many, the figure itself is told.
            assert full == less or reached
            reached = reached or full >= cap
        if states[1] and all(bound.operator == "$gte" and rises_with_now(bound.moment) for bound in limits):
            assert (len(states[1]) // 2 if name == "count" else states[1][2]) <= cap


trails = pytest.mark.parametrize("name", sorted(TRAILS))


@trails
@given(events=histories(), calendar=calendars, data=st.data())
def test_a_trail_can_be_stored_between_any_two_events(
    name: str, events: list[Event], calendar: Calendar, data: st.DataObject
) -> None:
    """A trail that is written and read after each event states what one kept in memory does."""
    trail, params = TRAILS[name], dict(data.draw(TRAIL_PARAMS[name]))
    kept = read = None
    for event in sorted(events, key=lambda event: event.order):
        before = stored(read)
        kept = trail.step(kept, event, params, calendar)
        after = trail.step(read, event, params, calendar)
        assert stored(read) == before
        assert after is read or stored(after) != before
        read = stored(after)
        assert trail.facts(read, event.occurred_us, params, calendar) == trail.facts(
            kept, event.occurred_us, params, calendar
        )


def walked(trail: Trail, events: Sequence[Event], params: dict[str, Any], calendar: Calendar) -> Any:
    """A trail's memory of a history in order."""
    state = None
    for event in sorted(events, key=lambda event: event.order):
        state = trail.step(state, event, params, calendar)
    return state


@trails
@given(events=histories(), limits=bounds, calendar=calendars, wait=st.integers(0, 40), data=st.data())
def test_a_moving_window_over_a_trail_states_what_its_events_do(
    name: str, events: list[Event], limits: tuple[Bound, ...], calendar: Calendar, wait: int, data: st.DataObject
) -> None:
    """At every later now a trail behind moving bounds states the facts of exactly the events within them."""
    fold = Fold(name, Match(bounds=limits), data.draw(TRAIL_PARAMS[name]))
    window, trail, params = memory(fold), TRAILS[name], params_of(fold)
    state = walked(window, events, params, calendar)
    now_us = max((event.occurred_us for event in events), default=START) + wait * 6 * HOUR
    within = [event for event in events if all(holds(bound, event.occurred_us, now_us, calendar) for bound in limits)]
    expected = trail.facts(walked(trail, within, params, calendar), now_us, params, calendar)
    assert window.facts(stored(state), now_us, params, calendar) == expected


SLIDING = sorted({*WINDOWS, *(name for name, kept in {**KINDS, **TRAILS}.items() if kept.joins)})
#: Of a window with an end alone, what is in it stays in it.
sides = st.one_of(
    near_sides,
    near_sides,
    of((Bound(word, Moment(((-6 * places, "h"),))),) for word, places in product(["$lt", "$lte"], range(-1, 7))),
    limits_by(["$lt", "$lte"]),
)
#: How far from the event before, its type, its payload.
near = together(range(3), "aabbc", PAYLOADS)


@st.composite
def dense(draw: st.DrawFn) -> list[Event]:
    """Events of one user in order, neighbours often at one instant or the next one."""
    drawn = draw(st.lists(near, min_size=6, max_size=24))
    instants = accumulate(steps * 6 * HOUR for steps, _, _ in drawn)
    return [
        Event("u", kind, START + us, "", f"{index:03}", payload, dumps(payload))
        for index, (us, (_, kind, payload)) in enumerate(zip(instants, drawn, strict=True))
    ]


@pytest.mark.parametrize("name", SLIDING)
@given(events=dense(), limits=sides, wait=st.integers(0, 6), flat=st.integers(0, 24), data=st.data())
def test_a_window_that_is_not_a_list_states_what_its_events_do(
    name: str, events: list[Event], limits: tuple[Bound, ...], wait: int, flat: int, data: st.DataObject
) -> None:
    """At every event and at a later now, whatever the pieces hold, and also where it went on from a flat list.

    The calendar may be another at each event, as where users travel.
    """
    given_params = data.draw(TRAIL_PARAMS[name]) if name in TRAIL_PARAMS else PARAMS.get(name, ())
    calendar_of = data.draw(st.lists(calendars, min_size=1, max_size=2))
    params = dict(given_params)
    kept = KINDS.get(name) or TRAILS[name]
    listed, sliding = Moving(kept, limits), memory(Fold(name, Match(bounds=limits), given_params))
    assert isinstance(sliding, Behind) or name == "count" or not is_behind(limits)
    with pytest.MonkeyPatch.context() as patch:
        for place in ("newest", "sliding", "stairs", "tallied"):
            patch.setattr(f"worker.rules.operators.{place}.PIECE", 2)
        one = other = None
        for index, event in enumerate(events):
            calendar = calendar_of[index % len(calendar_of)]
            one = listed.step(one, event, params, calendar)
            before = stored(other)
            after = stored(one) if index == flat else sliding.step(other, event, params, calendar)
            assert stored(other) == before
            other = after if after is other else stored(after)
            for now_us in (event.occurred_us, event.occurred_us + wait * 6 * HOUR):
                expected = listed.facts(one, now_us, params, calendar)
                assert sliding.facts(other, now_us, params, calendar) == expected


def test_a_sliding_window_copies_and_joins_a_little_of_what_it_holds() -> None:
    """After 20,000 events in the window a step copies two pieces at most and joins a few times."""
    joined = 0

    class Counting(Numbers):
        def join(self, a: Any, b: Any) -> Any:
            nonlocal joined
            joined += 1
            return super().join(a, b)

    limits = (Bound("$gte", Moment(((-30, "d"),))),)
    window, params = Sliding(Moving(Counting(), limits)), {"field": "n"}
    step, calendar, state = window.stepper(params), CALENDARS[0], None
    for number in range(20_000):
        state = step(state, Event("u", "a", START + number * 60_000_000, "", str(number), {"n": 1}, ""), calendar)
    assert joined < 2 * 20_000
    joined = 0
    before, state = state, step(state, Event("u", "a", START + 20_000 * 60_000_000, "", "z", {"n": 1}, ""), calendar)
    shared = {id(piece) for part in before[:2] for piece in part}
    assert sum(id(piece) not in shared for part in state[:2] for piece in part) <= 2
    assert window.facts(state, START + 20_000 * 60_000_000, params, calendar)["sum"] == 20_001
    assert joined <= 4


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_a_window_copies_a_few_pieces_of_what_it_holds(name: str) -> None:
    """After 20,000 events in the window a step makes a few new pieces, however many there are."""
    params = {
        "distinct": {"field": "n"},
        "periods": {"period": "day"},
        "tally": {"period": "month"},
        "steps": {"sequence": ("a", "b")},
        "pairs": {"start": ("a", ()), "end": ("b", ()), "checks": (), "unit": "hours"},
    }[name]
    window = memory(Fold(name, Match(bounds=(Bound("$gte", Moment(((-30, "d"),))),)), tuple(params.items())))
    step, calendar, state = window.stepper(params), CALENDARS[0], None
    for number in range(20_000):
        event = Event("u", "ab"[number % 2], START + number * 60_000_000, "", str(number), {"n": number}, "")
        state = step(state, event, calendar)
    pieces = pieces_of(state)
    assert len(pieces) > 20 or name in ("steps", "periods")
    for number in (20_000, 20_001):
        event = Event("u", "ab"[number % 2], START + number * 60_000_000, "", str(number), {"n": number}, "")
        state = step(state, event, calendar)
    assert len({*pieces_of(state)} - {*pieces}) <= 12
    assert all(len(piece) <= 6 * 128 for piece in pieces_of(state).values())


def pieces_of(state: Any) -> dict[int, list[Any]]:
    """The innermost lists of a memory, rows apart, by identity."""
    inner = [one for one in state if isinstance(one, list)]
    if not inner or all(len(one) == 2 and not isinstance(one[0], list) for one in inner):
        return {id(state): state}
    return {key: piece for one in inner for key, piece in pieces_of(one).items()}


@pytest.mark.parametrize("name", sorted({"distinct", "periods", *(name for name in SLIDING if name not in WINDOWS)}))
def test_what_has_come_into_a_window_for_good_is_added_up(name: str) -> None:
    """Of 1,000 days before a week ago, entries are kept of the last week only, and the facts are those of all."""
    params = dict(PARAMS.get(name, ()))
    limits = (Bound("$lt", Moment(((-7, "d"),))),)
    window = memory(Fold(name, Match(bounds=limits), tuple(params.items())))
    assert isinstance(window, Settled)
    listed, state, whole = Moving(window.kind, limits), None, None
    for number in range(1_000):
        event = Event("u", "a", START + number * 24 * HOUR, "", str(number), {"n": number % 5}, "")
        state, whole = (
            each.step(kept, event, params, CALENDARS[0]) for each, kept in ((window, state), (listed, whole))
        )
    assert sum(map(len, state[0])) == 2 * 8
    now_us = START + 1_002 * 24 * HOUR
    assert window.facts(state, now_us, params, CALENDARS[0]) == listed.facts(whole, now_us, params, CALENDARS[0])


@pytest.mark.parametrize("name", ["periods", "distinct"])
def test_a_window_over_a_set_keeps_each_member_once(name: str) -> None:
    """However often a value came, its newest instant is all that matters."""
    window, params = (
        memory(Fold(name, Match(bounds=(Bound("$gte", Moment(((-30, "d"),))),)), PARAMS[name])),
        dict(PARAMS[name]),
    )
    state = None
    for number in range(100):
        event = Event("u", "a", START + number * HOUR, "", str(number), {"n": number % 3}, "")
        state = window.step(state, event, params, CALENDARS[0])
    times, members, number = state
    rows = [row for piece in times for row in piece]
    assert sorted(row[::-1] for row in rows) == [row for piece in members for row in piece]
    assert number == len(rows) == len({str(member) for _, member in rows}) <= 5
    assert window.step(state, event, params, CALENDARS[0]) is state


@given(events=histories(), days=st.integers(1, 5), cap=st.sampled_from([None, 1, 2, 3, 5]), cut=st.integers(0, 12))
def test_a_long_window_counts_as_a_short_one_does(events: list[Event], days: int, cap: int | None, cut: int) -> None:
    """Kept in pieces, a count holds the entries that the flat list holds, after every event, also when read back."""
    fold = Fold("count", Match(bounds=(Bound("$gte", Moment(((-days, "d"),))),)), cap=cap)
    window, params, calendar = memory(fold), params_of(fold), CALENDARS[0]
    flat = long = None
    for index, event in enumerate(sorted(events, key=lambda event: event.order)):
        flat = window.step(flat, event, params, calendar)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("worker.rules.operators.sliding.PIECE", 2)
            patch.setattr("worker.rules.operators.moving._LONG", 0 if index >= cut else 10**6)
            before = stored(long)
            after = window.step(long, event, params, calendar)
            assert stored(long) == before
            long = stored(after)
        assert held(long) == held(flat) == len(flat) // 2
        for later in (0, 30 * HOUR):
            now_us = event.occurred_us + later
            assert window.within(long, now_us, calendar) == window.within(flat, now_us, calendar)
            assert window.facts(long, now_us, params, calendar) == window.facts(flat, now_us, params, calendar)
